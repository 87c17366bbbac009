"""What the combinations of a sweep say together: the effect of each parameter, the best, the front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lib.analysis.statistics import standard_error

REPEATS = ("seed", "fold")  # parameters whose values are repetitions of the same
CONFIDENCE = 0.95
Point = Mapping[str, str]  # parameter -> value, as typed


class Mean(NamedTuple):
    """Of a figure, with the 95 % interval of Student's t; None for a single value."""

    value: float
    interval: tuple[float, float] | None
    num: int


@dataclass(frozen=True)
class Effect:
    """Of one value of a parameter against another, all others being equal."""

    parameter: str
    value: str
    base: str
    difference: Mean


def mean_of(values: Sequence[float]) -> Mean:
    """Mean of at least one value."""
    from scipy.stats import t  # half a second

    mean, error = float(np.mean(values)), standard_error(np.array(values))
    if error is None:
        return Mean(mean, None, 1)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Mean(mean, (mean - reach, mean + reach), len(values))


def effects(points: Sequence[Point], figures: Sequence[float], varied: Sequence[str]) -> list[Effect]:
    """Each value of each parameter against its first: the mean of the differences between pairs of points that differ
    in nothing else.

    Args:
        figures: one for each point.
        varied: parameters that differ between the points.
    """
    known = {tuple(point[name] for name in varied): figure for point, figure in zip(points, figures, strict=True)}
    found = []
    for place, name in enumerate(varied):
        base, *values = dict.fromkeys(point[name] for point in points)
        for value in values if name not in REPEATS else ():
            pairs = [(key, (*key[:place], base, *key[place + 1 :])) for key in known if key[place] == value]
            differences = [known[key] - known[other] for key, other in pairs if other in known]
            if differences:
                found.append(Effect(name, value, base, mean_of(differences)))
    return found


def grouped(points: Sequence[Point], varied: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    """Places of the points by the values of what is varied, repetitions together."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, point in enumerate(points):
        groups.setdefault(tuple(point[name] for name in varied if name not in REPEATS), []).append(place)
    return groups


def front(accuracies: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Places of those that none beats: each other one costs more or reads fewer right. The cheapest first."""
    kept: list[int] = []
    best = -math.inf
    for place in sorted(range(len(costs)), key=lambda place: (costs[place], -accuracies[place])):
        if accuracies[place] > best:
            best = accuracies[place]
            kept.append(place)
    return kept
