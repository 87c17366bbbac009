"""Words about batch sizes and threads: where curves cross, what threads bring, what failed."""

from __future__ import annotations

import pytest

from lib.analysis.sweep_points import batch_points, thread_points
from lib.records.schema import SweepPoint
from lib.report.benchmark.batch_sweep import crossing_words, failure_words, scaling_words
from tests.made_records import made_sweep


def points(*speedups: float, num_threads: int = 4) -> list[SweepPoint]:
    """At batch 1, 2, 4, ... with exact speedups."""
    return [SweepPoint(2**n, num_threads, [[0.01 / s]] * 5, [[0.01]] * 5) for n, s in enumerate(speedups)]


@pytest.mark.parametrize(
    ("speedups", "words"),
    [
        ((), ""),
        ((2.0,), "At batch 1, x is faster."),
        ((0.5, 0.6), "At every measured batch size from 1 to 2, x is slower."),
        ((0.5, 0.9, 1.0, 1.3, 1.5), "x is slower up to batch 2, shows no difference at batch 4 "
         "and is faster from batch 8 on."),
        ((1.5, 0.9, 0.9, 1.3), "x is faster at batch 1, is slower from batch 2 to 4 and is faster at batch 8."),
    ],
)  # fmt: skip
def test_crossings_are_named_with_their_batch_size(speedups: tuple[float, ...], words: str) -> None:
    assert crossing_words(points(*speedups), "x") == words


def test_difference_within_the_noise_floor_is_no_crossing() -> None:
    assert crossing_words(points(1.0, 1.05), "x", 0.1) == (
        "At every measured batch size from 1 to 2, x shows no difference."
    )


def test_crossings_along_threads_are_named_too() -> None:
    one, two, four = points(1.5, num_threads=1), points(1.0, num_threads=2), points(0.8, num_threads=4)
    assert crossing_words([*one, *two, *four], "x") == (
        "At batch 1, x is slower. "
        "At batch 1: x is faster at 1 thread, shows no difference at 2 threads and is slower at 4 threads."
    )


def test_verdict_that_no_number_of_threads_changes_says_so() -> None:
    one, two = points(1.5, num_threads=1), points(1.6, num_threads=2)
    assert "At every measured number of threads from 1 to 2, x is faster." in crossing_words([*one, *two], "x")


def test_points_of_fewer_threads_belong_to_no_batch_curve_and_failed_ones_to_none() -> None:
    found = made_sweep(1.2)
    assert [point.batch_size for point in batch_points(found)] == [1, 8, 32, 128, 256, 512]
    by_size = {size: [p.num_threads for p in alike] for size, alike in thread_points(found).items()}
    assert by_size == {1: [1, 2, 4], 256: [1, 2, 4]}
    assert failure_words(found) == "Not measured: batch 1024 with 4 threads (the process was killed for memory)."


def test_scaling_tells_both_sides() -> None:
    one, four = points(0.5, num_threads=1), points(1.0, num_threads=4)
    assert scaling_words([*one, *four], "x", "ref") == (
        "At batch 1, 4 threads do 2.00 times the work of 1 under x and 1.00 times under ref."
    )
