"""Heat maps of speedups as coloured tables: by category of layer, and layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lib.analysis.categories import CATEGORIES, CategoryColumn, category_columns
from lib.analysis.judgement import judge
from lib.analysis.layer_grid import Column, LayerGrid, layer_grid
from lib.analysis.statistics import Ratio, layer_ratio, median_latency, verdict
from lib.records.schema import BenchmarkRecord
from lib.report.compare.machines import machine_letters, with_machine
from lib.report.table import Banner, Cell, Fold, Stack, Table, Value
from lib.report.verdict_cells import judgement_cell, ratio_text, ratio_tone
from lib.report.words import milliseconds, percent, scenario_name

NUM_SHOWN = 30  # layers that are not folded
WHOLE = "whole call"
BESIDE = "; beside it the backend's milliseconds"


def categories(records: Sequence[BenchmarkRecord], scenario: str) -> Table | Banner:
    """Category x backend: speedup over the reference in the same layers, and the share of the backend's own time."""
    columns = category_columns(records, scenario)
    if not columns:
        return Banner(f"No backend has layers that can be judged in {scenario_name(scenario)}.", "info")
    rows: list[dict[str, Value]] = [
        {"category": name, **{column.backend: _category_cell(column, name) for column in columns}}
        for name in CATEGORIES
        if any(name in column.times for column in columns)
    ]
    title = f"Speedup by category of layer, and the category's share of the backend's time, {scenario_name(scenario)}"
    return Table.of(rows, caption=title, note=bottleneck_words(columns), compact=True)


def _category_cell(column: CategoryColumn, name: str) -> Cell:
    if (found := column.times.get(name)) is None:
        return Cell("–", tone="muted")
    share = percent(found.share, 0)
    if found.ratio is None:
        return Cell("", share)
    return Cell(ratio_text(found.ratio, column.noise_floor), share, ratio_tone(found.ratio, column.noise_floor))


def bottleneck_words(columns: Sequence[CategoryColumn]) -> str:
    """Under the backend whose layers take least time: which category takes most of it now."""
    best = min(columns, key=lambda column: sum(found.seconds for found in column.times.values()))
    name = best.bottleneck
    return (
        f"{best.backend} spends least time in layers; the bottleneck there is {name}, with "
        f"{percent(best.times[name].share, 0)} of its time."
    )


def layers(records: Sequence[BenchmarkRecord], scenario: str, num_shown: int = NUM_SHOWN) -> Stack:
    """Layer x backend, coloured by speedup: the layers that compute and take longest; all of them, with milliseconds,
    in a fold."""
    grid, table = layer_grid(records, scenario), layers_table(records, scenario)
    kept = {*grid.slowest(num_shown)}
    kept |= {column.hidden[name] for column in grid.columns.values() for name in kept & column.hidden.keys()}
    title = f"Speedup by layer, {scenario_name(scenario)}"
    if len(kept) < len(grid.rows):
        title += f"; {len(kept)} of {len(grid.rows)}: convolutions and linear layers, then the slowest others"
    rows = [
        [replace(cell, detail="") if cell.text else cell for cell in cells]
        for cells in table.cells
        if cells[0].text in kept or cells[0].text == WHOLE
    ]
    note = table.note.replace(BESIDE, "")
    shown = Table(table.columns, rows, title, note, compact=True, num_totals=min(1, table.num_totals))
    return Stack(shown, Fold(f"{table.caption} with milliseconds: {len(table.cells)} rows", table))


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
            "layer": WHOLE,
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


def _gains(grid: LayerGrid) -> str:
    """Under which backend most layers are faster; empty where none is under any."""
    counts = {
        name: [verdict(layer_ratio(layer), column.noise_floor) for layer in column.shown.values()]
        for name, column in grid.columns.items()
        if name != column.record.reference
    }
    best = max(counts, key=lambda name: counts[name].count("faster"), default="")
    if not best or "faster" not in counts[best]:
        return ""
    words = ", ".join(f"{counts[best].count(judged)} {judged}" for judged in ("faster", "slower", "no difference"))
    return f"Most layers gain under {best}: {words}. "


def _layers_note(grid: LayerGrid, letters: dict[str, str]) -> str:
    note = _gains(grid)
    note += "▲ faster, ▼ slower, = no difference beyond the noise, against the reference of the same job over the same "
    note += f"layers{BESIDE}. Share: of the reference's time over all layers. "
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
    if name not in column.hidden:
        return None
    layer = column.shown[column.hidden[name]]
    return Cell("", hidden_mark(grid, column, name), ratio_tone(layer_ratio(layer), column.noise_floor) or "muted")


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
    return Cell(ratio_text(ratio, floor), f"{milliseconds(median_latency(latencies_s))} ms", ratio_tone(ratio, floor))
