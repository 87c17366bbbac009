"""Words about batch sizes and threads: where curves cross, what threads bring, what failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lib.analysis.sweep_points import batch_points, thread_points
from lib.records.schema import SweepPoint
from lib.report.benchmark.batch_sweep import crossing_words, failure_words, gain_words
from tests.made_records import made_benchmark, made_sweep


def points(*speedups: float, num_threads: int = 4) -> list[SweepPoint]:
    """At batch 1, 2, 4, ... with exact speedups."""
    return [SweepPoint(2**n, num_threads, [[0.01 / s]] * 5, [[0.01]] * 5) for n, s in enumerate(speedups)]


@pytest.mark.parametrize(
    ("speedups", "words"),
    [
        ((), ""),
        ((2.0,), "By batch size: faster at 1."),
        ((0.5, 0.6), "By batch size: slower at 1 to 2."),
        ((0.5, 0.9, 1.0, 1.3, 1.5), "By batch size: slower at 1 to 2, no difference at 4, faster at 8 to 16."),
    ],
)
def test_crossings_are_named_with_their_batch_size(speedups: tuple[float, ...], words: str) -> None:
    assert crossing_words(points(*speedups)) == words


def test_difference_within_the_noise_floor_is_no_crossing() -> None:
    assert crossing_words(points(1.0, 1.05), 0.1) == "By batch size: no difference at 1 to 2."


def test_crossings_along_threads_are_named_too() -> None:
    one, two, four = points(1.5, num_threads=1), points(1.0, num_threads=2), points(0.8, num_threads=4)
    assert crossing_words([*one, *two, *four]) == (
        "By batch size: slower at 1. By threads, batch 1: faster at 1, no difference at 2, slower at 4."
    )


def test_points_of_fewer_threads_belong_to_no_batch_curve_and_failed_ones_to_none() -> None:
    found = made_sweep(1.2)
    assert [point.batch_size for point in batch_points(found)] == [1, 8, 32, 128, 256, 512]
    by_size = {size: [p.num_threads for p in alike] for size, alike in thread_points(found).items()}
    assert by_size == {1: [1, 2, 4], 256: [1, 2, 4]}
    assert failure_words(found) == "Not measured: batch 1024 with 4 threads (the process was killed for memory)."


def test_gains_are_told_of_both_sides() -> None:
    one, four = points(0.5, num_threads=1), points(1.0, num_threads=4)
    record = replace(made_benchmark("openvino"), sweep=[*one, *four])
    assert gain_words(record).endswith(
        "At batch 1, 4 threads do 2.00 times the work of 1 under openvino and 1.00 times under torch-onednn."
    )
    words = gain_words(replace(record, sweep=points(1.0, 2.0)))
    assert "From batch 1 to 2 the images per s go from 100 to 400 under openvino" in words
