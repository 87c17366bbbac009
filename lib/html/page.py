"""One executed notebook -> one HTML file that needs nothing else: no network, no fonts, no scripts from outputs.

What a cell becomes is decided in `lib.html.cells` and `outputs`, what may pass in `sanitize`, what is on top in `top`
and `provenance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import nbformat
from markupsafe import Markup

from lib.errors import UserError
from lib.files import write_atomic
from lib.html.cells import CellView, Outline, cell_views, shorten
from lib.html.frame import PAGE_LIMIT, render, safe
from lib.html.outputs import Piece
from lib.html.provenance import facts_of, line_of, origin_of
from lib.html.top import Top, answer_of, caveats_of, charts_of
from lib.records.schema import Record, read_any_record
from lib.report.table import Cell, Table
from lib.report.words import duration, size

INTERRUPTED = "KeyboardInterrupt"  # what a kernel shows that the runner stopped: the reason is the runner's


@dataclass(frozen=True)
class Failure:
    """Why a run ended early.

    `cell` counts the code cells of the executed notebook from 1, as `num_cells` does; 0 where no cell is to blame.
    """

    cell: int
    num_cells: int
    reason: str  # one line, e.g. `time limit of 600 s` or `UserError`

    @property
    def place(self) -> str:
        """To be followed by the reason; empty where no cell was begun."""
        return f"cell {self.cell} of {self.num_cells}: " if self.num_cells else ""

    @property
    def text(self) -> str:
        where = f" in code cell {self.cell} of {self.num_cells}" if self.cell else ""
        return f"This run failed{where}: {self.reason}"


def _appendix(views: Sequence[CellView]) -> Markup:
    """Time and memory of each code cell."""
    timed = [view for view in views if view.seconds is not None]
    if not timed:
        return safe("")
    peak = max(view.peak_memory or 0 for view in timed)
    most = f"; at most {size(peak)} of memory" if peak else ""
    note = (
        f"All code cells together: {duration(sum(view.seconds or 0 for view in timed))}{most}. Memory is the "
        "peak of the notebook's kernel while the cell ran, with what earlier cells left there; processes that it "
        "starts, such as the workers of a benchmark, are not in it."
    )
    rows = [
        {
            "cell": Cell(view.anchor.removeprefix("cell-"), href=f"#{view.anchor}"),
            "begins with": view.first_line,
            "time": view.took,
            "peak memory": size(view.peak_memory),
        }
        for view in timed
    ]
    return safe(Table.of(rows, caption="Time and memory of each code cell", note=note, compact=True).to_html())


def _record_of(notebook: Path) -> Record | None:
    """The record that a notebook of a run folder wrote; None where there is none to be read."""
    folder = notebook.resolve().parent
    if folder.name != "notebooks":
        return None
    try:
        return read_any_record(folder.parent / "results" / f"{notebook.stem}.json")
    except UserError:
        return None


def _mark_culprit(views: Sequence[CellView], failure: Failure) -> str:
    """Open the cell that failed, and say there why it was interrupted; returns its anchor."""
    if not 1 <= failure.cell <= len(views):
        return ""
    culprit = views[failure.cell - 1]
    culprit.failed = True
    if INTERRUPTED not in failure.reason and any(INTERRUPTED in output.html for output in culprit.outputs):
        note = f'<p class="r-note">The runner interrupted this cell: {escape(failure.reason)}.</p>'
        culprit.outputs.append(Piece("Note", safe(note)))
    return culprit.anchor


def render_page(
    notebook: Path, html: Path, *, title: str, failure: Failure | None = None, index: str = "", source: str = ""
) -> None:
    """Render an executed notebook, also one that broke, as a self-contained page of at most `PAGE_LIMIT` bytes.

    The record of a notebook in a run folder is read for the answer and the hashes on top.

    Args:
        failure: shown on top, with a link to its cell.
        index: relative link to the index of the run; none where the page travels alone.
        source: name of the source notebook for the foot of the page; the executed file's name by default.

    Raises:
        UserError: the notebook cannot be read, or the page cannot be written.
    """
    try:
        node = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError, AttributeError, TypeError, KeyError, nbformat.ValidationError) as error:
        raise UserError(f"{notebook} is not a readable notebook ({error}); run it again") from error
    origin = origin_of(node, _record_of(notebook), title)
    record = origin.record
    status, answer = ("failed", failure.text) if failure is not None else answer_of(record)
    caveats = [origin.hosted.get("note", ""), *caveats_of(record)]
    outline = Outline(said=[answer, *filter(None, caveats)])
    views = list(cell_views(node, outline))
    code_views = [view for view in views if view.anchor.startswith("cell-")]
    content = {
        "title": title,
        "source": source or notebook.name,
        "index": index,
        "failure": failure,
        "failure_anchor": _mark_culprit(code_views, failure) if failure is not None else "",
        "cells": views,
        "headings": outline.headings,
        "appendix": _appendix(code_views),
        "top": Top(
            heading=outline.title or safe(f"<h1>{escape(title)}</h1>"),
            status=status,
            answer=answer,
            charts=charts_of(record) if failure is None else [],
            caveats=caveats,
            line=line_of(origin),
            facts=facts_of(origin),
            described=[piece for view in views for piece in view.outputs if piece.describes_run],
        ),
    }
    page = render("page.html.j2", **content)
    if (excess := len(page.encode()) - PAGE_LIMIT) > 0:
        shorten([piece for view in views for piece in view.pieces], excess)
        page = render("page.html.j2", **content)
    write_atomic(html, page)
