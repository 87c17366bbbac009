"""The chain from the trained file to each measurement: one SHA-256, and the libraries that a name promises."""

from __future__ import annotations

import re
from pathlib import Path

from lib.analysis.comparison import BENCHMARK
from lib.ci import RefusedError
from lib.errors import UserError
from lib.files import CHECKPOINT_NAME, project_path, sha256_file
from lib.records.run import run_folder
from lib.records.schema import BenchmarkRecord, read_record, record_path

BLAS_BACKEND = "torch-blas"  # the backend whose name would lie on another BLAS


def checkpoint_sha256(run_dir: Path) -> str:
    """Hex SHA-256 of the checkpoint of a run; empty where it has none, as where 02 failed.

    Raises:
        UserError: no such folder.
    """
    path = run_folder(run_dir) / CHECKPOINT_NAME
    return sha256_file(path) if path.is_file() else ""


def require_checkpoint(run_dir: Path, expected: str) -> str:
    """Compare the checkpoint of a run with the one that was trained; returns a line that says they are one.

    Raises:
        UserError: no such folder, or `expected` is not a SHA-256.
        RefusedError: it is another file, or there is none.
    """
    require_sha256(expected)
    found = checkpoint_sha256(run_dir)
    if found != expected:
        raise RefusedError(f"{CHECKPOINT_NAME} is {found or 'missing'}, and {expected} was trained")
    return f"{CHECKPOINT_NAME} is the one that was trained: {found}"


def require_sha256(text: str) -> None:
    """Raises UserError for what is not a SHA-256 in hex digits: an output that was never set is empty."""
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise UserError(f"{text!r} is not a SHA-256 (64 hex digits); give the output of the job that trained")


def check_benchmark(run_dir: Path, backend: str, checkpoint: str, blas: str = "") -> str:
    """Did 03 measure the backend with this checkpoint? Returns a line that says so.

    Args:
        blas: library that torch must call in `torch-blas`, such as `openblas`; other backends promise none.

    Raises:
        UserError: `checkpoint` is not a SHA-256.
        RefusedError: no readable record, another checkpoint, failed, a broken promise, another BLAS.
    """
    require_sha256(checkpoint)
    try:
        record = read_record(record_path(project_path(run_dir), BENCHMARK, backend), BenchmarkRecord)
    except UserError as error:
        raise RefusedError(f"{backend} has no usable record: {error}") from None
    if why := refusal(record, checkpoint, blas):
        raise RefusedError(f"{backend} {why}")
    if record.status == "failed":
        raise RefusedError(f"{backend} failed: {record.error}")
    if record.status == "unavailable":
        return f"{backend} cannot run on this machine: {record.error}"
    return f"{backend} measured the trained checkpoint" + (
        f" on {record.environment.blas}" if backend == BLAS_BACKEND else ""
    )


def refusal(record: BenchmarkRecord, checkpoint: str, blas: str = "", trained_on: str = "") -> str:
    """Why a record must not be compared, to be read after the backend's name; empty where it may be.

    Args:
        checkpoint: SHA-256 of the trained network.
        blas: library that torch must call in `torch-blas`; empty: any.
        trained_on: hash of the data that the network was trained on; empty where that is not known.
    """
    if record.checkpoint_sha256 != checkpoint:
        return f"measured checkpoint {record.checkpoint_sha256}, and {checkpoint} was trained"
    if record.status != "ok":
        return ""  # it has no times, and says itself why
    if trained_on and record.data is not None and record.data.manifest_hash != trained_on:
        return f"measured other data ({record.data.manifest_hash[:12]}) than 02 trained on ({trained_on[:12]})"
    if record.proof is not None and not record.proof.passed:
        return f"ran other kernels than it promises: {record.proof.reason}"
    if blas and record.backend == BLAS_BACKEND and record.environment.blas != blas:
        return f"ran on {record.environment.blas or 'an unknown BLAS'}, and {blas} was promised"
    return ""
