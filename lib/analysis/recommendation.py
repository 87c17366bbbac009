"""Which backend to use, derived from the records by stated rules. What the records do not say is not recommended.

1. Only backends that ran, passed parity (inconclusive is not passed), and ran the kernels that they promise, in jobs in
   which the reference was as fast as in the others on such a machine, and that nothing disturbed.
2. The best is the one whose interval of the speedup has the highest lower end, if it is faster than the reference
   beyond the noise. Else: stay with the reference.
3. Backends whose interval reaches into that of the best are equally good. Among them the one with the fewest
   conditions is named: part of the default installation, then fp32, then no work ahead of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lib.analysis.judgement import disturbance, judge
from lib.analysis.pace import slow_references
from lib.analysis.statistics import Ratio, noise_floor, scenario_ratio, verdict
from lib.records.schema import BenchmarkRecord, Scenario, Speed, scenario_names

LONG_S = 1.0  # preparation and compilation longer than this are conditions
MORE_MEMORY = 1.25  # and so is this much more memory than the reference takes


@dataclass(frozen=True)
class Candidate:
    """A right backend in one scenario."""

    record: BenchmarkRecord
    scenario: Scenario
    ratio: Ratio
    noise_floor: float

    @property
    def verdict(self) -> str:
        return verdict(self.ratio, self.noise_floor)


@dataclass(frozen=True)
class Choice:
    """The backend to use in one scenario on one architecture.

    Attributes:
        precision: any, or fp32 where nothing else may be used.
        best: None where nothing is faster than the reference beyond the noise, and where nothing could be judged.
        equally_good: the others whose interval reaches into that of the fastest.
        disturbed: right backends that were disturbed: their rank is unknown.
        is_judged: False where all were disturbed.
        records: those that it was chosen from.
    """

    scenario: str
    precision: str
    architecture: str
    reference: str
    best: Candidate | None
    equally_good: list[Candidate]
    disturbed: list[str]
    is_judged: bool
    records: list[BenchmarkRecord]

    @property
    def backend(self) -> str:
        """What to use; empty where nothing could be judged."""
        if not self.is_judged:
            return ""
        return self.best.record.backend if self.best is not None else self.reference


def candidates(records: Sequence[BenchmarkRecord], scenario: str) -> list[Candidate]:
    """Right backends with times in a scenario, the best first. The reference is none: it is what they must beat.

    A reference that was slower than in other jobs flatters by that factor at most: the interval reaches down by it.
    """
    slower = slow_references(records, scenario)

    def careful(record: BenchmarkRecord, measured: Scenario) -> Ratio:
        ratio = scenario_ratio(measured)
        return Ratio(ratio.value, ratio.low / slower.get(record.backend, 1.0), ratio.high)

    found = [
        Candidate(record, measured, careful(record, measured), noise_floor(measured))
        for record, measured in _right(records, scenario)
        if record.backend != record.reference and disturbance(measured) is None
    ]
    return sorted(found, key=lambda candidate: -candidate.ratio.low)


def speed_of(scenario: Scenario, name: str, *, ranked: bool = True) -> Speed:
    """The verdict on one scenario under a name, with the speedup where it is judged."""
    found = judge(scenario)
    ratio = None if found.disturbance is not None else found.ratio
    return Speed(name, ratio, found.verdict, ranked)


def speeds(records: Sequence[BenchmarkRecord]) -> dict[str, list[Speed]]:
    """All backends but the reference, by scenario; those that are ranked with the intervals that rank them."""
    found: dict[str, list[Speed]] = {}
    for name in scenario_names(records):
        ranks = {candidate.record.backend: candidate.ratio for candidate in candidates(records, name)}
        others = [record for record in records if record.backend != record.reference]
        found[name] = [
            replace(speed, ratio=ranks.get(speed.name, speed.ratio))
            for record in others
            if (measured := record.scenario(name)) is not None
            for speed in [speed_of(measured, record.backend, ranked=record.backend in ranks)]
        ]
    return {name: some for name, some in found.items() if some}


def is_right(record: BenchmarkRecord) -> bool:
    """Ran on a real machine, computes the same network, and by the promised kernels."""
    parity, proof = record.parity, record.proof
    right = parity is not None and parity.outcome == "passed" and (proof is None or proof.passed)
    return record.status == "ok" and right and not record.environment.emulated


def not_judged(records: Sequence[BenchmarkRecord], scenario: str) -> list[str]:
    """Right backends that were disturbed in a scenario: their rank is unknown."""
    return [
        record.backend
        for record, measured in _right(records, scenario)
        if record.backend != record.reference and disturbance(measured) is not None
    ]


def _right(records: Sequence[BenchmarkRecord], scenario: str) -> list[tuple[BenchmarkRecord, Scenario]]:
    """Right backends that were measured in a scenario."""
    found = [(record, record.scenario(scenario)) for record in records if is_right(record)]
    return [(record, measured) for record, measured in found if measured is not None]


def choices(records: Sequence[BenchmarkRecord], precision: str = "any") -> list[Choice]:
    """One for each architecture and scenario that was measured: speedups of two architectures say nothing about each
    other.

    Args:
        precision: fp32, or any.
    """
    measured = [record for record in records if record.status == "ok" and record.parity is not None]
    found = []
    for architecture in dict.fromkeys(record.environment.architecture for record in measured):
        mine = [record for record in measured if record.environment.architecture == architecture]
        found += [_choice(mine, scenario, precision) for scenario in scenario_names(mine)]
    return found


def _choice(records: list[BenchmarkRecord], scenario: str, precision: str) -> Choice:
    usable = [record for record in records if precision in ("any", record.precision)]
    right, disturbed = candidates(records, scenario), not_judged(usable, scenario)
    right = [found for found in right if found.record in usable]  # after `candidates`, which asks all for their pace
    faster = [found for found in right if found.verdict == "faster"]
    equal = [found for found in faster if found.ratio.high >= faster[0].ratio.low]
    best = min(equal, key=_burden, default=None)
    return Choice(
        scenario=scenario,
        precision=precision,
        architecture=records[0].environment.architecture,
        reference=records[0].reference,
        best=best,
        equally_good=[found for found in equal if found is not best],
        disturbed=disturbed,
        is_judged=bool(right) or not disturbed,
        records=records,
    )


def _burden(candidate: Candidate) -> tuple[bool, bool, bool, float]:
    """Smaller = fewer conditions; the speed decides between equals."""
    record = candidate.record
    extra = not candidate.record.needs.default or bool(candidate.record.needs.extra)
    return extra, record.precision != "fp32", ahead_of_time_s(candidate) > LONG_S, -candidate.ratio.low


def ahead_of_time_s(candidate: Candidate) -> float:
    """Seconds of preparation and compilation."""
    record = candidate.record
    prepared = record.preparation.seconds if record.preparation is not None else 0.0
    return prepared + compile_s(candidate)


def compile_s(candidate: Candidate) -> float:
    """Seconds in every process, before the first call of the scenario."""
    single = candidate.scenario.name == "single_stream"
    cold = candidate.record.cold_start
    return cold.compile_s if single and cold is not None else candidate.scenario.compile_s


def front(records: Sequence[BenchmarkRecord], scenario: str) -> list[str]:
    """Right backends that no other one beats in speed and accuracy at once, the fastest first.

    The reference stands at a speedup of 1 and no loss. Equal in one and better in the other is beaten too.
    """
    places: dict[str, tuple[float, float]] = {}
    for record, measured in _right(records, scenario):
        if record.parity is not None and disturbance(measured) is None:
            speed = 1.0 if record.backend == record.reference else scenario_ratio(measured).value
            places[record.backend] = (speed, -record.parity.top1_drop)
    kept = [
        name
        for name, mine in places.items()
        if not any(o != mine and o[0] >= mine[0] and o[1] >= mine[1] for o in places.values())
    ]
    return sorted(kept, key=lambda name: -places[name][0])
