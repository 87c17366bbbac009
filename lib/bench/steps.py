"""The steps of a session: each makes a part of the record from the workers and a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from lib.backends import Kernels
from lib.bench.client import BackendError, OutOfMemoryError
from lib.bench.neighbours import Watch
from lib.bench.parity import compare_logits, tolerance
from lib.bench.plan import NUM_SAMPLES, SWEEPS, ScenarioPlan, SessionPlan, SweepPlan, thread_counts
from lib.bench.rounds import joined, measure_layers, measure_scenario
from lib.bench.samples import balanced_indices
from lib.bench.workers import Workers
from lib.data import Split
from lib.data.images import digest_images
from lib.model import LayerInfo
from lib.records.schema import Accuracy, BenchmarkRecord, LayerTable, Proof, Sample, Scenario, SweepPoint
from lib.training.evaluation import evaluate

Found = TypeVar("Found")


class Traced(NamedTuple):
    """The kernels of one scenario, and whether they keep the backend's promise."""

    scenario: str
    kernels: Kernels
    reference_kernels: Kernels
    proof: Proof


class FittingPlans:
    """The scenarios of a session. One that does not fit into memory is left out from then on.

    Attributes:
        left: plans of the scenarios that are measured.
        left_out: what did not fit, in words.
    """

    def __init__(self, plans: Sequence[ScenarioPlan], watch: Watch) -> None:
        self.left, self.left_out, self._watch = [*plans], list[str](), watch

    def fill(self, parts: list[Found], step: Callable[[ScenarioPlan], Found | None]) -> None:
        """Let a list hold what a step finds in every scenario, as far as it fits and there is something."""
        parts.clear()
        for plan in [*self.left]:
            try:
                if (found := step(plan)) is not None:
                    parts.append(found)
            except OutOfMemoryError as error:
                self.left.remove(plan)
                self.left_out.append(f"{plan.name} at batch {plan.batch_size} does not fit into memory ({error})")
                self._watch.progress(f"left out: {self.left_out[-1]}")
                self._watch.workers.stop()  # one may be gone, and the others hold memory that the rest needs


def compare(workers: Workers, record: BenchmarkRecord) -> None:
    """Parity on the validation images, memory, and the accuracy by split where it means something.

    Raises:
        BackendError: a backend broke, or it is not the same network.
    """
    logits = {role: workers.logits("val", role) for role in ("backend", "reference") if record.is_network}
    # Now: both sides have done the same, and profiling takes memory that no user would spend.
    for role, cold_start in (("backend", record.cold_start), ("reference", record.reference_cold_start)):
        if cold_start is not None:
            cold_start.peak_memory_bytes = workers.open()[role].ask("memory")["peak_memory_bytes"]
    if not logits:
        return
    val = workers.splits["val"]
    allowed = tolerance(workers.backends["backend"], workers.checkpoint.metadata)
    record.parity = compare_logits(logits["backend"], logits["reference"], val.labels, val.track_ids, allowed)
    record.samples = sample_answers(val, logits["backend"])
    if record.parity.outcome == "failed":
        raise BackendError(f"not the same network: {record.parity.reason}")
    if not record.random_weights:
        record.accuracy = {"val": evaluate(logits["backend"], val).accuracy, **_test_accuracy(workers)}


def sample_answers(val: Split, logits: np.ndarray) -> list[Sample]:
    """Logits in full for a few of the validation images, of different classes. `logits`: (N, classes) for all."""
    chosen = balanced_indices(val.labels, NUM_SAMPLES)
    digests = digest_images(val.images[chosen])
    return [
        Sample(digest.tobytes().hex(), int(val.labels[index]), [float(value) for value in logits[index]])
        for digest, index in zip(digests, chosen, strict=True)
    ]


def _test_accuracy(workers: Workers) -> dict[str, Accuracy]:
    """Only for the record; empty where the test images are not read."""
    test = workers.splits.get("test")
    return {"test": evaluate(workers.logits("test", "backend"), test).accuracy} if test is not None else {}


def trace(workers: Workers, plan: ScenarioPlan) -> Traced:
    """Which kernels run in a scenario."""
    answers = [workers.open()[role].ask("trace", batch_size=plan.batch_size) for role in ("backend", "reference")]
    return Traced(plan.name, answers[0]["kernels"], answers[1]["kernels"], Proof(**answers[0]["proof"]))


def prove(traces: Sequence[Traced], record: BenchmarkRecord) -> None:
    """Take the proof of the offline scenario, if it fits into memory.

    Raises:
        BackendError: the promised kernels did not run.
    """
    record.proof = next((traced.proof for traced in traces if traced.scenario == "offline"), None)
    if record.proof is not None and not record.proof.passed:
        raise BackendError(f"the promised kernels did not run: {record.proof.reason}")


def measure_calls(watch: Watch, seed: int, plan: ScenarioPlan) -> Scenario:
    """The latencies of a scenario, in as many sets of new processes as its plan asks for."""

    def over_starts() -> Scenario:
        parts: list[Scenario] = []
        for number in range(plan.num_starts):
            if number:
                watch.progress(f"{plan.name}: processes {number + 1} of {plan.num_starts}")
                watch.workers.start()
            sides = watch.workers.open()
            parts.append(watch.over(sides, partial(measure_scenario, sides, plan.part, seed + number)))
        return joined(parts)

    watch.progress(f"{plan.name}: at least {plan.num_rounds} rounds, batch {plan.batch_size}")
    return watch.undisturbed(plan.name, over_starts)


def measure_network(
    watch: Watch, layers: Sequence[LayerInfo], traces: Sequence[Traced], plan: ScenarioPlan
) -> LayerTable | None:
    """The time of every layer of the network in a scenario; None where the backend does not report them.

    Args:
        layers: of the network, in the order in which they run.
        traces: as far as they are known.
    """
    known = (traced for traced in traces if traced.scenario == plan.name)
    traced = next(known, None) or trace(watch.workers, plan)

    def once() -> LayerTable:
        sides = watch.workers.open()
        kernels = traced.kernels, traced.reference_kernels
        return watch.over(sides, lambda: measure_layers(sides, plan, layers, *kernels))

    watch.progress(f"layers, {plan.name}: at most {plan.max_layer_rounds} rounds of {plan.layer_passes} passes")
    table = watch.undisturbed(f"layers, {plan.name}", once)
    return table if table.layers else None


def sweep_points(watch: Watch, plan: SessionPlan) -> Iterator[SweepPoint]:
    """Other batch sizes and numbers of threads, where the profile asks for it."""
    sweep, workers = SWEEPS[plan.profile], watch.workers
    if sweep is None:
        return
    batch_sizes = dict.fromkeys(thread_counts(workers.num_threads), sweep.thread_batch_sizes)
    batch_sizes[workers.num_threads] = sweep.batch_sizes
    workers.ready()
    workers.stop()  # the memory of the control is needed
    for threads, sizes in batch_sizes.items():
        for batch_size in sizes:
            watch.progress(f"sweep: batch {batch_size}, {threads} threads")
            yield _sweep_point(watch, sweep, batch_size, threads, plan.seed)
    workers.stop()


def _sweep_point(watch: Watch, plan: SweepPlan, batch_size: int, num_threads: int, seed: int) -> SweepPoint:
    """One point. If it breaks, it has its error instead of numbers, and the next one gets new workers."""

    def once() -> Scenario:
        sides = watch.workers.open_pair(num_threads)
        return watch.over(sides, lambda: measure_scenario(sides, plan.scenario(batch_size), seed))

    try:
        found = watch.undisturbed(f"batch {batch_size}, {num_threads} threads", once)
    except BackendError as error:
        watch.workers.stop()
        return SweepPoint(batch_size, num_threads, [], [], str(error))
    times = found.latencies_s, found.reference_latencies_s
    return SweepPoint(batch_size, num_threads, *times, conditions=found.conditions)
