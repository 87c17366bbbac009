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
from nbformat import NotebookNode

from lib.errors import UserError
from lib.files import write_atomic
from lib.html.cells import CellView, Heading, Outline, cell_views, shorten
from lib.html.frame import PAGE_LIMIT, render, safe
from lib.html.outputs import Piece
from lib.html.provenance import facts_of, line_of, origin_of
from lib.html.top import Top, answer_of, caveats_of, charts_of
from lib.records.schema import Record, read_any_record
from lib.report.table import SMOKE_TEXT, Cell, Table, Value
from lib.report.words import UNKNOWN, duration, size

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


@dataclass
class PageView:
    """All that the page template reads."""

    title: str
    source: str
    top: Top
    cells: list[CellView]
    headings: list[Heading]
    failure: Failure | None
    failure_anchor: str
    index: str
    appendix: Markup

    @property
    def pieces(self) -> list[Piece]:
        return [piece for cell in self.cells for piece in cell.pieces]


def _appendix(views: Sequence[CellView]) -> Markup:
    """Time and memory of each code cell."""
    rows: list[list[Value]] = []
    for view in views:
        if view.seconds is None:
            continue
        memory = size(view.peak_memory) if view.peak_memory is not None else UNKNOWN
        number = view.anchor.removeprefix("cell-")
        rows.append([Cell(number, href=f"#{view.anchor}"), view.first_line, duration(view.seconds), memory])
    if not rows:
        return safe("")
    seconds, peaks = (view.seconds for view in views), [view.peak_memory for view in views if view.peak_memory]
    most = f"; at most {size(max(peaks))} of memory" if peaks else ""
    note = (
        f"All code cells together: {duration(sum(part for part in seconds if part is not None))}{most}. Memory is the "
        "peak of the notebook's kernel while the cell ran, with what earlier cells left there; processes that it "
        "starts, such as the workers of a benchmark, are not in it."
    )
    columns = ["cell", "begins with", "time", "peak memory"]
    return safe(Table(columns, rows, caption="Time and memory of each code cell", note=note, compact=True).to_html())


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


def _page_view(
    notebook: NotebookNode, record: Record | None, source: str, title: str, failure: Failure | None, index: str
) -> PageView:
    origin = origin_of(notebook, record, title)
    caveats = [*([origin.note] if origin.note else []), *([SMOKE_TEXT] if origin.is_smoke else []), *caveats_of(record)]
    outline = Outline(said=caveats)
    views = list(cell_views(notebook, outline))
    code_views = [view for view in views if view.anchor.startswith("cell-")]
    failure_anchor = _mark_culprit(code_views, failure) if failure is not None else ""
    status, answer = ("failed", failure.text) if failure is not None else answer_of(record)
    top = Top(
        heading=outline.title or safe(f"<h1>{escape(title)}</h1>"),
        status=status,
        answer=answer,
        charts=charts_of(record) if failure is None else [],
        caveats=caveats,
        line=line_of(origin),
        facts=facts_of(origin),
    )
    return PageView(
        title=title,
        source=source,
        top=top,
        cells=views,
        headings=outline.headings,
        failure=failure,
        failure_anchor=failure_anchor,
        index=index,
        appendix=_appendix(code_views),
    )


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
    view = _page_view(node, _record_of(notebook), source or notebook.name, title, failure, index)
    content = render("page.html.j2", page=view, top=view.top)
    if (excess := len(content.encode()) - PAGE_LIMIT) > 0:
        shorten(view.pieces, excess)
        content = render("page.html.j2", page=view, top=view.top)
    write_atomic(html, content)
