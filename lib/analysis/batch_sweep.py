"""What a sweep over batch sizes and numbers of threads says, in words made from its points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from lib.analysis.judgement import disturbance
from lib.analysis.statistics import SMALLEST_EFFECT, median_latency, paired_ratio, verdict
from lib.records.schema import SweepPoint

_PREDICATES = {"faster": "is faster", "slower": "is slower", "no difference": "shows no difference"}


def batch_points(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Those at all threads, by batch size, without the ones that failed."""
    all_threads = max((point.num_threads for point in points), default=0)
    found = [point for point in points if point.num_threads == all_threads and point.latencies_s]
    return sorted(found, key=lambda point: point.batch_size)


def judged_points(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Those that were not disturbed."""
    return [point for point in points if disturbance(point) is None]


def thread_points(points: Sequence[SweepPoint]) -> dict[int, list[SweepPoint]]:
    """By batch size: points of at least two numbers of threads, without the ones that failed."""
    found: dict[int, list[SweepPoint]] = {}
    for point in sorted(points, key=lambda point: (point.batch_size, point.num_threads)):
        if point.latencies_s:
            found.setdefault(point.batch_size, []).append(point)
    return {size: alike for size, alike in found.items() if len(alike) > 1}


def crossing_words(points: Sequence[SweepPoint], backend: str, noise_floor: float = SMALLEST_EFFECT) -> str:
    """From which batch size and number of threads on the backend is faster or slower; empty without points."""
    points = judged_points(points)
    sentences = [_verdict_words(batch_points(points), "batch_size", backend, noise_floor)]
    sentences += [
        f"At batch {size}: {_verdict_words(alike, 'num_threads', backend, noise_floor)}"
        for size, alike in thread_points(points).items()
    ]
    return " ".join(filter(None, sentences))


_EVERY = {"batch_size": "every measured batch size", "num_threads": "every measured number of threads"}


def _named(key: str, first: int, last: int | None = None) -> str:
    """`batch 2`, `batch 2 to 8`, `1 thread`, `2 to 4 threads`."""
    values = f"{first}" if last is None else f"{first} to {last}"
    if key == "batch_size":
        return f"batch {values}"
    return f"{values} thread{'' if values == '1' else 's'}"


def _verdict_words(points: Sequence[SweepPoint], key: str, backend: str, noise_floor: float) -> str:
    """Where the verdict changes along one axis, in one sentence; empty without points."""
    judged = [
        (getattr(point, key), verdict(paired_ratio(point.latencies_s, point.reference_latencies_s), noise_floor))
        for point in points
    ]
    spans = [(name, [value for value, _ in alike]) for name, alike in groupby(judged, key=lambda of_value: of_value[1])]
    if not spans:
        return ""
    if len(spans) == 1:
        name, values = spans[0]
        where = f"{_EVERY[key]} from {values[0]} to {values[-1]}" if len(values) > 1 else _named(key, values[0])
        return f"At {where}, {backend} {_PREDICATES[name]}."
    parts = []
    for number, (name, values) in enumerate(spans):
        if len(values) == 1:
            where = f"at {_named(key, values[0])}"
        elif number == len(spans) - 1:
            where = f"from {_named(key, values[0])} on"
        else:
            where = f"up to {_named(key, values[-1])}" if number == 0 else f"from {_named(key, values[0], values[-1])}"
        parts.append(f"{_PREDICATES[name]} {where}")
    return f"{backend} {', '.join(parts[:-1])} and {parts[-1]}."


def scaling_words(points: Sequence[SweepPoint], backend: str, reference: str) -> str:
    """What more threads bring to both sides at each batch size; empty without points."""
    sentences = []
    for size, alike in thread_points(judged_points(points)).items():
        first, last = alike[0], alike[-1]
        gains = [
            median_latency(getattr(first, key)) / median_latency(getattr(last, key))
            for key in ("latencies_s", "reference_latencies_s")
        ]
        sentences.append(
            f"At batch {size}, {last.num_threads} threads do {gains[0]:.2f} times the work of {first.num_threads} "
            f"under {backend} and {gains[1]:.2f} times under {reference}."
        )
    return " ".join(sentences)


def failure_words(points: Sequence[SweepPoint]) -> str:
    """Which points failed and why, and which were disturbed; empty for none."""
    told = [
        f"batch {point.batch_size} with {point.num_threads} threads ({point.error})"
        for point in points
        if not point.latencies_s
    ]
    disturbed = [
        f"batch {point.batch_size} with {point.num_threads} threads"
        for point in points
        if disturbance(point) is not None
    ]
    sentences = [f"Not measured: {'; '.join(told)}."] if told else []
    sentences += [f"Disturbed, not judged: {'; '.join(disturbed)}."] if disturbed else []
    return " ".join(sentences)
