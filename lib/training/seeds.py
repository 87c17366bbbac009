"""Several networks that differ in nothing but their seed: how much of a figure is luck."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.analysis.statistics import seed_bootstrap
from lib.data import Data
from lib.progress import Progress, silent
from lib.records.schema import SeedsAccuracy
from lib.training.evaluation import predict_logits
from lib.training.loop import Trained, train
from lib.training.states import FOLDER


def train_seeds(
    recipe: str,
    data: Data,
    *,
    seeds: int,
    seed: int,
    seconds_left: float | None,
    run_dir: Path,
    progress: Progress = silent,
    **arguments: Any,
) -> list[Trained]:
    """Train so many networks on the same images, with the seeds from `seed` on.

    The states of all are in the run folder, so that each can be resumed.

    Args:
        seconds_left: until a time limit ends all of them; None = there is none.
        arguments: see `train`.

    Raises:
        UserError: as `train`.
    """
    begun = time.monotonic()
    trained = []
    for number in range(seeds):
        left = None if seconds_left is None else (seconds_left + begun - time.monotonic()) / (seeds - number)
        if seeds > 1:
            progress(f"network {number + 1} of {seeds}, seed {seed + number}")
        place = run_dir / FOLDER / f"seed-{seed + number}" if number else run_dir
        trained.append(
            train(recipe, data, seed=seed + number, seconds_left=left, run_dir=place, progress=progress, **arguments)
        )
    return trained


def accuracy_by_seed(networks: Sequence[Trained], data: Data) -> dict[str, SeedsAccuracy]:
    """Top-1 of each network by split: on val, and on test where there is one. Empty for a single network."""
    found = {}
    for split in (data.val, data.test) if len(networks) > 1 else ():
        if split is not None:
            answers = [predict_logits(each.model, each.metadata.preprocessing, split.images) for each in networks]
            right = np.array([logits.argmax(1) == split.labels for logits in answers])
            interval = seed_bootstrap(right, split.track_ids) if split.has_tracks else None
            seeds = [each.metadata.seed for each in networks]
            found[split.name] = SeedsAccuracy(dict(zip(seeds, right.mean(axis=1).tolist(), strict=True)), interval)
    return found
