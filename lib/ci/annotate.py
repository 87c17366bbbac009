"""Annotations at the notebooks' own files: what failed and in which cell, what was skipped, what deserves a look."""

from __future__ import annotations

from pathlib import Path

from lib.ci.github import command, shown
from lib.files import PROJECT_ROOT
from lib.records.run import Job, load_run, run_folder
from lib.report.headline import doubt


def annotate_run(run_dir: Path) -> list[str]:
    """Workflow commands for a run: an error for each failed job, a warning for each skipped one and for each backend
    that keeps its promise and still deserves a look.

    Raises:
        UserError: no such folder.
    """
    run = load_run(run_folder(run_dir))
    errors = [_at(job, f"{job.label} failed", job.reason, "error") for job in run.jobs if job.status == "failed"]
    warnings = [_at(job, f"{job.label} was skipped", job.reason, "warning") for job in run.jobs
                if job.status == "skipped"]  # fmt: skip
    warnings += [_at(job, f"{job.backend}: to be looked at", why, "warning") for job in run.jobs
                 if (why := doubt(run.records.get(job.label)))]  # fmt: skip
    return [*shown(errors, "error"), *shown(warnings, "warning")]


def _at(job: Job, title: str, message: str, kind: str) -> str:
    source = PROJECT_ROOT / "notebooks" / f"{Path(job.notebook).name}.ipynb"
    file = source.relative_to(PROJECT_ROOT).as_posix() if source.is_file() else ""
    return command(kind, message or "no reason was written down", title=title, file=file)
