"""Annotations at the notebooks' own files: the cell that failed, in the line where its source begins."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lib.ci.github import command, shown
from lib.files import PROJECT_ROOT
from lib.records.run import Job, RunFolder, load_run, run_folder
from lib.records.schema import BenchmarkRecord


def annotate_run(run_dir: Path) -> list[str]:
    """Workflow commands for a run: an error for each failed job, a warning for each skipped one and for each backend
    that keeps its promise and still deserves a look.

    Raises:
        UserError: no such folder.
    """
    run = load_run(run_folder(run_dir))
    errors = [_failed(run, job) for job in run.jobs if job.status == "failed"]
    warnings = [_line(job, 1, f"{job.label} was skipped", job.reason, "warning") for job in run.jobs
                if job.status == "skipped"]  # fmt: skip
    warnings += [_doubt(job, record) for job in run.jobs
                 if isinstance(record := run.records.get(job.label), BenchmarkRecord)
                 and record.proof is not None and record.proof.investigate]  # fmt: skip
    return [*shown(errors, "error"), *shown(warnings, "warning")]


def _failed(run: RunFolder, job: Job) -> str:
    from lib.executor.outcome import judge  # takes seconds, and mostly nothing has failed

    line, place = 1, ""
    failure = judge(run.path / job.executed) if job.executed else None
    if failure is not None and failure.cell:
        place = f", cell {failure.cell} of {failure.num_cells}"
        line = _line_of_cell(run.path / (job.executed or ""), failure.cell, _source(job))
    return _line(job, line, f"{job.label} failed{place}", job.reason or (failure.reason if failure else ""), "error")


def _doubt(job: Job, record: BenchmarkRecord) -> str:
    assert record.proof is not None
    return _line(job, 1, f"{record.backend}: to be looked at", record.proof.investigate, "warning")


def _line(job: Job, line: int, title: str, message: str, kind: str) -> str:
    source = _source(job)
    place = {"file": source.relative_to(PROJECT_ROOT).as_posix(), "line": line} if source.is_file() else {}
    return command(kind, message or "no reason was written down", title=title, **place)


def _source(job: Job) -> Path:
    return PROJECT_ROOT / "notebooks" / f"{Path(job.notebook).name}.ipynb"


def _line_of_cell(executed: Path, number: int, source: Path) -> int:
    """Line in the source notebook's file where the source of a code cell begins; 1 where it cannot be told.

    Args:
        number: of the code cell in the executed notebook, from 1. Papermill's cell with the parameters of the run has
            none of its own in the source: the cell before it, with the defaults, stands for it.
    """
    try:
        cells: list[Any] = json.loads(executed.read_bytes())["cells"]
        text = source.read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError):
        return 1
    identities = [cell.get("id", "") for cell in cells if cell.get("cell_type") == "code"][:number]
    return next((line for identity in reversed(identities) if (line := line_of_source(text, identity))), 1)


def line_of_source(notebook: str, identity: str) -> int | None:
    """Line of a notebook's JSON text where the source of a cell begins, from 1; None where it has no such cell.

    The file must be laid out as Jupyter writes it, one key a line and keys in order, so that the id comes first.
    """
    lines = notebook.splitlines()
    wanted = re.compile(rf'\s*"id": {re.escape(json.dumps(identity))},?')
    start = next((number for number, line in enumerate(lines) if wanted.fullmatch(line)), None)
    if start is None:
        return None
    for number in range(start + 1, len(lines)):
        if re.fullmatch(r'\s*"source": \[', lines[number]):
            return number + 2
        if re.fullmatch(r'\s*"id": .*', lines[number]):
            return None  # an empty cell, written as `"source": []`
    return None
