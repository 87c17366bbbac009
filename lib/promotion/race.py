"""How long a single image takes in the released networks, in turns, with the harness of 03."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from lib.backends import get_backend
from lib.bench.client import WorkerClient
from lib.bench.neighbours import watched
from lib.bench.plan import ScenarioPlan, SessionPlan
from lib.bench.rounds import joined, measure_scenario
from lib.bench.workers import save_images, start_worker
from lib.granted import num_cores
from lib.promotion.contest import Champion
from lib.records.schema import Profile, Scenario
from lib.release import Release
from lib.release.contents import RELEASED
from lib.release.reader import WEIGHTS

BACKEND = "onnxruntime"
NUM_IMAGES = 256  # validation images that take turns too


def race(challenger: Release, champion: Champion, profile: Profile) -> Scenario:
    """Latencies of the fp32 networks: the challenger as backend, the champion as reference, and in a third process as
    the control, which shows by how much two equal processes differ.

    Raises:
        BackendError: a process broke.
    """
    plan = SessionPlan(profile).scenarios()[0]
    images = champion.judges.images[:NUM_IMAGES]
    with tempfile.TemporaryDirectory(prefix="gtsrb-promotion-") as folder:
        runners = {"backend": challenger, "reference": champion.release, "control": champion.release}
        places = {role: _laid_out(release, Path(folder, role), images) for role, release in runners.items()}
        parts = [_part(runners, places, plan.part, number) for number in range(plan.num_starts)]
    return joined(parts)


def _laid_out(release: Release, folder: Path, images: np.ndarray) -> Path:
    """What a worker loads: the model where its backend looks for it, and images as this network reads them."""
    folder.mkdir()
    (folder / RELEASED[BACKEND]).symlink_to(release.model())
    save_images(folder / "images.npy", images, release.preprocessing)
    return folder


def _part(runners: Mapping[str, Release], places: Mapping[str, Path], plan: ScenarioPlan, seed: int) -> Scenario:
    """In processes of its own."""
    sides = dict[str, WorkerClient]()
    try:
        for role, release in runners.items():
            weights, folder = release.path / WEIGHTS, places[role]
            images = folder / "images.npy"
            sides[role], _ = start_worker(get_backend(BACKEND), weights, folder, images, num_cores())
        return watched(sides, partial(measure_scenario, sides, plan, seed))
    finally:
        for worker in sides.values():
            worker.kill()
