"""What training costs: stages of a step, and a whole training in epochs of `learning_path`, measured in turns."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch

from lib.bench.peaks import measure_peaks
from lib.data import Data
from lib.machine import keep_freed_memory
from lib.model import leaf_layers
from lib.records.schema import Peaks
from lib.training.evaluation import predict_logits
from lib.training.loop import Stepper
from lib.training.recipes import RECIPES, Recipe

REFERENCE = "learning_path"
STAGES = ("load", "forward", "backward", "update")
STEPS = 4  # of one turn
WARM_UP_TURNS = 1


@dataclass
class _Side:
    """One recipe and the seconds of each stage, by step."""

    recipe: Recipe
    stepper: Stepper
    seconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    def take_turn(self) -> float:
        """Run a few steps; returns the seconds of a step."""
        started = time.perf_counter()
        for indices in self.stepper.epoch()[:STEPS]:
            marks = [time.perf_counter()]
            ((images, labels),) = self.stepper.load(indices)
            marks.append(time.perf_counter())
            _, loss = self.stepper.forward(images, labels)
            marks.append(time.perf_counter())
            self.stepper.backward(loss)
            marks.append(time.perf_counter())
            self.stepper.update(0.001)
            marks.append(time.perf_counter())
            for stage, taken in zip(STAGES, np.diff(marks), strict=True):
                self.seconds[stage].append(float(taken))
        return (time.perf_counter() - started) / STEPS


@dataclass(frozen=True)
class TrainingCost:
    """What `bench-train` found."""

    recipe: Recipe
    stage_s: dict[str, float]  # median of a step, by stage
    batch_size: int
    num_macs: int  # of one image, forward
    train_s: float  # all steps of all epochs and the validation after each
    reference_epoch_s: float
    ratios: tuple[float, float, float]  # epochs of the reference that it costs: median and the quartiles over turns
    precision: str
    peaks: Peaks | None

    @property
    def images_per_s(self) -> float:
        """Training images per second."""
        return self.batch_size / sum(self.stage_s.values())

    @property
    def flops(self) -> float:
        """Per second, by three passes of two operations for each multiply-accumulate."""
        return 6 * self.num_macs * self.images_per_s


def measure_training(recipe: Recipe, data: Data, *, seconds: float = 30.0, num_threads: int = 0) -> TrainingCost:
    """Steps of a recipe and of `learning_path` in turns, for so many seconds.

    Args:
        data: the images, at the size of the recipe; the reference trains on the same.
        num_threads: 0 = as torch is set.
    """
    if num_threads:
        torch.set_num_threads(num_threads)
    keep_freed_memory()
    one, other = (_Side(each, Stepper(each, data, 0)) for each in (recipe, RECIPES[REFERENCE]))
    taken: list[tuple[float, float]] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or len(taken) < WARM_UP_TURNS + 3:
        taken.append((one.take_turn(), other.take_turn()))
        if len(taken) == WARM_UP_TURNS:
            for side in (one, other):
                side.seconds = {stage: [] for stage in STAGES}
    started = time.perf_counter()
    predict_logits(one.stepper.model, one.stepper.preprocessing, data.val.images)
    validation_s = time.perf_counter() - started
    steps_s, reference_s = np.array(taken[WARM_UP_TURNS:]).T
    num_batches = one.stepper.num_batches / (1 - recipe.drawn_share)  # drawn images cost what real ones do
    epochs_s = recipe.num_epochs * (steps_s * num_batches + validation_s)
    reference_epochs_s = reference_s * other.stepper.num_batches
    low, middle, high = np.percentile(epochs_s / reference_epochs_s, (25, 50, 75))
    peaks = measure_peaks(torch.get_num_threads())
    layers = leaf_layers(one.stepper.model, one.stepper.preprocessing.image_shape)
    return TrainingCost(
        recipe=recipe,
        stage_s={stage: float(np.median(taken_s)) for stage, taken_s in one.seconds.items()},
        batch_size=one.stepper.batch_size,
        num_macs=sum(layer.num_macs for layer in layers),
        train_s=float(np.median(epochs_s)),
        reference_epoch_s=float(np.median(reference_epochs_s)),
        ratios=(float(middle), float(low), float(high)),
        precision=one.stepper.precision,
        peaks=peaks,
    )


def cost_lines(cost: TrainingCost) -> list[str]:
    """What the command `bench-train` prints."""
    step_s = sum(cost.stage_s.values())
    lines = [f"{cost.recipe.name}: {cost.images_per_s:,.0f} images/s in {cost.precision}, batch {cost.batch_size}"]
    lines += [f"  {stage:<9} {taken * 1000:8.2f} ms  {taken / step_s:5.1%}" for stage, taken in cost.stage_s.items()]
    peak = cost.peaks.matmul.get(cost.precision) if cost.peaks else None
    share = f", {cost.flops / peak.per_s:.0%} of this machine's matmul peak" if peak else ""
    lines.append(f"{cost.flops / 1e9:,.0f} GFLOP/s{share}")
    middle, low, high = cost.ratios
    lines.append(
        f"{cost.recipe.num_epochs} epochs with validation: {cost.train_s:.0f} s, as long as {middle:.1f} epochs of "
        f"{REFERENCE} ({cost.reference_epoch_s:.1f} s each), quartiles over turns {low:.1f} to {high:.1f}"
    )
    return lines
