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

from lib.analysis.statistics import is_unstable, median_latency
from lib.records.schema import BenchmarkRecord, Layer, LayerTable, Peak

MISSING_ALLOWED = 0.10  # of a call, in either direction, beyond which a sentence explains what is missing
NUM_NAMED = 3  # layers in a sentence
BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "f16": 2, "int8": 1}  # per element
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
class LayerRoofline:
    """One layer, or a fused group of layers, in one pass over the batch."""

    layer: Layer
    seconds: float
    flops: int  # two per multiply-accumulate; 0 for layers that only move, add or compare
    num_bytes: int  # moved at least: inputs and outputs of the batch, and the weights once
    intensity: float | None  # operations per byte; None where no bytes are moved
    flops_per_s: float | None
    bytes_per_s: float | None
    peak_share: float | None  # of the best matrix product
    bandwidth_share: float | None  # of copying
    limit: Limit  # which of the two bounds is the tighter one; empty where that is unknown
    bound_s: float | None  # the shortest time that the bounds allow
    bound_share: float | None  # bound_s / seconds
    explanation: str  # of shares above 1


@dataclass(frozen=True)
class NetworkRoofline:
    """The layers together, against the call that the scenario measured."""

    whole_s: float
    layers_s: float
    runtime_s: float  # steps of the runtime that belong to no layer
    missing_s: float  # negative where the parts add up to more than the whole
    missing_share: float
    sentence: str  # what is missing; empty within MISSING_ALLOWED
    flops: int
    flops_per_s: float  # over the whole call
    peak_share: float | None
    bound_s: float | None  # of all layers together
    bound_share: float | None


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
    bytes_per_element = limits.bytes_per_element if limits else BYTES.get(record.storage, 4)
    layers = [_layer(layer, table.batch_size, bytes_per_element, limits) for layer in table.layers]
    network = _network(table, layers, measured.latencies_s, limits, network_layers)
    return Roofline(limits, scenario, table.batch_size, layers, network)


def _layer(layer: Layer, batch_size: int, bytes_per_element: int, limits: Limits | None) -> LayerRoofline:
    seconds = median_latency(layer.latencies_s)
    flops = 2 * layer.num_macs * batch_size
    activations = layer.num_inputs + math.prod(layer.output_shape)
    is_view = set(layer.kind.split("+")) <= VIEWS
    num_bytes = 0 if is_view else bytes_per_element * (activations * batch_size + layer.num_weights)
    flops_per_s = flops / seconds if flops and seconds > 0 else None
    bytes_per_s = num_bytes / seconds if num_bytes and seconds > 0 else None
    matmul = limits.matmul if limits else None
    peak_share = flops_per_s / matmul.per_s if flops_per_s and matmul else None
    bandwidth_share = bytes_per_s / limits.copy.per_s if bytes_per_s and limits else None
    limit, bound_s = _bound(flops, num_bytes, limits)
    return LayerRoofline(
        layer=layer,
        seconds=seconds,
        flops=flops,
        num_bytes=num_bytes,
        intensity=flops / num_bytes if num_bytes else None,
        flops_per_s=flops_per_s,
        bytes_per_s=bytes_per_s,
        peak_share=peak_share,
        bandwidth_share=bandwidth_share,
        limit=limit,
        bound_s=bound_s,
        bound_share=bound_s / seconds if bound_s is not None and seconds > 0 else None,
        explanation=_explanation(layer, num_bytes, limits, peak_share, bandwidth_share),
    )


def _bound(flops: int, num_bytes: int, limits: Limits | None) -> tuple[Limit, float | None]:
    """The tighter bound and its time. Unknown where a layer multiplies in a precision that was not measured."""
    if limits is None or (flops and limits.matmul is None) or not (flops or num_bytes):
        return "", None
    compute_s = flops / limits.matmul.per_s if limits.matmul else 0.0
    memory_s = num_bytes / limits.copy.per_s
    return ("compute", compute_s) if compute_s > memory_s else ("memory", memory_s)


def _explanation(
    layer: Layer, num_bytes: int, limits: Limits | None, peak_share: float | None, bandwidth_share: float | None
) -> str:
    """Why a share exceeds 1, by rule; empty where none does."""
    reasons = []
    if limits and peak_share and peak_share > 1:
        if any(WINOGRAD in kernel.lower() for kernel in layer.kernels):
            reasons.append("Winograd needs fewer multiplications than are counted here")
        elif lower := _lower_precision(layer, limits):
            reasons.append(f"a kernel computes in {lower}, and the peak is that of {limits.precision}")
        else:
            how = limits.matmul.how if limits.matmul else ""
            reasons.append(f"its kernel is better than the one that set the peak ({how}), or had a quieter machine")
    if bandwidth_share and bandwidth_share > 1:
        reasons.append(
            f"its {_megabytes(num_bytes)} stay partly in caches, which are faster than the memory that was copied, "
            "or the machine was busier while it copied"
        )
    return "; ".join(reasons)


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
    missing_s = whole_s - layers_s - runtime_s
    flops = sum(layer.flops for layer in layers)
    bounds = [layer.bound_s for layer in layers if layer.flops or layer.num_bytes]
    bound_s = sum(bound for bound in bounds if bound is not None) if None not in bounds else None
    timed = {member for layer in layers for member in layer.layer.members}
    untimed = [name for name in network_layers if name not in timed]
    return NetworkRoofline(
        whole_s=whole_s,
        layers_s=layers_s,
        runtime_s=runtime_s,
        missing_s=missing_s,
        missing_share=missing_s / whole_s,
        sentence=_sentence(missing_s / whole_s, table, untimed, is_unstable(latencies_s)),
        flops=flops,
        flops_per_s=flops / whole_s,
        peak_share=flops / whole_s / limits.matmul.per_s if limits and limits.matmul else None,
        bound_s=bound_s,
        bound_share=bound_s / whole_s if bound_s is not None else None,
    )


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


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.3g} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.3g} kB"
