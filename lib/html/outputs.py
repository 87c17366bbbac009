"""Texts, code and outputs of cells as pieces of a page, which can be shortened where the page would be too large."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape, unescape
from typing import Any

from markupsafe import Markup
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from lib.html.frame import PAGE_LIMIT, safe
from lib.html.sanitize import ansi_to_html, clean_html, last_writes, plain
from lib.report import RUN_METADATA

# Richest first. What is not listed (widgets, scripts, LaTeX) is not shown.
MIME_ORDER = ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain")
_ALT = re.compile(r'<img\b[^>]*?\balt="([^"]+)"')


@dataclass
class Piece:
    """A text, a code or an output of a cell. `describes_run`: the page's top says it in short, so it is folded."""

    what: str  # Text, Code, Output: for the note where it is left out
    html: Markup
    describes_run: bool = False

    @property
    def num_bytes(self) -> int:
        return len(self.html.encode())

    def shorten(self, num_bytes: int) -> None:
        """Make it smaller, to `num_bytes` where it can be cut at all: it then says what is left out."""
        alt = _ALT.search(self.html)
        about = f" It shows: {unescape(alt[1])}"[:300] if alt else ""
        self.html = safe(left_out("Figure" if alt else self.what, self.num_bytes, about))


@dataclass
class Print(Piece):
    """Printed text. It keeps its end, where errors and results are."""

    text: str = ""
    css: str = "stream"

    def shorten(self, num_bytes: int) -> None:
        kept = len(self.text) * num_bytes // self.num_bytes - 500  # room for the note
        notice = left_out("The beginning of this text", len(self.text) - kept)
        self.html = safe(notice + _print_html(self.text[-kept:], self.css) if kept > 0 else notice)


def left_out(what: str, num_characters: int, about: str = "") -> str:
    """The note that stands where something was too large for a page."""
    return (
        f'<p class="r-note">{escape(what)} left out here ({num_characters / 1000:,.0f} kB); '
        f"the executed notebook has it.{escape(about)}</p>"
    )


def _piece(what: str, source: str, to_html: Callable[[str], str], num_others: int = 0) -> Piece:
    """What is larger than a whole page is not even looked at: to clean it would take longer than readers wait."""
    size = len(source) + num_others
    return Piece(what, safe(to_html(source) if size <= PAGE_LIMIT else left_out(what, size)))


def text_piece(source: str, attachments: dict[str, Any]) -> Piece:
    """Markdown -> HTML that is safe to show."""
    renderer = IPythonRenderer(escape=False, attachments=attachments, exclude_anchor_links=True)
    attached = sum(len(str(content)) for content in attachments.values())
    return _piece("Text", source, lambda text: clean_html(MarkdownWithMath(renderer=renderer).render(text)), attached)


def code_piece(source: str) -> Piece:
    """Code with its syntax in colours."""
    return _piece("Code", source, Highlight2HTML(pygments_lexer="ipython3"))  # type: ignore[no-untyped-call]


def output_pieces(cell: NotebookNode) -> list[Piece]:
    """The outputs of a cell that have something to show."""
    pieces = [_output_piece(output) for output in _merged(cell.get("outputs", []))]
    return [piece for piece in pieces if piece.html]


def _output_piece(output: NotebookNode) -> Piece:
    if output.output_type == "stream":
        return _print(output.text, "stream" if output.name == "stdout" else "stream stderr")
    if output.output_type == "error":
        return Piece("Error", safe(_error_html(output)))
    data, metadata = output.get("data", {}), output.get("metadata", {})
    mime = next((mime for mime in MIME_ORDER if mime in data), "")
    content = _joined(data.get(mime, ""))
    if mime == "text/plain":
        return _print(content, "stream result")
    if mime == "text/markdown":
        return text_piece(content, {})
    if mime.startswith("image/"):
        return Piece("Figure", safe(_image_html(mime, content, metadata)))
    piece = _piece("Output", content, clean_html)
    piece.describes_run = RUN_METADATA in _of_mime(metadata, "text/html")
    return piece


def _of_mime(metadata: Any, mime: str) -> dict[str, Any]:
    found = metadata.get(mime, {})
    return found if isinstance(found, dict) else {}


def _joined(content: Any) -> str:
    return "".join(content) if isinstance(content, list) else str(content)


def _image_html(mime: str, content: str, metadata: dict[str, Any]) -> str:
    if mime == "image/svg+xml":
        content = base64.b64encode(content.encode()).decode()
    elif not re.fullmatch(r"[A-Za-z0-9+/=\s]*", content):
        return ""
    alt = {**metadata, **_of_mime(metadata, mime)}.get("alt") or "Figure without a description"
    source = f"data:{mime};base64,{''.join(content.split())}"
    return f'<figure class="r-figure r-picture"><img alt="{escape(str(alt))}" src="{escape(source)}"></figure>'


def _print(text: str, css: str) -> Print:
    """What a terminal shows in the end."""
    text = last_writes(text[-PAGE_LIMIT:]).rstrip()
    return Print("Text", safe(_print_html(text, css) if text.strip() else ""), text=text, css=css)


def _print_html(text: str, css: str) -> str:
    tall = ' tabindex="0" role="region" aria-label="Printed text"' if text.count("\n") > 20 else ""
    return f'<pre class="{css}"{tall}>{ansi_to_html(text)}</pre>'


def _error_html(output: NotebookNode) -> str:
    """The message last; the way to it folded before it."""
    name, value = str(output.get("ename", "Error")), str(output.get("evalue", ""))
    message = f"{name}: {value}" if value else name
    traceback = "\n".join(str(line) for line in output.get("traceback", []))[-PAGE_LIMIT:]
    folded = ""
    if plain(traceback).strip() not in ("", message):
        folded = (
            f'<details class="trace"><summary>Traceback</summary><pre class="stream" tabindex="0" role="region" '
            f'aria-label="Traceback">{ansi_to_html(traceback)}</pre></details>'
        )
    return f'<div class="crash">{folded}<p><strong>{ansi_to_html(message)}</strong></p></div>'


def _merged(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Neighbouring pieces of one stream as one output, so that carriage returns work across them."""
    merged: list[NotebookNode] = []
    texts: list[list[str]] = []
    for output in outputs:
        last = merged[-1] if merged else None
        is_stream = output.output_type == "stream"
        if not (is_stream and last is not None and last.output_type == "stream" and last.name == output.name):
            merged.append(output)
            texts.append([])
        if is_stream:
            texts[-1].append(_joined(output.text))
    for output, pieces in zip(merged, texts, strict=True):
        if pieces:
            output.text = "".join(pieces)
    return merged
