"""Did all cells of an executed notebook run? The cells decide, not what a tool reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat

from lib.html.page import Failure
from lib.html.sanitize import plain


def judge(executed: Path, stopped: str = "") -> Failure | None:
    """The failure of an executed notebook, or None where every code cell ran without an error.

    Args:
        stopped: why the runner ended before the last cell, where it knows.
    """
    try:
        cells = nbformat.read(executed, as_version=4).cells
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        return Failure(cell=0, num_cells=0, reason=stopped or f"no executed notebook was written ({error})")
    cells = [cell for cell in cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells, start=1):
        if not cell.source.strip():
            continue
        if reason := _error_of(cell):
            # a time limit interrupts the kernel, which then shows a KeyboardInterrupt: the limit is the reason
            return Failure(number, len(cells), stopped or reason)
        if cell.get("execution_count") is None:
            reason = stopped or f"the run ended early: cell {number} and what follows did not run (sys.exit?)"
            return Failure(_last_run(cells) or number, len(cells), reason)
    return Failure(len(cells), len(cells), stopped) if stopped else None


def _error_of(cell: Any) -> str:
    """Name and message of the error that a cell ended with, in a line; empty where it has none."""
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            message = plain(output.evalue).strip()
            reason = message if output.ename == "UserError" else f"{output.ename}: {message}".removesuffix(": ")
            return str(reason.splitlines()[0])[:500]
    return ""


def _last_run(cells: list[Any]) -> int:
    """The last code cell that was begun: counted by the kernel, or started by papermill."""
    begun = [
        number
        for number, cell in enumerate(cells, start=1)
        if cell.get("execution_count") is not None or cell.metadata.get("papermill", {}).get("start_time")
    ]
    return max(begun, default=0)
