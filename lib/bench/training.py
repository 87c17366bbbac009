"""What training costs: stages of a step, and a whole training in epochs of `learning_path`, measured in turns."""

from __future__ import annotations

import time
from dataclasses import dataclass

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


def _turn(stepper: Stepper) -> np.ndarray:
    """Run a few steps; returns the seconds of their stages, (steps, stages)."""
    marks = []
    for indices in stepper.epoch()[:STEPS]:
        begun = time.perf_counter()
        ((images, labels),) = stepper.load(indices)
        loaded = time.perf_counter()
        _, loss = stepper.forward(images, labels)
        forwarded = time.perf_counter()
        loss.backward()
        backwarded = time.perf_counter()
        stepper.update(0.001)
        marks.append((begun, loaded, forwarded, backwarded, time.perf_counter()))
    return np.diff(marks, axis=1)


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
    peaks: Peaks | None  # None where nothing could be measured

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
    one, other = (Stepper(each, data, 0) for each in (recipe, RECIPES[REFERENCE]))
    turns: list[tuple[np.ndarray, np.ndarray]] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or len(turns) < WARM_UP_TURNS + 3:
        turns.append((_turn(one), _turn(other)))
    stages_s, reference_s = (np.array(side) for side in zip(*turns[WARM_UP_TURNS:], strict=True))
    started = time.perf_counter()
    predict_logits(one.model, one.preprocessing, data.val.images)
    validation_s = time.perf_counter() - started
    num_batches = one.num_batches / (1 - recipe.drawn_share)  # drawn images cost what real ones do
    epochs_s = recipe.num_epochs * (stages_s.sum(2).mean(1) * num_batches + validation_s)
    reference_epochs_s = reference_s.sum(2).mean(1) * other.num_batches
    low, middle, high = np.percentile(epochs_s / reference_epochs_s, (25, 50, 75))
    layers = leaf_layers(one.model, one.preprocessing.image_shape)
    return TrainingCost(
        recipe=recipe,
        stage_s=dict(zip(STAGES, np.median(stages_s, axis=(0, 1)).tolist(), strict=True)),
        batch_size=one.batch_size,
        num_macs=sum(layer.num_macs for layer in layers),
        train_s=float(np.median(epochs_s)),
        reference_epoch_s=float(np.median(reference_epochs_s)),
        ratios=(float(middle), float(low), float(high)),
        precision=one.precision,
        peaks=measure_peaks(torch.get_num_threads()),
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
