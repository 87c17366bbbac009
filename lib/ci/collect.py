"""One run folder from the artifacts of many jobs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lib.errors import UserError
from lib.files import project_path
from lib.records.run import SERIES_FILE, UNKNOWN, Job, load_run, run_folder
from lib.records.schema import BENCHMARK, COMPARE, RELEASE, BenchmarkRecord, second_path, write_record
from lib.series.joblist import add_jobs
from lib.series.parameters import notebook_names

_SECOND = "part.confirm."  # of measurements that were made again: their records alone are taken
# Written anew from what all parts say; and what a session measured of its machine, to use it again there.
_LEFT_OUT = shutil.ignore_patterns(SERIES_FILE, "index.html", "peaks")
NOTHING_ARRIVED = "nothing of it arrived: its job was cancelled, ran out of time or could not upload"
NO_STATUS = "its job ended before it wrote down how it went"


def collect(parts: Path, out: Path, backends: Sequence[str]) -> list[str]:
    """Merge the artifacts of all jobs into one run folder with its index; returns what there is to say, line by line.

    A backend of which nothing arrived becomes a failed job. Of parts named `part.confirm.*` the record is kept as the
    second measurement of its backend (see `second_path`).

    Args:
        parts: holds one folder for each artifact, named `part.*`; or the files of the only one that arrived.
        out: run folder, made if needed; must not hold another run.
        backends: names that should have come.

    Raises:
        UserError: no such folder, no parts, or a folder that cannot be written to.
    """
    target = project_path(out)
    if (target / SERIES_FILE).exists():
        raise UserError(f"{target} holds a run already; give an empty folder with --out")
    runs = [load_run(folder) for folder in _part_folders(parts)]
    found: dict[str, Job] = {}
    lines = []
    for run in runs:
        if run.path.name.startswith(_SECOND):
            lines += [_second(record, target) for record in run.benchmarks]
            continue
        shutil.copytree(run.path, target, dirs_exist_ok=True, ignore=_LEFT_OUT)
        found |= {job.label: _ended(job) for job in run.jobs}
    wanted = [(name, "") for name in notebook_names() if name not in (BENCHMARK, COMPARE, RELEASE)]
    for notebook, backend in [*wanted, *((BENCHMARK, backend) for backend in backends)]:
        absent = Job(notebook, backend, "failed", reason=NOTHING_ARRIVED)
        found.setdefault(absent.label, absent)
    order = {backend: number for number, backend in enumerate(backends)}
    jobs = sorted(found.values(), key=lambda job: order.get(job.backend, len(order)))
    add_jobs(target, jobs)
    lines += [f"{job.label} {job.status}: {job.reason}" for job in jobs if job.status not in ("ok", "unavailable")]
    return [*lines, f"{len(runs)} parts with {len(jobs)} notebook runs: {target}"]


def has_measurements(run_dir: Path) -> bool:
    """True where there is any benchmark record to keep for later runs."""
    return any((project_path(run_dir) / "results").glob(f"{BENCHMARK}.*.json"))


def _part_folders(folder: Path) -> list[Path]:
    parts = run_folder(folder, "the one that the artifacts were downloaded to")
    if (parts / SERIES_FILE).is_file():
        return [parts]  # download-artifact unpacks the only artifact of a pattern without a folder of its name
    folders = sorted(parts.glob("part.*"))
    if not folders:
        raise UserError(f"{parts} holds no parts; download the artifacts named part.* to it, each into its own folder")
    return folders


def _second(record: BenchmarkRecord, target: Path) -> str:
    if record.status != "ok":
        return f"the second measurement of {record.backend} is refused: {record.error}"
    write_record(record, second_path(target, record.backend))
    return f"{record.backend} was measured again"


def _ended(job: Job) -> Job:
    """The job; a failed one where it ended before it wrote down how it went."""
    return replace(job, status="failed", reason=job.reason or NO_STATUS) if job.status == UNKNOWN else job
