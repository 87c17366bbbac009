"""The chain from the trained file to each measurement: one SHA-256, and the libraries that a name promises."""

from __future__ import annotations

import re
from pathlib import Path

from lib.analysis.comparison import BENCHMARK
from lib.ci import RefusedError
from lib.errors import UserError
from lib.files import CHECKPOINT_NAME, project_path, sha256_file
from lib.records.schema import BenchmarkRecord, read_record, record_path

BLAS_BACKEND = "torch-blas"  # the backend whose name would lie on another BLAS


def checkpoint_sha256(run_dir: Path) -> str:
    """Hex SHA-256 of the checkpoint of a run.

    Raises:
        UserError: there is none.
    """
    path = project_path(run_dir) / CHECKPOINT_NAME
    if not path.is_file():
        raise UserError(f"no checkpoint {path}; run 02_train first, or bring its artifact here")
    return sha256_file(path)


def require_checkpoint(run_dir: Path, expected: str) -> str:
    """Compare the checkpoint of a run with the one that was trained; returns a line that says they are one.

    Raises:
        UserError: no checkpoint, or `expected` is no SHA-256.
        RefusedError: it is another file.
    """
    require_sha256(expected)
    found = checkpoint_sha256(run_dir)
    if found != expected:
        raise RefusedError(
            f"{CHECKPOINT_NAME} is another file than the one that was trained: {found}, expected {expected}"
        )
    return f"{CHECKPOINT_NAME} is the one that was trained: {found}"


def require_sha256(text: str) -> None:
    """Raises UserError for what is no SHA-256 in hex digits: an output that was never set is empty."""
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise UserError(f"{text!r} is no SHA-256 (64 hex digits); give the output of the job that trained")


def check_benchmark(run_dir: Path, backend: str, checkpoint: str, blas: str = "") -> str:
    """Did 03 measure the backend with this checkpoint? Returns a line that says so.

    Args:
        blas: library that torch must call in `torch-blas`, such as `openblas`; other backends promise none.

    Raises:
        UserError: `checkpoint` is no SHA-256.
        RefusedError: no readable record, another backend or checkpoint, failed, a broken promise, another BLAS.
    """
    require_sha256(checkpoint)
    path = record_path(project_path(run_dir), BENCHMARK, backend)
    try:
        record = read_record(path, BenchmarkRecord)
    except UserError as error:
        raise RefusedError(f"{backend} has no usable record: {error}") from None
    if record.backend != backend:
        raise RefusedError(f"{path.name} is a record of {record.backend!r}, expected {backend!r}")
    if told := refusal(record, checkpoint, blas):
        raise RefusedError(f"{backend} {told}")
    if record.status == "unavailable":
        return f"{backend} cannot run on this machine: {record.error}"
    return f"{backend} measured the trained checkpoint" + (
        f" on {record.environment.blas}" if backend == BLAS_BACKEND else ""
    )


def refusal(record: BenchmarkRecord, checkpoint: str, blas: str = "") -> str:
    """Why a record must not be compared, to be read after the backend's name; empty where it may be.

    Args:
        checkpoint: SHA-256 of the trained network; empty: nobody knows it.
    """
    if checkpoint and record.checkpoint_sha256 != checkpoint:
        return f"measured checkpoint {record.checkpoint_sha256}, and {checkpoint} was trained"
    if record.status == "failed":
        return f"failed: {record.error}"
    if record.status == "unavailable":
        return ""
    if record.proof is not None and not record.proof.passed:
        return f"ran other kernels than it promises: {record.proof.reason}"
    if blas and record.backend == BLAS_BACKEND and record.environment.blas != blas:
        return f"ran on {record.environment.blas or 'an unknown BLAS'}, and {blas} was promised"
    return ""
