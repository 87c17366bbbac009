"""One backend against the reference on one machine: right before fast, then the clock, then the layers.

A session never raises because of the backend. What breaks ends the measuring, is kept as the record's status and error,
and the notebook fails after the record is written.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path

import numpy as np

from lib.backends import REFERENCE, Backend, get_backend
from lib.bench.client import BackendError
from lib.bench.neighbours import Watch
from lib.bench.peaks import peaks_of_run
from lib.bench.plan import CALIBRATION_IMAGES, UNTRAINED_IMAGES, SessionPlan
from lib.bench.preprocessing_time import measure_preprocessing
from lib.bench.samples import balanced_sample
from lib.bench.steps import FittingPlans, Traced, compare, measure_calls, measure_network, prove, sweep_points, trace
from lib.bench.workers import Workers
from lib.data import Data, Split
from lib.machine import collect_environment
from lib.model import Checkpoint, leaf_layers
from lib.progress import Progress, silent
from lib.records.schema import BenchmarkRecord, Needs, Profile, Status

_NONE = np.empty(0, np.int64)  # images


def _step(step: Callable[[Session], None]) -> Callable[[Session], None]:
    """Run a step only while all is well; a backend that breaks in it ends the session.

    Interrupted, it can be run again: workers that were asked something and have not answered are of no use any more.
    """

    @wraps(step)
    def guarded(session: Session) -> None:
        if session.record.status != "ok":
            return
        try:
            step(session)
        except BackendError as error:
            session.fail(str(error))
        except BaseException:
            session.workers.stop()
            raise

    return guarded


class Session:
    """Measures one backend. Every step fills its part of `record`, and can be run again.

    Args:
        run_dir: of this run; what the backend prepares and the machine's peaks are kept there. None: nothing is kept.
    """

    def __init__(
        self,
        backend: str | type[Backend],
        checkpoint: Checkpoint,
        data: Data,
        plan: SessionPlan,
        run_dir: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        chosen = get_backend(backend) if isinstance(backend, str) else backend
        self.data, self.preprocessing, self.plan, self.run_dir = data, checkpoint.preprocessing, plan, run_dir
        size = checkpoint.preprocessing.image_size
        self.layers = leaf_layers(checkpoint.model, (3, size, size))
        self.record = new_record(chosen, checkpoint, data, plan)
        splits = images_to_read(chosen, checkpoint, data, plan.profile)
        num_threads, at_once = self.record.environment.num_threads, plan.profile == "smoke"
        self.workers = Workers(chosen, checkpoint, splits, num_threads, run_dir, load_at_once=at_once)
        self.watch = Watch(self.workers, plan.profile, progress)
        self.plans = FittingPlans(plan.scenarios(chosen.is_network), self.watch)
        self.traces: list[Traced] = []

    def fail(self, reason: str) -> None:
        """End the session: later steps do nothing."""
        self.record.status, self.record.error = "failed", reason
        self.watch.progress(f"failed: {reason}")
        self.workers.close()

    @_step
    def prepare(self) -> None:
        """What a build machine would do once: export, quantize on training images, compile ahead of time."""
        self.record.preparation = self.workers.prepare()

    @_step
    def start(self) -> None:
        """Start the workers and take the parts of their cold start."""
        self.record.cold_start, self.record.reference_cold_start = self.workers.start()

    @_step
    def check_parity(self) -> None:
        """Logits and top-1 on the validation images against the reference; the test images only for the record."""
        compare(self.workers, self.record)

    @_step
    def check_proof(self) -> None:
        """Which kernels run in each scenario; the promise is judged in the offline scenario."""
        self.plans.fill(self.traces, partial(trace, self.workers))
        prove(self.traces, self.record)

    @_step
    def measure(self) -> None:
        """The clock: all scenarios, all sides interleaved."""
        self.plans.fill(self.record.scenarios, partial(measure_calls, self.watch, self.plan.seed))

    @_step
    def measure_layers(self) -> None:
        """The time of every layer of the network, all sides interleaved."""
        self.plans.fill(self.record.layers, partial(measure_network, self.watch, self.layers, self.traces))

    @_step
    def measure_machine(self) -> None:
        """What the machine can do at most, and what an image costs before the network sees it."""
        num_threads, quick = self.workers.num_threads, self.plan.profile == "smoke"
        self.record.peaks = peaks_of_run(self.run_dir, num_threads, self.watch.progress, quick=quick)
        self.record.preprocessing = measure_preprocessing(self.data.val, self.preprocessing)

    @_step
    def measure_sweep(self) -> None:
        """Other batch sizes and numbers of threads, where the profile asks for it; a point that breaks is noted."""
        self.record.sweep = [*sweep_points(self.watch, self.plan)]

    def close(self) -> None:
        """End the workers. A session that had to leave something out fails now."""
        self.workers.close()
        if self.plans.left_out and self.record.status == "ok":
            self.fail("; ".join(self.plans.left_out))


def new_record(backend: type[Backend], checkpoint: Checkpoint, data: Data, plan: SessionPlan) -> BenchmarkRecord:
    """The record of a backend before anything was measured; with the reason where it cannot be."""
    network = checkpoint.metadata
    environment = collect_environment(plan.num_threads)
    environment.versions |= backend_versions(backend)
    status, error = runs_here(backend)
    return BenchmarkRecord(
        # numbers of a smoke network are smoke numbers, however long they were measured
        profile="smoke" if network.profile == "smoke" else plan.profile,
        params={},
        environment=environment,
        data=replace(data.info(), extra_hash=checkpoint.metadata.extra_hash),
        checkpoint_sha256=checkpoint.sha256,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_s=0.0,
        backend=backend.name,
        is_network=backend.is_network,
        reference=REFERENCE,
        precision=backend.precision,
        storage=backend.storage or backend.precision,
        needs=Needs(backend.packages, backend.extra, backend.default),
        model=network.architecture,
        recipe=network.recipe,
        random_weights=network.random_weights,
        status=status,
        error=error,
    )


def runs_here(backend: type[Backend]) -> tuple[Status, str]:
    """Whether this machine and installation can run a backend, and why not."""
    if reason := backend.unavailable():
        return "unavailable", reason
    reason = backend.not_installed()
    return ("failed", reason) if reason else ("ok", "")


def images_to_read(backend: type[Backend], checkpoint: Checkpoint, data: Data, profile: Profile) -> dict[str, Split]:
    """By name: validation images that answers are compared on, the same for every backend; training images to calibrate
    on, because nothing of val or test may shape a backend; and test images where there is time for all of them."""
    random_weights = checkpoint.metadata.random_weights
    num_calibration = CALIBRATION_IMAGES[profile] if backend.needs_calibration else 0
    splits = {
        "val": balanced_sample(data.val, UNTRAINED_IMAGES if random_weights else 0),
        "calibration": balanced_sample(data.train, num_calibration) if num_calibration else data.train.take(_NONE),
    }
    if profile == "full" and not random_weights and data.test is not None:
        splits["test"] = data.test
    return splits


def backend_versions(backend: type[Backend]) -> dict[str, str]:
    """Versions of the installed packages that a backend runs on; `unknown` where an installation does not say."""
    versions = dict[str, str]()
    for package in sorted(set(backend.packages) - set(backend.missing_packages())):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions
