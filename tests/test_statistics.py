"""Statistics of the records, on samples whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.analysis import statistics
from lib.records.schema import Conditions
from tests.made_records import made_scenario


def rounds(median_s: float, num_rounds: int = 15, spread: float = 0.02, seed: int = 0) -> list[list[float]]:
    generator = np.random.default_rng(seed)
    return [(median_s * generator.normal(1, spread, 20).clip(0.5)).tolist() for _ in range(num_rounds)]


def test_speedup_is_reference_time_over_backend_time() -> None:
    ratio = statistics.paired_ratio(rounds(1.0), rounds(2.0, seed=1))
    assert ratio.value == pytest.approx(2.0, rel=0.02)
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.high - ratio.low < 0.1


def test_disturbance_that_hits_both_sides_of_a_round_cancels() -> None:
    slow = np.random.default_rng(2).uniform(1, 5, 15)
    backend = [[s * call for call in one] for s, one in zip(slow, rounds(1.0), strict=True)]
    reference = [[s * call for call in one] for s, one in zip(slow, rounds(1.5, seed=3), strict=True)]
    ratio = statistics.paired_ratio(backend, reference)
    assert ratio.value == pytest.approx(1.5, rel=0.03) and ratio.high - ratio.low < 0.15


def test_rounds_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 rounds against \[2\]"):
        statistics.paired_ratio(rounds(1, 3), rounds(1, 2))


def test_control_counts_as_a_second_process_of_the_reference() -> None:
    backend, reference, control = rounds(1.0, 6), rounds(2.0, 6), rounds(8.0, 6)
    assert statistics.paired_ratio(backend, reference).value == pytest.approx(2)
    assert statistics.paired_ratio(backend, reference, control).value == pytest.approx(4)


def test_interval_allows_for_what_others_used_in_proportion_to_the_logarithm() -> None:
    for speedup in (1.0, 10.0):
        quiet = made_scenario("single_stream", speedup)
        alone = statistics.scenario_ratio(quiet)
        beside = statistics.scenario_ratio(replace(quiet, conditions=Conditions(0.1, 0.0, 0.0, 0)))
        assert beside.value == alone.value
        wider = {1.0: 1.0, 10.0: 10**0.07}[speedup]
        assert beside.high / alone.high == pytest.approx(wider, rel=0.01)
        assert alone.low / beside.low == pytest.approx(wider, rel=0.01)


def test_outlying_rounds_hardly_move_the_speedup() -> None:
    assert statistics.paired_ratio([[1.0]] * 20, [[2.0]] * 17 + [[50.0]] * 3).value == pytest.approx(2)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (statistics.Ratio(1.5, 1.4, 1.6), "faster"),
        (statistics.Ratio(0.5, 0.4, 0.6), "slower"),
        (statistics.Ratio(1.5, 0.9, 2.0), "no difference"),
        (statistics.Ratio(1.01, 1.005, 1.015), "no difference"),
        (statistics.Ratio(0.99, 0.985, 0.995), "no difference"),
    ],
)
def test_verdict_needs_the_whole_interval_and_an_effect(ratio: statistics.Ratio, expected: str) -> None:
    assert statistics.verdict(ratio) == expected


def test_percentiles_and_throughput_count_every_call() -> None:
    calls = [[0.1] * 9, [0.2]]
    assert statistics.percentiles(calls).p50 == pytest.approx(0.1)
    assert statistics.percentiles(calls).p99 > 0.18
    assert statistics.samples_per_s(calls, 11) == pytest.approx(110 / 1.1)
    assert statistics.median_latency(calls) == pytest.approx(0.15)


def test_scattered_rounds_are_called_unstable_and_steady_ones_are_not() -> None:
    assert not statistics.is_unstable(rounds(1.0))
    assert statistics.is_unstable([[1.0], [1.0], [1.0], [2.5]])


def test_interval_by_track_is_wider_than_by_image() -> None:
    correct = np.repeat(np.arange(40) % 10 != 0, 30)  # every tenth track is wrong as a whole
    by_track = statistics.track_bootstrap(correct, np.arange(1200) // 30)
    by_image = statistics.track_bootstrap(correct, np.arange(1200))
    assert by_track is not None and by_image is not None
    assert by_track[0] <= 0.9 <= by_track[1]
    assert by_track[1] - by_track[0] > 3 * (by_image[1] - by_image[0])


def test_one_track_has_no_interval() -> None:
    assert statistics.track_bootstrap(np.array([True, False]), np.array([3, 3])) is None


def test_interval_over_seeds_allows_for_seeds_and_for_tracks() -> None:
    generator, tracks = np.random.default_rng(0), np.arange(1200) // 30
    by_track = np.repeat(generator.random(40) < 0.9, 30)
    one = statistics.track_bootstrap(by_track, tracks)
    equal = statistics.seed_bootstrap(np.array([by_track] * 4), tracks)
    unequal = statistics.seed_bootstrap(np.array([by_track] * 2 + [np.zeros(1200, bool)] * 2), tracks)
    assert one is not None and equal is not None and unequal is not None
    assert equal == pytest.approx(one, abs=0.03)
    assert unequal[1] - unequal[0] > 2 * (equal[1] - equal[0])
    assert statistics.seed_bootstrap(np.ones((3, 2), bool), np.array([3, 3])) is None
