"""What a cell's output becomes in a page. Each is bounded: a page must open at once, whatever a cell printed."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from html import escape
from typing import Any

from nbconvert import HTMLExporter
from nbformat import NotebookNode

from lib.html.frame import TEMPLATES
from lib.html.sanitize import ansi_to_html, clean_html, last_writes

STREAM_LIMIT = 30_000  # characters of one printed output
LINE_LIMIT = 400  # lines of one printed output
RAW_LIMIT = 2_000_000  # characters of one printed output that are looked at: progress bars rewrite their line
HTML_LIMIT = 4_000_000  # characters of an output or a text cell, with images; more is not even looked at
TAG_LIMIT = 40_000  # tags of one output: to sanitize more takes longer than readers wait
MESSAGE_LIMIT = 2_000  # characters of an error's message
OUTPUT_LIMIT = 100  # outputs of one cell
# Richest first. What is not listed (widgets, scripts, LaTeX) is not shown.
MIME_ORDER = ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain")


class Exporter(HTMLExporter):
    """nbconvert with our template, no preprocessors and no addresses of other machines."""

    def __init__(self) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            template_paths=[str(TEMPLATES)],
            template_file="page.html.j2",
            exclude_anchor_links=True,
            preprocessors=[],
        )

    def render_markdown(self, source: str, attachments: dict[str, Any]) -> str:
        """Markdown -> HTML that is safe to show."""
        size = len(source) + sum(len(str(content)) for content in attachments.values())
        if size > HTML_LIMIT or source.count("<") > TAG_LIMIT:
            return left_out("Text", size)
        return clean_html(str(self.markdown2html({"cell": {"attachments": attachments}}, source)))


def left_out(what: str, num_characters: int) -> str:
    """The note that stands where something was too large for a page."""
    return (
        f'<p class="r-note">{escape(what)} left out here ({num_characters / 1000:,.0f} kB); '
        "the executed notebook has it.</p>"
    )


def _joined(content: Any) -> str:
    return "".join(content) if isinstance(content, list) else str(content)


def _image_html(mime: str, content: Any, metadata: dict[str, Any]) -> str:
    content = _joined(content)
    if mime == "image/svg+xml":
        content = base64.b64encode(content.encode()).decode()
    elif not re.fullmatch(r"[A-Za-z0-9+/=\s]*", content):
        return ""
    alt = metadata.get("alt") or "Figure without a description"
    source = f"data:{mime};base64,{''.join(content.split())}"
    return f'<figure class="r-figure r-picture"><img alt="{escape(str(alt))}" src="{escape(source)}"></figure>'


def stream_html(text: str, css: str) -> str:
    """Printed text: what a terminal shows in the end, and of that the last lines."""
    cut = len(text) > RAW_LIMIT
    text = last_writes(text[-RAW_LIMIT:]).rstrip()
    if not text.strip():
        return ""
    lines = text.split("\n")
    cut |= len(lines) > LINE_LIMIT
    lines = lines[-LINE_LIMIT:]
    text = "\n".join(lines)
    cut |= len(text) > STREAM_LIMIT
    text = text[-STREAM_LIMIT:]
    notice = ""
    if cut:
        notice = '<p class="r-note">The beginning is left out here; the executed notebook has more of it.</p>'
    tall = ' tabindex="0" role="region" aria-label="Printed text"' if len(lines) > 20 else ""
    return f'{notice}<pre class="{css}"{tall}>{ansi_to_html(text)}</pre>'


def _traceback_html(output: NotebookNode) -> str:
    """The message first and last; the way to it folded behind it."""
    name, value = str(output.get("ename", "Error")), str(output.get("evalue", ""))
    message = f"{name}: {value}" if value else name
    traceback = "\n".join(str(line) for line in output.get("traceback", []))[-RAW_LIMIT:]
    plain = re.sub(r"\x1b\[[\d;]*m", "", traceback).strip()
    folded = ""
    if plain and plain != message:
        folded = (
            f'<details class="trace"><summary>Traceback</summary><pre class="stream" tabindex="0" role="region" '
            f'aria-label="Traceback">{ansi_to_html(traceback[-STREAM_LIMIT:])}</pre></details>'
        )
    if len(message) > MESSAGE_LIMIT:
        message = message[:MESSAGE_LIMIT] + " ..."
    return f'<div class="crash">{folded}<p><strong>{ansi_to_html(message)}</strong></p></div>'


def _data_html(output: NotebookNode, exporter: Exporter) -> str:
    data = output.get("data", {})
    mime = next((mime for mime in MIME_ORDER if mime in data), "")
    if not mime:
        return ""
    content = _joined(data[mime])
    if mime != "text/plain" and (len(content) > HTML_LIMIT or content.count("<") > TAG_LIMIT):
        return left_out("Output", len(content))
    if mime.startswith("image/"):
        metadata = output.get("metadata", {})
        specific = metadata.get(mime, {})
        return _image_html(mime, content, {**metadata, **(specific if isinstance(specific, dict) else {})})
    if mime == "text/html":
        return clean_html(content)
    if mime == "text/markdown":
        return exporter.render_markdown(content, {})
    return stream_html(content, "stream result")


def output_html(output: NotebookNode, exporter: Exporter) -> str:
    """One output -> safe HTML; an empty string where there is nothing to show."""
    if output.output_type == "stream":
        return stream_html(output.text, "stream" if output.name == "stdout" else "stream stderr")
    if output.output_type == "error":
        return _traceback_html(output)
    return _data_html(output, exporter)


def _merged(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Neighbouring pieces of one stream as one output, so that carriage returns work across them."""
    merged: list[NotebookNode] = []
    pieces: list[str] = []

    def flush() -> None:
        if pieces:
            merged[-1].text = "".join(pieces)
            pieces.clear()

    for output in outputs:
        last = merged[-1] if merged else None
        is_stream = output.output_type == "stream"
        if not (is_stream and last is not None and last.output_type == "stream" and last.name == output.name):
            flush()
            merged.append(output)
        if is_stream:
            pieces.append(_joined(output.text))
    flush()
    return merged


def outputs_of(cell: NotebookNode) -> tuple[list[NotebookNode], int]:
    """The outputs of a cell that a page shows, and how many it leaves out: the first half and the last, with errors."""
    outputs = _merged(cell.get("outputs", []))
    excess = len(outputs) - OUTPUT_LIMIT
    if excess <= 0:
        return outputs, 0
    half = OUTPUT_LIMIT // 2
    return [*outputs[:half], *outputs[-half:]], excess
