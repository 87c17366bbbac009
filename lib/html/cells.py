"""The cells of an executed notebook as the page's template needs them: text, code, outputs, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from bs4 import BeautifulSoup, Tag
from markupsafe import Markup
from nbconvert.filters import Highlight2HTML
from nbformat import NotebookNode

from lib.html.frame import safe
from lib.html.outputs import Exporter, output_html, outputs_of
from lib.report import PEAK_MEMORY, RUN_METADATA
from lib.report.words import duration

CODE_LIMIT = 60_000  # characters of one cell's code
NAME_LIMIT = 200  # characters of a heading in the contents


@dataclass
class Heading:
    """One line of the table of contents."""

    level: int
    text: str
    anchor: str


@dataclass
class Output:
    """One output, ready for the page. `describes_run`: the page's top says it in short, so it is folded here."""

    html: Markup
    describes_run: bool = False


@dataclass
class CellView:
    """One cell."""

    anchor: str
    text: str | Markup = ""  # rendered markdown
    code: str | Markup = ""
    label: str = "Code"
    outputs: list[Output] = field(default_factory=list)
    first_line: str = ""  # of the code
    seconds: float | None = None
    peak_memory: int | None = None  # bytes, of the kernel's process
    failed: bool = False

    @property
    def took(self) -> str:
        return duration(self.seconds) if self.seconds is not None else ""


class Outline:
    """Gives headings their anchors and keeps their levels in order: one h1, no level skipped."""

    def __init__(self) -> None:
        self.headings: list[Heading] = []
        self.title: Markup | None = None  # the notebook's own, taken out of its text: the page shows it on top
        self._has_title = False
        self._level = 1
        self._taken = {"main", "contents", "failure", "about", "provenance", "appendix"}

    def take(self, html: str) -> str:
        """Number the headings of a piece of the page, wrap its tables, and take the first title out of it."""
        soup = BeautifulSoup(html, "html.parser")
        for element in soup.find_all(re.compile("^h[1-6]$")):
            is_title = not self._has_title and element.name == "h1"
            self._place(element)
            if is_title:
                self.title = safe(str(element.extract()))
        for element in soup.find_all("table"):
            if element.find_parent(class_="r-scroll") is None:
                wrapper = soup.new_tag("div", attrs={"class": "r-scroll", "tabindex": "0", "role": "region"})
                wrapper["aria-label"] = "Table"
                outer = soup.new_tag("div", attrs={"class": "r-table"})
                element.wrap(wrapper).wrap(outer)
        return str(soup)

    def _place(self, element: Tag) -> None:
        wanted = int(element.name[1])
        level = 1 if wanted == 1 and not self._has_title else min(max(wanted, 2), self._level + 1)
        self._has_title = True  # also where the first heading is a smaller one: the page then writes the title
        self._level = level
        text = element.get_text(" ", strip=True)
        anchor = self._unique(re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80] or "section")
        element.name, element["id"] = f"h{level}", anchor
        self.headings.append(Heading(level, text[:NAME_LIMIT], anchor))

    def _unique(self, anchor: str) -> str:
        candidate, count = anchor, 1
        while candidate in self._taken or candidate.startswith(("cell-", "text-")):
            count += 1
            candidate = f"{anchor}-{count}" if not anchor.startswith(("cell-", "text-")) else f"s-{anchor}-{count}"
        self._taken.add(candidate)
        return candidate


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _papermill(cell: NotebookNode) -> dict[str, Any]:
    found = cell.metadata.get("papermill", {})
    return found if isinstance(found, dict) else {}


def _label(tags: list[str], was_run: bool) -> str:
    if "injected-parameters" in tags:
        return "Code: parameters of this run"
    if "parameters" in tags:
        return "Code: parameters and their defaults"
    return "Code" if was_run else "Code, not run"


def _describes_run(output: NotebookNode) -> bool:
    metadata = output.get("metadata", {}).get("text/html", {})
    return isinstance(metadata, dict) and RUN_METADATA in metadata


def _code_view(cell: NotebookNode, number: int, exporter: Exporter, outline: Outline) -> CellView:
    highlight = Highlight2HTML(pygments_lexer="ipython3")  # type: ignore[no-untyped-call]
    was_run = cell.get("execution_count") is not None
    view = CellView(anchor=f"cell-{number}", label=_label(cell.metadata.get("tags", []), was_run))
    source = str(cell.source)
    if source.strip():
        short = source if len(source) <= CODE_LIMIT else source[:CODE_LIMIT] + "\n# ... the rest is left out here"
        view.code = safe(highlight(short))
        view.first_line = source.strip().splitlines()[0][:80]
    outputs, num_left_out = outputs_of(cell)
    for output in outputs:
        if html := output_html(output, exporter):
            view.outputs.append(Output(safe(outline.take(html)), _describes_run(output)))
    if num_left_out:
        note = f'<p class="r-note">{num_left_out:,} more outputs left out here; the executed notebook has them.</p>'
        view.outputs.insert(len(view.outputs) // 2, Output(safe(note)))
    view.seconds = _number(_papermill(cell).get("duration"))
    peak = _number(cell.metadata.get(PEAK_MEMORY))
    view.peak_memory = int(peak) if peak is not None else None
    view.failed = any(output.output_type == "error" for output in cell.get("outputs", []))
    return view


def cell_views(notebook: NotebookNode, exporter: Exporter, outline: Outline) -> list[CellView]:
    """All cells but those that papermill added to tell of an error: the page's own banner says more."""
    views: list[CellView] = []
    number = 0
    for position, cell in enumerate(notebook.cells):
        if "papermill-error-cell-tag" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown":
            html = outline.take(exporter.render_markdown(cell.source, cell.get("attachments", {})))
            if html.strip():
                views.append(CellView(anchor=f"text-{position}", text=safe(html)))
        elif cell.cell_type == "code":
            number += 1
            views.append(_code_view(cell, number, exporter, outline))
    return views
