"""What a first request waits for, and what images cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from lib.analysis.comparison import first_answer_s
from lib.analysis.cost import CAVEAT, cost_of, price_table
from lib.records.schema import BenchmarkRecord
from lib.report.benchmark.end_to_end import cold_start_table
from lib.report.compare.machines import machine_letters, with_machine
from lib.report.figures import FASTER, describe, figure_of, new_panels, styled
from lib.report.table import Table
from lib.report.words import capital, number

# Greys and one blue, light to dark: the colours of backends would claim to be backends here.
PARTS = {
    "import_s": ("import", "#d5dce2"),
    "load_s": ("load", "#a3adb7"),
    "compile_s": ("compile", "#5c6670"),
    "first_inference_s": ("first inference", FASTER),
}


@styled
def plot_cold_start(records: Sequence[BenchmarkRecord]) -> Axes:
    """Import, load, compile and first inference stacked, the quickest on top; beside them the peak memory."""
    found = [(record.backend, record.cold_start) for record in records if record.cold_start is not None]
    found.sort(key=lambda item: -first_answer_s(item[1]))
    totals = [first_answer_s(cold) for _, cold in found]
    peaks = [(cold.peak_memory_bytes or 0) / 2**20 for _, cold in found]
    times, memory = new_panels(2, 1.8 + 0.32 * len(found))
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
        panel.set_ylim(-0.6, len(found) - 0.4)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x")
    times.set_xlabel("time until the first answer (s)")
    times.set_title("Cold start; one measurement each")
    figure_of(times).legend(*times.get_legend_handles_labels(), loc="outside lower left", ncols=4, columnspacing=1)
    memory.set_xlabel("peak memory of the process (MiB)")
    memory.set_title("Memory")
    names = [backend for backend, _ in found]
    says = f"{names[-1]} answers first, after {shown_s[-1]}; {names[0]} last, after {shown_s[0]}." * (len(found) > 1)
    describe(times, f"Time until the first answer: {_listed(names, shown_s)}.", says)
    describe(memory, f"Peak memory: {_listed(names, [f'{text} MiB' for text in shown_mib])}.")
    return times


def _listed(names: Sequence[str], texts: Sequence[str]) -> str:
    return "; ".join(f"{name} {text}" for name, text in zip(names[::-1], texts[::-1], strict=True))


def starts_table(records: Sequence[BenchmarkRecord]) -> Table:
    """What a first request waits for, memory, and what was done once on a build machine."""
    letters = machine_letters(records)
    return cold_start_table((with_machine(each, letters), each.cold_start, each.preparation) for each in records)


def costs_table(records: Sequence[BenchmarkRecord]) -> Table:
    """Images per dollar on runners of the size that measured."""
    prices = price_table()
    costs, letters = [cost_of(record) for record in records], machine_letters(records)
    runners = list(dict.fromkeys(row.runner for cost in costs for row in cost.rows))
    rows = []
    for record, cost in zip(records, costs, strict=True):
        found = {row.runner: number(row.million_images_per_dollar) for row in cost.rows}
        by_runner = {f"{runner} (million images per $)": found.get(runner) for runner in runners}
        rows.append({"backend": with_machine(record, letters), **by_runner, "why not": cost.reason})
    notes = dict.fromkeys(row.note for cost in costs for row in cost.rows if row.note)
    note = f"Offline scenario: {CAVEAT}. Prices: {prices.source}, {prices.date}, {prices.url}. "
    note += " ".join(f"{capital(text)}." for text in notes)
    return Table.of(rows, caption="What images cost", note=note.strip(), compact=True)
