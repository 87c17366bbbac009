"""Whether splits differ beyond chance. Tracks are compared, not images: the frames of one sign are nearly copies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lib.data.audit import CLASS_MIX, TRAIN
from lib.records.schema import Shift

NUM_PERMUTATIONS = 1000
CHANCE = 0.05  # that any of all tests of a page calls a difference where there is none


def shifts(tracks: Mapping[str, Mapping[str, np.ndarray]]) -> list[Shift]:
    """Every split against training, in everything that is known of both.

    Args:
        tracks: by split, as of `lib.data.audit.track_statistics`.
    """
    return [
        _shift(split, measure, tracks[TRAIN][measure], values)
        for split, measures in tracks.items()
        if split != TRAIN
        for measure, values in measures.items()
    ]


def beyond_chance(found: list[Shift]) -> list[Shift]:
    """Those that differ, with Bonferroni's correction for their number."""
    return [shift for shift in found if shift.p_value <= CHANCE / len(found)]


def _shift(split: str, measure: str, train: np.ndarray, other: np.ndarray) -> Shift:
    values = np.concatenate([train, other])
    order = np.argsort(values, kind="stable")
    is_other = (np.arange(len(values)) >= len(train))[order]
    distance = _variation if measure == CLASS_MIX else _smirnov
    statistic, generator = distance(values[order], is_other), np.random.default_rng(0)
    drawn = (distance(values[order], generator.permutation(is_other)) for _ in range(NUM_PERMUTATIONS))
    num_as_far = sum(each >= statistic - 1e-12 for each in drawn)
    return Shift(split, measure, statistic, (1 + num_as_far) / (1 + NUM_PERMUTATIONS))


def _smirnov(values: np.ndarray, is_other: np.ndarray) -> float:
    """Largest distance of the two cumulative shares. Args: values: sorted."""
    steps = np.where(is_other, 1 / is_other.sum(), -1 / (~is_other).sum()).cumsum()
    last = np.append(values[1:] != values[:-1], True)  # of equal values
    return float(np.abs(steps[last]).max())


def _variation(classes: np.ndarray, is_other: np.ndarray) -> float:
    """Share of the tracks that would have to be of another class for both to be alike."""
    other, train = (
        np.bincount(classes[side], minlength=classes.max() + 1) / side.sum() for side in (is_other, ~is_other)
    )
    return float(np.abs(other - train).sum() / 2)
