"""One training loop in plain PyTorch, deterministic from its seed on one CPU with one thread count."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.analysis.calibration import fit_temperature, fit_threshold, probabilities
from lib.data import Data, Split
from lib.data.images import WHOLE
from lib.data.preprocessing import Preprocessing, fit_preprocessing
from lib.data.sets.synthetic import drawn_beside
from lib.errors import UserError
from lib.files import CHECKPOINT_NAME
from lib.machine import flags_for, has_any, keep_freed_memory
from lib.model import (
    Checkpoint,
    CheckpointMetadata,
    build_network,
    load_checkpoint,
    save_checkpoint,
)
from lib.onednn import Primitive, onednn_report
from lib.progress import Progress, silent
from lib.records.schema import Epoch, StepKernels
from lib.signs import CLASS_NAMES
from lib.training.augmentation import augment_batch
from lib.training.estimate import Estimate, Estimator
from lib.training.evaluation import predict_logits
from lib.training.group import ALONE, Group, choose_device, device_name
from lib.training.kernels import step_kernels
from lib.training.optimizers import build_optimizer, lr_at, set_lr
from lib.training.recipes import Recipe, check_shards, choose_recipe
from lib.training.shards import Shards
from lib.training.states import States

# Flags of CPUs for which oneDNN has bf16 convolutions backward. On Arm it has them forward only (seen with 3.12):
# backward runs on its reference code, on which a step takes a hundred times as long.
BF16_TRAINING_FLAGS = flags_for("bf16", "x86_64")
CPU = torch.device("cpu")
OnEpoch = Callable[[Epoch, int], None]


@dataclass(frozen=True)
class Trained:
    """A trained network (eval mode, fp32, NCHW, on the CPU) and how it came to be."""

    model: nn.Module
    metadata: CheckpointMetadata
    history: list[Epoch]
    train_s: float  # the loop alone: augmentation, forward, backward, update
    precision: str  # in which it multiplied: fp32, bf16
    device: str  # in words, with the number of processes if there were several
    kernels: StepKernels  # of the first step; empty on a GPU
    estimate: Estimate | None  # made on the way; None where it was over too soon
    num_resumed: int = 0  # epochs that an earlier start had done
    num_drawn: int = 0  # drawn images beside the real ones, in each epoch
    drawn_hash: str = ""  # of what made them

    def save(self, path: Path) -> str:
        """Write the checkpoint and return its SHA-256."""
        return save_checkpoint(path, self.model, self.metadata)


class Stepper:
    """Network, optimizer and batches of one training, and the four parts of each of its steps."""

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        seed: int,
        device: torch.device = CPU,
        group: Group = ALONE,
        drawn: Split | None = None,
    ) -> None:
        """
        Args:
            group: which processes share the shards of a batch.
            drawn: images beside the real ones, of which each epoch takes as many as the recipe has it.
        """
        torch.manual_seed(seed)  # weights
        self.recipe, self.classes, self.seed = recipe, data.classes, seed
        self.device, self.group = device, group
        self.generator = torch.Generator(device).manual_seed(seed)  # order and augmentation
        self.preprocessing = (
            Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), data.image_size)
            if recipe.fixed_normalization
            else fit_preprocessing(data.train.images)
        )
        network = build_network(recipe.architecture, len(data.classes))
        self.model = network.to(memory_format=torch.channels_last).to(device).train()
        self.optimizer = build_optimizer(self.model, recipe)
        has_bf16 = has_any(BF16_TRAINING_FLAGS) if device == CPU else torch.cuda.is_bf16_supported()
        self.precision = "bf16" if recipe.bf16 and has_bf16 else "fp32"
        # a copy in memory: the split is a view of a memory map, and random access there would be slow
        splits = [data.train] if drawn is None else [data.train, drawn]
        self._images = torch.from_numpy(np.concatenate([split.images for split in splits])).to(device)
        self._labels = torch.from_numpy(np.concatenate([split.labels for split in splits])).to(device)
        self._mean, self._std = (
            torch.tensor(values, device=device).view(3, 1, 1)
            for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        share = 0.0 if drawn is None else recipe.drawn_share
        self._num_real = data.train.num_images
        self.num_drawn = min(round(self._num_real * share / (1 - share)), len(self._images) - self._num_real)
        self.batch_size = min(recipe.batch_size, len(self._images))
        self.shards = Shards(self.model, recipe.shards, group) if recipe.shards > 1 else None

    @property
    def num_batches(self) -> int:
        """Of one epoch; the last incomplete one is left out."""
        return (self._num_real + self.num_drawn) // self.batch_size

    def epoch(self) -> list[Tensor]:
        """Index batches of one epoch, shuffled."""
        order = self._shuffled(self._num_real)
        if self.num_drawn:
            drawn = self._shuffled(len(self._images) - self._num_real)[: self.num_drawn]
            order = torch.cat([order, drawn + self._num_real])
            order = order[self._shuffled(len(order))]
        return list(order[: self.num_batches * self.batch_size].split(self.batch_size))

    def _shuffled(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self.generator, device=self.device)

    def load(self, indices: Tensor, step: int = 0) -> list[tuple[Tensor, Tensor]]:
        """Images as the network reads them, augmented if the recipe does, and their labels, by shard of this process.

        Shards are augmented from seeds of their own, so that each process needs to make no others.
        """
        num_shards = self.recipe.shards
        if num_shards == 1:
            return [self._augmented(indices, self.generator)]
        loaded = []
        mine = num_shards // self.group.size
        for shard in range(self.group.rank * mine, (self.group.rank + 1) * mine):
            seed = np.random.SeedSequence((self.seed, step, shard)).generate_state(1, np.uint64)[0] >> 1
            generator = torch.Generator(self.device).manual_seed(int(seed))
            loaded.append(self._augmented(indices.chunk(num_shards)[shard], generator))
        return loaded

    def _augmented(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, labels = self._images[indices], self._labels[indices]
        if self.recipe.augmentation is None:
            unit = images.to(torch.float32) / 255
        else:
            unit, labels = augment_batch(images, labels, generator, self.recipe.augmentation, self.classes)
        return (unit - self._mean) / self._std, labels

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and loss."""
        with self.autocast():
            logits = self.model(images.contiguous(memory_format=torch.channels_last))
        return logits, F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)

    def gradients(self, shards: Sequence[tuple[Tensor, Tensor]]) -> tuple[float, float]:
        """Gradients of a batch, from the shards of this process and of all others; its mean loss and its top-1."""
        if self.shards is not None:
            self.shards.begin()
        for images, labels in shards:
            logits, loss = self.forward(images, labels)
            loss.backward()
            figures = torch.stack([loss.detach(), (logits.argmax(1) == labels).float().mean()])
            if self.shards is not None:
                self.shards.add(figures)
        mean_loss, top1 = (self.shards.finish() if self.shards is not None else figures).tolist()
        return mean_loss, top1

    def update(self, lr: float) -> None:
        """One step of the optimizer; no gradients are left."""
        set_lr(self.optimizer.param_groups, lr)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of the training, where it is not fp32."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()


def train(
    recipe: str,
    data: Data,
    *,
    profile: str = "fast",
    num_epochs: int = 0,
    seed: int = 0,
    num_threads: int = 0,
    device: str = "cpu",
    shards: int = 0,
    group: Group = ALONE,
    seconds_left: float | None = None,
    run_dir: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
    on_epoch: OnEpoch | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_estimate: Callable[[Estimate], None] | None = None,
) -> Trained:
    """Train a recipe on `data.train`; `data.val` is looked at after each epoch and selects nothing.

    Args:
        recipe: a name, or `auto` for the one of the profile.
        profile: `smoke` takes some steps only.
        num_epochs: 0 = as the recipe has it.
        num_threads: 0 = as torch is set.
        device: see `choose_device`.
        shards: of a batch, see `Recipe`; 0 = as the recipe has it.
        group: the processes that share them. Each ends with the same network.
        seconds_left: until a time limit ends the training; the estimate says whether it will. None = there is none.
        run_dir: keeps a state after each epoch, which `States.clear` removes. None = none is kept.
        resume: go on from the newest state in `run_dir` if the same training left one there; it ends as it would have
            without a stop.
        progress: called while images are drawn.
        on_epoch: called after each epoch with its `Epoch` and the number of epochs.
        on_step: called after each step with the number of steps that are done, and of all.
        on_estimate: called once, some seconds after the first steps, with how long all of it will take.

    Raises:
        UserError: unknown recipe or profile, no such device, a training set smaller than two images, shards that do not
            fit, or a loss that is not finite.
    """
    chosen, where = choose_recipe(recipe, profile, shards), choose_device(device)
    if data.train.num_images < 2:
        raise UserError(f"{data.train.num_images} training images are too few to train on; raise num_images")
    check_shards(chosen, data.train.num_images, group.size)
    if num_threads:
        torch.set_num_threads(num_threads)

    keep_freed_memory()
    drawn, drawn_hash = (None, "") if profile == "smoke" else images_beside(chosen, data, progress)
    stepper = Stepper(chosen, data, seed, where, group, drawn)
    model, optimizer = stepper.model, stepper.optimizer
    if profile == "smoke" and not num_epochs:
        num_steps = chosen.smoke_steps
        num_epochs = math.ceil(num_steps / stepper.num_batches)  # what will run, and so what progress reports
    else:
        num_epochs = num_epochs or chosen.num_epochs
        num_steps = num_epochs * stepper.num_batches
    history: list[Epoch] = []
    primitives: list[Primitive] = []  # of the first step
    kernels = StepKernels({})
    step = 0
    precision, trained_on = stepper.precision, device_name(where) + group.words
    states = States(run_dir, *_made_for(chosen, data, drawn_hash, num_steps, seed, stepper))
    if resume and (state := group.from_first(states.newest())) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if not state["finished"]:  # that of another kind of device would not fit
            stepper.generator.set_state(state["generator"])
        history = [Epoch(**line) for line in state["history"]]
        kernels, step = StepKernels(**state["kernels"]), state["step"]
        precision, trained_on = state["precision"], state["device"]
    else:
        states.clear()
    num_resumed = len(history)
    num_val_batches = (num_epochs - num_resumed) * data.val.num_images / stepper.batch_size
    estimator = Estimator(num_steps - step, num_val_batches, seconds_left)
    for epoch in range(num_resumed + 1, num_epochs + 1):
        started = time.perf_counter()
        seen: list[tuple[float, float]] = []  # loss and top-1 by step
        for indices in stepper.epoch()[: num_steps - step]:
            step_started = time.perf_counter()
            batch = stepper.load(indices, step)
            with onednn_report() if step == 0 else nullcontext(primitives) as primitives:
                seen.append(stepper.gradients(batch))
            stepper.update(lr_at(chosen, step, num_steps))
            step += 1
            if on_step is not None:
                on_step(step, num_steps)
            estimate = estimator.add(time.perf_counter() - step_started)
            if estimate is not None and on_estimate is not None:
                on_estimate(estimate)
        loss, top1 = np.mean(seen, axis=0).tolist()
        if not math.isfinite(loss):
            raise UserError(f"training diverged in epoch {epoch} (loss {loss}); try another seed or recipe")
        seconds = time.perf_counter() - started
        with stepper.autocast():
            val_loss, val_top1 = _validate(model, stepper.preprocessing, data)
        history.append(
            Epoch(
                epoch=epoch,
                lr=optimizer.param_groups[0]["lr"],
                train_loss=loss,
                train_top1=top1,
                val_loss=val_loss,
                val_top1=val_top1,
                seconds=seconds,
            )
        )
        if epoch == 1 and where == CPU:
            kernels = step_kernels(primitives)
        states.save(
            epoch,
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": stepper.generator.get_state(),
                "history": [asdict(line) for line in history],
                "kernels": asdict(kernels),
                "step": step,
                "finished": step == num_steps,
                "precision": precision,
                "device": trained_on,
            },
        )
        if on_epoch is not None:
            on_epoch(history[-1], num_epochs)
    model = model.to(memory_format=torch.contiguous_format).to(CPU).eval()
    temperature, least_confidence = _calibration(model, stepper.preprocessing, data)
    return Trained(
        model=model,
        metadata=CheckpointMetadata(
            architecture=chosen.architecture,
            recipe=chosen.name,
            profile=profile,
            num_epochs=len(history),
            seed=seed,
            data_source=data.source,
            data_hash=data.manifest_hash,
            extra_hash=data.extra_hash,
            classes=data.classes,
            preprocessing=stepper.preprocessing,
            crop=data.crop,
            temperature=temperature,
            least_confidence=least_confidence,
        ),
        history=history,
        train_s=sum(epoch.seconds for epoch in history),
        precision=precision,
        device=trained_on,
        kernels=kernels,
        estimate=estimator.estimate,
        num_resumed=num_resumed,
        num_drawn=stepper.num_drawn,
        drawn_hash=drawn_hash,
    )


def images_beside(recipe: Recipe, data: Data, progress: Progress = silent) -> tuple[Split | None, str]:
    """The drawn images that a recipe takes beside these data and their hash; only beside photographs of these signs."""
    if not recipe.drawn_share or not data.train.sources[0] or data.classes != CLASS_NAMES or data.crop != WHOLE:
        return None, ""
    return drawn_beside(recipe.drawn_images, data.image_size, progress)


def _made_for(
    recipe: Recipe, data: Data, drawn_hash: str, num_steps: int, seed: int, stepper: Stepper
) -> tuple[str, str]:
    """All that decides the steps of a training: what is trained, and where it is computed."""
    where = f"{platform.machine()}, {torch.get_num_threads()} threads, {stepper.device.type}, {stepper.precision}"
    what = f"{recipe} {data.manifest_hash} {data.extra_hash} {data.crop} {drawn_hash} {num_steps} steps, seed {seed}"
    return what, f"torch {torch.__version__}, {where}"


def _validate(model: nn.Module, preprocessing: Preprocessing, data: Data) -> tuple[float, float]:
    """Cross-entropy and top-1 on the validation split, in eval mode and the precision of the training."""
    logits = predict_logits(model, preprocessing, data.val.images)
    model.train()
    labels = torch.from_numpy(np.array(data.val.labels))
    loss = F.cross_entropy(torch.from_numpy(logits), labels).item()
    return loss, float((logits.argmax(1) == data.val.labels).mean())


def _calibration(model: nn.Module, preprocessing: Preprocessing, data: Data) -> tuple[float, float]:
    """Temperature and least confidence of a sign, fitted on validation in fp32, as the network is saved."""
    logits = predict_logits(model, preprocessing, data.val.images)
    temperature = round(fit_temperature(logits, data.val.labels), 4)
    threshold = fit_threshold(probabilities(logits, temperature).max(axis=1))
    return temperature, math.floor(1e4 * threshold) / 1e4  # down: it must not reject the image that set it


def epoch_line(epoch: Epoch, total: int) -> str:
    """One epoch in words."""
    return (
        f"epoch {epoch.epoch}/{total}: loss {epoch.train_loss:.3f}, val loss {epoch.val_loss:.3f}, "
        f"val top-1 {epoch.val_top1:.2%}, {epoch.seconds:.1f} s"
    )


def ensure_checkpoint(run_dir: Path, data: Data, progress: Progress = silent) -> tuple[Checkpoint, bool]:
    """The checkpoint of a run; where there is none, a smoke net is trained first (well under 30 s on two cores).

    Returns:
        The checkpoint, and whether it was trained just now (a page must say so: its accuracy means little).
    """
    path = run_dir / CHECKPOINT_NAME
    if path.exists():
        return load_checkpoint(path), False
    progress("no checkpoint in this run: training the smoke net")
    trained = train(
        "auto",
        data,
        profile="smoke",
        on_epoch=lambda epoch, total: progress(epoch_line(epoch, total)),
    )
    trained.save(path)
    return load_checkpoint(path), True
