"""One executed notebook -> one HTML file that needs nothing else: no network, no fonts, no scripts from outputs.

nbconvert reads the notebook, renders the markdown and drives the template in `template/`. What a cell becomes is
decided in `lib.html.cells` and `outputs`, what may pass in `sanitize`, what stands on top in `provenance`, and how
large a page may be in `limit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import nbformat
from markupsafe import Markup
from nbformat import NotebookNode

from lib.errors import UserError
from lib.files import write_atomic
from lib.html.cells import CellView, Heading, Outline, Output, cell_views
from lib.html.frame import assets, safe
from lib.html.limit import PAGE_LIMIT, shorten_text, within_limit
from lib.html.outputs import STREAM_LIMIT, Exporter
from lib.html.provenance import Fact, Origin, Verdict, facts_of, origin_of, verdict_of
from lib.html.sanitize import clean_html
from lib.records.run import read_any_record
from lib.records.schema import Record
from lib.report.table import SMOKE_TEXT, Banner, Cell, Table, Value
from lib.report.words import UNKNOWN, duration, size

__all__ = ["PAGE_LIMIT", "Failure", "render_page"]


INTERRUPTED = "KeyboardInterrupt"  # what a kernel shows that the runner stopped: the reason is the runner's


@dataclass(frozen=True)
class Failure:
    """Why a run ended early.

    `cell` counts the code cells of the executed notebook from 1, as `num_cells` does; 0 where no cell is to blame.
    """

    cell: int
    num_cells: int
    reason: str  # one line, e.g. `time limit of 600 s` or `UserError`
    detail: str  # the message, may have several lines

    @property
    def text(self) -> str:
        where = f" in code cell {self.cell} of {self.num_cells}" if self.cell else ""
        return f"This run failed{where}: {self.reason}"


@dataclass
class PageView:
    """All that the page template reads."""

    title: str
    heading: Markup | None  # the notebook's own title, as HTML
    source: str
    cells: list[CellView]
    headings: list[Heading]
    failure: Failure | None
    failure_anchor: str
    detail: str  # of the failure, where it says more than the reason
    banners: list[Markup]
    index: str
    verdict: Verdict
    facts: list[Fact]
    appendix: Markup


def _detail(failure: Failure | None) -> str:
    """The detail of a failure, unless it is one line that repeats the reason."""
    if failure is None:
        return ""
    detail = failure.detail.strip()
    if detail.endswith(failure.reason) and "\n" not in detail:
        return ""
    return detail if len(detail) <= STREAM_LIMIT else "...\n" + detail[-STREAM_LIMIT:]


def _banners(origin: Origin) -> list[Markup]:
    smoke = [Banner(SMOKE_TEXT)] if origin.is_smoke else []
    note = [Banner(origin.note)] if origin.note else []
    return [safe(banner.to_html()) for banner in [*note, *smoke]]


def _without(views: list[CellView], banners: list[Markup]) -> None:
    """What stands on top is not said again by the notebook."""
    said = [clean_html(banner) for banner in banners]
    for view in views:
        for output in view.outputs:
            for banner in said:
                output.html = safe(str(output.html).replace(banner, ""))
        view.outputs = [output for output in view.outputs if output.html.strip()]


def _appendix(views: list[CellView]) -> Markup:
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
    path = notebook.resolve().parent.parent / "results" / f"{notebook.stem}.json"
    if notebook.resolve().parent.name != "notebooks" or not path.is_file():
        return None
    try:
        return read_any_record(path)
    except UserError:
        return None


def _page_view(
    notebook: NotebookNode, record: Record | None, source: str, title: str, failure: Failure | None, index: str
) -> PageView:
    outline = Outline()
    views = cell_views(notebook, Exporter(), outline)
    shorten_text(views)
    code_views = [view for view in views if view.anchor.startswith("cell-")]
    failure_anchor = ""
    if failure is not None and 1 <= failure.cell <= len(code_views):
        culprit = code_views[failure.cell - 1]
        culprit.failed, failure_anchor = True, culprit.anchor
        if INTERRUPTED not in failure.reason and any(INTERRUPTED in output.html for output in culprit.outputs):
            told = f'<p class="r-note">The runner interrupted this cell: {escape(failure.reason)}.</p>'
            culprit.outputs.append(Output(safe(told)))
    origin = origin_of(notebook, record, title)
    banners = _banners(origin)
    _without(views, banners)
    return PageView(
        title=title,
        heading=outline.title,
        source=source,
        cells=views,
        headings=outline.headings,
        failure=failure,
        failure_anchor=failure_anchor,
        detail=_detail(failure),
        banners=banners,
        index=index,
        verdict=verdict_of(origin, failure.text if failure else ""),
        facts=facts_of(origin),
        appendix=_appendix(code_views),
    )


def render_page(
    notebook: Path, html: Path, *, title: str, failure: Failure | None = None, index: str = "", source: str = ""
) -> None:
    """Render an executed notebook, also one that broke, as a self-contained page.

    The record of a notebook in a run folder is read for the verdict and the hashes on top.

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
    # The template reads the view; nbconvert gets an empty notebook, to which it can add nothing.
    bare = nbformat.v4.new_notebook()
    content, _ = Exporter().from_notebook_node(bare, resources={"page": view, "assets": assets()})
    write_atomic(html, within_limit(content))
