"""Annotations at the notebooks' own files: the cell that failed, in the line where its source begins."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lib.ci.github import command, shown
from lib.files import PROJECT_ROOT
from lib.records.run import Job, RunFolder, load_run, run_folder
from lib.report.headline import doubt


def annotate_run(run_dir: Path) -> list[str]:
    """Workflow commands for a run: an error for each failed job, a warning for each skipped one and for each backend
    that keeps its promise and still deserves a look.

    Raises:
        UserError: no such folder.
    """
    run = load_run(run_folder(run_dir))
    errors = [_failed(run, job) for job in run.jobs if job.status == "failed"]
    warnings = [_at(job, 1, f"{job.label} was skipped", job.reason, "warning") for job in run.jobs
                if job.status == "skipped"]  # fmt: skip
    warnings += [_at(job, 1, f"{job.backend}: to be looked at", why, "warning") for job in run.jobs
                 if (why := doubt(run.records.get(job.label)))]  # fmt: skip
    return [*shown(errors, "error"), *shown(warnings, "warning")]


def _failed(run: RunFolder, job: Job) -> str:
    from lib.executor.outcome import judge  # takes seconds, and mostly nothing has failed

    line, place, reason, source = 1, "", job.reason, _source(job)
    if job.executed and source.is_file() and (failure := judge(run.path / job.executed)):
        reason = reason or failure.reason
        if failure.cell:
            place = f", cell {failure.cell} of {failure.num_cells}"
            line = _line_of_cell(run.path / job.executed, failure.cell, source)
    return _at(job, line, f"{job.label} failed{place}", reason, "error")


def _at(job: Job, line: int, title: str, message: str, kind: str) -> str:
    source = _source(job)
    place = {"file": source.relative_to(PROJECT_ROOT).as_posix(), "line": line} if source.is_file() else {}
    return command(kind, message or "no reason was written down", title=title, **place)


def _source(job: Job) -> Path:
    return PROJECT_ROOT / "notebooks" / f"{Path(job.notebook).name}.ipynb"


def _line_of_cell(executed: Path, number: int, source: Path) -> int:
    """Line in the source notebook's file where the source of a code cell begins; 1 where that is not known.

    Args:
        number: of the code cell in the executed notebook, from 1. Papermill's cell with the parameters of the run has
            none of its own in the source: the cell before it, with the defaults, represents it.
    """
    cells = json.loads(executed.read_bytes())["cells"]
    identities = [cell.get("id", "") for cell in cells if cell["cell_type"] == "code"][:number]
    text = source.read_text(encoding="utf-8")
    return next((line for identity in reversed(identities) if (line := line_of_source(text, identity))), 1)


def line_of_source(notebook: str, identity: str) -> int | None:
    """Line of a notebook's JSON text where the source of a cell begins, from 1; None where it has no such cell.

    The file must be laid out as Jupyter writes it, one key a line and keys in order, so that the id comes first.
    """
    found = re.search(rf'"id": {re.escape(json.dumps(identity))},.*?"source": \[\n', notebook, re.DOTALL)
    return notebook.count("\n", 0, found.end()) + 1 if found else None
