"""The chain from the trained file to each measurement: one SHA-256, and the libraries that a name promises."""

from __future__ import annotations

import re
from pathlib import Path

from lib.errors import RefusedError, UserError
from lib.files import CHECKPOINT_NAME, project_path, sha256_file
from lib.records.run import run_folder
from lib.records.schema import BENCHMARK, BenchmarkRecord, read_record, record_path

BLAS_BACKEND = "torch-blas"  # the backend whose name would lie on another BLAS


def checkpoint_sha256(run_dir: Path) -> str:
    """Hex SHA-256 of the checkpoint of a run; empty where it has none, as where 02 failed.

    Raises:
        UserError: no such folder.
    """
    path = run_folder(run_dir) / CHECKPOINT_NAME
    return sha256_file(path) if path.is_file() else ""


def check_benchmark(run_dir: Path, backend: str, checkpoint: str, blas: str = "") -> str:
    """Did 03 measure the backend with this checkpoint? Returns a line that says so.

    Args:
        blas: library that torch must call in `torch-blas`, such as `openblas`; other backends promise none.

    Raises:
        UserError: `checkpoint` is not a SHA-256.
        RefusedError: no readable record, another checkpoint, failed, a broken promise, another BLAS.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", checkpoint):  # an output that was never set is empty
        raise UserError(f"{checkpoint!r} is not a SHA-256 (64 hex digits); give the output of the job that trained")
    try:
        record = read_record(record_path(project_path(run_dir), BENCHMARK, backend), BenchmarkRecord)
    except UserError as error:
        raise RefusedError(f"{backend} has no usable record: {error}") from None
    found, proof = record.checkpoint_sha256, record.proof
    if found != checkpoint:
        raise RefusedError(f"{backend} measured checkpoint {found}, and {checkpoint} was trained")
    if record.status == "failed":
        raise RefusedError(f"{backend} failed: {record.error}")
    if record.status == "unavailable":
        return f"{backend} cannot run on this machine: {record.error}"
    if proof is not None and not proof.passed:
        raise RefusedError(f"{backend} ran other kernels than it promises: {proof.reason}")
    if backend != BLAS_BACKEND:
        return f"{backend} measured the trained checkpoint"
    if blas and record.environment.blas != blas:
        raise RefusedError(f"{backend} ran on {record.environment.blas or 'an unknown BLAS'}, and {blas} was promised")
    return f"{backend} measured the trained checkpoint on {record.environment.blas}"
