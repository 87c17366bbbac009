"""Make the pages and the index of a run again from what it left, for instance after a change of the template."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lib.errors import UserError
from lib.executor.outcome import judge
from lib.files import project_path
from lib.html.index import write_index
from lib.html.page import render_page


def executed_notebooks(run_dir: Path, pattern: str = "*") -> list[Path]:
    """Those of a run, by name.

    Raises:
        UserError: there are none of this pattern.
    """
    found = sorted((run_dir / "notebooks").glob(f"{pattern}.ipynb"))
    if executed := [path for path in found if not path.name.startswith(".")]:
        return executed
    raise UserError(f"{run_dir} holds no executed notebooks of the name {pattern}; give a run folder, as runs/latest")


def rerender(directory: Path) -> Iterator[Path]:
    """Render every executed notebook of a run; yields the pages and, last, the index.

    Raises:
        UserError: no such folder, or no executed notebooks in it; or, after all that can be made, a notebook that
            cannot be read.
    """
    run_dir = project_path(directory)
    unreadable: list[UserError] = []
    for notebook in executed_notebooks(run_dir):
        page = run_dir / "pages" / f"{notebook.stem}.html"
        try:
            render_page(notebook, page, title=notebook.stem, failure=judge(notebook), index="../index.html")
        except UserError as error:
            unreadable.append(error)
        else:
            yield page
    yield write_index(run_dir)
    if unreadable:
        raise unreadable[0]
