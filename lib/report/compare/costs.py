"""What a first request waits for, and what images cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from lib.analysis.comparison import Comparison, first_answer_s
from lib.analysis.cost import CAVEAT, cost_of
from lib.records.run import networks
from lib.records.schema import BenchmarkRecord
from lib.report.compare.machines import machine_letters, with_machine
from lib.report.figures import FASTER, describe, figure_of, new_panels, show, styled
from lib.report.gaps import Shown, with_records
from lib.report.table import Cell, Table, Value
from lib.report.words import duration, milliseconds, number, size

NOTHING = Cell("", tone="muted")


@with_records
def cold_starts(comparison: Comparison) -> Shown:
    """Import, load, compile and first inference, stacked; memory; then the numbers with what was prepared."""
    show(plot_cold_start(networks(comparison.measured)))
    return starts_table(networks(comparison.measured))


@styled
def plot_cold_start(records: Sequence[BenchmarkRecord], ax: Axes | None = None) -> Axes:
    """Import, load, compile and first inference stacked, the quickest on top; beside them the peak memory."""
    found = [(record.backend, record.cold_start) for record in records if record.cold_start is not None]
    totals = {name: first_answer_s(cold) for name, cold in found}
    found.sort(key=lambda item: -totals[item[0]])
    panels = new_panels(ax, 2, 1.8 + 0.32 * max(1, len(found)))
    times, memory = panels
    left = np.zeros(len(found))
    # Greys and one blue, light to dark: the colours of backends would claim to be backends here.
    for part, label, colour in (
        ("import_s", "import", "#d5dce2"),
        ("load_s", "load", "#a3adb7"),
        ("compile_s", "compile", "#5c6670"),
        ("first_inference_s", "first inference", FASTER),
    ):
        widths = np.array([getattr(cold, part) for _, cold in found])
        times.barh(range(len(found)), widths, 0.62, left=left, color=colour, label=label)
        left += widths
    for row, total in enumerate(left):
        text = f"{number(float(total))} s"
        times.annotate(text, (total, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    times.set_xlim(0, max([*left, 1e-9]) * 1.2)
    times.set_xlabel("time until the first answer (s)")
    figure_of(times).legend(*times.get_legend_handles_labels(), loc="outside lower left", ncols=4, columnspacing=1)
    times.set_title("Cold start; one measurement each")
    peaks = [None if cold.peak_memory_bytes is None else cold.peak_memory_bytes / 2**20 for _, cold in found]
    for row, peak in enumerate(peaks):
        memory.barh([row], [peak or 0.0], 0.62, color="#7c8894")
        text = "unknown" if peak is None else f"{peak:,.0f}"
        memory.annotate(text, (peak or 0.0, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    memory.set_xlim(0, max([1.0, *(peak for peak in peaks if peak is not None)]) * 1.2)
    memory.set_xlabel("peak memory of the process (MiB)")
    memory.set_title("Memory")
    for panel in panels:
        panel.set_yticks(range(len(found)), [backend for backend, _ in found] if panel is times else [])
        panel.set_ylim(-0.6, max(1, len(found)) - 0.4)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x")
    told = "; ".join(f"{name} {number(totals[name])} s" for name, _ in found[::-1])
    describe(times, f"Time until the first answer: {told or 'no data'}.")
    used = "; ".join(
        f"{name} {peak:,.0f} MiB" for (name, _), peak in list(zip(found, peaks, strict=True))[::-1] if peak is not None
    )
    describe(memory, f"Peak memory: {used or 'no data'}.")
    return times


def starts_table(records: Sequence[BenchmarkRecord]) -> Table:
    """What a first request waits for, memory, and what was done once on a build machine."""
    letters = machine_letters(records)
    rows: list[list[Value]] = []
    for record in records:
        cold, made = record.cold_start, record.preparation
        if cold is None:
            continue
        parts = [milliseconds(part) for part in (cold.import_s, cold.load_s, cold.compile_s, cold.first_inference_s)]
        files = size(made.num_bytes) if made is not None and made.num_bytes else NOTHING
        images = made.num_calibration_images if made is not None and made.num_calibration_images else NOTHING
        prepared = duration(made.seconds) if made is not None and made.num_bytes else NOTHING
        total, memory = milliseconds(first_answer_s(cold)), size(cold.peak_memory_bytes)
        rows.append([with_machine(record, letters), *parts, total, memory, prepared, files, images])
    columns = ["backend", "import (ms)", "load (ms)", "compile (ms)", "first inference (ms)", "in all (ms)"]
    columns += ["peak memory", "preparation, once", "its files", "calibration images"]
    note = (
        "One measurement each. Preparation is work of a build machine and no part of the cold start. Peak memory: of "
    )
    note += "the worker process, after batches of 256."
    return Table(columns, rows, caption="Cold start, memory and preparation", note=note, compact=True)


@with_records
def images(comparison: Comparison) -> Shown:
    """Images per dollar."""
    return costs_table(networks(comparison.measured))


def costs_table(records: Sequence[BenchmarkRecord]) -> Table:
    """Images per dollar on runners of the size that measured."""
    costs, letters = {record.backend: cost_of(record) for record in records}, machine_letters(records)
    runners = list(dict.fromkeys(row.runner for cost in costs.values() for row in cost.rows))
    rows: list[list[Value]] = []
    for record in records:
        cost = costs[record.backend]
        images = {row.runner: number(row.million_images_per_dollar) for row in cost.rows}
        cells: list[Value] = [images.get(runner) for runner in runners]
        rows.append([with_machine(record, letters), *cells, cost.reason])
    columns = ["backend", *[f"{runner} (million images per $)" for runner in runners], "why not"]
    if not any(cost.reason for cost in costs.values()):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    first = next(iter(costs.values()))
    notes = dict.fromkeys(row.note for cost in costs.values() for row in cost.rows if row.note)
    note = f"Offline scenario: {CAVEAT}. Prices: {first.source}, {first.date}, {first.url}. "
    note += "".join(f"{text[:1].upper()}{text[1:]}. " for text in notes)
    return Table(columns, rows, caption="What images cost", note=note.rstrip(), compact=True)
