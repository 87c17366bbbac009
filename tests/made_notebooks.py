"""Made-up executed notebooks and their pages, for tests of whatever renders them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from nbformat import NotebookNode, v4

from lib.html.page import render_page
from lib.records.schema import write_record

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
WIDGET = "application/vnd.jupyter.widget-view+json"
# nbformat has no types.
new_code_cell: Any = v4.new_code_cell
new_markdown_cell: Any = v4.new_markdown_cell
new_notebook: Any = v4.new_notebook
new_output: Any = v4.new_output
write_notebook: Any = nbformat.write
PIXEL = base64.b64encode(b"not really a PNG").decode()


def html_output(html: str) -> Any:
    return new_output("display_data", data={"text/html": html, "text/plain": "plain"})


def code_cell(source: str, outputs: Iterable[NotebookNode] = (), **metadata: Any) -> Any:
    return new_code_cell(source, outputs=list(outputs), metadata=metadata, execution_count=1)


def rendered(tmp_path: Path, cells: Iterable[NotebookNode], **options: Any) -> BeautifulSoup:
    """The page of a notebook with these cells, which lies in a run folder.

    Args:
        options: `metadata` of the notebook, its `record`, and those of `render_page`.
    """
    metadata, record = options.pop("metadata", {}), options.pop("record", None)
    title = options.setdefault("title", "demo")
    notebook = tmp_path / "notebooks" / f"{title if record is not None else 'demo'}.ipynb"
    notebook.parent.mkdir(exist_ok=True)
    write_notebook(new_notebook(cells=list(cells), metadata=metadata), notebook)
    if record is not None:
        write_record(record, tmp_path / "results" / f"{notebook.stem}.json")
    page = tmp_path / "demo.html"
    render_page(notebook, page, **options)
    return BeautifulSoup(page.read_text(), "html.parser")


def text_of(soup: BeautifulSoup, selector: str) -> str:
    """Text of the first element that a selector finds, with single spaces."""
    found = soup.select_one(selector)
    assert found is not None, f"no {selector}"
    return " ".join(found.get_text().split())
