"""Run notebooks one after another, each in a process of its own, and leave notebooks, pages, records and an index.

A notebook counts as done only when all of its cells ran. What failed is kept: its notebook is the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from lib.errors import UserError
from lib.executor.fork_server import ForkServer
from lib.executor.outcome import judge
from lib.executor.terminal import Terminal
from lib.files import cache_dir, search_path, writing
from lib.html.page import render_page
from lib.machine import patient
from lib.progress import to_stderr
from lib.records.run import PLANNED, Job
from lib.records.schema import COMPARE, RELEASE, TRAIN, BenchmarkRecord, ReleaseRecord, read_record, record_path
from lib.report import SERIES_VARIABLE
from lib.series.joblist import add_jobs, forget_network
from lib.series.jobs import plan_jobs
from lib.series.parameters import notebook_path
from lib.series.preflight import check_data, check_inputs, check_installed
from lib.series.rundir import LATEST, claimed, new_run_dir, point_latest_to, prepare_run_dir
from lib.series.sources import code_hash, import_lines
from lib.series.summary import summary_lines
from lib.training.recipes import choose_recipe

CELL_LIMIT_S = 45 * 60
OTHER_CELLS_S = 15 * 60  # what a notebook may take beside its longest cell
EXECUTING = ".executing-"  # folder of a notebook that runs
_JUPYTER_FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
_USERS_OWN = ("PYTHONSTARTUP", "MPLBACKEND")


def choose_run_dir(notebooks: Sequence[str], out: str, *, resume: bool = False) -> Path:
    """Where a launch writes: `out`; else the latest run, which it adds to; else a new one.

    A training begins a new run as the whole series does, as what the latest holds measured another network; but for one
    that resumes.
    """
    if out:
        return prepare_run_dir(out)
    if resume or (notebooks and TRAIN not in {notebook_path(name).stem for name in notebooks}):
        return prepare_run_dir(LATEST)
    return new_run_dir()


def run_jobs(
    jobs: Sequence[Job],
    run_dir: Path,
    *,
    cell_limit_s: int | None = None,
    notebook_limit_s: int | None = None,
    out: Any = None,
) -> list[Job]:
    """Run jobs in order. A failed training skips what would measure another network; other failures stop nothing.

    Args:
        cell_limit_s: None = `CELL_LIMIT_S`, or that of the recipe for a training; more where the CPU is emulated.
        notebook_limit_s: None = a quarter of an hour more than its cells.

    Returns:
        The same jobs as they ended.
    """
    terminal = Terminal(out or sys.stderr, len(jobs))
    _clear(jobs, run_dir)
    ended: list[Job] = []
    untrained = False
    notebooks = dict.fromkeys(job.notebook for job in jobs if job.status == PLANNED)
    imports = dict.fromkeys(line for notebook in notebooks for line in import_lines(notebook))
    with ForkServer([*imports], _environ()) as server:
        codes = {notebook: code_hash(notebook) for notebook in notebooks}  # now, while the server imports that code
        for number, job in enumerate(jobs, start=1):
            if untrained and job.notebook > TRAIN:
                job = replace(job, status="skipped", reason=f"{TRAIN} failed")
            elif job.status == PLANNED:
                terminal.begin(number, job.label)
                usual_s = _usual_limit_s(job)
                limits = {
                    "cell_limit_s": cell_limit_s or round(patient(usual_s)),
                    "notebook_limit_s": notebook_limit_s or round(patient(usual_s + OTHER_CELLS_S)),
                }
                job = _run_job(replace(job, code=codes[job.notebook]), run_dir, terminal, server, limits)
            untrained |= job.notebook == TRAIN and job.status == "failed"
            terminal.end(job.label, job.status, job.reason)
            ended.append(job)
            add_jobs(run_dir, ended)
    return ended


def _usual_limit_s(job: Job) -> int:
    """Seconds that a cell may take: some recipes train for hours."""
    if "recipe" not in job.values:
        return CELL_LIMIT_S
    limit_s = choose_recipe(str(job.values["recipe"]), str(job.values["profile"])).limit_s
    return limit_s * int(job.values.get("seeds", 1))


def _clear(jobs: Sequence[Job], run_dir: Path) -> None:
    """Remove what this launch makes worthless: folders of launches that were killed, all of the network before."""
    for orphan in run_dir.glob(f"{EXECUTING}*"):
        shutil.rmtree(orphan, ignore_errors=True)
    if any(job.notebook == TRAIN and job.status == PLANNED for job in jobs):
        forget_network(run_dir)


def _run_job(job: Job, run_dir: Path, terminal: Terminal, server: ForkServer, limits: dict[str, int]) -> Job:
    started, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    executed = run_dir / "notebooks" / f"{job.label}.ipynb"
    page = run_dir / "pages" / f"{job.label}.html"
    record = record_path(run_dir, job.notebook, job.backend)
    for earlier in (executed, page, record):  # what an earlier launch left must not stand in for this one
        earlier.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=EXECUTING, dir=run_dir, ignore_cleanup_errors=True) as folder:
        output = Path(folder) / f"{job.label}.ipynb"
        spec = {
            "notebook": str(notebook_path(job.notebook)),
            "output": str(output),
            "parameters": {**job.parameters, "run_dir": str(run_dir)},
            **limits,
        }
        failure = judge(output, _execute(spec, Path(folder), terminal, server))
        executed.parent.mkdir(exist_ok=True)
        if failure is not None and failure.num_cells == 0:  # nothing readable: the source stands in, to have a page
            shutil.copyfile(notebook_path(job.notebook), executed)
        else:
            os.replace(output, executed)
    render_page(executed, page, title=job.label, failure=failure, index="../index.html")
    status, reason = ("failed", failure.place + failure.reason) if failure else _status_of(job, record)
    return replace(
        job,
        status=status,
        page=str(page.relative_to(run_dir)),
        executed=str(executed.relative_to(run_dir)),
        record=str(record.relative_to(run_dir)) if record.exists() else None,
        seconds=round(time.monotonic() - begun, 1),
        reason=reason,
        started=started,
    )


def _status_of(job: Job, record: Path) -> tuple[str, str]:
    """A benchmark of a backend that this machine cannot run is neither a failure nor a result.

    A notebook that wrote no record has failed, but for a comparison with nothing to compare. A run may have nothing
    to release, too.
    """
    if not record.exists():
        return ("ok", "nothing to compare") if job.notebook == COMPARE else ("failed", "it wrote no record")
    if job.backend:
        try:
            benchmark = read_record(record, BenchmarkRecord)
        except UserError as error:
            return "failed", str(error)
        if benchmark.status != "ok":
            return benchmark.status, benchmark.error
    if job.notebook == RELEASE and not (release := read_record(record, ReleaseRecord)).digest:
        return "ok", f"nothing is released: {release.reason}"
    return "ok", ""


def _execute(spec: dict[str, Any], folder: Path, terminal: Terminal, server: ForkServer) -> str:
    """Run the notebook in a process of its own; returns why it stopped early, or an empty string."""
    reading, writing_end = os.pipe()
    with (folder / "runner.log").open("w+b") as log:
        variables = {
            **dict.fromkeys(_JUPYTER_FOLDERS, str(folder / "jupyter")),
            SERIES_VARIABLE: Path(spec["notebook"]).stem,
        }
        process = server.start(spec, variables, writing_end, log.fileno())
        os.close(writing_end)
        stopped = ""
        try:
            for event in terminal.watch(_events(os.fdopen(reading, "rb")), process, spec["notebook_limit_s"]):
                if event["event"] == "stopped":
                    stopped = str(event["reason"])
        except BaseException:  # Ctrl-C or SIGTERM: no notebook may go on by itself and write into the run
            process.terminate()
            raise
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            status = process.wait()
        log.seek(0)
        last = log.read().decode(errors="replace").strip().splitlines()[-1:]
    if status and not stopped:
        cause = f"signal {-status}" if status < 0 else f"exit status {status}"
        stopped = f"the process that ran the notebook ended with {cause}" + (f": {last[0]}" if last else "")
    return stopped


def _environ() -> dict[str, str]:
    """Variables of all that runs a notebook: this project to import from, and no settings of the user.

    Jupyter, IPython and Matplotlib keep theirs in the home folder, which may be missing or not writable, too.
    """
    environ = {name: value for name, value in os.environ.items() if name not in _USERS_OWN}
    return {
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the kernel's debugger warns about frozen modules
        **environ,
        "MATPLOTLIBRC": os.devnull,
        "MPLCONFIGDIR": str(cache_dir() / "matplotlib"),  # its list of fonts takes seconds to make
        "PYTHONPATH": search_path(),
    }


def _events(output: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Until the notebook and its kernel have ended; with a kernel that hangs, it waits for ever."""
    with output:
        for line in output:
            with contextlib.suppress(ValueError):  # something that a library printed
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    yield event


def launch(
    notebooks: Sequence[str],
    given: dict[str, str],
    backends: Sequence[str],
    out: str,
    *,
    cell_limit_s: int | None = None,
    notebook_limit_s: int | None = None,
) -> int:
    """The `run` command: plan, run, link `runs/latest`, print the summary. Returns the exit status, 0 or 1.

    Raises:
        UserError: bad input; nothing has been started or written then.
    """
    jobs = plan_jobs(notebooks, given, backends)
    sound = [job for job in jobs if job.status == PLANNED]
    if backends or "backend" in given:
        check_installed(sound)
    check_data(sound, to_stderr)
    run_dir = choose_run_dir(notebooks, out, resume=any(job.values.get("resume") for job in jobs))
    with claimed(run_dir):
        check_inputs(sound, run_dir)
        try:
            with writing(run_dir):  # what no single write reports: disk full, folder removed
                ended = run_jobs(jobs, run_dir, cell_limit_s=cell_limit_s, notebook_limit_s=notebook_limit_s)
        finally:
            if not out:
                point_latest_to(run_dir)
    print("\n".join(summary_lines(run_dir)))
    if failed := [job.label for job in ended if job.status in ("failed", "skipped")]:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
        return 1
    return 0
