"""The time of each layer, with its kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from lib.analysis.judgement import disturbance, judged
from lib.analysis.statistics import layer_noise_floor, layer_ratio, median_interval, median_latency
from lib.backends import backend_names
from lib.records.schema import BenchmarkRecord, Layer, LayerTable, Scenario
from lib.report.figures import NEUTRAL, backend_colour, describe, new_axes, show, styled
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
    ratio_interval,
    scenario_name,
)

NUM_KERNELS = 2  # of a layer in its row; the record has all
LABEL_LENGTH = 44  # characters of a layer's name beside a bar


def bars(record: BenchmarkRecord) -> Shown:
    """Milliseconds of the slowest layers, one figure per scenario, and how much of a call they add up to."""
    if not record.layers:
        return absent(record, "layers")
    tables = [table for table in record.layers if disturbance(table) is None]
    for table in tables:
        show(plot_layers(table, record.backend, record.reference, backend_names()))
    whole = judged(record.scenarios)
    added = [table for table in tables if table.scenario in {scenario.name for scenario in whole}]
    return Stack(
        disturbed("layers", record.layers),
        layer_sum_table(added, whole, record.backend, record.reference) if added else None,
    )


@styled
def plot_layers(
    table: LayerTable,
    backend: str,
    reference: str,
    names: Sequence[str] = (),
    ax: Axes | None = None,
    num_layers: int = 24,
) -> Axes:
    """Milliseconds of each layer under both sides as paired bars with 95 % intervals of their medians."""
    layers = slowest_layers(table.layers, num_layers)
    ax = new_axes(ax, 1.1 + 0.3 * len(layers))
    rows = np.arange(len(layers))
    second = f"{reference} (reference)"
    for offset, name, key in ((-0.19, backend, "latencies_s"), (0.19, second, "reference_latencies_s")):
        found = np.array([median_interval(getattr(layer, key)) for layer in layers]) * 1000
        colour = backend_colour(backend if offset < 0 else reference, names)
        if backend == reference and offset > 0:
            colour = NEUTRAL
        spread = np.stack([found[:, 0] - found[:, 1], found[:, 2] - found[:, 0]])
        ax.barh(
            rows + offset, found[:, 0], 0.36, xerr=spread, color=colour, label=name,
            error_kw={"elinewidth": 1, "ecolor": "#24292f"},
        )  # fmt: skip
    ax.set_yticks(rows, [_layer_label(layer) for layer in layers], fontsize=7.5)
    ax.set_ylim(len(layers) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_xlabel("time in one forward pass (ms)")
    ax.legend(loc="lower right")
    shown = "" if len(layers) == len(table.layers) else f"; the {len(layers)} slowest of {len(table.layers)} layers"
    ax.set_title(f"Layers, {scenario_name(table.scenario)}, batch {table.batch_size}{shown}")
    slowest = max(layers, key=lambda layer: median_latency(layer.latencies_s))
    totals = [1000 * sum(median_latency(getattr(layer, key)) for layer in table.layers) for key in
              ("latencies_s", "reference_latencies_s")]  # fmt: skip
    return describe(
        ax,
        f"Time per layer, {scenario_name(table.scenario)}: all layers together take {number(totals[0])} ms under "
        f"{backend} and {number(totals[1])} ms under {reference}. Slowest under {backend}: "
        f"{group_name(slowest.members)} with "
        f"{number(1000 * median_latency(slowest.latencies_s))} ms.",
    )


def slowest_layers(layers: Sequence[Layer], num_layers: int) -> list[Layer]:
    """The layers that take longest (either side), in the order of the network."""
    cost = [max(median_latency(layer.latencies_s), median_latency(layer.reference_latencies_s)) for layer in layers]
    kept = sorted(sorted(range(len(layers)), key=lambda index: -cost[index])[:num_layers])
    return [layers[index] for index in kept]


def _layer_label(layer: Layer) -> str:
    """Name and kind; a fused group by the names of its members, which say more than their kinds."""
    name = group_name(layer.members)
    if len(layer.members) == 1:
        return f"{name} ({layer.kind})"
    return shortened(name, LABEL_LENGTH)


def shortened(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 3]}..."


def layer_sum_table(tables: Sequence[LayerTable], scenarios: Sequence[Scenario], backend: str, reference: str) -> Table:
    """Do the layers add up to the whole call? Two rows per scenario."""
    whole = {scenario.name: scenario for scenario in scenarios}
    rows: list[list[Value]] = []
    for table in tables:
        scenario = whole[table.scenario]
        for name, calls, passes, steps in (
            (backend, scenario.latencies_s, [layer.latencies_s for layer in table.layers], table.runtime_latencies_s),
            (reference, scenario.reference_latencies_s, [x.reference_latencies_s for x in table.layers], []),
        ):
            layers_s, call = sum(median_latency(latencies_s) for latencies_s in passes), median_latency(calls)
            runtime_s = median_latency(steps) if steps else 0.0
            missing = call - layers_s - runtime_s
            rows.append(
                [
                    f"{scenario_name(table.scenario)}, batch {table.batch_size}" if name == backend else "",
                    name,
                    milliseconds(layers_s),
                    milliseconds(runtime_s) if steps else Cell(UNKNOWN, tone="muted"),
                    milliseconds(call),
                    Cell(f"{'+' if missing >= 0 else '-'}{milliseconds(abs(missing))}", percent(missing / call, 1)),
                ]
            )
    columns = ["scenario", "backend", "layers (ms)", "outside layers (ms)", "whole call (ms)", "missing (ms)"]
    note = (
        "Missing: what happens between layers, and layers that nobody tells the time of. Below zero: the cost of "
        "watching layers, which weighs more on single images."
    )
    return Table(columns, rows, caption="Do the layers add up?", note=note)


def kernels(record: BenchmarkRecord) -> Shown:
    """Which kernels ran in which scenario."""
    if not any(layer.kernels for table in record.layers for layer in table.layers):
        return absent(record, "kernels by scenario")
    return kernel_table(record.layers, record.backend)


def kernel_table(tables: Sequence[LayerTable], backend: str) -> Table:
    """Which kernels ran in which scenario: rows = kernels, how many layers had them."""
    found = {
        table.scenario: [
            *(kernel for layer in table.layers for kernel in dict.fromkeys(layer.kernels)),
            *table.runtime_kernels,
        ]
        for table in tables
    }
    names = list(dict.fromkeys(kernel for kernels in found.values() for kernel in kernels))
    rows: list[list[Value]] = [
        [name, *(kernels.count(name) or Cell("0", tone="muted") for kernels in found.values())] for name in names
    ]
    differ = any(len({kernels.count(name) for kernels in found.values()}) > 1 for name in names)
    note = "The scenarios run different kernels: what is true of one is not true of the other." if differ else ""
    columns = [f"kernel of {backend}", *(f"{scenario_name(name)} (layers)" for name in found)]
    return Table(columns, rows, caption="Kernels by scenario", note=note, compact=True)


def layers(record: BenchmarkRecord, scenario: str) -> Shown:
    """Every layer with its kernels in one scenario."""
    for table in record.layers:
        if table.scenario == scenario:
            shown = layer_table(table, record.backend, record.reference)
            banner = disturbed("layers", [table])
            return shown if banner is None else Stack(banner, Fold(RAW, shown))
    return absent(record, f"layers, {scenario_name(scenario)}")


def layer_table(table: LayerTable, backend: str, reference: str, num_layers: int = 0) -> Table:
    """One row per layer or fused group in the order of the network; `num_layers` keeps the slowest of the reference
    only. Last, what the runtime does outside of layers. Of what was disturbed the speed is a bare quotient."""
    floor, raw = layer_noise_floor(table), disturbance(table) is not None
    reference_medians = [median_latency(layer.reference_latencies_s) for layer in table.layers]
    total = sum(reference_medians) or 1.0
    kept = range(len(table.layers))
    if 0 < num_layers < len(table.layers):
        kept = sorted(sorted(kept, key=lambda index: -reference_medians[index])[:num_layers])  # type: ignore[assignment]
    rows: list[list[Value]] = []
    for index in kept:
        layer = table.layers[index]
        ratio = layer_ratio(layer)
        kinds = layer.kind if len(layer.members) == 1 else "fused"
        rows.append(
            [
                Cell(group_name(layer.members), kinds),
                _short_shape(layer.output_shape),
                number(layer.num_macs / 1e6) if layer.num_macs else Cell(UNKNOWN, tone="muted"),
                milliseconds(median_latency(layer.latencies_s)),
                milliseconds(reference_medians[index]),
                f"{100 * reference_medians[index] / total:.1f} %",
                raw_cell(ratio) if raw else ratio_cell(ratio, ratio_interval(ratio, floor), floor),
                _kernels(layer.kernels),
                _kernels(layer.reference_kernels),
            ]
        )
    left_out = len(table.layers) - len(rows)
    if table.runtime_latencies_s:
        steps = milliseconds(median_latency(table.runtime_latencies_s))
        head = Cell("outside layers", "steps of the runtime")
        rows.append([head, None, None, steps, None, None, "", _kernels(table.runtime_kernels), ""])
    columns = ["layer", "output", "million MACs", f"{backend} (ms)", f"{reference} (ms)", "share", "speed [99 %]"]
    columns += [f"kernels of {backend}", f"kernels of {reference}"]
    note = "Share: of the reference's time."
    if any(len(layer.members) > 1 for layer in table.layers):
        note += " Layers that the backend runs as one step stand in one row, against the sum of the reference's."
    note += f" Differences below {floor_words(floor)} are noise: 90 % of the layers differ less between the reference "
    note += "and its control."
    note += f" {left_out} faster layers are not shown." if left_out else ""
    caption = f"Layers, {scenario_name(table.scenario)}, batch {table.batch_size}"
    return Table(
        columns, rows, caption=caption, note=note, compact=True, num_totals=int(bool(table.runtime_latencies_s))
    )


def _kernels(names: Sequence[str]) -> Cell:
    """The kernels that say most come first; of long lists only these."""
    distinct = list(dict.fromkeys(names))
    if not distinct:
        return Cell(UNKNOWN, tone="muted")
    more = len(distinct) - NUM_KERNELS
    shown = counted([name for name in names if name in distinct[:NUM_KERNELS]])
    return Cell(shown, f"and {more} more" if more > 0 else "")


def _short_shape(shape: Sequence[int]) -> str:
    return "x".join(str(length) for length in shape)
