"""Which backend to use, derived from the records by stated rules. What the records do not say is not recommended.

1. Only backends that ran, passed parity (inconclusive is not passed), and ran the kernels that they promise, in jobs in
   which the reference was as fast as in the others on such a machine, and that nothing disturbed.
2. The best is the one whose interval of the speedup has the highest lower end, if it is faster than the reference
   beyond the noise. Else: stay with the reference.
3. Backends whose interval reaches into that of the best are equally good. Among them the one with the fewest
   conditions is named: part of the default installation, then fp32, then no work ahead of time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib.analysis.batch_sweep import batch_points, judged_points
from lib.analysis.judgement import disturbance
from lib.analysis.pace import slow_references
from lib.analysis.statistics import SMALLEST_EFFECT, Ratio, noise_floor, paired_ratio, scenario_ratio, verdict
from lib.machine import flags_for
from lib.records.schema import BenchmarkRecord, Parity, Recommendation, Scenario, SweepPoint

LONG_S = 1.0  # preparation and compilation longer than this are conditions
MORE_MEMORY = 1.25  # and so is this much more memory than the reference takes


@dataclass(frozen=True)
class Needs:
    """What a backend asks of an installation; records do not say it."""

    packages: tuple[str, ...] = ()
    extra: str = ""  # optional requirements that bring the packages
    default: bool = True  # part of a default run


@dataclass(frozen=True)
class Candidate:
    """A right backend in one scenario."""

    record: BenchmarkRecord
    scenario: Scenario
    ratio: Ratio
    noise_floor: float
    needs: Needs = field(default_factory=Needs)

    @property
    def verdict(self) -> str:
        return verdict(self.ratio, self.noise_floor)

    @property
    def words(self) -> str:
        """`1.22x faster [1.20, 1.25] than torch-onednn`."""
        value, low, high = self.ratio
        return f"{value:.2f}x faster [{low:.2f}, {high:.2f}] than {self.record.reference}"


def drop_words(parity: Parity) -> str:
    """`at equal top-1`, `for 0.20 [-0.05, 0.46] points of top-1`, `at 0.10 [-0.31, 0.52] points more top-1`."""
    points = 100 * parity.top1_drop
    if abs(points) < 0.005:
        return "at equal top-1"
    lost = points > 0
    interval = ""
    if parity.top1_drop_interval is not None:
        low, high = sorted(100 * end if lost else -100 * end for end in parity.top1_drop_interval)
        interval = f" [{low:.2f}, {high:.2f}]"
    return f"for {points:.2f}{interval} points of top-1" if lost else f"at {-points:.2f}{interval} points more top-1"


def candidates(
    records: Sequence[BenchmarkRecord], scenario: str, needs: Mapping[str, Needs] | None = None
) -> list[Candidate]:
    """Right backends with times in a scenario, the best first. The reference is none: it is what they must beat."""
    known = needs or {}
    flattered = slow_references(records, scenario)
    found = [
        Candidate(record, measured, scenario_ratio(measured), noise_floor(measured), known.get(record.backend, Needs()))
        for record in records
        for measured in record.scenarios
        if measured.name == scenario
        and is_right(record)
        and record.backend != record.reference
        and record.backend not in flattered
        and disturbance(measured) is None
    ]
    return sorted(found, key=lambda candidate: -candidate.ratio.low)


def is_right(record: BenchmarkRecord) -> bool:
    """Ran on a real machine, computes the same network, and by the promised kernels."""
    parity, proof = record.parity, record.proof
    right = parity is not None and parity.outcome == "passed" and (proof is None or proof.passed)
    return record.status == "ok" and right and not record.environment.emulated


def not_judged(records: Sequence[BenchmarkRecord], scenario: str) -> list[str]:
    """Right backends that were disturbed in a scenario: their rank is unknown."""
    return [
        record.backend
        for record in records
        if is_right(record)
        and record.backend != record.reference
        and any(measured.name == scenario and disturbance(measured) is not None for measured in record.scenarios)
    ]


def not_judged_words(backends: Sequence[str]) -> str:
    """`; not judged, since disturbed: a, b`, to end a claim about the others; empty for none."""
    return f"; not judged, since disturbed: {', '.join(backends)}" if backends else ""


def fastest(records: Sequence[BenchmarkRecord], scenario: str) -> Candidate | None:
    """The best of the right backends, None where none is faster than the reference beyond the noise."""
    return next((found for found in candidates(records, scenario) if found.verdict == "faster"), None)


def recommend(records: Sequence[BenchmarkRecord], needs: Mapping[str, Needs] | None = None) -> list[Recommendation]:
    """One recommendation per scenario, and one more each where only fp32 may be used; empty for smoke records.

    Different architectures get recommendations of their own: their speedups say nothing about each other.
    """
    judged = [record for record in records if record.status == "ok" and record.parity is not None]
    if not judged or any(record.profile == "smoke" for record in judged):
        return []
    found = []
    for architecture in dict.fromkeys(record.environment.architecture for record in judged):
        mine = [record for record in judged if record.environment.architecture == architecture]
        for scenario in dict.fromkeys(measured.name for record in mine for measured in record.scenarios):
            for precision in ("any", "fp32"):
                found.append(_recommendation(mine, scenario, precision, needs or {}))
    return found


def _recommendation(
    records: Sequence[BenchmarkRecord], scenario: str, precision: str, needs: Mapping[str, Needs]
) -> Recommendation:
    """Args: precision: fp32, or any."""
    reference, architecture = records[0].reference, records[0].environment.architecture
    faster = [
        found
        for found in candidates(records, scenario, needs)
        if found.verdict == "faster" and precision in ("any", found.record.precision)
    ]
    place = scenario.replace("_", " ").capitalize() + (" in fp32" if precision == "fp32" else "")
    usable = [record for record in records if precision in ("any", record.precision)]
    disturbed = not_judged(usable, scenario)
    if disturbed and not any(found.record in usable for found in candidates(records, scenario, needs)):
        text = f"{place}: disturbed, not judged ({', '.join(disturbed)}). Measure again."
        return Recommendation(scenario, precision, architecture, "", None, [], [], text)
    caveat = not_judged_words(disturbed)
    if not faster:
        text = f"{place}: no backend is faster than {reference} beyond the noise{caveat}. Stay with {reference}."
        return Recommendation(scenario, precision, architecture, reference, None, [], [], text)
    best = faster[0]
    equal = [found for found in faster if found.ratio.high >= best.ratio.low]
    chosen = min(equal, key=_burden)
    others = [found.record.backend for found in equal if found is not chosen]
    conditions = _conditions(chosen, records)
    assert chosen.record.parity is not None
    accuracy = "" if chosen.record.random_weights else f", {drop_words(chosen.record.parity)}"
    text = (
        f"{place}, batch {chosen.scenario.batch_size}: use {chosen.record.backend}, {chosen.words}{accuracy}{caveat}."
    )
    if others:
        text += f" Equally good: {', '.join(others)}."
    if conditions:
        text += f" Conditions: {'; '.join(conditions)}."
    value, low, high = chosen.ratio
    return Recommendation(
        scenario, precision, architecture, chosen.record.backend, (value, low, high), others, conditions, text
    )


def _burden(candidate: Candidate) -> tuple[bool, bool, bool, float]:
    """Smaller = fewer conditions; the speed decides between equals."""
    record = candidate.record
    extra = not candidate.needs.default or bool(candidate.needs.extra)
    return extra, record.precision != "fp32", _ahead_of_time_s(candidate) > LONG_S, -candidate.ratio.low


def _ahead_of_time_s(candidate: Candidate) -> float:
    record = candidate.record
    prepared = record.preparation.seconds if record.preparation is not None else 0.0
    return prepared + _compile_s(candidate)


def _compile_s(candidate: Candidate) -> float:
    """In every process, before the first call of the scenario."""
    single = candidate.scenario.name == "single_stream"
    cold = candidate.record.cold_start
    return cold.compile_s if single and cold is not None else candidate.scenario.compile_s


def _conditions(candidate: Candidate, records: Sequence[BenchmarkRecord]) -> list[str]:
    """Under which circumstances the recommendation holds and what it costs."""
    record, told = candidate.record, []
    if record.precision != "fp32":
        flags = [flag for flag in flags_for(record.precision) if flag in record.environment.isa_flags]
        told.append(f"it computes in {record.precision}" + (f", on a CPU with {' or '.join(flags)}" if flags else ""))
    if candidate.needs.packages and (candidate.needs.extra or not candidate.needs.default):
        told.append(f"it needs the packages {', '.join(candidate.needs.packages)}")
    if record.preparation is not None and record.preparation.num_calibration_images:
        told.append(f"it is calibrated on {record.preparation.num_calibration_images:,} training images")
    if record.preparation is not None and record.preparation.seconds > LONG_S:
        told.append(f"it takes {record.preparation.seconds:.0f} s of preparation once")
    if _compile_s(candidate) > LONG_S:
        told.append(f"it compiles for {_compile_s(candidate):.0f} s in every process")
    told += _memory(record)
    if candidate.scenario.name == "offline":
        told.append(_batch_sizes(candidate))
    told.append(f"{record.environment.num_threads} threads on {record.environment.cpu_model or 'an unknown CPU'}")
    if record.random_weights:
        told.append("the network has random weights, so nothing is known about its accuracy")
    if record.proof is not None and record.proof.investigate:
        told.append(f"to be looked at: {record.proof.investigate}")
    cpus = {other.environment.cpu_model for other in records}
    if len(cpus) > 1:
        told.append("the backends were measured on different CPUs, so their order may be another on one of them")
    return told


def _memory(record: BenchmarkRecord) -> list[str]:
    mine, reference = record.cold_start, record.reference_cold_start
    if mine is None or reference is None or not mine.peak_memory_bytes or not reference.peak_memory_bytes:
        return []
    if mine.peak_memory_bytes < MORE_MEMORY * reference.peak_memory_bytes:
        return []
    used, usual = (round(value / 2**20) for value in (mine.peak_memory_bytes, reference.peak_memory_bytes))
    return [f"it takes {used:,} MiB of memory, the reference {usual:,} MiB"]


def _batch_sizes(candidate: Candidate) -> str:
    size = candidate.scenario.batch_size
    points = judged_points(batch_points(candidate.record.sweep))
    if not points:
        return f"batches of {size}; other sizes were not measured"
    start = faster_from(points, candidate.noise_floor)
    if start is None or start > size:
        return f"batches of {size}; at other sizes the sweep shows no lasting gain"
    return f"batches of {start} and more (measured up to {points[-1].batch_size})"


def faster_from(points: Sequence[SweepPoint], noise_floor: float = SMALLEST_EFFECT) -> int | None:
    """The smallest batch size from which on every measured one is faster, None where the largest is not.

    Args:
        points: by batch size.
    """
    start = None
    for point in reversed(points):
        if verdict(paired_ratio(point.latencies_s, point.reference_latencies_s), noise_floor) != "faster":
            break
        start = point.batch_size
    return start


def front(records: Sequence[BenchmarkRecord], scenario: str) -> list[str]:
    """Right backends that no other one beats in speed and accuracy at once, the fastest first.

    The reference stands at a speedup of 1 and no loss. Equal in one and better in the other is beaten too.
    """
    places: dict[str, tuple[float, float]] = {}
    for record in records:
        for measured in record.scenarios:
            if measured.name != scenario or disturbance(measured) is not None:
                continue
            if is_right(record) and record.parity is not None:
                speed = 1.0 if record.backend == record.reference else scenario_ratio(measured).value
                places[record.backend] = (speed, -record.parity.top1_drop)
    kept = [
        name
        for name, mine in places.items()
        if not any(o != mine and o[0] >= mine[0] and o[1] >= mine[1] for o in places.values())
    ]
    return sorted(kept, key=lambda name: -places[name][0])
