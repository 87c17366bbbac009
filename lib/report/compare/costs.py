"""What a first request waits for, and what images cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from lib.analysis.comparison import Comparison, first_answer_s
from lib.analysis.cost import CAVEAT, cost_of, price_table
from lib.records.run import networks
from lib.records.schema import BenchmarkRecord
from lib.report.benchmark.end_to_end import COLD_START_COLUMNS, cold_start_cells
from lib.report.compare.machines import machine_letters, with_machine
from lib.report.figures import FASTER, describe, figure_of, new_panels, show, styled
from lib.report.gaps import Shown, with_records
from lib.report.table import Cell, Table, Value
from lib.report.words import capital, duration, number, size

NOTHING = Cell("", tone="muted")
# Greys and one blue, light to dark: the colours of backends would claim to be backends here.
PARTS = {
    "import_s": ("import", "#d5dce2"),
    "load_s": ("load", "#a3adb7"),
    "compile_s": ("compile", "#5c6670"),
    "first_inference_s": ("first inference", FASTER),
}


@with_records
def cold_starts(comparison: Comparison) -> Shown:
    """Import, load, compile and first inference, stacked; memory; then the numbers with what was prepared."""
    show(plot_cold_start(networks(comparison.measured)))
    return starts_table(networks(comparison.measured))


@styled
def plot_cold_start(records: Sequence[BenchmarkRecord]) -> Axes:
    """Import, load, compile and first inference stacked, the quickest on top; beside them the peak memory."""
    found = [(record.backend, record.cold_start) for record in records if record.cold_start is not None]
    found.sort(key=lambda item: -first_answer_s(item[1]))
    totals = [first_answer_s(cold) for _, cold in found]
    peaks = [(cold.peak_memory_bytes or 0) / 2**20 for _, cold in found]
    times, memory = new_panels(2, 1.8 + 0.32 * max(1, len(found)))
    left = np.zeros(len(found))
    for part, (label, colour) in PARTS.items():
        widths = np.array([getattr(cold, part) for _, cold in found])
        times.barh(range(len(found)), widths, 0.62, left=left, color=colour, label=label)
        left += widths
    memory.barh(range(len(found)), peaks, 0.62, color="#7c8894")
    shown_s = [f"{number(total)} s" for total in totals]
    shown_mib = [f"{peak:,.0f}" if peak else "unknown" for peak in peaks]
    for panel, values, texts in ((times, totals, shown_s), (memory, peaks, shown_mib)):
        for row, (value, text) in enumerate(zip(values, texts, strict=True)):
            panel.annotate(text, (value, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
        panel.set_xlim(0, max([*values, 1e-9]) * 1.2)
        panel.set_yticks(range(len(found)), [backend for backend, _ in found] if panel is times else [])
        panel.set_ylim(-0.6, max(1, len(found)) - 0.4)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x")
    times.set_xlabel("time until the first answer (s)")
    times.set_title("Cold start; one measurement each")
    figure_of(times).legend(*times.get_legend_handles_labels(), loc="outside lower left", ncols=4, columnspacing=1)
    memory.set_xlabel("peak memory of the process (MiB)")
    memory.set_title("Memory")
    names = [backend for backend, _ in found]
    says = ""
    if len(found) > 1:
        says = f"{names[-1]} answers first, after {shown_s[-1]}; {names[0]} last, after {shown_s[0]}."
    describe(times, f"Time until the first answer: {_listed(names, shown_s)}.", says)
    describe(memory, f"Peak memory: {_listed(names, [f'{text} MiB' for text in shown_mib])}.")
    return times


def _listed(names: Sequence[str], texts: Sequence[str]) -> str:
    parts = [f"{name} {text}" for name, text in zip(names, texts, strict=True)]
    return "; ".join(parts[::-1]) or "no data"


def starts_table(records: Sequence[BenchmarkRecord]) -> Table:
    """What a first request waits for, memory, and what was done once on a build machine."""
    letters = machine_letters(records)
    rows: list[list[Value]] = []
    for record in records:
        cold, made = record.cold_start, record.preparation
        if cold is None:
            continue
        row = [with_machine(record, letters), *cold_start_cells(cold)]
        if made is None or not made.num_bytes:
            rows.append([*row, NOTHING, NOTHING, NOTHING])
        else:
            rows.append([*row, duration(made.seconds), size(made.num_bytes), made.num_calibration_images or NOTHING])
    columns = ["backend", *COLD_START_COLUMNS, "preparation, once", "its files", "calibration images"]
    note = (
        "One measurement each. Preparation is work of a build machine and no part of the cold start. Peak memory: of "
        "the worker process, after batches of 256."
    )
    return Table(columns, rows, caption="Cold start, memory and preparation", note=note, compact=True)


@with_records
def images(comparison: Comparison) -> Shown:
    """Images per dollar."""
    return costs_table(networks(comparison.measured))


def costs_table(records: Sequence[BenchmarkRecord]) -> Table:
    """Images per dollar on runners of the size that measured."""
    prices = price_table()
    costs, letters = [cost_of(record) for record in records], machine_letters(records)
    runners = list(dict.fromkeys(row.runner for cost in costs for row in cost.rows))
    rows: list[list[Value]] = []
    for record, cost in zip(records, costs, strict=True):
        found = {row.runner: number(row.million_images_per_dollar) for row in cost.rows}
        rows.append([with_machine(record, letters), *(found.get(runner) for runner in runners), cost.reason])
    columns = ["backend", *[f"{runner} (million images per $)" for runner in runners], "why not"]
    notes = dict.fromkeys(row.note for cost in costs for row in cost.rows if row.note)
    note = f"Offline scenario: {CAVEAT}. Prices: {prices.source}, {prices.date}, {prices.url}. "
    note += " ".join(f"{capital(text)}." for text in notes)
    return Table(columns, rows, caption="What images cost", note=note.strip(), compact=True)
