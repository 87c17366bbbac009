"""Points of a sweep over batch sizes and numbers of threads."""

from __future__ import annotations

from collections.abc import Sequence

from lib.analysis.statistics import SMALLEST_EFFECT, Ratio, paired_ratio, verdict
from lib.records.schema import SweepPoint


def batch_points(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Those at all threads, by batch size, without the ones that failed."""
    all_threads = max((point.num_threads for point in points), default=0)
    found = [point for point in points if point.num_threads == all_threads and point.latencies_s]
    return sorted(found, key=lambda point: point.batch_size)


def thread_points(points: Sequence[SweepPoint]) -> dict[int, list[SweepPoint]]:
    """By batch size: points of at least two numbers of threads, without the ones that failed."""
    found: dict[int, list[SweepPoint]] = {}
    for point in sorted(points, key=lambda point: (point.batch_size, point.num_threads)):
        if point.latencies_s:
            found.setdefault(point.batch_size, []).append(point)
    return {size: alike for size, alike in found.items() if len(alike) > 1}


def point_ratio(point: SweepPoint) -> Ratio:
    """Speedup of the backend over the reference at one batch size and number of threads."""
    return paired_ratio(point.latencies_s, point.reference_latencies_s)


def faster_from(points: Sequence[SweepPoint], noise_floor: float = SMALLEST_EFFECT) -> int | None:
    """The smallest batch size from which on every measured one is faster, None where the largest is not.

    Args:
        points: by batch size.
    """
    start = None
    for point in reversed(points):
        if verdict(point_ratio(point), noise_floor) != "faster":
            break
        start = point.batch_size
    return start
