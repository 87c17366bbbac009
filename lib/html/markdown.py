"""Tables as GitHub-flavoured Markdown. Everything is escaped here, once: callers pass plain text."""

from __future__ import annotations

import re
from html import escape as escape_html

from lib.report.table import Table

_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")  # no more than these mean anything inside of a line
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
_LINK_LIKE = re.compile(r"(https?|ftp|mailto)(:)|(www)(\.)", re.IGNORECASE)


def escape(text: str) -> str:
    """Text that GitHub shows as it is, on one line: no markup, no HTML, no link, no end of a table's cell."""
    text = _CONTROL.sub("", re.sub(r"\s+", " ", text)).strip()
    text = _SPECIAL.sub(r"\\\1", text)
    text = escape_html(text, quote=False).replace("@", "&#64;")
    return _LINK_LIKE.sub(lambda match: f"{match[1] or match[3]}\\{match[2] or match[4]}", text)


def link(text: str, address: str) -> str:
    """A link; an address that is not plain https becomes text."""
    if not re.fullmatch(r"https://[A-Za-z0-9./_~%?=&#:-]+", address):
        return f"{escape(text)}: {escape(address)}"
    return f"[{escape(text)}]({address})"


def table_lines(table: Table) -> list[str]:
    """Head, rule and one line for each row; without caption and note."""
    numeric = [table.is_numeric(column) for column in range(len(table.columns))]
    head = _line([escape(column) or " " for column in table.columns])
    rule = _line(["---:" if right else "---" for right in numeric])
    rows = [
        _line(
            [
                _cell(cell.text, cell.detail, strong=cell.tone in ("mark", "bad"))
                for cell in cells
            ]
        )
        for cells in table.cells
    ]  # fmt: skip
    return [head, rule, *rows]


def _cell(text: str, detail: str, *, strong: bool) -> str:
    shown = f"**{escape(text)}**" if strong and text.strip() else escape(text)
    return f"{shown} {escape(detail)}".strip()


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
