"""Tables and banners that look right in JupyterLab, in the page and in a terminal.

Everything that comes from data, parameters or file names is escaped here, once: callers pass plain text.
"""

from __future__ import annotations

import base64
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
from PIL import Image

from lib.report.words import NOT_JUDGED, UNKNOWN, number

Tone = Literal["", "good", "bad", "warn", "muted", "mark", "f1", "f2", "f3", "s1", "s2", "s3"]
Kind = Literal["warning", "error", "info"]
WRAP_LENGTH = 34  # characters; longer cells may break into lines
TABLE_CSS = Path(__file__).parent / "table.css"
NUMBER_CLASS = ' class="r-num"'
TOTAL_CLASS = ' class="r-total"'
SORT_ROWS = 8  # rows from which on a page lets its readers sort
_UNIT = r"\s?(%|x|ms|s|B|KiB|MiB|GiB|dB|px)"
_DURATION = re.compile(r"(?:(\d+) h )?(\d+) min(?: (\d+) s)?")
_NUMBER = re.compile(
    rf"[-+−▲▼=~<≤]?\s?[\d.,]+(e[-+]?\d+)?({_UNIT})?( (faster|slower))?|=( no difference)?|{_DURATION.pattern}"
)
_SCALES = {"ms": 1e-3, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}


@dataclass(frozen=True)
class Cell:
    """One cell with more than a value. `tone` colours it and is never the only sign of what it says."""

    text: str
    detail: str = ""  # smaller, behind the text: an interval, milliseconds
    tone: Tone = ""
    href: str = ""  # relative link
    image: np.ndarray | None = None  # uint8 (H, W, 3 or 4), shown before the text as decoration


Value = Cell | str | int | float | None


@cache
def live_style() -> str:
    """The style of tables as an element of its own: a live front end has no page around the table.

    The page drops it, because it brings the same rules once.
    """
    css = TABLE_CSS.read_text(encoding="utf-8")
    return f"<style>{css}</style>"


def image_uri(image: np.ndarray) -> str:
    """uint8 (H, W, 3 or 4) -> PNG as a data address."""
    content = packed(Image.fromarray(np.ascontiguousarray(image)))
    return "data:image/png;base64," + base64.b64encode(content).decode()


def packed(image: Image.Image) -> bytes:
    """A PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def safe_href(path: str) -> str:
    """A relative link, percent-encoded so that a hostile file name stays a path."""
    return quote(path, safe="/#")


def _as_cell(value: Value) -> Cell:
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell(UNKNOWN, tone="muted")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | np.integer):
        return Cell(f"{value:,}")
    if isinstance(value, float | np.floating):
        return Cell(number(float(value)))
    return Cell(str(value))


def _cell_html(cell: Cell) -> str:
    content = escape(cell.text)
    if cell.href:
        content = f'<a href="{escape(safe_href(cell.href))}">{content}</a>'
    if cell.image is not None:
        height, width = cell.image.shape[:2]
        content = f'<img alt="" src="{image_uri(cell.image)}" width="{width // 2}" height="{height // 2}"> {content}'
    if cell.detail:
        content += f' <span class="r-detail">{escape(cell.detail)}</span>'
    return content


def sort_key(text: str) -> float | None:
    """What a number in a cell is worth beside others of its column; None for what is not a number.

    Units count (`2 min 05 s` is more than `90 ms`), and so does the direction: 2x slower is less than 1.5x slower.
    """
    if whole := _DURATION.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in whole.groups())
        return 3600.0 * hours + 60 * minutes + seconds
    if not _NUMBER.fullmatch(text):
        return None
    found = re.search(r"([\d.,]*\d[\d.,]*(?:e[-+]?\d+)?)\s?([A-Za-z]*)", text)
    if found is None:
        return 1.0 if text.startswith("=") else None
    try:
        value = float(found[1].replace(",", "")) * _SCALES.get(found[2], 1.0)
    except ValueError:
        return None
    if "▼" in text or text.endswith("slower"):
        return 1 / value if value else None
    return -value if text[0] in "-−" else value


class Displayed(ABC):
    """What JupyterLab and the page show as HTML, and a terminal as text."""

    @abstractmethod
    def to_html(self) -> str:
        """Without the style for a live front end."""

    def _repr_html_(self) -> str:
        return live_style() + self.to_html()

    def __repr__(self) -> str:
        return str(self)


@dataclass(repr=False)
class Table(Displayed):
    """Columns, rows and a caption; numbers are aligned to the right, wide tables scroll inside themselves. A column in
    which no row has anything is left out."""

    columns: Sequence[str]
    rows: InitVar[Iterable[Sequence[Value]]]
    caption: str = ""
    note: str = ""  # a line under the table
    row_head: bool = True  # the first cell of a row names the row
    compact: bool = False
    align_numbers: bool = True  # False where the rows of a column say different things
    num_totals: int = 0  # last rows that sum up the others: they stay below when readers sort
    cells: list[list[Cell]] = field(init=False)  # the rows as they are shown

    def __post_init__(self, rows: Iterable[Sequence[Value]]) -> None:
        self.cells = [[_as_cell(value) for value in row] for row in rows]
        for cells in self.cells:
            if len(cells) != len(self.columns):
                raise ValueError(f"a row of {len(cells)} cells in a table of {len(self.columns)} columns: {cells}")
        kept = [place for place in range(len(self.columns)) if place == 0 or not self.cells or self._has(place)]
        self.columns = [self.columns[place] for place in kept]
        self.cells = [[cells[place] for place in kept] for cells in self.cells]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], **options: Any) -> Table:
        """A table of rows that name their columns, all of them the same; values and options as of a table."""
        return cls([*rows[0]] if rows else [], [[*row.values()] for row in rows], **options)

    def _has(self, column: int) -> bool:
        return any(c.text or c.detail or c.image is not None for c in (cells[column] for cells in self.cells))

    def is_numeric(self, column: int) -> bool:
        """True for a column that is aligned to the right."""
        if not self.align_numbers:
            return False
        texts = [cells[column].text for cells in self.cells]
        texts = [text for text in texts if text not in ("", UNKNOWN) and not text.endswith(NOT_JUDGED)]
        if not texts:  # nothing known: where all is unknown, as if it were numbers
            return any(cells[column].text == UNKNOWN for cells in self.cells)
        return all(_NUMBER.fullmatch(text) for text in texts)

    @property
    def _sortable(self) -> bool:
        return self.align_numbers and len(self.cells) - self.num_totals >= SORT_ROWS

    def _attributes(self, cell: Cell, numeric: bool) -> str:
        names = ["r-num"] * numeric + [f"r-{cell.tone}"] * bool(cell.tone)
        names += ["r-wrap"] * (len(cell.text) + len(cell.detail) > WRAP_LENGTH)
        key = sort_key(cell.text) if numeric and self._sortable else None
        value = f' data-v="{key:.6g}"' if key is not None else ""
        return (f' class="{" ".join(names)}"' if names else "") + value

    def to_html(self) -> str:
        numeric = [self.is_numeric(column) for column in range(len(self.columns))]
        head = "".join(
            f'<th scope="col"{NUMBER_CLASS if number_column else ""}>{escape(column)}</th>' if column else "<td></td>"
            for column, number_column in zip(self.columns, numeric, strict=True)
        )
        body = []
        for place, cells in enumerate(self.cells):
            line = ""
            for column, cell in enumerate(cells):
                head_cell = self.row_head and column == 0
                tag = 'th scope="row"' if head_cell else "td"
                line += f"<{tag}{self._attributes(cell, numeric[column])}>{_cell_html(cell)}</{tag.split()[0]}>"
            total = place >= len(self.cells) - self.num_totals
            body.append(f"<tr{TOTAL_CLASS if total else ''}>{line}</tr>")
        label = escape(self.caption or ", ".join(self.columns))
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        note = f'<p class="r-note">{escape(self.note)}</p>' if self.note else ""
        names = "r-table" + " r-compact" * self.compact + " r-sort" * self._sortable
        return (
            f'<div class="{names}">'
            f'<div class="r-scroll" role="region" tabindex="0" aria-label="{label}"><table>{caption}'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{note}</div>"
        )

    def __str__(self) -> str:
        texts = [list(self.columns)]
        texts += [[f"{cell.text} {cell.detail}".strip() for cell in cells] for cells in self.cells]
        widths = [max(len(row[column]) for row in texts) for column in range(len(self.columns))]
        numeric = [self.is_numeric(column) for column in range(len(self.columns))]
        lines = [
            "  ".join(
                text.rjust(width) if right else text.ljust(width)
                for text, width, right in zip(row, widths, numeric, strict=True)
            ).rstrip()
            for row in texts
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.caption] * bool(self.caption) + lines + [self.note] * bool(self.note))


@dataclass(frozen=True, repr=False)
class Banner(Displayed):
    """A message that must not be overlooked. The kind is written out, not only coloured."""

    text: str
    kind: Kind = "warning"

    def to_html(self) -> str:
        word = {"warning": "Warning", "error": "Error", "info": "Note"}[self.kind]
        return f'<div class="r-banner r-{self.kind}" role="note"><strong>{word}:</strong> {escape(self.text)}</div>'

    def __str__(self) -> str:
        return f"{self.kind.upper()}: {self.text}"


@dataclass(frozen=True, repr=False)
class FileNote(Displayed):
    """A small line that names a file of the run."""

    what: str
    path: str  # in the run folder

    def to_html(self) -> str:
        return f'<p class="r-note">{escape(self.what)}: <code>{escape(self.path)}</code></p>'

    def __str__(self) -> str:
        return f"{self.what}: {self.path}"


@dataclass(frozen=True, repr=False)
class Fold(Displayed):
    """Something that is shown when it is asked for."""

    title: str
    inside: Displayed

    def to_html(self) -> str:
        return f'<details><summary class="r-note">{escape(self.title)}</summary>{self.inside.to_html()}</details>'

    def __str__(self) -> str:
        return f"{self.title}\n{self.inside}"


class Stack(Displayed):
    """Several displayables as one output."""

    def __init__(self, *parts: Displayed | None) -> None:
        self.parts = [part for part in parts if part is not None]

    def to_html(self) -> str:
        return "".join(part.to_html() for part in self.parts)

    def __str__(self) -> str:
        return "\n\n".join(str(part) for part in self.parts)


SMOKE_TEXT = "This is a smoke run: it shows that everything works. Its accuracy and its times mean nothing."


def profile_banner(profile: str) -> Banner | None:
    """The banner of a smoke run; None (which a notebook does not show) for the other profiles."""
    return Banner(SMOKE_TEXT, "warning") if profile == "smoke" else None
