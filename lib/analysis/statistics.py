"""Summaries, computed from the raw samples of a record whenever they are needed, by one function each.

Speed is compared as `speedup = reference time / backend time`: above 1 the backend is faster. Both times come from the
same round of the same job, so that whatever slowed the machine slowed both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from lib.records.schema import Layer, LayerTable, Scenario

NUM_RESAMPLES = 2000
CONFIDENCE = 0.99  # of intervals of speedups: a page shows dozens, and few of them may be wrong
SMALLEST_EFFECT = 0.02  # speedups nearer to 1 than this are not called a difference, however narrow the interval
ONE_START_EFFECT = 0.03  # the same where all processes were started once: equal ones differed by 2 % in 3 of 40 cases
UNSTABLE = 0.03  # uncertainty of a mean time, as a share, from which on it is called unstable
LEAST_TIME_S = 1e-7  # counters of runtimes show 0 for layers that take less than their microsecond
VERDICTS = ("faster", "slower", "no difference")
# Each core that others use moves a speedup by at most this share of its logarithm (docs/selfcheck: 0.5 on average in
# single stream, 0.7 at most, less in offline). Programs that are built alike slow down alike: a speedup of 1 stays.
MOVED_PER_CORE = 0.7


class Ratio(NamedTuple):
    """A speedup with its 99 % interval."""

    value: float
    low: float
    high: float


def standard_error(values: np.ndarray) -> float | None:
    """Of the mean of (N,); None for fewer than two."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def signal_to_error_db(logits: np.ndarray, reference: np.ndarray) -> float | None:
    """SQNR: the power of the reference over that of the difference, in decibels; None where either is zero.

    Args:
        logits, reference: float64 (N, classes).
    """
    signal, noise = (float((values**2).sum()) for values in (reference, logits - reference))
    return 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else None


class Percentiles(NamedTuple):
    """Of latencies, in seconds."""

    p50: float
    p90: float
    p99: float


def percentiles(latencies_s: Sequence[Sequence[float]]) -> Percentiles:
    """p50, p90 and p99 over the calls of all rounds."""
    p50, p90, p99 = np.percentile(np.concatenate([np.asarray(calls) for calls in latencies_s]), (50, 90, 99))
    return Percentiles(float(p50), float(p90), float(p99))


def samples_per_s(latencies_s: Sequence[Sequence[float]], batch_size: int) -> float:
    """Throughput: all images over all the time that their calls took."""
    calls = [call for one_round in latencies_s for call in one_round]
    return batch_size * len(calls) / sum(calls)


def median_latency(latencies_s: Sequence[Sequence[float]]) -> float:
    """Seconds of the middle round, each round being represented by its middle call."""
    return median(median(calls) for calls in latencies_s)


def _log_ratios(latencies_s: Sequence[Sequence[float]], *references: Sequence[Sequence[float]]) -> np.ndarray:
    """log(reference time / time) of each round, by the middle calls; of the references that are there, the mean.

    Raises:
        ValueError: no rounds, or not the same number on all sides.
    """
    sides = [latencies_s, *filter(None, references)]
    if not latencies_s or len(sides) < 2 or len({len(side) for side in sides}) > 1:
        raise ValueError(f"{len(latencies_s)} rounds against {[len(side) for side in sides[1:]]} of the reference")
    mine, *others = (np.log([max(median(calls), LEAST_TIME_S) for calls in side]) for side in sides)
    logs: np.ndarray = np.mean(others, axis=0) - mine
    return logs


def paired_ratio(latencies_s: Sequence[Sequence[float]], *references: Sequence[Sequence[float]]) -> Ratio:
    """Speedup: the trimmed mean over rounds of log(reference time / backend time of the same round), each side by its
    middle call. Where the reference ran in two processes, its time is the geometric mean of both.

    The mean leaves out a fifth of the rounds at either end: nearly as precise as the mean where noise is tame, and as
    robust as the median where it is not (Tukey and McLaughlin 1963). The interval is a percentile bootstrap over rounds
    (Efron 1979), not over calls: the calls of a round share their disturbances, so they are not independent.

    Args:
        references: of one or two processes; an empty one does not count.

    Raises:
        ValueError: no rounds, or not the same number on all sides.
    """
    logs = _log_ratios(latencies_s, *references)
    draws = np.random.default_rng(0).integers(len(logs), size=(NUM_RESAMPLES, len(logs)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(_trimmed_mean(logs[draws]), (tail, 100 - tail))
    return Ratio(*(float(np.exp(value)) for value in (_trimmed_mean(logs), low, high)))


def _trimmed_mean(values: np.ndarray) -> np.ndarray:
    """Along the last axis, without a fifth at either end."""
    cut = values.shape[-1] // 5
    kept: np.ndarray = np.sort(values)[..., cut : values.shape[-1] - cut].mean(axis=-1)
    return kept


def scenario_ratio(scenario: Scenario) -> Ratio:
    """Speedup of a backend over the reference in one scenario.

    The interval allows for what others used meanwhile, which shifts all rounds alike and so is not in their scatter.
    """
    ratio = paired_ratio(scenario.latencies_s, scenario.reference_latencies_s, scenario.control_latencies_s)
    others = scenario.conditions.others_cores if scenario.conditions else 0.0
    moved = math.exp(MOVED_PER_CORE * others * abs(math.log(ratio.value)))
    return Ratio(ratio.value, ratio.low / moved, ratio.high * moved)


def layer_ratio(layer: Layer) -> Ratio:
    """Speedup of a backend over the reference in one layer."""
    return paired_ratio(layer.latencies_s, layer.reference_latencies_s, layer.control_latencies_s)


def verdict(ratio: Ratio, noise_floor: float = SMALLEST_EFFECT) -> str:
    """`faster` or `slower` where the whole interval and an effect beyond the noise floor say so, else `no difference`.

    Args:
        noise_floor: smallest deviation of the speedup from 1 that counts, as a share.
    """
    if ratio.low > 1 and ratio.value > 1 + noise_floor:
        return "faster"
    if ratio.high < 1 and 1 / ratio.value > 1 + noise_floor:
        return "slower"
    return "no difference"


def control_ratio(scenario: Scenario) -> Ratio:
    """The A/A control: the reference against itself in another process, in the same rounds."""
    return paired_ratio(scenario.control_latencies_s, scenario.reference_latencies_s)


def noise_floor(scenario: Scenario) -> float:
    """The smallest deviation of a speedup from 1 that counts as a difference, as a share.

    Two processes with the same code differ too. By how much is measured in the same rounds, between the reference and
    its control: less than that does not count as a difference. A single pair of processes says little about the spread
    of others, so the least effect is larger if only one was started.
    """
    least = SMALLEST_EFFECT if len(scenario.rounds_per_start) > 1 else ONE_START_EFFECT
    return max(least, _deviation(control_ratio(scenario)))


def _deviation(ratio: Ratio) -> float:
    """How far a speedup is from 1, in either direction, as a share."""
    return max(ratio.value, 1 / ratio.value) - 1


def layer_noise_floor(table: LayerTable) -> float:
    """As `noise_floor`, for single layers: the deviation that 90 % of the layers keep between reference and control."""
    deviations = [
        _deviation(paired_ratio(layer.control_latencies_s, layer.reference_latencies_s)) for layer in table.layers
    ]
    return max(SMALLEST_EFFECT, float(np.percentile(deviations, 90))) if deviations else SMALLEST_EFFECT


def uncertainty(latencies_s: Sequence[Sequence[float]]) -> float:
    """Standard error of the mean over the rounds' middle calls, as a share of that mean."""
    medians = np.array([median(calls) for calls in latencies_s])
    return float(medians.std() / np.sqrt(len(medians)) / medians.mean())


def is_unstable(latencies_s: Sequence[Sequence[float]]) -> bool:
    """True where the rounds scatter so much that their mean is uncertain by 3 % or more."""
    return uncertainty(latencies_s) >= UNSTABLE


def track_bootstrap(values: np.ndarray, track_ids: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of a mean over images, resampling whole tracks: the frames of one physical sign are right or
    wrong together.

    Args:
        values: bool or number (N,), such as whether each image is read right.
        track_ids: int (N,).

    Returns:
        Low and high, or None where there are fewer than two tracks.
    """
    return track_interval(lambda times: float(np.average(values, weights=times)), track_ids)


def track_interval(statistic: Callable[[np.ndarray], float], track_ids: np.ndarray) -> tuple[float, float] | None:
    """As `track_bootstrap`, for whatever is computed from images.

    Args:
        statistic: of how often each image counts, int (N,).
    """
    known, track = np.unique(track_ids, return_inverse=True)
    if len(known) < 2:
        return None
    generator = np.random.default_rng(0)
    found = []
    for _ in range(NUM_RESAMPLES // 2):  # a loop, since test images are a track each: one big draw would be 100 MB
        drawn = generator.integers(len(known), size=len(known))
        found.append(statistic(np.bincount(drawn, minlength=len(known))[track]))
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


def seed_bootstrap(right: np.ndarray, track_ids: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of top-1 over seeds and tracks, resampling both: seeds differ, and so would other signs.

    Args:
        right: bool (seeds, N), whether the network of each seed reads each image right.
        track_ids: int (N,).

    Returns:
        Low and high, or None where there are fewer than two tracks.
    """
    generator = np.random.default_rng(1)  # not that of `track_interval`, which draws tracks meanwhile

    def drawn(times: np.ndarray) -> float:
        seeds = generator.integers(len(right), size=len(right))
        return float(np.average(right[seeds].mean(axis=0), weights=times))

    return track_interval(drawn, track_ids)


def median_interval(latencies_s: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """The middle round's median call with a 95 % bootstrap interval over rounds, seconds."""
    samples = np.array([median(calls) for calls in latencies_s])
    draws = np.random.default_rng(0).integers(len(samples), size=(NUM_RESAMPLES, len(samples)))
    low, high = np.percentile(np.median(samples[draws], axis=1), (2.5, 97.5))
    return float(np.median(samples)), float(low), float(high)


def round_ratios_of(latencies_s: Sequence[Sequence[float]], *references: Sequence[Sequence[float]]) -> list[float]:
    """Speedup of each round; over the geometric mean of the reference's processes, where there are two."""
    speedups: list[float] = np.exp(_log_ratios(latencies_s, *references)).tolist()
    return speedups
