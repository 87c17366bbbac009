"""Layers compared with what the machine can do: a share of the roofline's bound, and why a share can exceed 100 %.

A roofline (Williams, Waterman, Patterson 2009) says that a layer takes at least as long as its multiplications take at
the best rate of matrix products, and at least as long as its data take at the rate of copying. Both rates are measured
(`lib.bench.peaks`), so they are the best that was reached here, not a law of nature. Shares are never clipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lib.analysis.statistics import LEAST_TIME_S, is_unstable, median_latency
from lib.machine import BYTES
from lib.records.schema import BenchmarkRecord, Layer, LayerTable, Peak

MISSING_ALLOWED = 0.10  # of a call, in either direction, beyond which a sentence explains what is missing
NUM_NAMED = 3  # layers in a sentence
VIEWS = {"Identity", "Flatten", "Dropout", "Dropout2d"}  # change nothing in inference: no byte is moved
WINOGRAD = "wino"  # oneDNN, ACL and OpenVINO have it in the names of such kernels
# how kernels name a precision below fp32: `jit:bf16`, `gemm_u8`, `brgconv:avx512_core_vnni:s8`
LOWER = {"int8": re.compile(r"(?<![a-z0-9])q?(int8|[ius]8)(?![a-z0-9])"), "bf16": re.compile("bf16")}

Limit = Literal["compute", "memory", ""]


@dataclass(frozen=True)
class Limits:
    """What bounds a layer on one machine in one precision."""

    precision: str
    bytes_per_element: int
    matmul: Peak | None  # operations per second; None if this precision was not measured
    copy: Peak  # bytes per second

    @property
    def ridge(self) -> float | None:
        """Operations per byte at which the two bounds meet: below, memory is the tighter one."""
        return self.matmul.per_s / self.copy.per_s if self.matmul else None


@dataclass(frozen=True)
class Work:
    """What was computed in some time, against the bounds. What is not known is None."""

    limits: Limits | None
    seconds: float
    flops: int  # two per multiply-accumulate; 0 for layers that only move, add or compare
    bound_s: float | None  # the shortest time that the bounds allow

    @property
    def flops_per_s(self) -> float | None:
        return self.flops / self.seconds if self.flops else None

    @property
    def peak_share(self) -> float | None:
        """Of the best matrix product."""
        peak = self.limits.matmul if self.limits else None
        return self.flops / self.seconds / peak.per_s if self.flops and peak else None

    @property
    def bound_share(self) -> float | None:
        """The shortest time over the measured one."""
        return None if self.bound_s is None else self.bound_s / self.seconds


@dataclass(frozen=True)
class LayerRoofline(Work):
    """One layer, or a fused group of layers, in one pass over the batch."""

    layer: Layer
    num_bytes: int  # moved at least: inputs and outputs of the batch, and the weights once
    limit: Limit  # which of the two bounds is the tighter one; empty where that is unknown

    @property
    def intensity(self) -> float | None:
        """Operations per byte."""
        return self.flops / self.num_bytes if self.num_bytes else None

    @property
    def bytes_per_s(self) -> float | None:
        return self.num_bytes / self.seconds if self.num_bytes else None

    @property
    def bandwidth_share(self) -> float | None:
        """Of copying."""
        return self.num_bytes / self.seconds / self.limits.copy.per_s if self.num_bytes and self.limits else None

    @property
    def explanation(self) -> str:
        """Why a share exceeds 1, by rule; empty where none does."""
        reasons = []
        if self.limits and self.limits.matmul and (self.peak_share or 0) > 1:
            if any(WINOGRAD in kernel.lower() for kernel in self.layer.kernels):
                reasons.append("Winograd needs fewer multiplications than are counted here")
            elif lower := _lower_precision(self.layer, self.limits):
                reasons.append(f"a kernel computes in {lower}, and the peak is that of {self.limits.precision}")
            else:
                how = self.limits.matmul.how
                reasons.append(f"its kernel is better than the one that set the peak ({how}), or had a quieter machine")
        if (self.bandwidth_share or 0) > 1:
            reasons.append(
                "its data stay partly in caches, which are faster than the memory that was copied, or the machine was "
                "busier while it copied"
            )
        return "; ".join(reasons)


@dataclass(frozen=True)
class NetworkRoofline(Work):
    """The layers together, against the call that the scenario measured."""

    layers_s: float
    runtime_s: float  # steps of the runtime that belong to no layer
    missing_share: float  # of the call, in none of these; negative where the parts add up to more than the whole
    sentence: str  # what is missing; empty within MISSING_ALLOWED


@dataclass(frozen=True)
class Roofline:
    """One scenario of one backend."""

    limits: Limits | None  # None where the machine's peaks were not measured; then no share is known
    scenario: str
    batch_size: int
    layers: list[LayerRoofline]
    network: NetworkRoofline


def machine_limits(record: BenchmarkRecord) -> Limits | None:
    """The bounds for the backend of a record, measured in the same run. None without them, or in emulation."""
    if record.peaks is None or record.environment.emulated:
        return None
    matmul = record.peaks.matmul.get(record.precision)
    return Limits(record.precision, BYTES.get(record.storage, 4), matmul, record.peaks.copy)


def roofline(record: BenchmarkRecord, scenario: str = "offline", network_layers: Sequence[str] = ()) -> Roofline | None:
    """Every layer against the bounds, and all of them against the whole call.

    Args:
        network_layers: names of all layers of the network, as in the reference's own record, so that those
            without a time can be named.

    Returns:
        None where the scenario was not measured, or no times of layers are known.
    """
    table, measured = record.layer_table(scenario), record.scenario(scenario)
    if table is None or measured is None:
        return None
    limits = machine_limits(record)
    layers = [_layer(layer, table.batch_size, BYTES.get(record.storage, 4), limits) for layer in table.layers]
    network = _network(table, layers, measured.latencies_s, limits, network_layers)
    return Roofline(limits, scenario, table.batch_size, layers, network)


def _layer(layer: Layer, batch_size: int, bytes_per_element: int, limits: Limits | None) -> LayerRoofline:
    flops = 2 * layer.num_macs * batch_size
    activations = layer.num_inputs + math.prod(layer.output_shape)
    is_view = set(layer.kind.split("+")) <= VIEWS
    num_bytes = 0 if is_view else bytes_per_element * (activations * batch_size + layer.num_weights)
    limit, bound_s = _bound(flops, num_bytes, limits)
    seconds = max(median_latency(layer.latencies_s), LEAST_TIME_S)
    return LayerRoofline(limits, seconds, flops, bound_s, layer, num_bytes, limit)


def _bound(flops: int, num_bytes: int, limits: Limits | None) -> tuple[Limit, float | None]:
    """The tighter bound and its time. Unknown where a layer multiplies in a precision that was not measured."""
    if limits is None or (flops and limits.matmul is None) or not (flops or num_bytes):
        return "", None
    compute_s = flops / limits.matmul.per_s if limits.matmul else 0.0
    memory_s = num_bytes / limits.copy.per_s
    return ("compute", compute_s) if compute_s > memory_s else ("memory", memory_s)


def _lower_precision(layer: Layer, limits: Limits) -> str:
    """A precision with fewer bytes in a kernel's name, or an empty string."""
    for precision, words in LOWER.items():
        if BYTES[precision] < limits.bytes_per_element and any(
            words.search(kernel.lower()) for kernel in layer.kernels
        ):
            return precision
    return ""


def _network(
    table: LayerTable,
    layers: Sequence[LayerRoofline],
    latencies_s: Sequence[Sequence[float]],
    limits: Limits | None,
    network_layers: Sequence[str],
) -> NetworkRoofline:
    whole_s = median_latency(latencies_s)
    layers_s = sum(layer.seconds for layer in layers)
    runtime_s = median_latency(table.runtime_latencies_s) if table.runtime_latencies_s else 0.0
    bounds = [layer.bound_s for layer in layers if layer.flops or layer.num_bytes]
    bound_s = sum(bound for bound in bounds if bound is not None) if None not in bounds else None
    timed = {member for layer in layers for member in layer.layer.members}
    untimed = [name for name in network_layers if name not in timed]
    missing_share = 1 - (layers_s + runtime_s) / whole_s
    sentence = _sentence(missing_share, table, untimed, is_unstable(latencies_s))
    flops = sum(layer.flops for layer in layers)
    return NetworkRoofline(limits, whole_s, flops, bound_s, layers_s, runtime_s, missing_share, sentence)


def _sentence(missing_share: float, table: LayerTable, untimed: Sequence[str], unstable: bool) -> str:
    """What is missing between the parts and the whole, where it is more than a little."""
    if abs(missing_share) <= MISSING_ALLOWED:
        return ""
    share = f"{abs(missing_share):.0%}"
    if missing_share > 0:
        causes = [f"no time is known for {_named(untimed)}"] if untimed else []
        causes.append("what a call does between its layers (dispatch, Python, memory) belongs to none of them")
        if table.batch_size == 1:
            causes.append("at one image that weighs most")
        sentence = f"{share} of the call are in no layer: {'; '.join(causes)}."
    else:
        where = ", and most where layers are short" if table.batch_size == 1 else ""
        sentence = (
            f"The layers add up to {share} more than the call takes: telling the time of each takes time itself{where}."
        )
    if unstable:  # whole calls and layers are timed one after the other
        sentence += " The times of the calls scatter here, so part of it may be what else was running."
    return sentence


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NUM_NAMED])
    more = len(names) - NUM_NAMED
    return f"{shown} and {more} more layers" if more > 0 else shown
