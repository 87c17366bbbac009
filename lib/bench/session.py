"""One backend against the reference on one machine: right before fast, then the clock, then the layers.

A session never raises because of the backend. What breaks ends the measuring, is kept as the session's status and
error, and goes into the record; the notebook fails after the record is written.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import TypeVar

import numpy as np

from lib.analysis.judgement import disturbance, is_busy
from lib.analysis.statistics import is_unstable, uncertainty
from lib.backends import REFERENCE, Backend, Kernels, get_backend
from lib.bench.client import PREPARE_LIMIT_S, BackendError, OutOfMemoryError, WorkerClient
from lib.bench.neighbours import Neighbours, Use, Waited, use_over, wait_for_quiet
from lib.bench.parity import Tolerance, compare_logits
from lib.bench.peaks import peaks_of_run
from lib.bench.plan import (
    CALIBRATION_IMAGES,
    MAX_ATTEMPTS,
    OFFLINE_BATCH,
    PATIENCE_S,
    SWEEPS,
    UNTRAINED_IMAGES,
    ScenarioPlan,
    SweepPlan,
    scenario_plans,
    thread_counts,
)
from lib.bench.preprocessing_time import measure_preprocessing
from lib.bench.rounds import Sides, joined, measure_layers, measure_scenario
from lib.bench.samples import balanced_sample
from lib.data import Data, Split
from lib.files import TEMPORARY, writing
from lib.granted import num_cores
from lib.machine import is_emulated
from lib.model import Checkpoint, leaf_layers
from lib.records.schema import (
    Accuracy,
    ColdStart,
    Conditions,
    Figure,
    LayerTable,
    Parity,
    Peaks,
    Preparation,
    PreprocessingTime,
    Profile,
    Proof,
    RecordWarning,
    Scenario,
    Status,
    SweepPoint,
    WarningKind,
)
from lib.training.evaluation import evaluate

Progress = Callable[[str], None]
Measured = TypeVar("Measured", Scenario, LayerTable)
ROLES = ("control", "reference", "backend")  # in this order they first start; the control also warms the page cache


def _step(method: Callable[[Session], None]) -> Callable[[Session], None]:
    """Run a step only while all is well; a backend that breaks in it ends the session.

    Interrupted, it can be run again: workers that were asked something and have not answered are of no use any more.
    """

    @wraps(method)
    def guarded(session: Session) -> None:
        if session.status != "ok":
            return
        try:
            method(session)
        except BackendError as error:
            session.fail(str(error))
        except BaseException:
            session._stop_workers()
            raise

    return guarded


class Session:
    """Measures one backend. Call the steps in the order in which they stand here; each fills its attributes.

    Three workers take turns: the backend, the reference, and the control, which is the reference once more in another
    process. What the last two differ by is what a difference must exceed.

    Attributes:
        compared: the validation images that the answers are compared on: the same for every backend.
        status: ok, unavailable (this machine cannot run it) or failed; with the reason in `error`.
        preparation, cold_start, parity, proof, accuracy, scenarios, layers, peaks, preprocessing, sweep: as in
            `BenchmarkRecord`; empty where not measured.
    """

    def __init__(
        self,
        backend: str | type[Backend],
        checkpoint: Checkpoint,
        data: Data,
        *,
        profile: Profile = "fast",
        num_threads: int = 0,
        min_seconds: float = 0.0,
        batch_size: int = OFFLINE_BATCH,
        seed: int = 0,
        progress: Progress = lambda line: None,
    ) -> None:
        self.backend = get_backend(backend) if isinstance(backend, str) else backend
        self.reference = get_backend(REFERENCE)
        self.checkpoint, self.data, self.progress, self.profile = checkpoint, data, progress, profile
        self.num_threads, self.seed = num_threads or num_cores(), seed
        self.plans = scenario_plans(profile, min_seconds, batch_size)
        self.compared = balanced_sample(data.val, UNTRAINED_IMAGES if checkpoint.metadata.random_weights else 0)
        size = checkpoint.preprocessing.image_size
        self.layer_infos = leaf_layers(checkpoint.model, (3, size, size))
        self.status: Status = "ok"
        self.error = ""
        self.warnings: list[RecordWarning] = []
        self.preparation: Preparation | None = None
        self.cold_start: ColdStart | None = None
        self.reference_cold_start: ColdStart | None = None
        self.parity: Parity | None = None
        self.proof: Proof | None = None
        self.accuracy: dict[str, Accuracy] = {}
        self.scenarios: list[Scenario] = []
        self.layers: list[LayerTable] = []
        self.peaks: Peaks | None = None
        self.preprocessing: PreprocessingTime | None = None
        self.sweep: list[SweepPoint] = []
        self._kernels: dict[str, tuple[Kernels, Kernels]] = {}
        self._left_out: list[str] = []
        self._sides: Sides = {}
        self._num_starts = 0
        self._patience_s = PATIENCE_S[profile]
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if self.num_threads > num_cores():
            self._warn("too_many_threads", threads=self.num_threads, cores=num_cores())
        if is_emulated():
            self._warn("emulated")
        if reason := self.backend.unavailable():
            self.status, self.error = "unavailable", reason
        elif missing := self.backend.missing_packages():
            extra = self.backend.extra
            how = f"make EXTRAS={extra} .venv" if extra else "make .venv"
            self.fail(f"packages are missing: {', '.join(missing)}; install them with `{how}`")

    def fail(self, reason: str) -> None:
        """End the session: later steps do nothing."""
        self.status, self.error = "failed", reason
        self.progress(f"failed: {reason}")
        self._discard()

    def _warn(self, kind: WarningKind, scenario: str = "", **figures: Figure) -> None:
        """Warn once, however often a step is run."""
        self.warnings = [known for known in self.warnings if (known.kind, known.scenario) != (kind, scenario)]
        self.warnings.append(RecordWarning(kind, scenario, figures))

    @_step
    def prepare(self) -> None:
        """What a build machine would do once: export, quantize on training images, compile ahead of time."""
        self._prepare()

    def _prepare(self) -> None:
        self._discard()
        try:
            self._fill_folder()
        except BaseException:  # half a folder is none
            self._discard()
            raise

    def _fill_folder(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gtsrb-bench-")
        folder = Path(self._folder.name)
        (folder / "model").mkdir()
        self._save_images(self.compared)
        if self.data.test is not None and self._reads_test():
            self._save_images(self.data.test)
        calibration = self._calibration_images()
        self._save("calibration.npy", calibration)
        worker = WorkerClient(self.backend, self.num_threads, PREPARE_LIMIT_S)
        try:
            answer = worker.ask(
                "prepare",
                checkpoint=str(self.checkpoint.path),
                calibration=str(folder / "calibration.npy"),
                folder=str(folder / "model"),
            )
        finally:
            worker.kill()
        self.preparation = Preparation(answer["seconds"], answer["num_bytes"], len(calibration))

    def _calibration_images(self) -> np.ndarray:
        """Normalized training images; nothing of val or test may shape a backend."""
        size = self.checkpoint.preprocessing.image_size
        if not self.backend.needs_calibration:
            return np.empty((0, 3, size, size), np.float32)
        sample = balanced_sample(self.data.train, CALIBRATION_IMAGES[self.profile])
        return self.checkpoint.preprocessing.normalize(sample.images)

    def _reads_test(self) -> bool:
        """Only where there is time for all of them, and only for a network that learned something."""
        return self.profile == "full" and not self.checkpoint.metadata.random_weights

    @_step
    def start(self) -> None:
        """Start the workers and take the parts of their cold start."""
        self.cold_start = self.reference_cold_start = None
        self._start()

    def _start(self) -> None:
        """Start all workers and load the network in them, one after the other. Running ones are ended first. Each set
        of processes begins with another role, should it matter who comes first."""
        if self._folder is None:
            self._prepare()
        self._stop_workers()
        first = self._num_starts % len(ROLES)
        self._num_starts += 1
        for role in ROLES[first:] + ROLES[:first]:
            worker, cold_start = self._load(role, self.num_threads)
            self._sides = {**self._sides, role: worker}
            if role == "backend":
                self.cold_start = self.cold_start or cold_start  # of later processes the files are cached
            elif role == "reference":
                self.reference_cold_start = self.reference_cold_start or cold_start

    @_step
    def check_parity(self) -> None:
        """Logits and top-1 on the validation images against the reference; the test images only for the record."""
        logits = self._compare_logits() if self.backend.is_network else None
        self._note_memory()
        if logits is None:
            return
        assert self.parity is not None
        if self.parity.outcome == "failed":
            raise BackendError(f"not the same network: {self.parity.reason}")
        if self.parity.outcome == "inconclusive":
            self._warn("inconclusive", **{self.backend.name: self.parity.reason})
        if self.checkpoint.metadata.random_weights:
            self._warn("random_weights")
            return
        if self.parity.reference_top1 < 3 / len(self.data.classes):
            self._warn("near_chance")
        self.accuracy["val"] = evaluate(logits, self.compared).accuracy
        if self.data.test is not None and self._reads_test():
            self.accuracy["test"] = evaluate(self._logits("test", "backend"), self.data.test).accuracy

    def _note_memory(self) -> None:
        """Now: both sides have done the same, and profiling takes memory that no user would spend."""
        for role, cold_start in (("backend", self.cold_start), ("reference", self.reference_cold_start)):
            if cold_start is not None:
                cold_start.peak_memory_bytes = self._open_sides()[role].ask("memory")["peak_memory_bytes"]

    def _compare_logits(self) -> np.ndarray:
        """Fill `parity`; returns the backend's logits."""
        logits, reference_logits = self._logits("val", "backend"), self._logits("val", "reference")
        labels, track_ids = np.asarray(self.compared.labels), np.asarray(self.compared.track_ids)
        self.parity = compare_logits(logits, reference_logits, labels, track_ids, self._tolerance())
        return logits

    def _save_images(self, split: Split) -> None:
        images = self.checkpoint.preprocessing.normalize(split.images)
        self._save(f"{split.name}.npy", images)

    def _save(self, name: str, images: np.ndarray) -> None:
        with writing(self._path(name), TEMPORARY):
            np.save(self._path(name), images)

    def _tolerance(self) -> Tolerance:
        if self.checkpoint.metadata.profile == "smoke":  # hardly trained: a small error changes many of its answers
            return Tolerance(top1_drop=0.05, sqnr_db=self.backend.sqnr_min_db, agreement=0.9)
        if self.checkpoint.metadata.random_weights:
            # Its classes lie so close that any error changes the arg max, and rounding to 8 bits can grow from layer
            # to layer beyond the signal: 0 dB in `mobilenet_v3_small`.
            sqnr_db = -math.inf if self.backend.precision == "int8" else min(10.0, self.backend.sqnr_min_db)
            return Tolerance(top1_drop=1.0, sqnr_db=sqnr_db, agreement=0.0)
        return Tolerance(self.backend.top1_drop, self.backend.sqnr_min_db, self.backend.agreement_min)

    @_step
    def check_proof(self) -> None:
        """Which kernels run in each scenario; the promise is judged in the offline scenario."""
        self._trace()
        if self.proof is not None and not self.proof.passed:
            self.fail(f"the promised kernels did not run: {self.proof.reason}")
        elif self.proof is not None and self.proof.investigate:
            self._warn("investigate", reason=self.proof.investigate)

    def _trace(self) -> None:
        self._kernels = {}

        def trace(plan: ScenarioPlan) -> None:
            sides = self._open_sides()
            answer = sides["backend"].ask("trace", batch_size=plan.batch_size)
            reference = sides["reference"].ask("trace", batch_size=plan.batch_size)
            self._kernels[plan.name] = (answer["kernels"], reference["kernels"])
            if plan.name == "offline":
                self.proof = Proof(**answer["proof"])

        self._for_each_plan(trace)

    def _for_each_plan(self, action: Callable[[ScenarioPlan], None]) -> None:
        """Do something in every scenario. One that does not fit into memory is left out from then on; the others go
        on, and the session fails at its end."""
        for plan in self.plans:
            try:
                action(plan)
            except OutOfMemoryError as error:
                self.plans = tuple(other for other in self.plans if other is not plan)
                self._left_out.append(f"{plan.name} at batch {plan.batch_size} does not fit into memory ({error})")
                self.progress(f"left out: {self._left_out[-1]}")
                self._stop_workers()  # one may be gone, and the others hold memory that the rest needs

    @_step
    def measure(self) -> None:
        """The clock: all scenarios, all sides interleaved."""
        self.scenarios = []
        measured = {plan.name for plan in self.plans}
        self.warnings = [warning for warning in self.warnings if warning.scenario not in measured]
        self._for_each_plan(self._measure)

    def _measure(self, plan: ScenarioPlan) -> None:
        self.progress(f"{plan.name}: at least {plan.num_rounds} rounds, batch {plan.batch_size}")
        scenario = self._undisturbed(plan.name, lambda: self._measure_over_starts(plan))
        self.scenarios.append(scenario)
        sides = {
            self.backend.name: scenario.latencies_s,
            f"the reference {self.reference.name}": scenario.reference_latencies_s,
        }
        unstable = {name: uncertainty(times) for name, times in sides.items() if is_unstable(times)}
        if unstable and disturbance(scenario) is None:  # one reason is enough
            self._warn("unstable", plan.name, **unstable)

    def _measure_over_starts(self, plan: ScenarioPlan) -> Scenario:
        """A scenario in as many sets of new processes as the plan asks for."""
        parts: list[Scenario] = []
        for number in range(plan.num_starts):
            if number:
                self.progress(f"{plan.name}: processes {number + 1} of {plan.num_starts}")
                self._start()
            sides = self._open_sides()
            measure = partial(measure_scenario, sides, plan.part, self.seed + number)
            parts.append(self._watched(sides, measure))
        return joined(parts)

    def _watched(self, sides: Sides, measure: Callable[[], Measured]) -> Measured:
        """What was measured, with who else used the CPU meanwhile. Smoke is not watched: its times mean nothing."""
        neighbours = Neighbours(side.pid for side in sides.values())
        measured = measure()
        if self.profile != "smoke" and (use := neighbours.use()) is not None:
            measured.conditions = self._conditions(use, max(side.num_threads for side in sides.values()))
        return measured

    def _conditions(self, use: Use, num_threads: int) -> Conditions:
        spare_cores = max(0, (os.cpu_count() or 1) - num_threads)
        return Conditions(use.others, use.stolen, use.waited, spare_cores)

    def _undisturbed(self, what: str, measure: Callable[[], Measured]) -> Measured:
        """Measured again after others have ended, as long as there is patience left; of all attempts the least
        disturbed one, which says how many there were and how long it was waited."""
        attempts, waited_s = [measure()], 0.0
        while disturbance(attempts[-1]) is not None and len(attempts) < MAX_ATTEMPTS:
            waited = self._wait_for_quiet(what)
            waited_s += waited.seconds
            if not waited.quiet:
                break
            self.progress(f"{what}: once more")
            attempts.append(measure())
        kept = min(attempts, key=lambda attempt: (disturbance(attempt) is not None, _others_cores(attempt)))
        if kept.conditions is not None:
            kept.conditions = replace(kept.conditions, num_measured=len(attempts), waited_s=waited_s)
        return kept

    def _wait_for_quiet(self, what: str) -> Waited:
        """Until others use no more than they may, with what patience is left."""
        self.progress(f"{what}: disturbed; waiting for quiet, at most {self._patience_s:.0f} s")
        pids = [side.pid for side in self._sides.values()]
        waited = wait_for_quiet(
            self._patience_s,
            lambda use: not is_busy(self._conditions(use, self.num_threads)),
            lambda seconds: use_over(pids, seconds),
        )
        self._patience_s -= waited.seconds
        self.progress(f"{what}: {'quiet' if waited.quiet else 'still not quiet'} after {waited.seconds:.0f} s")
        return waited

    @_step
    def measure_layers(self) -> None:
        """The time of every layer of the network, all sides interleaved."""
        self.layers = []
        if not self._kernels:
            self._trace()
        self._for_each_plan(self._measure_layers)

    def _measure_layers(self, plan: ScenarioPlan) -> None:
        self.progress(f"layers, {plan.name}: at most {plan.max_layer_rounds} rounds of {plan.layer_passes} passes")

        def measure() -> LayerTable:
            sides, kernels = self._open_sides(), self._kernels[plan.name]
            return self._watched(sides, lambda: measure_layers(sides, plan, self.layer_infos, *kernels))

        table = self._undisturbed(f"layers, {plan.name}", measure)
        if table.layers:
            self.layers.append(table)

    def measure_machine(self, run_dir: Path) -> None:
        """What the machine can do at most, and what an image costs before the network sees it.

        Args:
            run_dir: of this run; a machine's peaks are measured once in a run and kept there for its other backends.
        """
        if self.status != "ok":
            return
        self.progress("the machine's peaks")
        self.peaks = peaks_of_run(run_dir, self.num_threads)
        self.preprocessing = measure_preprocessing(self.data.val, self.checkpoint.preprocessing)

    @_step
    def measure_sweep(self) -> None:
        """Other batch sizes and numbers of threads, where the profile asks for it. A point that breaks is noted, and
        the others are measured. The last step: it ends the workers."""
        plan = SWEEPS[self.profile]
        self.sweep = []
        if plan is None:
            return
        self._open_sides()  # what was prepared is needed again, where this is the first step after `close`
        self._stop_workers()  # their memory is needed
        batch_sizes = dict.fromkeys(thread_counts(self.num_threads), plan.thread_batch_sizes)
        batch_sizes[self.num_threads] = plan.batch_sizes
        for threads, sizes in batch_sizes.items():
            for batch_size in sizes:
                self.progress(f"sweep: batch {batch_size}, {threads} threads")
                self.sweep.append(self._sweep_point(batch_size, threads, plan))
        self._stop_workers()

    def _sweep_point(self, batch_size: int, num_threads: int, plan: SweepPlan) -> SweepPoint:
        """One point; where it breaks, its error stands in place of its numbers, and the next one gets new workers."""

        def measure() -> Scenario:
            sides = self._sweep_sides(num_threads)
            return self._watched(sides, lambda: measure_scenario(sides, plan.scenario(batch_size), self.seed))

        try:
            found = self._undisturbed(f"batch {batch_size}, {num_threads} threads", measure)
        except BackendError as error:
            self._stop_workers()
            return SweepPoint(batch_size, num_threads, [], [], str(error))
        times = found.latencies_s, found.reference_latencies_s
        return SweepPoint(batch_size, num_threads, *times, conditions=found.conditions)

    def _sweep_sides(self, num_threads: int) -> Sides:
        """Backend and reference with this number of threads; those that run already where they have it."""
        if any(worker.num_threads != num_threads for worker in self._sides.values()):
            self._stop_workers()
        for role in ("reference", "backend"):
            if role not in self._sides:
                self._sides = {**self._sides, role: self._load(role, num_threads)[0]}
        return self._sides

    def close(self) -> None:
        """End the workers. A session that had to leave something out fails now."""
        self._discard()
        if self._left_out and self.status == "ok":
            self.fail("; ".join(self._left_out))

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that the backend runs on."""
        return backend_versions(self.backend)

    def _logits(self, split: str, role: str) -> np.ndarray:
        out = self._path(f"logits-{split}-{role}.npy")
        images = self._path(f"{split}.npy")
        worker = self._open_sides()[role]
        worker.ask("predict", images=str(images), batch_size=OFFLINE_BATCH, out=str(out))
        logits: np.ndarray = np.load(out)
        num_images = len(np.load(images, mmap_mode="r"))
        if logits.shape != (num_images, len(self.data.classes)) or not np.isfinite(logits).all():
            raise BackendError(f"{worker.backend.name} gave logits of shape {logits.shape} or not finite")
        return logits

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / name

    def _open_sides(self) -> Sides:
        """The running workers; started again where a cell is run again after the session was closed."""
        if not self._sides:
            self._start()
        return self._sides

    def _load(self, role: str, num_threads: int) -> tuple[WorkerClient, ColdStart]:
        worker = WorkerClient(self.backend if role == "backend" else self.reference, num_threads)
        try:
            return worker, worker.load(self.checkpoint.path, self._path("model"), self._path("val.npy"))
        except BaseException:
            worker.kill()
            raise

    def _stop_workers(self) -> None:
        for worker in self._sides.values():
            worker.kill()
        self._sides = {}

    def _discard(self) -> None:
        self._stop_workers()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _others_cores(measured: Scenario | LayerTable) -> float:
    return measured.conditions.others_cores if measured.conditions is not None else 0.0


def backend_versions(backend: type[Backend]) -> dict[str, str]:
    """Versions of the packages that a backend runs on, by the name of the distribution."""
    names = importlib.metadata.packages_distributions()
    distributions = {name for package in backend.packages for name in names.get(package, [])}
    return {name: importlib.metadata.version(name) for name in sorted(distributions)}
