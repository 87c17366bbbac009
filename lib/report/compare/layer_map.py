"""Layers by backends: first by category, then one by one, and the same in numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from lib.analysis.categories import CATEGORIES, CategoryColumn, category_columns
from lib.analysis.judgement import judge
from lib.analysis.layer_grid import Column, LayerGrid, layer_grid
from lib.analysis.statistics import Ratio, layer_ratio, median_latency, verdict
from lib.records.schema import BenchmarkRecord
from lib.report.compare.machines import machine_letters, with_machine
from lib.report.figures import INK, NEUTRAL, RATIO_COLOURS, describe, figure_of, new_axes, show, styled
from lib.report.table import Banner, Cell, Fold, Table, Value
from lib.report.verdict_cells import judgement_cell, ratio_text, ratio_tone
from lib.report.words import NOT_JUDGED, milliseconds, percent, scenario_name

COLOUR_LIMIT = 4.0  # a speedup of 4 or 1/4 has the full colour
MANY = 8  # backends beyond which a column has no room for words


def categories(records: Sequence[BenchmarkRecord], scenario: str) -> Banner | None:
    """Heat map of speedups by category of layer, with what each category takes of the backend's own time."""
    columns = category_columns(records, scenario)
    if not columns:
        return Banner(f"No backend has layers that can be judged in {scenario_name(scenario)}.", "info")
    show(plot_categories(columns, scenario))
    return None


@styled
def plot_categories(columns: Sequence[CategoryColumn], scenario: str) -> Axes:
    """Category x backend: speedup over the reference in the same layers, below it the share of the backend's time."""
    rows = [name for name in CATEGORIES if any(name in column.times for column in columns)]
    narrow = len(columns) > MANY
    ax = new_axes((2.3 if narrow else 1.4) + 0.5 * len(rows))
    speedups = np.full((len(rows), len(columns)), np.nan)
    phrases = []
    for place, column in enumerate(columns):
        parts = []
        for row, name in enumerate(rows):
            if (found := column.times.get(name)) is None:
                _write(ax, place, row, "–", narrow)
                continue
            words = [percent(found.share, 0)]
            if found.ratio is not None:
                words.insert(0, ratio_text(found.ratio, column.noise_floor, narrow=narrow))
                speedups[row, place] = _colour_value(found.ratio, column.noise_floor)
            _write(ax, place, row, "\n".join(words), narrow)
            parts.append(f"{name} {', '.join(words)} of its time")
        phrases.append(f"{column.backend} {', '.join(parts)}")
    _draw(ax, speedups, rows, [column.backend for column in columns], narrow)
    title = f"Speedup by category of layer, and the category's share of the backend's time, {scenario_name(scenario)}"
    ax.set_title(title, pad=12)
    text = f"Heat map by category of layer, {scenario_name(scenario)}. {'; '.join(phrases)}."
    return describe(ax, text, bottleneck_words(columns))


def bottleneck_words(columns: Sequence[CategoryColumn]) -> str:
    """Under the backend whose layers take least time: which category takes most of it now."""
    best = min(columns, key=lambda column: sum(found.seconds for found in column.times.values()))
    name = best.bottleneck
    return (
        f"{best.backend} spends least time in layers; the bottleneck there is {name}, with "
        f"{percent(best.times[name].share, 0)} of its time."
    )


@styled
def plot_layer_heat_map(records: Sequence[BenchmarkRecord], scenario: str, num_layers: int = 30) -> Axes:
    """Layer x backend: speedup against the reference of the same job; blue is faster, orange slower, white equal.

    Layers that a backend runs as one step have one colour, and one of them has their number.

    Args:
        num_layers: at most so many, those that compute and take longest first, in the order of the network.
    """
    grid = layer_grid(records, scenario)
    rows, columns = grid.slowest(num_layers), list(grid.columns.values())
    narrow = len(columns) > MANY
    ax = new_axes((2.2 if narrow else 1.5) + 0.245 * len(rows))
    speedups = np.full((len(rows), len(columns)), np.nan)
    phrases, most, gained = [], 0.0, ""
    for place, column in enumerate(columns):
        counts = _fill_column(ax, speedups, place, column, rows, narrow)
        fused = sum(name in column.hidden for name in rows)
        words = ", ".join(f"{count} {judged}" for judged, count in counts.items())
        phrases.append(
            f"{column.record.backend}: {words}" + (f", {fused} run as one step with another" if fused else "")
        )
        if counts["faster"] > most and column.record.backend != column.record.reference:
            most, gained = counts["faster"], f"Most layers gain under {phrases[-1]}."
    _draw(ax, speedups, rows, list(grid.columns), narrow)
    reference = records[0].reference
    shown = ""
    if len(grid.rows) > len(rows):
        shown = f"\n{len(rows)} of {len(grid.rows)} layers: convolutions, linear ones, then the slowest others"
    ax.set_title(f"Speedup per layer against {reference} in the same job, {scenario_name(scenario)}{shown}", pad=12)
    phrases += [f"{name} cannot time its layers" for name in grid.silent]
    phrases += [f"{name} {NOT_JUDGED}" for name in grid.disturbed]
    return describe(
        ax,
        f"Heat map of {len(rows)} layers and {len(columns)} backends, {scenario_name(scenario)}, speedup against "
        f"{reference}. {'; '.join(phrases)}.",
        gained,
    )


def _fill_column(
    ax: Axes, speedups: np.ndarray, place: int, column: Column, rows: Sequence[str], narrow: bool
) -> dict[str, int]:
    """Numbers and colours of one backend; returns how many layers have which verdict."""
    counts = dict.fromkeys(("faster", "slower", "no difference"), 0)
    for row, name in enumerate(rows):
        layer, text = column.shown.get(column.hidden.get(name, name)), "–"
        if layer is not None:
            ratio = layer_ratio(layer)
            speedups[row, place] = _colour_value(ratio, column.noise_floor)
            if name in column.hidden:
                text = _direction(rows, name, column.hidden[name])
            else:
                counts[verdict(ratio, column.noise_floor)] += 1
                text = ratio_text(ratio, column.noise_floor, narrow=narrow)
        _write(ax, place, row, text, narrow)
    return counts


def _write(ax: Axes, place: int, row: int, text: str, narrow: bool) -> None:
    colour = NEUTRAL if text == "–" else INK
    ax.text(place, row, text, ha="center", va="center", fontsize=6.2 if narrow else 7.5, color=colour)


def _colour_value(ratio: Ratio, floor: float) -> float:
    """White within the noise."""
    return 1.0 if verdict(ratio, floor) == "no difference" else ratio.value


def _direction(rows: Sequence[str], name: str, shown_at: str) -> str:
    if shown_at not in rows:
        return "·"
    return "↑" if rows.index(shown_at) < rows.index(name) else "↓"


def _draw(ax: Axes, speedups: np.ndarray, rows: Sequence[str], backends: Sequence[str], narrow: bool) -> None:
    """Colours, their scale, and the names on both sides."""
    norm = LogNorm(1 / COLOUR_LIMIT, COLOUR_LIMIT)
    clipped = np.clip(speedups, 1 / COLOUR_LIMIT, COLOUR_LIMIT)
    picture = ax.imshow(clipped, cmap=RATIO_COLOURS, norm=norm, aspect="auto")
    if narrow:  # below, where it takes no width
        bar = figure_of(ax).colorbar(picture, ax=ax, location="bottom", shrink=0.5, pad=0.01, aspect=40)
        ax.set_xticks(range(len(backends)), backends, fontsize=7.5, rotation=45, ha="left", rotation_mode="anchor")
    else:
        shrink = min(1.0, 5 / max(3, 0.245 * len(speedups)))
        bar = figure_of(ax).colorbar(picture, ax=ax, shrink=shrink, pad=0.02, aspect=28)
        wrapped = [name.replace("-", "-\n", 1) if len(name) > 10 else name for name in backends]
        ax.set_xticks(range(len(backends)), wrapped, fontsize=8)
    bar.set_ticks([0.25, 0.5, 1, 2, 4], labels=["4x slower", "2x slower", "equal", "2x faster", "4x faster"])
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    ax.set_yticks(range(len(rows)), rows, fontsize=7.5)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.set_xticks(np.arange(len(backends) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1 if narrow else 2)
    ax.tick_params(which="minor", length=0)
    ax.spines[:].set_visible(False)


def numbers(records: Sequence[BenchmarkRecord], scenario: str) -> Fold:
    """The heat map as a table, with milliseconds, in a fold: it has a row for each layer."""
    table = layers_table(records, scenario)
    return Fold(f"{table.caption}: {len(table.cells)} rows of numbers", table)


def layers_table(records: Sequence[BenchmarkRecord], scenario: str) -> Table:
    """Rows = layers, columns = backends: speedup against the reference of the same job, milliseconds beside it."""
    grid, letters = layer_grid(records, scenario), machine_letters(records)
    columns = {with_machine(column.record, letters): column for column in grid.columns.values()}
    rows: list[dict[str, Value]] = [
        {
            "layer": name,
            "share": percent(grid.shares[name], 1) if name in grid.shares else None,
            **{title: _layer_cell(grid, column, name) for title, column in columns.items()},
        }
        for name in grid.rows
    ]
    totals: list[dict[str, Value]] = [
        {"layer": "outside layers", "share": "", **{title: _runtime_cell(column) for title, column in columns.items()}},
        {
            "layer": "whole call",
            "share": "",
            **{title: _whole_cell(column.record, scenario) for title, column in columns.items()},
        },
    ]
    if all(column.runtime_s is None for column in columns.values()):
        del totals[0]
    return Table.of(
        [*rows, *totals] if columns else [],
        caption=f"Layers of all backends, {scenario_name(scenario)}",
        note=_layers_note(grid, letters),
        compact=True,
        num_totals=len(totals) if columns else 0,
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
        note += f"Without a column, since they cannot time their layers: {', '.join(grid.silent)}. "
    if letters:
        note += "The letter is the machine (below): milliseconds of different letters must not be compared. "
    return note.strip()


def hidden_mark(grid: LayerGrid, column: Column, name: str) -> str:
    """Where the numbers of a fused layer are: `↑`, `↓`, or by name where the next number is another one's."""
    place, there = grid.rows.index(name), grid.rows.index(column.hidden[name])
    between = grid.rows[min(place, there) + 1 : max(place, there)]
    if any(row in column.shown for row in between):
        return f"in {column.hidden[name]}"
    return "↑" if there < place else "↓"


def _layer_cell(grid: LayerGrid, column: Column, name: str) -> Value:
    if name in column.shown:
        layer = column.shown[name]
        return _short_ratio_cell(layer_ratio(layer), layer.latencies_s, column.noise_floor)
    return Cell("", hidden_mark(grid, column, name), "muted") if name in column.hidden else None


def _runtime_cell(column: Column) -> Cell:
    return Cell("", "" if column.runtime_s is None else f"{milliseconds(column.runtime_s)} ms")


def _whole_cell(record: BenchmarkRecord, scenario: str) -> Value:
    measured = record.scenario(scenario)
    if measured is None:
        return None
    found = judge(measured)
    if found.disturbance is not None:
        return judgement_cell(found)
    return _short_ratio_cell(found.ratio, measured.latencies_s, found.noise_floor)


def _short_ratio_cell(ratio: Ratio, latencies_s: Sequence[Sequence[float]], floor: float) -> Cell:
    """For wide tables: sign and factor, and the backend's milliseconds."""
    text = ratio_text(ratio, floor).removesuffix(" 1")
    return Cell(text, f"{milliseconds(median_latency(latencies_s))} ms", ratio_tone(ratio, floor))
