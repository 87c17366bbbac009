"""The time of a network by category of layer: which kind of work became faster, and which is the bottleneck now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lib.analysis.judgement import disturbance
from lib.analysis.statistics import Ratio, layer_noise_floor, median_latency, paired_ratio
from lib.records.schema import BenchmarkRecord, LayerTable

CONVOLUTION, MATMUL, ELEMENTWISE, MOVEMENT = CATEGORIES = ("convolution", "matmul", "element-wise", "data movement")
MOVES = ("Flatten", "Unflatten", "Concat", "Permute", "Pad", "Identity", "Upsample", "PixelShuffle", "ChannelShuffle")


def category(kind: str) -> str:
    """Category of a layer, or of several that run as one step: the first one that any of them has.

    Args:
        kind: names of modules, such as `Conv2d+BatchNorm2d+ReLU`. Norms, activations, additions and pooling are
            element-wise: they touch each number and multiply no matrices.
    """
    kinds = kind.split("+")
    if any("Conv" in name for name in kinds):
        return CONVOLUTION
    if any("Linear" in name or "Attention" in name for name in kinds):
        return MATMUL
    return MOVEMENT if all(name.startswith(MOVES) for name in kinds) else ELEMENTWISE


@dataclass(frozen=True)
class CategoryTime:
    """One category under one backend.

    Attributes:
        ratio: speedup over the reference in the same layers; None where the reference has no such work.
        seconds: of the backend in a pass.
        share: of the backend's time in all categories, 0..1.
    """

    ratio: Ratio | None
    seconds: float
    share: float


@dataclass(frozen=True)
class CategoryColumn:
    """One backend, by category; the categories that it has."""

    backend: str
    times: dict[str, CategoryTime]
    noise_floor: float

    @property
    def bottleneck(self) -> str:
        """The category that takes most of the backend's time."""
        return max(self.times, key=lambda name: self.times[name].share)


def category_columns(records: Sequence[BenchmarkRecord], scenario: str) -> list[CategoryColumn]:
    """All backends that can time their layers and were not disturbed, in the order of the records."""
    found = []
    for record in records:
        table = record.layer_table(scenario)
        if table is not None and table.layers and disturbance(table) is None:
            found.append(CategoryColumn(record.backend, _times(table), layer_noise_floor(table)))
    return found


def _times(table: LayerTable) -> dict[str, CategoryTime]:
    """Steps of the runtime that belong to no layer, such as reorders, move data."""
    sides: dict[str, list[list[list[list[float]]]]] = {}
    for layer in table.layers:
        calls = [layer.latencies_s, layer.reference_latencies_s, layer.control_latencies_s]
        sides.setdefault(category(layer.kind), []).append(calls)
    passes = {name: [_added(side) for side in zip(*found, strict=True)] for name, found in sides.items()}
    seconds, ratios = {}, {}
    for name in CATEGORIES:
        mine = [passes[name][0]] if name in passes else []
        if name == MOVEMENT and table.runtime_latencies_s:
            mine.append(table.runtime_latencies_s)
        if mine:
            together = _added(mine)
            seconds[name] = median_latency(together)
            ratios[name] = paired_ratio(together, *passes[name][1:]) if name in passes else None
    total = sum(seconds.values()) or 1.0
    return {name: CategoryTime(ratios[name], took, took / total) for name, took in seconds.items()}


def _added(sides: Iterable[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Times of several layers in the same passes, added pass by pass; rounds may differ in their number of passes."""
    return [np.sum(calls, axis=0).tolist() for calls in zip(*sides, strict=True)]
