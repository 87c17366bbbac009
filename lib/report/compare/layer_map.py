"""Layers by backends: a heat map, and the same in numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from lib.analysis.comparison import Comparison
from lib.analysis.judgement import judge
from lib.analysis.layer_grid import Column, LayerGrid, layer_grid
from lib.analysis.statistics import Ratio, layer_ratio, median_latency, verdict
from lib.records.run import networks
from lib.records.schema import BenchmarkRecord
from lib.report.compare.machines import machine_letters, with_machine
from lib.report.figures import INK, NEUTRAL, RATIO_COLOURS, describe, figure_of, new_axes, show, styled
from lib.report.gaps import Shown, with_records
from lib.report.table import Cell, Table, Value
from lib.report.verdict_cells import judgement_cell, ratio_text, ratio_tone
from lib.report.words import NOT_JUDGED, VERDICT_SIGNS, factor, milliseconds, percent, scenario_name

COLOUR_LIMIT = 4.0  # a speedup of 4 or 1/4 has the full colour
MANY = 8  # backends beyond which a column has no room for words
NOTHING = Cell("", tone="muted")


@with_records
def heat_map(comparison: Comparison, scenario: str) -> Shown:
    """Heat map of speedups, layers by backends."""
    show(plot_layer_heat_map(networks(comparison.measured), scenario))
    return None


@styled
def plot_layer_heat_map(
    records: Sequence[BenchmarkRecord], scenario: str, ax: Axes | None = None, num_layers: int = 30
) -> Axes:
    """Layer x backend: speedup against the reference of the same job; blue is faster, orange slower, white equal.

    Layers that a backend runs as one step have one colour, and their number stands in one of them.

    Args:
        num_layers: at most so many, those that compute and take longest first, in the order of the network.
    """
    grid = layer_grid(records, scenario)
    names, columns = grid.slowest(num_layers), list(grid.columns.values())
    crowded = len(columns) > MANY
    ax = new_axes(ax, (2.2 if crowded else 1.5) + 0.245 * max(1, len(names)))
    speedups = np.full((max(1, len(names)), max(1, len(columns))), np.nan)
    told = []
    for position, column in enumerate(columns):
        told.append(_fill_column(ax, speedups, position, column, names, crowded))
    _draw_map(ax, speedups, crowded)
    _name_map(ax, names, list(grid.columns), crowded)
    reference = next((record.reference for record in records), "the reference")
    shown = (
        f"\n{len(names)} of {len(grid.rows)} layers: convolutions, linear ones, then the slowest of the reference"
        if len(grid.rows) > len(names)
        else ""
    )
    ax.set_title(f"Speedup per layer against {reference} in the same job, {scenario_name(scenario)}{shown}", pad=12)
    told += [f"{name} cannot tell its layers" for name in grid.silent]
    told += [f"{name} {NOT_JUDGED}" for name in grid.disturbed]
    return describe(
        ax,
        f"Heat map of {len(names)} layers and {len(columns)} backends, {scenario_name(scenario)}, speedup against "
        f"{reference}. {'; '.join(told)}.",
    )


def _fill_column(
    ax: Axes, speedups: np.ndarray, position: int, column: Column, names: Sequence[str], crowded: bool
) -> str:
    """Numbers and colours of one backend; returns in words what they say."""
    counts = dict.fromkeys(("faster", "slower", "no difference"), 0)
    floor = column.noise_floor
    for row, name in enumerate(names):
        layer = column.shown.get(column.hidden.get(name, name))
        if layer is None:
            ax.text(position, row, "–", ha="center", va="center", fontsize=7, color=NEUTRAL)
            continue
        ratio = layer_ratio(layer)
        judged = verdict(ratio, floor)
        speedups[row, position] = 1.0 if judged == "no difference" else ratio.value
        if name in column.hidden:
            mark = _direction(names, name, column.hidden[name])
            ax.text(position, row, mark, ha="center", va="center", fontsize=7, color=INK)
            continue
        counts[judged] += 1
        text = _narrow_text(ratio, floor) if crowded else ratio_text(ratio, floor)
        ax.text(position, row, text, ha="center", va="center", fontsize=6.2 if crowded else 7.5, color=INK)
    told = f"{counts['faster']} layers faster, {counts['slower']} slower, {counts['no difference']} without difference"
    fused = sum(name in column.hidden for name in names)
    return f"{column.record.backend}: {told}" + (f", {fused} run as one step with another" if fused else "")


def _direction(names: Sequence[str], name: str, shown_at: str) -> str:
    if shown_at not in names:
        return "·"
    return "↑" if names.index(shown_at) < names.index(name) else "↓"


def _draw_map(ax: Axes, speedups: np.ndarray, crowded: bool) -> None:
    norm = LogNorm(1 / COLOUR_LIMIT, COLOUR_LIMIT)
    clipped = np.clip(speedups, 1 / COLOUR_LIMIT, COLOUR_LIMIT)
    picture = ax.imshow(clipped, cmap=RATIO_COLOURS, norm=norm, aspect="auto")
    num_rows = speedups.shape[0]
    if crowded:  # below, where it takes no width
        bar = figure_of(ax).colorbar(picture, ax=ax, location="bottom", shrink=0.5, pad=0.01, aspect=40)
    else:
        shrink = min(1.0, 5 / max(3, 0.245 * num_rows))
        bar = figure_of(ax).colorbar(picture, ax=ax, shrink=shrink, pad=0.02, aspect=28)
    bar.set_ticks([0.25, 0.5, 1, 2, 4], labels=["4x slower", "2x slower", "equal", "2x faster", "4x faster"])
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)


def _name_map(ax: Axes, names: Sequence[str], backends: Sequence[str], crowded: bool) -> None:
    if crowded:
        ax.set_xticks(range(len(backends)), backends, fontsize=7.5, rotation=45, ha="left", rotation_mode="anchor")
    else:
        ax.set_xticks(range(len(backends)), [_wrapped(name) for name in backends], fontsize=8)
    ax.set_yticks(range(len(names)), names, fontsize=7.5)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.set_xticks(np.arange(len(backends) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1 if crowded else 2)
    ax.tick_params(which="minor", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _wrapped(name: str) -> str:
    return name.replace("-", "-\n", 1) if len(name) > 10 else name


def _narrow_text(ratio: Ratio, floor: float) -> str:
    """For a column without room: sign and factor."""
    judged = verdict(ratio, floor)
    value = factor(ratio.value)
    return "=" if judged == "no difference" else f"{VERDICT_SIGNS[judged]}{value:.{2 if value < 9.995 else 1}f}"


@with_records
def numbers(comparison: Comparison, scenario: str) -> Shown:
    """The heat map as a table, with milliseconds."""
    return layers_table(networks(comparison.measured), scenario)


def layers_table(records: Sequence[BenchmarkRecord], scenario: str) -> Table:
    """Rows = layers, columns = backends: speedup against the reference of the same job, milliseconds beside it."""
    grid = layer_grid(records, scenario)
    columns, letters = list(grid.columns.values()), machine_letters(records)
    rows: list[list[Value]] = []
    has_runtime = any(column.runtime_s is not None for column in columns)
    for name in grid.rows:
        share = percent(grid.shares[name], 1) if name in grid.shares else None
        rows.append([name, share, *(_layer_cell(grid, column, name) for column in columns)])
    if has_runtime:
        outside = [_runtime_cell(column) for column in columns]
        rows.append(["outside layers", NOTHING, *outside])
    rows.append(["whole call", NOTHING, *(_whole_cell(column.record, scenario) for column in columns)])
    return Table(
        ["layer", "share", *(with_machine(column.record, letters) for column in columns)],
        rows if columns else [],
        caption=f"Layers of all backends, {scenario_name(scenario)}",
        note=_layers_note(grid, letters),
        compact=True,
        num_totals=1 + has_runtime if columns else 0,
    )


def _layers_note(grid: LayerGrid, letters: dict[str, str]) -> str:
    note = "▲ faster, ▼ slower, = no difference beyond the noise, against the reference of the same job over the same "
    note += "layers; beside it the backend's milliseconds. Share: of the reference's time over all layers. "
    if any(column.hidden for column in grid.columns.values()):
        note += "↑ and ↓: runs as one step with a layer above or below, and the next number there is that of both. "
    if any(column.runtime_s is not None for column in grid.columns.values()):
        note += "Outside layers: steps of the runtime, such as reorders. "
    if grid.disturbed:
        note += f"Without a column, since disturbed and not judged: {', '.join(grid.disturbed)}. "
    if grid.silent:
        note += f"Without a column, since they cannot tell their layers: {', '.join(grid.silent)}. "
    if letters:
        note += "The letter is the machine (below): milliseconds of different letters must not be compared. "
    return note.strip()


def hidden_mark(grid: LayerGrid, column: Column, name: str) -> str:
    """Where the numbers of a fused layer stand: `↑`, `↓`, or by name where the next number is another one's."""
    place, there = grid.rows.index(name), grid.rows.index(column.hidden[name])
    between = grid.rows[min(place, there) + 1 : max(place, there)]
    if any(row in column.shown for row in between):
        return f"in {column.hidden[name]}"
    return "↑" if there < place else "↓"


def _layer_cell(grid: LayerGrid, column: Column, name: str) -> Value:
    if name in column.shown:
        layer = column.shown[name]
        return _short_ratio_cell(layer_ratio(layer), layer.latencies_s, column.noise_floor)
    if name in column.hidden:
        return Cell("", hidden_mark(grid, column, name), "muted")
    return None


def _runtime_cell(column: Column) -> Cell:
    return NOTHING if column.runtime_s is None else Cell("", f"{milliseconds(column.runtime_s)} ms")


def _whole_cell(record: BenchmarkRecord, scenario: str) -> Value:
    for measured in record.scenarios:
        if measured.name == scenario:
            found = judge(measured)
            if found.disturbance is not None:
                return judgement_cell(found)
            return _short_ratio_cell(found.ratio, measured.latencies_s, found.noise_floor)
    return None


def _short_ratio_cell(ratio: Ratio, latencies_s: Sequence[Sequence[float]], floor: float) -> Cell:
    """For wide tables: sign and factor, and the backend's milliseconds."""
    judged = verdict(ratio, floor)
    text = "=" if judged == "no difference" else f"{VERDICT_SIGNS[judged]} {factor(ratio.value):.2f}x"
    return Cell(text, f"{milliseconds(median_latency(latencies_s))} ms", ratio_tone(ratio, floor))
