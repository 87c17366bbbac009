"""Small notebooks that stand in for the series, and runs of them."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lib.files import PROJECT_ROOT
from lib.records.run import Job
from lib.series import launcher, parameters, rundir
from lib.series.jobs import plan_jobs
from lib.series.launcher import run_jobs

PARAMETERS = 'profile: str = "fast"  # size [smoke|fast]\nrun_dir: str = "runs/latest"  # where'
OF_A_BACKEND = 'backend: str = "null"  # which [a backend]\n' + PARAMETERS
RECORD = """from pathlib import Path
from lib.records.schema import record_path, write_record
from tests.made_records import made_benchmark, made_explore
write_record({kind}, record_path(Path(run_dir), "{name}"{backend}))"""
SERIES = (
    "import sys; from pathlib import Path; from lib.series import parameters;"
    "parameters.NOTEBOOK_DIR = Path(sys.argv.pop(1));"
    "from lib.cli import main; sys.exit(main(sys.argv[1:]))"
)
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write small notebooks that stand in for the series, and keep runs out of the project."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(parameters, "NOTEBOOK_DIR", folder)
    monkeypatch.setattr(rundir, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(rundir, "LATEST", tmp_path / "runs" / "latest")
    monkeypatch.setattr(launcher, "LATEST", tmp_path / "runs" / "latest")

    def write_notebook(name: str, *sources: str, cell: str = PARAMETERS, record: bool = True) -> None:
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook.cells = [nbformat.v4.new_markdown_cell(f"# {name}"), nbformat.v4.new_code_cell(cell)]
        notebook.cells[1].metadata["tags"] = ["parameters"]
        notebook.cells += [nbformat.v4.new_code_cell(source) for source in sources]
        if record:
            kind = "made_benchmark(backend)" if "backend:" in cell else "made_explore()"
            backend = ", backend" if "backend:" in cell else ""
            notebook.cells.append(nbformat.v4.new_code_cell(RECORD.format(kind=kind, name=name, backend=backend)))
        nbformat.write(notebook, folder / f"{name}.ipynb")

    return write_notebook


def run(run_dir: Path, *notebooks: str, backends: tuple[str, ...] = (), **options: Any) -> list[Job]:
    run_dir.mkdir(exist_ok=True)
    return run_jobs(plan_jobs(notebooks, {}, backends), run_dir, **{"out": io.StringIO(), **options})


def started(notebooks: Path, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A launch of other notebooks in a process of its own."""
    command = [sys.executable, "-c", SERIES, *map(str, (notebooks, *arguments))]
    return subprocess.Popen(command, cwd=PROJECT_ROOT, text=True, **{"stderr": subprocess.PIPE, **options})


def page(run_dir: Path, name: str) -> str:
    return (run_dir / "pages" / f"{name}.html").read_text()


def run_past_limit(run_dir: Path, begun: Path, whose: str) -> tuple[Job, int]:
    """Run with a time limit that grows until the cell that writes the file `begun` has begun: a kernel on a busy
    machine may take more than the least limit to come that far. Returns the limit in seconds too."""
    for limit_s in (3 * 2**number for number in range(8)):
        (job,) = run(run_dir, **{f"{whose}_limit_s": limit_s})
        if begun.exists():
            return job, limit_s
    pytest.fail(f"no cell wrote {begun.name} within {limit_s} s: {job.reason}")
