"""One run folder from the artifacts of many jobs: everything is checked first, then written.

An artifact is input from elsewhere: its name, its list of jobs and its file names are judged here, and nothing of it
may lead out of its folder or stand in for another job's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lib.analysis.comparison import BENCHMARK
from lib.ci import RefusedError
from lib.ci.check import refusal, require_sha256
from lib.errors import UserError
from lib.files import CHECKPOINT_NAME, project_path, sha256_file, write_atomic
from lib.html.index import write_index
from lib.html.provenance import hosted
from lib.records.run import SERIES_FILE, Job, load_run, write_jobs
from lib.records.schema import COMPARE, BenchmarkRecord, Record, TrainRecord, read_any_record, second_path, write_record
from lib.series.parameters import notebook_names

_PART = re.compile(r"part\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NAME = re.compile(r"[A-Za-z0-9_-]*")  # of notebooks and backends
_FILES = re.compile(r"(results/[\w-]+(\.[\w-]+)?\.(json|csv)|notebooks/[\w.-]+\.ipynb|pages/[\w.-]+\.html)", re.ASCII)
_SECOND = "part.confirm."  # of measurements that were made again: their records alone are taken
_REMADE = {SERIES_FILE, "index.html"}  # written anew from what all parts say
_OF_ONE_MACHINE = "peaks/"  # what a session measured of its machine, to use it again there
NOTHING_ARRIVED = "nothing of it arrived: its job was cancelled, ran out of time or could not upload"
NO_STATUS = "its job ended before it wrote down how it went"


@dataclass
class _Part:
    """One artifact. `jobs` are by label; `files` are by their path in the run folder."""

    name: str
    started: str
    note: str  # what readers must know about the run
    jobs: dict[str, Job]
    files: dict[str, Path]
    records: dict[str, Record]
    notes: list[str] = field(default_factory=list)


def collect(
    parts: Path, out: Path, expected_backends: Sequence[str] = (), *, checkpoint: str = "", blas: str = ""
) -> list[str]:
    """Merge the artifacts of all jobs into one run folder with its index; returns what there is to tell, line by line.

    A backend of which nothing arrived, whose record cannot be read, or which `ci check` refuses becomes a failed job
    with the reason; its record is set aside, so that it is not compared. Of parts named `part.confirm.*` the record is
    kept as the second measurement of its backend (see `second_path`).

    Args:
        parts: holds one folder for each artifact, named `part.*`; or the files of the only one that arrived.
        out: run folder, made if needed; must not hold another run.
        expected_backends: names that should have come.
        checkpoint: SHA-256 of the trained network; empty: all parts must agree on one.
        blas: library that torch must call in `torch-blas`; empty: any.

    Raises:
        UserError: no such folder, no parts, a bad name among the expected ones, a checkpoint that is no SHA-256, or a
            folder that cannot be written to.
        RefusedError: two artifacts bring the same or measured different networks or data, or one has a name that no
            part has or holds a link. Nothing is written then.
    """
    for name in expected_backends:
        if not name or not _NAME.fullmatch(name):
            raise UserError(f"{name!r} is no name of a backend; give names like torch-blas, separated by commas")
    if checkpoint:
        require_sha256(checkpoint)
    target = project_path(out)
    if (target / SERIES_FILE).exists():
        raise UserError(f"{target} holds a run already; give an empty folder with --out")
    everything = [_read_part(folder) for folder in _part_folders(project_path(parts))]
    seconds = [part for part in everything if part.name.startswith(_SECOND)]
    found = [part for part in everything if part not in seconds]
    for group in (found, seconds):
        _refuse_duplicates(group)
    for part in everything:
        _set_aside(part, checkpoint, blas, _trained_on(found))
    _refuse_mixed(everything, checkpoint)
    jobs = _all_jobs(found, expected_backends)
    for part in found:
        for relative, path in part.files.items():
            write_atomic(target / relative, path.read_bytes())
    lines = [note for part in everything for note in part.notes]
    for part in seconds:
        for record in part.records.values():
            if isinstance(record, BenchmarkRecord) and record.status == "ok":
                write_record(record, second_path(target, record.backend))
                lines.append(f"{record.backend} was measured again")
    note = hosted().get("note", "") or " ".join(dict.fromkeys(part.note for part in found if part.note))
    write_jobs(target, jobs, note)
    write_index(target)
    lines += [f"{job.label} {job.status}: {job.reason}" for job in jobs if job.status not in ("ok", "unavailable")]
    return [*lines, f"{len(everything)} parts with {len(jobs)} notebook runs: {target}"]


def _part_folders(parts: Path) -> list[Path]:
    if not parts.is_dir():
        raise UserError(f"no folder {parts}; give the one that the artifacts were downloaded to")
    if (parts / SERIES_FILE).is_file():
        return [parts]  # download-artifact unpacks the only artifact of a pattern without a folder of its name
    folders = sorted(path for path in parts.iterdir() if path.is_dir() or path.is_symlink())
    for folder in folders:
        if folder.is_symlink() or not _PART.fullmatch(folder.name):
            raise RefusedError(
                f"{folder.name!r} is no name of a part; parts are named like part.benchmark.torch-blas.arm64"
            )
    if not folders:
        raise UserError(f"{parts} holds no parts; download the artifacts named part.* to it, each into its own folder")
    return folders


def _read_part(folder: Path) -> _Part:
    files, notes = _files(folder)
    run = load_run(folder)
    jobs: dict[str, Job] = {}
    for job in run.jobs:
        if not job.notebook or not (_NAME.fullmatch(job.notebook) and _NAME.fullmatch(job.backend)):
            raise RefusedError(f"{folder.name} names a job {job.label!r}; names have letters, digits, - and _ only")
        if job.label in jobs:
            raise RefusedError(f"{folder.name} names {job.label} twice")
        jobs[job.label] = _checked(job, run.records.get(job.label), folder.name)
    known = {path for job in jobs.values() for path in (job.page, job.executed, job.record) if path}
    for relative in list(files):
        if relative.startswith("results/") and relative.endswith(".json") and not _readable(files[relative]):
            files[f"{relative}.unreadable"] = files.pop(relative)  # kept to look at; 04 reads what ends in .json
            notes.append(f"{folder.name}: {relative} cannot be read and is set aside as {relative}.unreadable")
        elif relative not in known and relative != CHECKPOINT_NAME and not relative.endswith(".csv"):
            notes.append(f"{folder.name}: {relative} belongs to no job of its list")
    return _Part(folder.name, run.started, run.note, jobs, files, run.records, notes)


def _files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """What is taken from a part, by its path in the run folder, and notes on what is left out."""
    taken, notes = {}, []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise RefusedError(f"{folder.name} holds a link, {relative!r}; artifacts hold files only")
        if path.is_dir() or relative in _REMADE or relative.startswith(_OF_ONE_MACHINE):
            continue
        if relative == CHECKPOINT_NAME or _FILES.fullmatch(relative):
            taken[relative] = path
        else:
            notes.append(f"{folder.name}: {relative!r} is no part of a run and is left out")
    return taken, notes


def _readable(path: Path) -> bool:
    try:
        read_any_record(path)
    except UserError:
        return False
    return True


def _checked(job: Job, record: Record | None, part: str) -> Job:
    """A job as its files bear it out: without a readable record it has not succeeded."""
    for path in (job.page, job.executed, job.record):
        if path is not None and Path(path).name.rsplit(".", 1)[0] != job.label:
            raise RefusedError(f"{part} gives {path!r} as a file of {job.label}")
    if isinstance(record, BenchmarkRecord) and record.backend != job.backend:
        raise RefusedError(f"{part} has a record of {record.backend!r} as that of {job.label}")
    if record is None and job.record is not None:
        return replace(job, status="failed", record=None)
    if record is None and job.status in ("ok", "unknown"):
        return replace(job, status="failed", reason=job.reason or NO_STATUS)
    return job


def _refuse_duplicates(parts: Sequence[_Part]) -> None:
    """A backend comes once. What a job took over from the training comes again, and must be the same."""
    labels: dict[str, str] = {}
    files: dict[str, tuple[str, str]] = {}
    for part in parts:
        for label, job in part.jobs.items():
            if job.notebook in (BENCHMARK, COMPARE) and label in labels:
                raise RefusedError(f"{label} comes twice, in {labels[label]} and in {part.name}")
            labels.setdefault(label, part.name)
        for relative, path in part.files.items():
            digest = sha256_file(path)
            other, known = files.setdefault(relative, (part.name, digest))
            if known != digest:
                raise RefusedError(f"{relative} comes twice and differs, in {other} and in {part.name}")


def _trained_on(parts: Sequence[_Part]) -> str:
    """Hash of the data that the network was trained on; empty where no record of a training arrived."""
    records = (record for part in parts for record in part.records.values())
    return next((r.data.manifest_hash for r in records if isinstance(r, TrainRecord) and r.data is not None), "")


def _set_aside(part: _Part, checkpoint: str, blas: str, manifest: str) -> None:
    """Fail the jobs whose records must not be compared: of another network, other data, or other libraries."""
    for label, record in list(part.records.items()):
        if not isinstance(record, BenchmarkRecord) or label not in part.jobs:
            continue
        if record.status == "failed" and record.checkpoint_sha256 == (checkpoint or record.checkpoint_sha256):
            continue  # a failure of this run says more in the comparison than beside it
        told = refusal(record, checkpoint, blas)
        if not told and manifest and record.data is not None and record.data.manifest_hash != manifest:
            told = f"measured other data ({record.data.manifest_hash[:12]}) than 02 trained on ({manifest[:12]})"
        if told:
            job = part.jobs[label]
            part.jobs[label] = replace(job, status="failed", reason=f"{job.backend} {told}", record=None)
            if job.record in part.files:
                part.files[f"{job.record}.refused"] = part.files.pop(job.record)
                part.notes.append(f"{part.name}: {job.record} is set aside as {job.record}.refused")
            del part.records[label]


def _refuse_mixed(parts: Sequence[_Part], checkpoint: str) -> None:
    """All records measured one network on the same data, and the checkpoint is that network."""
    checkpoints: dict[str, list[str]] = {checkpoint: ["the job that trained"]} if checkpoint else {}
    manifests: dict[str, list[str]] = {}
    for part in parts:
        for label, record in part.records.items():
            if record.checkpoint_sha256 is not None:
                checkpoints.setdefault(record.checkpoint_sha256, []).append(label)
            if record.data is not None and isinstance(record, TrainRecord | BenchmarkRecord):
                manifests.setdefault(record.data.manifest_hash, []).append(label)
        if CHECKPOINT_NAME in part.files:
            checkpoints.setdefault(sha256_file(part.files[CHECKPOINT_NAME]), []).append(CHECKPOINT_NAME)
    for what, groups in (("checkpoints", checkpoints), ("data", manifests)):
        if len(groups) > 1:
            told = "; ".join(f"{digest[:12]}: {', '.join(sorted(set(names)))}" for digest, names in groups.items())
            raise RefusedError(f"the parts come from different {what}: {told}")


def _all_jobs(parts: Sequence[_Part], expected_backends: Sequence[str]) -> list[Job]:
    jobs: dict[str, Job] = {}
    for part in parts:
        for label, job in part.jobs.items():
            jobs.setdefault(label, job)
    wanted = [(name, "") for name in notebook_names() if name not in (BENCHMARK, COMPARE)]
    wanted += [(BENCHMARK, backend) for backend in expected_backends]
    for notebook, backend in wanted:
        absent = Job(notebook, backend, "failed", reason=NOTHING_ARRIVED)
        jobs.setdefault(absent.label, absent)
    order = {backend: number for number, backend in enumerate(expected_backends)}
    return sorted(jobs.values(), key=lambda job: (job.notebook, order.get(job.backend, len(order)), job.backend))
