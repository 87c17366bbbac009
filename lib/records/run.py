"""A run folder as the index and the summary read it: also a broken one, also one of which parts are missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.files import project_path
from lib.records.schema import KINDS, BenchmarkRecord, CompareRecord, Record, TrainRecord, read_record

SERIES_FILE = "series.json"


@dataclass
class Job:
    """One notebook, or one notebook with one backend. Paths are relative to the run folder, None where missing."""

    notebook: str
    backend: str
    status: str  # ok, failed, unavailable, skipped; unknown where nobody wrote it down
    page: str | None
    executed: str | None
    record: str | None
    seconds: float | None
    reason: str
    started: str = ""  # ISO 8601, UTC

    @property
    def label(self) -> str:
        """Name as in file names: `03_benchmark.torch-blas`."""
        return f"{self.notebook}.{self.backend}" if self.backend else self.notebook


@dataclass
class RunFolder:
    """What a run left behind."""

    path: Path
    started: str
    jobs: list[Job]
    records: dict[str, Record] = field(default_factory=dict)  # by label of the job
    note: str = ""  # what readers must know about this run

    @property
    def duration_s(self) -> float | None:
        """Seconds that the listed jobs took together; None where no job tells. Jobs of CI ran side by side."""
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
        without = f"tells of {', '.join(gone)}, not measured here" if gone else ""
        why = " and ".join(part for part in (older, without) if part)
        return f"04_compare {why}; run python -m lib run 04 again"

    @property
    def is_smoke(self) -> bool:
        return any(record.profile == "smoke" for record in self.records.values())


def run_folder(run_dir: Path) -> Path:
    """The folder of a run that must be there; a relative path counts from the project root.

    Raises:
        UserError: no such folder.
    """
    folder = project_path(run_dir)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; give a run folder, such as runs/latest")
    return folder


def networks(records: Sequence[BenchmarkRecord]) -> list[BenchmarkRecord]:
    """The records of backends that compute the network."""
    return [record for record in records if record.is_network]


def read_any_record(path: Path) -> Record:
    """Read a record of whatever kind.

    Raises:
        UserError: not a record of this version.
    """
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name} is not a readable record ({error})") from None
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind not in KINDS:
        raise UserError(f"{path.name} is not a record of a known kind: {kind!r}")
    return read_record(path, KINDS[kind])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _job_of(entry: dict[str, Any]) -> Job:
    seconds = entry.get("seconds")
    return Job(
        notebook=str(entry.get("notebook") or "?"),
        backend=str(entry.get("backend") or ""),
        status=str(entry.get("status") or "unknown"),
        page=_text(entry.get("page")),
        executed=_text(entry.get("executed")),
        record=_text(entry.get("record")),
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        reason=str(entry.get("reason") or ""),
        started=_text(entry.get("started")) or "",
    )


def _found_jobs(run_dir: Path) -> list[Job]:
    """Without the launcher's list: what lies in the folders."""
    folders = {"page": ("pages", ".html"), "executed": ("notebooks", ".ipynb"), "record": ("results", ".json")}
    found: dict[str, dict[str, str]] = {}
    for kind, (folder, suffix) in folders.items():
        for path in sorted((run_dir / folder).glob(f"[!.]*{suffix}")):
            found.setdefault(path.name.removesuffix(suffix), {})[kind] = f"{folder}/{path.name}"
    jobs = []
    for label in sorted(found):
        notebook, _, backend = label.partition(".")
        jobs.append(_job_of({"notebook": notebook, "backend": backend, **found[label]}))
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
        job.reason = "; ".join(part for part in (job.reason, str(error)) if part)
        job.status = "failed" if job.status == "unknown" else job.status
        return
    run.records[job.label] = record
    job.started = job.started or record.started
    if job.status == "unknown":
        job.status = record.status if isinstance(record, BenchmarkRecord) else "ok"
        job.seconds = record.duration_s
    if isinstance(record, BenchmarkRecord) and record.error and not job.reason:
        job.reason = record.error


def load_run(run_dir: Path) -> RunFolder:
    """Read a run folder as far as it is readable; damaged records become reasons of their jobs."""
    series: Any = None
    try:
        series = json.loads((run_dir / SERIES_FILE).read_bytes())
        jobs = [_job_of(entry) for entry in series["notebooks"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        series, jobs = {}, _found_jobs(run_dir)
    run = RunFolder(
        path=run_dir,
        started=str(series.get("started") or ""),
        jobs=jobs,
        note=" ".join(str(series.get("note") or "").split()),
    )
    for job in jobs:
        job.page, job.executed = _inside(run_dir, job.page), _inside(run_dir, job.executed)
        job.record = _inside(run_dir, job.record)
        if job.record:
            _take_record(run, job)
    if not run.started:
        run.started = min((record.started for record in run.records.values()), default="")
    return run
