"""One backend against the reference on one machine: right before fast, then the clock, then the layers.

A session never raises because of the backend. What breaks ends the measuring, is kept as the session's status and
error, and goes into the record; the notebook fails after the record is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import numpy as np

from lib.backends import REFERENCE, Kernels, get_backend
from lib.bench.client import BackendError, WorkerClient
from lib.bench.parity import Tolerance, compare_logits
from lib.bench.plan import scenario_plans
from lib.bench.rounds import measure_layers, measure_scenario
from lib.data import Data, Split
from lib.model import Checkpoint, leaf_layers
from lib.records.environment import num_cores
from lib.records.results import Accuracy, ColdStart, LayerTable, Parity, Proof, Scenario, Status
from lib.records.statistics import is_unstable
from lib.signs import NUM_CLASSES
from lib.training.evaluation import evaluate

Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Sides:
    """Both workers, and the normalized images that they read."""

    backend: WorkerClient
    reference: WorkerClient
    folder: tempfile.TemporaryDirectory[str]

    def images(self, split: Split) -> Path:
        return Path(self.folder.name) / f"{split.name}.npy"


def _step(method: Callable[[Session], None]) -> Callable[[Session], None]:
    """Run a step only while all is well; a backend that breaks in it ends the session."""

    @wraps(method)
    def guarded(session: Session) -> None:
        if session.status != "ok":
            return
        try:
            method(session)
        except BackendError as error:
            session.fail(str(error))

    return guarded


class Session:
    """Measures one backend. Call the steps in the order in which they stand here; each fills its attributes.

    Attributes:
        status: ok, unavailable (this machine cannot run it) or failed; with the reason in `error`.
        cold_start, parity, proof, accuracy, scenarios, layers: as in `BenchmarkRecord`; empty where not measured.
    """

    def __init__(
        self,
        backend: str,
        checkpoint: Checkpoint,
        data: Data,
        *,
        profile: str = "fast",
        num_threads: int = 0,
        min_seconds: float = 0.0,
        progress: Progress = lambda line: None,
    ) -> None:
        self.backend, self.reference = get_backend(backend), get_backend(REFERENCE)
        self.checkpoint, self.data, self.progress = checkpoint, data, progress
        self.num_threads = num_threads or num_cores()
        self.plans = scenario_plans(profile, min_seconds)
        self.layer_infos = leaf_layers(checkpoint.model)
        self.status: Status = "ok"
        self.error = ""
        self.warnings: list[str] = []
        self.cold_start: ColdStart | None = None
        self.reference_cold_start: ColdStart | None = None
        self.parity: Parity | None = None
        self.proof: Proof | None = None
        self.accuracy: dict[str, Accuracy] = {}
        self.scenarios: list[Scenario] = []
        self.layers: list[LayerTable] = []
        self._kernels: dict[str, tuple[Kernels, Kernels]] = {}
        self._sides: _Sides | None = None
        if reason := self.backend.unavailable():
            self.status, self.error = "unavailable", reason
        elif missing := self.backend.missing_packages():
            extra = (
                f"; install them with `pip install -r requirements-{self.backend.extra}.txt`"
                if self.backend.extra
                else ""
            )
            self.fail(f"packages are missing: {', '.join(missing)}{extra}")

    def fail(self, reason: str) -> None:
        """End the session: later steps do nothing."""
        self.status, self.error = "failed", reason
        self.progress(f"failed: {reason}")
        self._discard()

    @_step
    def start(self) -> None:
        """Start both workers and take the parts of their cold start.

        A reference worker that nobody times comes first: it brings the files of the libraries into the page cache, so
        that the side which is loaded first has no harder time.
        """
        self._start()
        self._start()

    def _start(self) -> None:
        """Start both workers and load the network in them, one after the other. Running ones are ended first."""
        self._discard()
        folder: tempfile.TemporaryDirectory[str] = tempfile.TemporaryDirectory(prefix="gtsrb-bench-")
        self._sides = sides = _Sides(
            WorkerClient(self.backend, self.num_threads), WorkerClient(self.reference, self.num_threads), folder
        )
        for split in (self.data.val, self.data.test):
            if split is not None:
                np.save(sides.images(split), self.checkpoint.preprocessing.normalize(split.images).numpy())
        images = sides.images(self.data.val)
        self.reference_cold_start = sides.reference.load(self.checkpoint.path, images)
        self.cold_start = sides.backend.load(self.checkpoint.path, images)

    @_step
    def check_parity(self) -> None:
        """Logits and top-1 on the validation images against the reference; the test images only for the record."""
        if not self.backend.is_network:
            return
        val = self.data.val
        logits, reference_logits = self._logits(val, reference=False), self._logits(val, reference=True)
        allowed = Tolerance(self.backend.top1_drop, self.backend.sqnr_min_db, self.backend.agreement_min)
        self.parity = compare_logits(logits, reference_logits, np.asarray(val.labels), allowed)
        if self.parity.reference_top1 < 3 / NUM_CLASSES:
            self.warnings.append("the network reads hardly better than chance: equal accuracy proves little here")
        if not self.parity.passed:
            return self.fail(f"not the same network: {self.parity.reason}")
        self.accuracy["val"] = evaluate(logits, val).accuracy
        if self.data.test is not None:
            self.accuracy["test"] = evaluate(self._logits(self.data.test, reference=False), self.data.test).accuracy

    @_step
    def check_proof(self) -> None:
        """Which kernels run in each scenario; the promise is judged in the offline scenario."""
        self._trace()
        if self.proof is not None and not self.proof.passed:
            self.fail(f"the promised kernels did not run: {self.proof.reason}")

    def _trace(self) -> None:
        sides = self._open_sides()
        for plan in self.plans:
            answer = sides.backend.ask("trace", batch_size=plan.batch_size)
            reference = sides.reference.ask("trace", batch_size=plan.batch_size)
            self._kernels[plan.name] = (answer["kernels"], reference["kernels"])
            if plan.name == "offline":
                reason = answer["reason"]
                self.proof = Proof(answer["promised"], answer["found"], passed=not reason, reason=reason)

    @_step
    def measure(self) -> None:
        """The clock: both scenarios, both sides interleaved."""
        sides = self._open_sides()
        self.scenarios = []
        self.warnings = [warning for warning in self.warnings if "unstable" not in warning]
        for plan in self.plans:
            self.progress(f"{plan.name}: {plan.num_rounds} rounds, batch {plan.batch_size}")
            scenario = measure_scenario(sides.backend, sides.reference, plan)
            self.scenarios.append(scenario)
            for side, latencies in (
                (self.backend.name, scenario.latencies_s),
                (f"the reference {self.reference.name}", scenario.reference_latencies_s),
            ):
                if is_unstable(latencies):
                    self.warnings.append(f"{plan.name}: times of {side} are unstable; something else was running")

    @_step
    def measure_layers(self) -> None:
        """The time of every layer of the network, both sides interleaved."""
        sides = self._open_sides()
        self.layers = []
        if not self._kernels:
            self._trace()
        for plan in self.plans:
            self.progress(f"layers, {plan.name}: {plan.layer_rounds} rounds of {plan.layer_passes} passes")
            table = measure_layers(sides.backend, sides.reference, plan, self.layer_infos, *self._kernels[plan.name])
            if table.layers:
                self.layers.append(table)

    def close(self) -> None:
        """End the workers, noting their peak memory."""
        if self._sides is not None:
            for worker, cold_start in (
                (self._sides.backend, self.cold_start),
                (self._sides.reference, self.reference_cold_start),
            ):
                peak = worker.stop()
                if cold_start is not None:
                    cold_start.peak_memory_bytes = peak
        self._discard()

    def _logits(self, split: Split, *, reference: bool) -> np.ndarray:
        sides = self._open_sides()
        worker, side = (sides.reference, "reference") if reference else (sides.backend, "backend")
        out = Path(sides.folder.name) / f"logits-{split.name}-{side}.npy"
        worker.ask("predict", images=str(sides.images(split)), batch_size=256, out=str(out))
        logits: np.ndarray = np.load(out)
        if logits.shape != (split.num_images, NUM_CLASSES) or not np.isfinite(logits).all():
            raise BackendError(f"{worker.backend.name} gave logits of shape {logits.shape} or not finite")
        return logits

    def _open_sides(self) -> _Sides:
        """The running workers; started again where a cell is run again after the session was closed."""
        if self._sides is None:
            self._start()
        assert self._sides is not None
        return self._sides

    def _discard(self) -> None:
        if self._sides is not None:
            self._sides.backend.kill()
            self._sides.reference.kill()
            self._sides.folder.cleanup()
            self._sides = None
