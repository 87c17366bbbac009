"""One executed notebook -> one HTML file that needs nothing else: no network, no fonts, no scripts from outputs.

nbconvert reads the notebook, renders the markdown and drives the template in `template/`; what a cell becomes, what may
pass (`lib.report.sanitize`) and how large a page may be is decided here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup, Tag
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters import Highlight2HTML
from nbformat import NotebookNode

from lib.errors import UserError
from lib.files import write_atomic
from lib.report.sanitize import ansi_to_html, clean_html, last_writes
from lib.report.table import SMOKE_TEXT, Banner
from lib.report.words import duration

TEMPLATES = Path(__file__).parent / "template"
PAGE_LIMIT = 1_500_000  # bytes of one page
STREAM_LIMIT = 30_000  # characters of one printed output
LINE_LIMIT = 400  # lines of one printed output
# Richest first. What is not listed (widgets, scripts, LaTeX) is not shown.
MIME_ORDER = ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain")


@dataclass(frozen=True)
class Failure:
    """Why a run ended early.

    `cell` counts the code cells of the executed notebook from 1, as `num_cells` does; 0 where no cell is to blame.
    """

    cell: int
    num_cells: int
    reason: str  # one line, e.g. `time limit of 600 s` or `UserError`
    detail: str  # the message, may have several lines


@dataclass
class Heading:
    """One line of the table of contents."""

    level: int
    text: str
    anchor: str


@dataclass
class CellView:
    """One cell as the template needs it."""

    anchor: str
    text: str | Markup = ""  # rendered markdown
    code: str | Markup = ""
    label: str = "Code"
    outputs: list[Markup] = field(default_factory=list)
    seconds: str = ""
    failed: bool = False


@dataclass
class PageView:
    """All that the page template reads."""

    title: str
    source: str
    cells: list[CellView]
    headings: list[Heading]
    failure: Failure | None
    failure_anchor: str
    detail: str  # of the failure, where it says more than the reason
    banner: Markup
    index: str
    started: str
    seconds: str
    times: list[tuple[str, str, str]]  # anchor, label, seconds


@cache
def assets() -> dict[str, str]:
    """Style and script of every page, and the policy that allows these two and nothing else."""
    style = (TEMPLATES / "table.css").read_text() + (TEMPLATES / "page.css").read_text()  # the page may override
    dark = (TEMPLATES / "dark.css").read_text()
    style += f"@media screen and (prefers-color-scheme:dark){{{dark}}}"
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL).replace("\n", "")
    script = (TEMPLATES / "page.js").read_text()

    def digest(content: str) -> str:
        return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest(style)}'; "
        f"script-src 'sha256-{digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    return {"style": style, "script": script, "policy": policy}


def template_environment() -> Environment:
    """Jinja with escaping on, for pages that do not come from a notebook."""
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


class _PageExporter(HTMLExporter):
    """nbconvert with our template, no preprocessors and no addresses of other machines."""

    def __init__(self) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            template_paths=[str(TEMPLATES)],
            template_file="page.html.j2",
            exclude_anchor_links=True,
            preprocessors=[],
        )

    def render_markdown(self, source: str, attachments: dict[str, Any]) -> str:
        """Markdown -> HTML, not yet sanitized."""
        return str(self.markdown2html({"cell": {"attachments": attachments}}, source))


def _safe(html: str) -> Markup:
    """Mark what `clean_html`, `escape` or pygments made as ready for the template, which escapes everything else."""
    return Markup(html)  # noqa: S704


def _unique(anchor: str, taken: set[str]) -> str:
    candidate, count = anchor, 1
    while candidate in taken:
        count += 1
        candidate = f"{anchor}-{count}"
    taken.add(candidate)
    return candidate


class _Outline:
    """Gives headings their anchors and keeps their levels in order: one h1, no level skipped."""

    def __init__(self) -> None:
        self.headings: list[Heading] = []
        self.has_title = False
        self._level = 1
        self._taken = {"main", "contents", "failure", "about"}

    def take(self, html: str) -> str:
        soup = BeautifulSoup(html, "html.parser")
        for element in soup.find_all(re.compile("^h[1-6]$")):
            self._place(element)
        for element in soup.find_all("table"):
            if element.find_parent(class_="r-scroll") is None:
                wrapper = soup.new_tag("div", attrs={"class": "r-scroll", "tabindex": "0", "role": "region"})
                wrapper["aria-label"] = "Table"
                outer = soup.new_tag("div", attrs={"class": "r-table"})
                element.wrap(wrapper).wrap(outer)
        return str(soup)

    def _place(self, element: Tag) -> None:
        wanted = int(element.name[1])
        level = 1 if wanted == 1 and not self.has_title else min(max(wanted, 2), self._level + 1)
        self.has_title = True  # also where the first heading is a smaller one: the page then writes the title
        self._level = level
        text = element.get_text(" ", strip=True)
        anchor = _unique(re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section", self._taken)
        element.name, element["id"] = f"h{level}", anchor
        self.headings.append(Heading(level, text, anchor))


def _image_html(mime: str, content: Any, metadata: dict[str, Any]) -> str:
    if isinstance(content, list):
        content = "".join(content)
    if mime == "image/svg+xml":
        content = base64.b64encode(str(content).encode()).decode()
    alt = metadata.get("alt") or "Figure without a description"
    source = f"data:{mime};base64,{''.join(str(content).split())}"
    return f'<figure class="r-figure"><img alt="{escape(str(alt))}" src="{escape(source)}"></figure>'


def _stream_html(text: str, css: str) -> str:
    text = last_writes(text).rstrip()
    if not text.strip():
        return ""
    lines, left_out = text.split("\n"), 0
    if len(lines) > LINE_LIMIT:
        left_out = len(lines) - LINE_LIMIT
        lines = lines[-LINE_LIMIT:]
    text = "\n".join(lines)
    cut = len(text) > STREAM_LIMIT
    text = text[-STREAM_LIMIT:]
    notice = ""
    if left_out or cut:
        notice = '<p class="r-note">The beginning is left out here; the executed notebook has all of it.</p>'
    tall = ' tabindex="0"' if len(lines) > 20 else ""
    return f'{notice}<pre class="{css}"{tall}>{ansi_to_html(text)}</pre>'


def _traceback_html(output: NotebookNode) -> str:
    """The message first and last; the way to it folded behind it."""
    name, value = str(output.get("ename", "Error")), str(output.get("evalue", ""))
    message = ansi_to_html(f"{name}: {value}" if value else name)
    traceback = "\n".join(output.get("traceback", []))
    plain = re.sub(r"\x1b\[[\d;]*m", "", traceback).strip()
    folded = ""
    if plain and plain != f"{name}: {value}":
        folded = (
            f'<details class="trace"><summary>Traceback</summary>'
            f'<pre class="stream" tabindex="0">{ansi_to_html(traceback)}</pre></details>'
        )
    return f'<div class="crash" role="alert">{folded}<p><strong>{message}</strong></p></div>'


def _data_html(output: NotebookNode, exporter: _PageExporter) -> str:
    data = output.get("data", {})
    mime = next((mime for mime in MIME_ORDER if mime in data), "")
    if not mime:
        return ""
    content = data[mime]
    if mime.startswith("image/"):
        metadata = output.get("metadata", {})
        return _image_html(mime, content, {**metadata, **metadata.get(mime, {})})
    content = "".join(content) if isinstance(content, list) else str(content)
    if mime == "text/html":
        return clean_html(content)
    if mime == "text/markdown":
        return clean_html(exporter.render_markdown(content, {}))
    return _stream_html(content, "stream result")


def _output_html(output: NotebookNode, exporter: _PageExporter) -> str:
    if output.output_type == "stream":
        return _stream_html(output.text, "stream" if output.name == "stdout" else "stream stderr")
    if output.output_type == "error":
        return _traceback_html(output)
    return _data_html(output, exporter)


def _merged(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Neighbouring pieces of one stream as one output, so that carriage returns work across them."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last is not None and last.output_type == output.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def _seconds_of(cell: NotebookNode) -> float | None:
    seconds = cell.metadata.get("papermill", {}).get("duration")
    return float(seconds) if isinstance(seconds, int | float) else None


def _label(tags: list[str], was_run: bool) -> str:
    if "injected-parameters" in tags:
        return "Code: parameters of this run"
    if "parameters" in tags:
        return "Code: parameters and their defaults"
    return "Code" if was_run else "Code, not run"


def _code_view(cell: NotebookNode, number: int, exporter: _PageExporter, outline: _Outline) -> CellView:
    highlight = Highlight2HTML(pygments_lexer="ipython3")  # type: ignore[no-untyped-call]
    was_run = cell.get("execution_count") is not None
    view = CellView(anchor=f"cell-{number}", label=_label(cell.metadata.get("tags", []), was_run))
    if cell.source.strip():
        view.code = _safe(highlight(cell.source))
    htmls = (_output_html(output, exporter) for output in _merged(cell.get("outputs", [])))
    view.outputs = [_safe(outline.take(html)) for html in htmls if html]
    seconds = _seconds_of(cell)
    view.seconds = duration(seconds) if seconds is not None else ""
    view.failed = any(output.output_type == "error" for output in cell.get("outputs", []))
    return view


def _views(notebook: NotebookNode, exporter: _PageExporter, outline: _Outline) -> list[CellView]:
    views: list[CellView] = []
    number = 0
    for position, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        if "papermill-error-cell-tag" in tags:
            continue  # papermill's own banner; ours says more
        if cell.cell_type == "markdown":
            html = clean_html(exporter.render_markdown(cell.source, cell.get("attachments", {})))
            views.append(CellView(anchor=f"text-{position}", text=_safe(outline.take(html))))
        elif cell.cell_type == "code":
            number += 1
            views.append(_code_view(cell, number, exporter, outline))
    return views


def _started(notebook: NotebookNode) -> str:
    text = str(notebook.metadata.get("papermill", {}).get("start_time") or "")
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return ""


def _is_smoke(notebook: NotebookNode) -> bool:
    """From the parameters that papermill gave; a notebook run by hand shows its own banner."""
    return bool(notebook.metadata.get("papermill", {}).get("parameters", {}).get("profile") == "smoke")


def _detail(failure: Failure | None) -> str:
    """The detail of a failure, unless it is one line that repeats the reason."""
    if failure is None:
        return ""
    detail = failure.detail.strip()
    return "" if detail.endswith(failure.reason) and "\n" not in detail else detail


def _page_view(
    notebook: NotebookNode, source: str, title: str, failure: Failure | None, index: str, exporter: _PageExporter
) -> PageView:
    outline = _Outline()
    views = _views(notebook, exporter, outline)
    code_views = [view for view in views if view.anchor.startswith("cell-")]
    failure_anchor = ""
    if failure is not None and 1 <= failure.cell <= len(code_views):
        culprit = code_views[failure.cell - 1]
        culprit.failed, failure_anchor = True, culprit.anchor
    seconds = notebook.metadata.get("papermill", {}).get("duration")
    banner = Banner(SMOKE_TEXT).to_html() if _is_smoke(notebook) else ""
    if banner:  # it belongs on top, once
        for view in views:
            view.outputs = [html for html in view.outputs if html.striptags() != _safe(banner).striptags()]
    return PageView(
        title=title,
        source=source,
        cells=views,
        headings=outline.headings,
        failure=failure,
        failure_anchor=failure_anchor,
        detail=_detail(failure),
        banner=_safe(banner),
        index=index,
        started=_started(notebook),
        seconds=duration(seconds) if isinstance(seconds, int | float) else "",
        times=[(view.anchor, view.anchor.removeprefix("cell-"), view.seconds) for view in code_views if view.seconds],
    )


def _within_limit(html: str) -> str:
    """Leave out the largest images until the page fits, saying so where each was."""
    sizes = sorted((len(match[0]) for match in re.finditer(r'<img\b[^>]*src="data:[^>]*>', html)), reverse=True)
    excess = len(html.encode()) - PAGE_LIMIT
    threshold = None
    for image_size in sizes:
        if excess <= 0:
            break
        excess -= image_size
        threshold = image_size
    if threshold is None:
        return html

    def replace(match: re.Match[str]) -> str:
        if len(match[0]) < threshold:
            return match[0]
        alt = re.search(r'alt="([^"]*)"', match[0])
        about = f" It shows: {alt[1]}" if alt else ""
        kilobytes = len(match[0]) // 1000
        return f'<span class="r-note">Figure left out ({kilobytes} kB; pages are limited to 1.5 MB).{about}</span>'

    return re.sub(r'<img\b[^>]*src="data:[^>]*>', replace, html)


def render_page(
    notebook: Path, html: Path, *, title: str, failure: Failure | None = None, index: str = "", source: str = ""
) -> None:
    """Render an executed notebook, also one that broke, as a self-contained page.

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
    exporter = _PageExporter()
    view = _page_view(node, source or notebook.name, title, failure, index, exporter)
    # The template reads the view; nbconvert gets an empty notebook, to which it can add nothing.
    bare = nbformat.v4.new_notebook()
    content, _ = exporter.from_notebook_node(bare, resources={"page": view, "assets": assets()})
    write_atomic(html, _within_limit(content))
