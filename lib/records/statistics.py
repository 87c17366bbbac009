"""Summaries, computed from the raw samples of a record whenever they are needed, by one function each.

Speed is compared as `speedup = reference time / backend time`: above 1 the backend is faster. Both times come from the
same round of the same job, so that whatever slowed the machine slowed both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lib.records.results import Layer, LayerTable, Scenario

NUM_RESAMPLES = 2000
SMALLEST_EFFECT = 0.02  # speedups nearer to 1 than this are not called a difference, however narrow the interval
VERDICTS = ("faster", "slower", "no difference")


class Ratio(NamedTuple):
    """A speedup with its 95 % interval."""

    value: float
    low: float
    high: float


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
    return float(np.median([np.median(calls) for calls in latencies_s]))


def paired_ratio(latencies_s: Sequence[Sequence[float]], reference_latencies_s: Sequence[Sequence[float]]) -> Ratio:
    """Speedup: the median over rounds of (median reference call / median backend call of the same round).

    The interval is a percentile bootstrap over rounds (Efron 1979), not over calls: the calls of a round share their
    disturbances and are no independent witnesses.

    Raises:
        ValueError: no rounds, or not the same number on both sides.
    """
    if not latencies_s or len(latencies_s) != len(reference_latencies_s):
        raise ValueError(f"{len(latencies_s)} rounds against {len(reference_latencies_s)} of the reference")
    ratios = np.array(
        [
            np.median(reference) / np.median(backend)
            for backend, reference in zip(latencies_s, reference_latencies_s, strict=True)
        ]
    )
    draws = np.random.default_rng(0).integers(len(ratios), size=(NUM_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
    return Ratio(float(np.median(ratios)), float(low), float(high))


def scenario_ratio(scenario: Scenario) -> Ratio:
    """Speedup of a backend over the reference in one scenario."""
    return paired_ratio(scenario.latencies_s, scenario.reference_latencies_s)


def layer_ratio(layer: Layer) -> Ratio:
    """Speedup of a backend over the reference in one layer."""
    return paired_ratio(layer.latencies_s, layer.reference_latencies_s)


def verdict(ratio: Ratio, noise_floor: float = SMALLEST_EFFECT) -> str:
    """`faster` or `slower` where the whole interval lies beyond the noise floor, else `no difference`.

    Args:
        noise_floor: smallest deviation of the speedup from 1 that counts, as a share.
    """
    if ratio.low > 1 + noise_floor:
        return "faster"
    if 1 / ratio.high > 1 + noise_floor:
        return "slower"
    return "no difference"


def _deviation(ratio: Ratio) -> float:
    """How far an interval reaches from 1, in either direction, as a share."""
    return max(ratio.high, 1 / ratio.low) - 1


def noise_floor(scenario: Scenario) -> float:
    """The smallest deviation of a speedup from 1 that counts as a difference, as a share.

    Two processes with the same code differ too. How much is measured in the same rounds, between the reference and its
    control: what that interval reaches is no difference for anybody.
    """
    control = paired_ratio(scenario.control_latencies_s, scenario.reference_latencies_s)
    return max(SMALLEST_EFFECT, _deviation(control))


def layer_noise_floor(table: LayerTable) -> float:
    """As `noise_floor`, for single layers: the deviation that 90 % of the layers keep between reference and control."""
    ratios = [paired_ratio(layer.control_latencies_s, layer.reference_latencies_s).value for layer in table.layers]
    if not ratios:
        return SMALLEST_EFFECT
    return max(SMALLEST_EFFECT, float(np.exp(np.percentile(np.abs(np.log(ratios)), 90))) - 1)


def is_unstable(latencies_s: Sequence[Sequence[float]]) -> bool:
    """True where the medians of the rounds scatter by 10 % or more of their mean, or stray 50 % from it.

    The limits are those at which pyperf warns (psf/pyperf, `_cli.py`).
    """
    medians = np.array([np.median(calls) for calls in latencies_s])
    mean = medians.mean()
    return bool(medians.std() >= 0.1 * mean or medians.max() > 1.5 * mean or medians.min() < 0.5 * mean)


def track_bootstrap(correct: np.ndarray, track_ids: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of the accuracy, resampling whole tracks: the frames of one physical sign stand or fall together.

    Args:
        correct: bool (N,).
        track_ids: int (N,).

    Returns:
        Low and high, or None where there are fewer than two tracks.
    """
    _, track = np.unique(track_ids, return_inverse=True)
    num_right = np.bincount(track, weights=correct)
    num_images = np.bincount(track).astype(float)
    if len(num_images) < 2:
        return None
    generator = np.random.default_rng(0)
    accuracies = []
    for _ in range(NUM_RESAMPLES // 2):  # a loop, since test images are a track each: one big draw would be 100 MB
        drawn = generator.integers(len(num_images), size=len(num_images))
        accuracies.append(num_right[drawn].sum() / num_images[drawn].sum())
    low, high = np.percentile(accuracies, (2.5, 97.5))
    return float(low), float(high)
