"""`sweep.html`: what the combinations of a sweep say together, and a link to each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.files import write_atomic
from lib.html.frame import render, safe
from lib.html.index import STATUS_TONES
from lib.records.schema import BenchmarkRecord, Record
from lib.report.compare.machines import machines_table
from lib.report.figures import described_html, figure_of
from lib.report.headline import STATUS_SIGNS
from lib.report.sweep_results import Row, best_table, plot_effects, plot_front, results_of
from lib.report.table import SMOKE_TEXT, Cell, Table, Value
from lib.report.words import duration, percent

PAGE = "sweep.html"


def write_sweep_page(
    folder: Path, rows: Sequence[Row], parameters: Sequence[str], records: Mapping[str, Record]
) -> None:
    """Write the page of a sweep into its folder.

    Args:
        rows: of `sweep.csv`.
        parameters: names of those that the sweep was given.
        records: by folder and job.

    Raises:
        UserError: the folder is not writable.
    """
    results = results_of(rows, parameters)
    good = sum(row["status"] in ("ok", "unavailable") for row in rows)
    answer = f"{good} of {len(rows)} notebook runs done."
    sections = []
    if results.points:
        values, accuracy, _ = results.best[0]
        named = ", ".join(f"{name} {value}" for name, value in zip(results.names, values, strict=True))
        answer += f" Most accurate on validation: {named or 'the only combination'}, {percent(accuracy.value)}."
        sections.append(("Best combinations", safe(best_table(results).to_html())))
        for heading, ax in (("Effect of each parameter", plot_effects(results)), ("Front", plot_front(results))):
            if ax is not None:
                sections.append((heading, safe(described_html(figure_of(ax))[0])))
    sections.append(("All runs", safe(_table(rows, results.varied or parameters).to_html())))
    if records:
        sections.append(("Where it ran", safe(machines_table(records).to_html())))
    content = render(
        "sweep.html.j2", title=f"Sweep {folder.name}", answer=answer, caveats=_caveats(records), sections=sections
    )
    write_atomic(folder / PAGE, content)


def _caveats(records: Mapping[str, Record]) -> list[str]:
    machines = {record.environment.machine_id for record in records.values()}
    smoke = any(record.profile == "smoke" for record in records.values())
    texts = [SMOKE_TEXT] if smoke else []
    if len(machines) > 1:
        measured = any(isinstance(record, BenchmarkRecord) for record in records.values())
        what = "speedups, never milliseconds" if measured else "accuracies; times differ by machine"
        texts.append(f"The points come from {len(machines)} machines: compare {what}.")
    return texts


def _table(rows: Sequence[Row], parameters: Sequence[str]) -> Table:
    def shown(row: Row) -> dict[str, Value]:
        status, seconds = str(row["status"]), row.get("seconds")
        return {
            "combination": Cell(str(row["folder"]), href=f"{row['folder']}/index.html"),
            **{name: row.get(name, "") for name in parameters},
            "notebook": row["notebook"],
            "backend": row["backend"],
            "status": Cell(f"{STATUS_SIGNS.get(status, '?')} {status}", tone=STATUS_TONES.get(status, "warn")),
            "time": duration(seconds if isinstance(seconds, int | float) else None),
            "reason": row["reason"],
        }

    return Table.of([shown(row) for row in rows], caption="Combinations")
