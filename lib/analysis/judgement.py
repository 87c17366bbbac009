"""What may be concluded from a measurement: a verdict, or that it was disturbed and is not judged.

All that makes claims asks here: what is disturbed has raw numbers in its record and a verdict nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from lib.analysis.statistics import (
    LEAST_TIME_S,
    SMALLEST_EFFECT,
    Ratio,
    is_unstable,
    noise_floor,
    scenario_ratio,
    uncertainty,
    verdict,
)
from lib.records.schema import (
    BenchmarkRecord,
    Conditions,
    Figure,
    LayerTable,
    RecordWarning,
    Scenario,
    SweepPoint,
    WarningKind,
)

Measured = TypeVar("Measured", Scenario, LayerTable, SweepPoint)

DISTURBED = "disturbed"  # the verdict on what is not judged
SAME_PACE = 1.3  # clocks of one kind of machine differ by less, a slow hand-over makes more (`lib.analysis.pace`)
# That others may use where the measured threads take all cores: the most at which the ratio of two programs that are
# built alike moved by less than 1 %, half of the smallest effect that is claimed (docs/selfcheck).
LIMIT_CORES = 0.2
NEAR_CHANCE = 3  # times the top-1 of guessing; where a reference has less, equal accuracy proves little


def allowed_cores(spare_cores: int) -> float:
    """What others may use: half of the cores that are left over, and a little in any case."""
    return max(LIMIT_CORES, spare_cores / 2)


def is_busy(conditions: Conditions) -> bool:
    """Whether others used so much that ratios move."""
    return conditions.others_cores > allowed_cores(conditions.spare_cores)


def disturbance(measured: Scenario | LayerTable | SweepPoint) -> RecordWarning | None:
    """Why something is not judged, with the figures that show it; None where it is.

    Others used too much of the CPU, or the reference changed its pace on the way and the speedup with it. What was not
    watched is judged.
    """
    conditions = measured.conditions
    if conditions is None:
        return None
    found: dict[str, Figure] = {}
    if is_busy(conditions):
        found = {
            "others_cores": conditions.others_cores,
            "allowed_cores": allowed_cores(conditions.spare_cores),
            "stolen_cores": conditions.stolen_cores,
        }
    elif paces := two_paces(*_rounds(measured)):
        found = {"quick_s": paces[0], "slow_s": paces[1]}
    if not found:
        return None
    kind, scenario = _place(measured)
    found |= {"num_measured": conditions.num_measured, "waited_s": conditions.waited_s}
    return RecordWarning(kind, scenario, found)


def two_paces(
    latencies_s: Sequence[Sequence[float]], reference_latencies_s: Sequence[Sequence[float]]
) -> tuple[float, float] | None:
    """Seconds of a quick and of a slow round of the reference, where they are too far apart to be one pace, and the
    backend follows less than half of the way from one to the other. Where it follows, the speedup stays what it is.

    By the rounds' middle calls, without the tenth of the rounds at either end, so that single hiccups do not count.

    Args:
        latencies_s: of the backend, one inner list per round.
        reference_latencies_s: of the reference, in the same rounds.
    """
    backend, reference = (
        np.array([np.median(calls) for calls in side]) for side in (latencies_s, reference_latencies_s)
    )
    cut, half = math.ceil(len(reference) / 10), len(reference) // 2
    if len(reference) <= 2 * cut:
        return None
    order = np.argsort(reference)
    quick, slow = reference[order[cut]], reference[order[-1 - cut]]
    speedups = (reference / np.maximum(backend, LEAST_TIME_S))[order]
    follows = np.median(speedups[-half:]) < math.sqrt(SAME_PACE) * np.median(speedups[:half])
    return None if slow <= SAME_PACE * quick or follows else (float(quick), float(slow))


def _place(measured: Scenario | LayerTable | SweepPoint) -> tuple[WarningKind, str]:
    if isinstance(measured, Scenario):
        return "disturbed", measured.name
    return ("layers_disturbed", measured.scenario) if isinstance(measured, LayerTable) else ("sweep_disturbed", "")


def _rounds(measured: Scenario | LayerTable | SweepPoint) -> Iterator[list[list[float]]]:
    """Seconds of the backend's and of the reference's calls, or passes over all layers, one inner list per round."""
    for side in ("latencies_s", "reference_latencies_s"):
        if isinstance(measured, LayerTable):
            rounds = zip(*(getattr(layer, side) for layer in measured.layers), strict=True)
            yield [np.sum(layers, axis=0).tolist() for layers in rounds]
        else:
            yield getattr(measured, side)


def judged(measured: Sequence[Measured]) -> list[Measured]:
    """Those that were not disturbed."""
    return [each for each in measured if disturbance(each) is None]


def disturbances(record: BenchmarkRecord) -> list[RecordWarning]:
    """Of all that the record of a backend has measured; one for the whole sweep, that of its most disturbed point."""
    parts: list[Scenario | LayerTable] = [*record.scenarios, *record.layers]
    found = [why for part in parts if (why := disturbance(part)) is not None]
    points = [(point, why) for point in record.sweep if (why := disturbance(point)) is not None]
    if points:
        _, worst = max(points, key=lambda of: of[0].conditions.others_cores if of[0].conditions else 0.0)
        found.append(RecordWarning(worst.kind, "", {**worst.figures, "num_points": len(points)}))
    return found


def disturbed_backends(records: Sequence[BenchmarkRecord]) -> list[RecordWarning]:
    """A warning that names the backends that are not judged and where, with the worst reason of all; empty where there
    are none."""
    found = {record.backend: disturbances(record) for record in records if record.status == "ok"}
    named = []
    for name, parts in found.items():
        calls = [part.scenario for part in parts if part.kind == "disturbed"]
        if parts:
            named.append(f"{name} ({', '.join(calls) or 'layers or sweep'})")
    if not named:
        return []
    worst = max((part for parts in found.values() for part in parts), key=others_cores)
    return [RecordWarning("backends_disturbed", figures={**worst.figures, "backends": ", ".join(named)})]


def others_cores(warning: RecordWarning) -> float:
    """How many cores others used; 0 where something else disturbed."""
    return float(warning.figures.get("others_cores", 0.0))


def undecided(records: Sequence[BenchmarkRecord]) -> list[RecordWarning]:
    """A warning that names the backends whose parity is inconclusive; empty where there are none."""
    reasons = {
        record.backend: record.parity.reason
        for record in records
        if record.status == "ok" and record.parity is not None and record.parity.outcome == "inconclusive"
    }
    return [RecordWarning("inconclusive", figures={**reasons})] if reasons else []


def record_warnings(record: BenchmarkRecord) -> list[RecordWarning]:
    """All that a reader of a record must know, by its own numbers."""
    machine, parity, found = record.environment, record.parity, list[RecordWarning]()
    if machine.num_threads > machine.num_cores:
        figures: dict[str, Figure] = {"threads": machine.num_threads, "cores": machine.num_cores}
        found.append(RecordWarning("too_many_threads", figures=figures))
    if machine.emulated:
        found.append(RecordWarning("emulated"))
    found += undecided([record])
    if parity is not None and record.random_weights:
        found.append(RecordWarning("random_weights"))
    elif (
        parity is not None
        and record.data is not None
        and parity.reference_top1 < NEAR_CHANCE / len(record.data.classes)
    ):
        found.append(RecordWarning("near_chance"))
    if record.proof is not None and record.proof.investigate:
        found.append(RecordWarning("investigate", figures={"reason": record.proof.investigate}))
    return [*found, *_unstable(record), *disturbances(record)]


def _unstable(record: BenchmarkRecord) -> list[RecordWarning]:
    """Scenarios whose times scatter, and no disturbance is the reason; how uncertain they are, by side."""
    found = []
    for scenario in judged(record.scenarios):
        sides = {
            record.backend: scenario.latencies_s,
            f"the reference {record.reference}": scenario.reference_latencies_s,
        }
        if figures := {name: uncertainty(times) for name, times in sides.items() if is_unstable(times)}:
            found.append(RecordWarning("unstable", scenario.name, {**figures}))
    return found


@dataclass(frozen=True)
class Judgement:
    """A ratio, and whether it may be believed."""

    ratio: Ratio
    noise_floor: float
    disturbance: RecordWarning | None = None

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, `no difference`, or `disturbed`."""
        return DISTURBED if self.disturbance is not None else verdict(self.ratio, self.noise_floor)


def judge(scenario: Scenario) -> Judgement:
    """The speedup of a backend in one scenario."""
    return Judgement(scenario_ratio(scenario), noise_floor(scenario), disturbance(scenario))


def widest_floor(record: BenchmarkRecord) -> float:
    """Noise floor for what has no control of its own: the widest of the scenarios."""
    return max([SMALLEST_EFFECT, *(noise_floor(scenario) for scenario in judged(record.scenarios))])
