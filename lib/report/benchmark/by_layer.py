"""The time of each layer, with its kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from lib.analysis.judgement import disturbance, judged
from lib.analysis.statistics import layer_noise_floor, layer_ratio, median_interval, median_latency
from lib.records.schema import BenchmarkRecord, Layer, LayerTable
from lib.report.figures import INK, describe, new_axes, show, side_colours, styled
from lib.report.gaps import RAW, Shown, absent, disturbed
from lib.report.table import Cell, Fold, Stack, Table, Value
from lib.report.verdict_cells import ratio_cell, raw_cell
from lib.report.words import (
    UNKNOWN,
    counted,
    floor_words,
    group_name,
    milliseconds,
    number,
    percent,
    place_of,
    ratio_interval,
    scenario_name,
    shortened,
)

NUM_KERNELS = 2  # of a layer in its row; the record has all
LABEL_LENGTH = 44  # characters of a layer's name beside a bar


def bars(record: BenchmarkRecord) -> Shown:
    """Milliseconds of the slowest layers, one figure per scenario, and how much of a call they add up to."""
    if not record.layers:
        return absent(record, "layers")
    tables = [table for table in record.layers if disturbance(table) is None]
    for table in tables:
        show(plot_layers(table, record.backend, record.reference))
    return Stack(disturbed("layers", record.layers), layer_sum_table(record, tables))


@styled
def plot_layers(table: LayerTable, backend: str, reference: str, num_layers: int = 24) -> Axes:
    """Milliseconds of each layer under both sides as paired bars with 95 % intervals of their medians."""
    layers = slowest_layers(table.layers, num_layers)
    ax = new_axes(1.1 + 0.3 * len(layers))
    rows = np.arange(len(layers))
    totals_ms = []
    for offset, name, colour, key in zip(
        (-0.19, 0.19),
        (backend, f"{reference} (reference)"),
        side_colours(backend, reference),
        ("latencies_s", "reference_latencies_s"),
        strict=True,
    ):
        found = np.array([median_interval(getattr(layer, key)) for layer in layers]) * 1000
        spread = np.stack([found[:, 0] - found[:, 1], found[:, 2] - found[:, 0]])
        whiskers = {"elinewidth": 1, "ecolor": INK}
        ax.barh(rows + offset, found[:, 0], 0.36, xerr=spread, color=colour, label=name, error_kw=whiskers)
        totals_ms.append(1000 * sum(median_latency(getattr(layer, key)) for layer in table.layers))
    ax.set_yticks(rows, [_layer_label(layer) for layer in layers], fontsize=7.5)
    ax.set_ylim(len(layers) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_xlabel("time in one forward pass (ms)")
    ax.legend(loc="lower right")
    shown = "" if len(layers) == len(table.layers) else f"; the {len(layers)} slowest of {len(table.layers)} layers"
    ax.set_title(f"Layers, {place_of(table)}{shown}")
    slowest = max(layers, key=lambda layer: median_latency(layer.latencies_s))
    slowest_ms = 1000 * median_latency(slowest.latencies_s)
    return describe(
        ax,
        f"Time per layer, {scenario_name(table.scenario)}: all layers together take {number(totals_ms[0])} ms under "
        f"{backend} and {number(totals_ms[1])} ms under {reference}. Slowest under {backend}: "
        f"{group_name(slowest.members)} with {number(slowest_ms)} ms.",
        f"The layers take {number(totals_ms[0])} ms under {backend} and {number(totals_ms[1])} ms under {reference}; "
        f"{group_name(slowest.members)} alone takes {percent(slowest_ms / totals_ms[0], 0)} of the former.",
    )


def slowest_layers(layers: Sequence[Layer], num_layers: int) -> list[Layer]:
    """The layers that take longest (either side), in the order of the network."""
    cost = [max(median_latency(layer.latencies_s), median_latency(layer.reference_latencies_s)) for layer in layers]
    kept = sorted(sorted(range(len(layers)), key=lambda index: -cost[index])[:num_layers])
    return [layers[index] for index in kept]


def _layer_label(layer: Layer) -> str:
    """Name and kind; a fused group by the names of its members, which say more than their kinds."""
    name = group_name(layer.members)
    return f"{name} ({layer.kind})" if len(layer.members) == 1 else shortened(name, LABEL_LENGTH)


def layer_sum_table(record: BenchmarkRecord, tables: Sequence[LayerTable]) -> Table | None:
    """Do the layers add up to the whole call? Two rows per scenario; None where no whole call is judged."""
    rows = []
    for table in tables:
        for scenario in judged(record.scenarios):
            if scenario.name == table.scenario:
                passes = [layer.latencies_s for layer in table.layers]
                steps, place = table.runtime_latencies_s, place_of(table)
                rows.append(_sum_row(place, record.backend, passes, steps, scenario.latencies_s))
                passes = [layer.reference_latencies_s for layer in table.layers]
                rows.append(_sum_row("", record.reference, passes, [], scenario.reference_latencies_s))
    note = (
        "Missing: what happens between layers, and layers without a time of their own. Below zero: the cost of "
        "watching layers, which weighs more on single images."
    )
    return Table.of(rows, caption="Do the layers add up?", note=note) if rows else None


def _sum_row(
    place: str, name: str, passes: Sequence[list[list[float]]], steps: list[list[float]], calls: list[list[float]]
) -> dict[str, Value]:
    layers_s, call = sum(median_latency(latencies_s) for latencies_s in passes), median_latency(calls)
    runtime_s = median_latency(steps) if steps else None
    missing = call - layers_s - (runtime_s or 0.0)
    return {
        "scenario": place,
        "backend": name,
        "layers (ms)": milliseconds(layers_s),
        "outside layers (ms)": milliseconds(runtime_s),
        "whole call (ms)": milliseconds(call),
        "missing (ms)": Cell(f"{'+' if missing >= 0 else '-'}{milliseconds(abs(missing))}", percent(missing / call, 1)),
    }


def kernels(record: BenchmarkRecord) -> Shown:
    """Which kernels ran in which scenario: rows = kernels, how many layers had them."""
    found = {
        table.scenario: [
            *(kernel for layer in table.layers for kernel in dict.fromkeys(layer.kernels)),
            *table.runtime_kernels,
        ]
        for table in record.layers
    }
    names = dict.fromkeys(kernel for kernels in found.values() for kernel in kernels)
    if not names:
        return absent(record, "kernels by scenario")
    counts = {name: [kernels.count(name) for kernels in found.values()] for name in names}
    rows = [[name, *(count or Cell("0", tone="muted") for count in each)] for name, each in counts.items()]
    differ = any(len(set(by_scenario)) > 1 for by_scenario in counts.values())
    note = "The scenarios run different kernels: what is true of one is not true of the other." if differ else ""
    columns = [f"kernel of {record.backend}", *(f"{scenario_name(name)} (layers)" for name in found)]
    return Table(columns, rows, caption="Kernels by scenario", note=note, compact=True)


def layers(record: BenchmarkRecord, scenario: str) -> Shown:
    """Every layer with its kernels in one scenario, in a fold: a network has many."""
    table = record.layer_table(scenario)
    if table is None:
        return absent(record, f"layers, {scenario_name(scenario)}")
    shown, banner = layer_table(table, record.backend, record.reference), disturbed("layers", [table])
    return Stack(banner, Fold(RAW if banner else f"{shown.caption}: {len(table.layers)} rows of numbers", shown))


def layer_table(table: LayerTable, backend: str, reference: str) -> Table:
    """One row per layer or fused group in the order of the network; last, what the runtime does outside of layers. Of
    what was disturbed the speed is a bare quotient."""
    floor, raw = layer_noise_floor(table), disturbance(table) is not None
    total = sum(median_latency(layer.reference_latencies_s) for layer in table.layers) or 1.0
    rows: list[list[Value]] = []
    for layer in table.layers:
        ratio, reference_s = layer_ratio(layer), median_latency(layer.reference_latencies_s)
        rows.append(
            [
                Cell(group_name(layer.members), layer.kind if len(layer.members) == 1 else "fused"),
                "x".join(str(length) for length in layer.output_shape),
                number(layer.num_macs / 1e6) if layer.num_macs else None,
                milliseconds(median_latency(layer.latencies_s)),
                milliseconds(reference_s),
                percent(reference_s / total, 1),
                raw_cell(ratio) if raw else ratio_cell(ratio, ratio_interval(ratio, floor), floor),
                _kernels(layer.kernels),
                _kernels(layer.reference_kernels),
            ]
        )
    if table.runtime_latencies_s:
        steps = milliseconds(median_latency(table.runtime_latencies_s))
        head = Cell("outside layers", "steps of the runtime")
        rows.append([head, None, None, steps, None, None, "", _kernels(table.runtime_kernels), ""])
    columns = ["layer", "output", "million MACs", f"{backend} (ms)", f"{reference} (ms)", "share", "speed [99 %]"]
    columns += [f"kernels of {backend}", f"kernels of {reference}"]
    note = "Share: of the reference's time."
    if any(len(layer.members) > 1 for layer in table.layers):
        note += " Layers that the backend runs as one step share one row, against the sum of the reference's."
    note += f" Differences below {floor_words(floor)} are noise: 90 % of the layers differ less between the reference "
    note += "and its control."
    totals = int(bool(table.runtime_latencies_s))
    return Table(columns, rows, caption=f"Layers, {place_of(table)}", note=note, compact=True, num_totals=totals)


def _kernels(names: Sequence[str]) -> Cell:
    """The kernels that say most come first; of long lists only these."""
    distinct = list(dict.fromkeys(names))
    if not distinct:
        return Cell(UNKNOWN, tone="muted")
    more = len(distinct) - NUM_KERNELS
    shown = counted([name for name in names if name in distinct[:NUM_KERNELS]])
    return Cell(shown, f"and {more} more" if more > 0 else "")
