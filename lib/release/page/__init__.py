"""The page that reads a sign, for a server and for one file. It has the look; each adds what answers."""

from __future__ import annotations

from pathlib import Path


def page_part(name: str) -> str:
    """The text of one of its files: `page.css`, `page.js`, or `demo.js`, which answers without a server."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def page(head: str, scripts: str = "") -> str:
    """The page as HTML. Args: head: its style, icon and policy; scripts: what comes after its content."""
    return page_part("page.html").replace("<!--head-->", head).replace("<!--scripts-->", scripts)
