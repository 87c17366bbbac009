"""Pages that travel alone: each is uploaded as one file that opens in the browser from the page of the run."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from lib.executor.outcome import judge
from lib.files import project_path, write_atomic
from lib.html.page import render_page
from lib.series.parameters import notebook_path
from lib.series.rerender import executed_notebooks

_INTO_THE_RUN = re.compile(r'<a\b[^>]*\bhref="(?![a-z][a-z0-9+.-]*:|#)[^"]*"[^>]*>(.*?)</a>', re.DOTALL)


def write_pages(run_dir: Path, architecture: str, out: Path, notebook: str = "", suffix: str = "") -> list[Path]:
    """Render executed notebooks of a run as `<label><suffix>.<architecture>.html`, without links to files beside it.

    Args:
        notebook: only this one, such as `04_compare`; empty: all.
        suffix: of the label, such as `.again` for a second measurement.

    Returns:
        The pages, by name.

    Raises:
        UserError: no executed notebooks, no such notebook, or a folder that cannot be written to.
    """
    pattern = f"{notebook_path(notebook).stem}*" if notebook else "*"
    pages = []
    with tempfile.TemporaryDirectory() as folder:
        for path in executed_notebooks(project_path(run_dir), pattern):
            rendered = Path(folder) / "page.html"
            render_page(path, rendered, title=path.stem, failure=judge(path))
            pages.append(project_path(out) / f"{path.stem}{suffix}.{architecture}.html")
            write_atomic(pages[-1], without_dead_links(rendered.read_text(encoding="utf-8")))
    return pages


def without_dead_links(html: str) -> str:
    """Links to other files of the run become plain text: a page that travels alone has no such neighbours."""
    return _INTO_THE_RUN.sub(r"\1", html)
