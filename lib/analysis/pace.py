"""Did the reference run at one pace in all jobs? If not, ratios to it do not compare the backends.

Observed on a virtual machine with two cores: a small convolution took 87 us on one thread at any time, and on two
threads 73 us in some minutes and 187 us in others, while large matrix products took the same. Synchronization between
the cores had become slower, as it does when a host places the VM's cores far apart. Eager PyTorch synchronizes in every
layer: a single image then took twice as long, and a backend that seldom synchronizes looked 14 times as fast instead of
10 times. No other process ran and no time was stolen, so only the reference's own time shows it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lib.analysis.judgement import SAME_PACE, disturbance
from lib.analysis.statistics import median_latency
from lib.records.schema import BenchmarkRecord, RecordWarning


def slow_references(records: Sequence[BenchmarkRecord], scenario: str) -> dict[str, float]:
    """Backends in whose job the reference was slower than in the quickest job on the same kind of machine, all through
    the scenario: a condition of its numbers, and no disturbance.

    Returns:
        How many times slower, by the name of the backend; those at one pace are left out.
    """
    paces: dict[tuple[object, ...], dict[str, float]] = {}
    for record in records:
        measured = record.scenario(scenario)
        if measured is not None and disturbance(measured) is None:
            kind = (record.environment.cpu_model, record.environment.num_threads, measured.batch_size)
            paces.setdefault(kind, {})[record.backend] = median_latency(measured.reference_latencies_s)
    found: dict[str, float] = {}
    for group in paces.values():
        quickest = min(group.values())
        found |= {name: pace / quickest for name, pace in group.items() if pace > SAME_PACE * quickest}
    return found


def pace_warnings(records: Sequence[BenchmarkRecord]) -> list[RecordWarning]:
    """The same as warnings, one for each scenario in which there are such backends. What computes no network is ranked
    nowhere, and times of a smoke run say nothing."""
    if any(record.profile == "smoke" for record in records):
        return []
    measured = [record for record in records if record.status == "ok" and record.parity is not None]
    scenarios = dict.fromkeys(scenario.name for record in measured for scenario in record.scenarios)
    found = {name: slow_references(measured, name) for name in scenarios}
    return [RecordWarning("slow_reference", name, {**slow}) for name, slow in found.items() if slow]
