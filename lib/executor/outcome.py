"""Did all cells of an executed notebook run? The cells decide, not what a tool reported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat

from lib.html.page import Failure

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def judge(executed: Path, stopped: str = "") -> Failure | None:
    """The failure of an executed notebook, or None where every code cell ran without an error.

    Args:
        stopped: why the runner ended before the last cell, where it knows.
    """
    try:
        cells = nbformat.read(executed, as_version=4).cells
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        return Failure(cell=0, num_cells=0, reason=stopped or "no executed notebook was written", detail=str(error))
    cells = [cell for cell in cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells, start=1):
        if not cell.source.strip():
            continue
        if shown := _error_of(cell):
            # a time limit interrupts the kernel, which then shows a KeyboardInterrupt: the limit is the reason
            return Failure(cell=number, num_cells=len(cells), reason=stopped or shown[0], detail=shown[1])
        if cell.get("execution_count") is None:
            last = _last_run(cells) or number
            reason = stopped or f"the run ended early: cell {number} and what follows did not run (sys.exit?)"
            return Failure(cell=last, num_cells=len(cells), reason=reason, detail="")
    return Failure(cell=len(cells), num_cells=len(cells), reason=stopped, detail="") if stopped else None


def _error_of(cell: Any) -> tuple[str, str] | None:
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            message = _ANSI.sub("", output.evalue).strip()
            name = output.ename
            reason = message if name == "UserError" else f"{name}: {message}" if message else name
            return reason.splitlines()[0][:500], _ANSI.sub("", "\n".join(output.traceback))
    return None


def _last_run(cells: list[Any]) -> int:
    """The last code cell that was begun: counted by the kernel, or started by papermill."""
    begun = [
        number
        for number, cell in enumerate(cells, start=1)
        if cell.get("execution_count") is not None or cell.metadata.get("papermill", {}).get("start_time")
    ]
    return max(begun, default=0)
