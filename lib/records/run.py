"""A run folder: its list of jobs, and all that is in it, also where parts are broken or missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pydantic

from lib.errors import UserError
from lib.files import project_path, write_atomic
from lib.records.schema import (
    COMPARE,
    BenchmarkRecord,
    CompareRecord,
    OtherSchemaError,
    ParameterValue,
    Record,
    TrainRecord,
    read_any_record,
)

SERIES_FILE = "series.json"
PLANNED, UNKNOWN = "planned", "unknown"
_ONLY_PLANNED = ("parameters", "values")


@dataclass
class Job:
    """One notebook, or one notebook with one backend: as it is planned, as it ended, as its run folder lists it.

    Paths are relative to the run folder, None if the file does not exist.
    """

    notebook: str
    backend: str = ""  # empty for notebooks that have none
    status: str = UNKNOWN  # planned, then ok, failed, unavailable or skipped; unknown where no list has it
    page: str | None = None
    executed: str | None = None
    record: str | None = None
    seconds: float | None = None
    reason: str = ""
    started: str = ""  # ISO 8601, UTC; empty where it never began
    code: str = ""  # hash of the code that ran (`lib.series.sources`); empty where it is not known
    parameters: dict[str, ParameterValue] = field(default_factory=dict)  # that were given; not in the list
    values: dict[str, ParameterValue] = field(default_factory=dict)  # the same and defaults; not in the list

    @property
    def label(self) -> str:
        """Name as in file names: `03_benchmark.torch-blas`."""
        return f"{self.notebook}.{self.backend}" if self.backend else self.notebook


@dataclass
class JobList:
    """The content of `series.json`."""

    notebooks: list[Job]
    started: str = ""  # of the earliest job
    note: str = ""  # what readers must know about this run


_JOB_LIST = pydantic.TypeAdapter(JobList)


def read_jobs(run_dir: Path) -> JobList | None:
    """The list of a run's jobs; None where there is none that can be read."""
    try:
        return _JOB_LIST.validate_json((run_dir / SERIES_FILE).read_bytes())
    except (OSError, ValueError):
        return None


def write_jobs(run_dir: Path, jobs: Sequence[Job], note: str = "") -> None:
    """Write the list of a run's jobs, in the order of the notebooks.

    Raises:
        UserError: the folder is not writable.
    """
    started = min((job.started for job in jobs if job.started), default="")
    content = asdict(JobList(sorted(jobs, key=lambda job: job.notebook), started, note))
    for entry in content["notebooks"]:
        for name in _ONLY_PLANNED:
            del entry[name]
    write_atomic(run_dir / SERIES_FILE, json.dumps(content, indent=1) + "\n")


@dataclass
class RunFolder:
    """What a run left behind."""

    path: Path
    started: str
    jobs: list[Job]
    records: dict[str, Record] = field(default_factory=dict)  # by label of the job
    note: str = ""  # what readers must know about this run
    num_older: int = 0  # records that an earlier version of this project wrote, which are left out

    @property
    def duration_s(self) -> float | None:
        """Seconds that the listed jobs took together; None where none is known. Jobs of CI ran side by side."""
        times = [job.seconds for job in self.jobs if job.seconds is not None]
        return sum(times) if times else None

    @property
    def benchmarks(self) -> list[BenchmarkRecord]:
        """All benchmark records, in the order of the jobs."""
        return [record for record in self.records.values() if isinstance(record, BenchmarkRecord)]

    @property
    def train(self) -> TrainRecord | None:
        return next((record for record in self.records.values() if isinstance(record, TrainRecord)), None)

    @property
    def compare(self) -> CompareRecord | None:
        return next((record for record in self.records.values() if isinstance(record, CompareRecord)), None)

    @property
    def stale_compare(self) -> str:
        """Why the answer of 04 is not that of the records, in words; empty where it is, or where 04 did not run."""
        if self.compare is None:
            return ""
        measured = {record.backend: record for record in self.benchmarks if record.status == "ok"}
        compared = set(self.compare.backends)
        newer = [name for name in measured if name not in compared or measured[name].started > self.compare.started]
        gone = sorted(compared - set(measured))
        if not newer and not gone:
            return ""
        older = f"is older than {len(newer)} record{'s' if len(newer) > 1 else ''}" if newer else ""
        without = f"compares {', '.join(gone)}, not measured here" if gone else ""
        why = " and ".join(part for part in (older, without) if part)
        return f"{COMPARE} {why}; run python -m lib run 04 again"

    @property
    def is_smoke(self) -> bool:
        return any(record.profile == "smoke" for record in self.records.values())


def run_folder(run_dir: str | Path, wanted: str = "a run folder, such as runs/latest") -> Path:
    """The folder of a run, or of `wanted`, that must be there; a relative path counts from the project root.

    Raises:
        UserError: no such folder.
    """
    folder = project_path(run_dir)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; give {wanted}")
    return folder


def networks(records: Sequence[BenchmarkRecord]) -> list[BenchmarkRecord]:
    """The records of backends that compute the network."""
    return [record for record in records if record.is_network]


def _found_jobs(run_dir: Path) -> list[Job]:
    """Without a list: by the files in the folders."""
    folders = {"page": ("pages", ".html"), "executed": ("notebooks", ".ipynb"), "record": ("results", ".json")}
    found: dict[str, dict[str, str]] = {}
    for kind, (folder, suffix) in folders.items():
        for path in sorted((run_dir / folder).glob(f"[!.]*{suffix}")):
            found.setdefault(path.name.removesuffix(suffix), {})[kind] = f"{folder}/{path.name}"
    jobs = []
    for label in sorted(found):
        notebook, _, backend = label.partition(".")
        jobs.append(Job(notebook, backend, **found[label]))  # type: ignore[arg-type]  # three of its paths
    return jobs


def _inside(run_dir: Path, relative: str | None) -> str | None:
    """The path where it names an existing file of this run; a list of files must not lead out of the folder."""
    if relative is None:
        return None
    path = (run_dir / relative).resolve()
    return relative if path.is_file() and path.is_relative_to(run_dir.resolve()) else None


def _take_record(run: RunFolder, job: Job) -> None:
    assert job.record is not None
    try:
        record = read_any_record(run.path / job.record)
    except UserError as error:
        run.num_older += isinstance(error, OtherSchemaError)
        job.reason = "; ".join(part for part in (job.reason, str(error)) if part)
        job.status = "failed" if job.status == UNKNOWN else job.status
        return
    run.records[job.label] = record
    job.started = job.started or record.started
    if job.status == UNKNOWN:
        job.status = record.status if isinstance(record, BenchmarkRecord) else "ok"
        job.seconds = record.duration_s
    if isinstance(record, BenchmarkRecord) and record.error and not job.reason:
        job.reason = record.error


def load_run(run_dir: Path) -> RunFolder:
    """Read a run folder as far as it is readable; damaged and older records become reasons of their jobs."""
    listed = read_jobs(run_dir) or JobList(_found_jobs(run_dir))
    run = RunFolder(run_dir, listed.started, listed.notebooks, note=" ".join(listed.note.split()))
    for job in run.jobs:
        job.page, job.executed = _inside(run_dir, job.page), _inside(run_dir, job.executed)
        job.record = _inside(run_dir, job.record)
        if job.record:
            _take_record(run, job)
    if not run.started:
        run.started = min((record.started for record in run.records.values()), default="")
    return run
