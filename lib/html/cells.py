"""The cells of an executed notebook as the page's template needs them: text, code, outputs, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bs4 import BeautifulSoup, Tag
from markupsafe import Markup
from nbformat import NotebookNode

from lib.html.frame import safe
from lib.html.outputs import Piece, code_piece, output_pieces, text_piece
from lib.report import PEAK_MEMORY
from lib.report.words import duration

_TO_TAKE = re.compile(r"<(h[1-6]|table)\b|r-banner")


@dataclass
class Heading:
    """One line of the table of contents."""

    level: int
    text: str
    anchor: str


@dataclass
class CellView:
    """One cell."""

    anchor: str
    text: Piece | None = None
    code: Piece | None = None
    label: str = "Code"
    outputs: list[Piece] = field(default_factory=list)
    first_line: str = ""  # of the code
    seconds: float | None = None
    peak_memory: int | None = None  # bytes, of the kernel's process
    failed: bool = False

    @property
    def took(self) -> str:
        return duration(self.seconds) if self.seconds is not None else ""

    @property
    def pieces(self) -> list[Piece]:
        return [piece for piece in (self.text, self.code, *self.outputs) if piece is not None]


class Outline:
    """Gives headings their anchors and keeps their levels in order: one h1, no level skipped."""

    def __init__(self, said: Sequence[str]) -> None:
        """Args: said: texts of banners that the page has on top, so that its cells need not repeat them."""
        self.headings: list[Heading] = []
        self.title: Markup | None = None  # the notebook's own, taken out of its text: the page shows it on top
        self._said = said
        self._has_title = False
        self._level = 1
        self._taken = {"main", "contents", "failure", "about", "provenance", "appendix"}

    def take(self, piece: Piece) -> Piece:
        """Number the headings of a piece of the page, wrap its tables, and take the first title out of it."""
        if not _TO_TAKE.search(piece.html):
            return piece
        soup = BeautifulSoup(piece.html, "html.parser")
        for element in soup.find_all(class_="r-banner"):
            if element.get_text().endswith(tuple(self._said)):
                element.decompose()
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
        piece.html = safe(str(soup))
        return piece

    def _place(self, element: Tag) -> None:
        wanted = int(element.name[1])
        level = 1 if wanted == 1 and not self._has_title else min(max(wanted, 2), self._level + 1)
        self._has_title = True  # also where the first heading is a smaller one: the page then writes the title
        self._level = level
        text = element.get_text(" ", strip=True)
        anchor = self._unique(re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80] or "section")
        element.name, element["id"] = f"h{level}", anchor
        self.headings.append(Heading(level, text, anchor))

    def _unique(self, anchor: str) -> str:
        if anchor.startswith(("cell-", "text-")):  # the names of cells
            anchor = f"s-{anchor}"
        candidate, count = anchor, 1
        while candidate in self._taken:
            count += 1
            candidate = f"{anchor}-{count}"
        self._taken.add(candidate)
        return candidate


def cell_views(notebook: NotebookNode, outline: Outline) -> Iterator[CellView]:
    """All cells but those that papermill added to report an error: the page's own banner says more."""
    number = 0
    for position, cell in enumerate(notebook.cells):
        if "papermill-error-cell-tag" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "markdown":
            text = outline.take(text_piece(str(cell.source), cell.get("attachments", {})))
            if text.html.strip():
                yield CellView(f"text-{position}", text)
        elif cell.cell_type == "code":
            number += 1
            yield _code_view(cell, number, outline)


def _code_view(cell: NotebookNode, number: int, outline: Outline) -> CellView:
    view = CellView(f"cell-{number}", label=_label(cell))
    source = str(cell.source)
    if source.strip():
        view.code = code_piece(source)
        view.first_line = source.strip().splitlines()[0][:80]
    view.outputs = [piece for piece in map(outline.take, output_pieces(cell)) if piece.html.strip()]
    papermill = cell.metadata.get("papermill", {})
    view.seconds = _number(papermill.get("duration") if isinstance(papermill, dict) else None)
    peak = _number(cell.metadata.get(PEAK_MEMORY))
    view.peak_memory = int(peak) if peak is not None else None
    view.failed = any(output.output_type == "error" for output in cell.get("outputs", []))
    return view


def _label(cell: NotebookNode) -> str:
    tags = cell.metadata.get("tags", [])
    if "injected-parameters" in tags:
        return "Code: parameters of this run"
    if "parameters" in tags:
        return "Code: parameters and their defaults"
    return "Code" if cell.get("execution_count") is not None else "Code, not run"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def shorten(pieces: Sequence[Piece], excess: int) -> None:
    """Make the largest pieces smaller until they have `excess` bytes less, with a note in each."""
    for piece in sorted(pieces, key=lambda piece: -piece.num_bytes):
        if excess <= 0:
            return
        before = piece.num_bytes
        piece.shorten(before - excess)
        excess -= before - piece.num_bytes
