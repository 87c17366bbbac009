"""How well a network that has seen drawn signs alone reads real ones, and the search for the renderer's constants.

The constants are searched on one half of the official training tracks; the figure is that of the other half.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lib.analysis.statistics import track_bootstrap
from lib.data import Data, Split
from lib.data.dataset import joined
from lib.data.loading import load_data
from lib.data.sets.synthetic import FRAMES_BESIDE, POWER_BESIDE, generate
from lib.data.splitting import choose_val
from lib.errors import UserError
from lib.machine import collect_environment
from lib.progress import Progress, silent
from lib.signs import CLASS_NAMES
from lib.signs.renderer import FITTED, Fitted
from lib.training.evaluation import predict_logits
from lib.training.loop import epoch_line, train

# logarithms, whose steps are added; all other constants are multiplied by exp(step)
_ADDED = ("exposure", "behind", "log_noise")
_STEP = 0.3
_LOW_HIGH = ("focus_px", "curve", "chroma", "paint_gamma", "black", "log_noise")  # pairs that stay in this order
_KEPT = ("growth", "margin")  # known from how the official images were cut, and not searched
NUM_CONFUSIONS = 12
_POPULATION = 20  # of a generation, in mirrored pairs


@dataclass(frozen=True)
class Judged:
    """What a network that has never seen a real image reads of one half of the real tracks."""

    top1: float
    interval: tuple[float, float] | None  # 95 %, over tracks
    num_images: int
    num_tracks: int
    # the most frequent ones: true class, answered class, how many images, and the row of one of them in the half
    confusions: list[tuple[int, int, int, int]]


def in_tuning_half(track: str) -> bool:
    """Whether the constants may be searched on this track, such as `00014/00023`; the others judge."""
    return hashlib.sha256(f"half:{track}".encode()).digest()[0] % 2 == 0


def real_halves(data_root: str) -> tuple[dict[str, Split], str]:
    """The official training images in two halves by track, `tuning` and `judging`, and their hash.

    Raises:
        UserError: they are not there.
    """
    data = load_data("gtsrb", data_root=data_root)
    both = joined("real", data.train, data.val)
    tuning = np.array([in_tuning_half(both.track_name(index)) for index in range(both.num_images)])
    return {"tuning": both.take(tuning), "judging": both.take(~tuning)}, data.manifest_hash


def judge(logits: np.ndarray, split: Split) -> Judged:
    """Logits (N, 43) of a half."""
    answers = logits.argmax(1)
    right = answers == split.labels
    wrong = np.flatnonzero(~right)
    pairs = np.stack([split.labels[wrong], answers[wrong]], 1)
    found, first, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:NUM_CONFUSIONS]
    return Judged(
        top1=float(right.mean()),
        interval=track_bootstrap(right.astype(float), split.track_ids),
        num_images=len(right),
        num_tracks=len(np.unique(split.track_ids)),
        confusions=[(*found[k].tolist(), int(counts[k]), int(wrong[first[k]])) for k in order],
    )


@dataclass(frozen=True)
class Trial:
    """A recipe that learns from drawn signs alone, and the real images that judge it."""

    recipe: str
    num_images: int  # drawn ones; a few tracks of each class only validate
    num_epochs: int  # 0 = as the recipe has it
    halves: dict[str, Split]
    progress: Progress

    def judged(self, seed: int, fitted: Fitted) -> dict[str, Judged]:
        """Draw images with these constants, train, and read each half."""
        drawn = generate(self.num_images, seed, self.progress, frames=FRAMES_BESIDE, power=POWER_BESIDE, fitted=fitted)
        is_val = choose_val(drawn.labels, drawn.track_ids)
        train_part, val_part = (
            replace(drawn.take(mask), name=name) for name, mask in (("train", ~is_val), ("val", is_val))
        )
        trained = train(
            self.recipe,
            Data("synthetic", "", CLASS_NAMES, train_part, val_part, test=None, notes=[]),
            seed=seed,
            num_epochs=self.num_epochs,
            on_epoch=lambda epoch, total: self.progress(epoch_line(epoch, total)),
        )
        preprocessing = trained.metadata.preprocessing
        return {
            name: judge(predict_logits(trained.model, preprocessing, half.images), half)
            for name, half in self.halves.items()
        }


def moved(start: Fitted, steps: np.ndarray) -> Fitted:
    """Constants so many steps away from others.

    Args:
        steps: float (constants,), in the order of the fields.
    """
    values: dict[str, Any] = asdict(start)
    left = iter(_STEP * steps)
    for name in [name for name in values if name not in _KEPT]:
        old = values[name] if isinstance(values[name], tuple) else (values[name],)
        new = [each + next(left) if name in _ADDED else each * math.exp(next(left)) for each in old]
        in_order = tuple(sorted(new) if name in _LOW_HIGH else new)
        values[name] = in_order if isinstance(values[name], tuple) else in_order[0]
    return Fitted(**values)


def search(trial: Trial, *, generations: int, seed: int) -> tuple[Fitted, list[dict[str, Any]]]:
    """Separable natural evolution strategy (Wierstra et al. 2014, JMLR 15) on top-1 of the tuning half.

    Returns:
        The constants at the centre of the last generation, and by generation their mean and best top-1.
    """
    quiet = replace(trial, halves={"tuning": trial.halves["tuning"]}, progress=silent)
    generator = np.random.default_rng(seed)
    num_constants = sum(np.size(value) for name, value in asdict(FITTED).items() if name not in _KEPT)
    centre, width = np.zeros(num_constants), np.full(num_constants, 0.7)
    utility = np.maximum(0, math.log(_POPULATION / 2 + 1) - np.log(np.arange(1, _POPULATION + 1)))
    utility = utility / utility.sum() - 1 / _POPULATION
    curve: list[dict[str, Any]] = []
    for generation in range(1, generations + 1):
        half = generator.standard_normal((_POPULATION // 2, len(centre)))
        steps = np.concatenate([half, -half])
        scores = [
            quiet.judged(seed + generation, moved(FITTED, centre + width * step))["tuning"].top1 for step in steps
        ]
        best_first = steps[np.argsort(scores)[::-1]]
        centre = centre + width * (utility @ best_first)
        width = width * np.exp(0.075 * (utility @ (best_first**2 - 1)))
        mean, best = float(np.mean(scores)), max(scores)
        curve.append({"generation": generation, "mean": mean, "best": best})
        trial.progress(f"generation {generation}: top-1 on the tuning half {mean:.2%}, best {best:.2%}")
    return moved(FITTED, centre), curve


def measure_drawn(
    recipe: str, num_images: int, data_root: str, *, seeds: int, num_epochs: int, generations: int, progress: Progress
) -> tuple[dict[str, Any], np.ndarray]:
    """What the command `drawn-signs` writes: constants, curve of the search, and both halves by seed; and the images of
    the judging half, uint8 (N, 3, H, W).

    Raises:
        UserError: no real images, or fewer drawn ones than the classes need.
    """
    if num_images < 20 * len(CLASS_NAMES):
        raise UserError(f"{num_images} drawn images are too few; give --images {20 * len(CLASS_NAMES)} or more")
    halves, data_hash = real_halves(data_root)
    trial = Trial(recipe, num_images, num_epochs, halves, progress)
    fitted, curve = search(trial, generations=generations, seed=1000) if generations else (FITTED, [])
    by_seed = []
    for seed in range(seeds):
        judged = trial.judged(seed, fitted)
        for name, half in judged.items():
            low, high = half.interval or (half.top1, half.top1)
            progress(
                f"seed {seed}, {name} half: top-1 {half.top1:.2%} [{low:.2%}, {high:.2%}] of {half.num_images:,} images"
            )
        by_seed.append({"seed": seed, **{name: asdict(half) for name, half in judged.items()}})
    found = {
        "recipe": recipe, "num_images": num_images, "num_epochs": num_epochs, "data_hash": data_hash,
        "environment": asdict(collect_environment()), "fitted": asdict(fitted), "curve": curve, "by_seed": by_seed,
    }  # fmt: skip
    return found, halves["judging"].images
