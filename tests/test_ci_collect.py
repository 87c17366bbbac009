"""From artifacts to one run folder: merging, what is missing, and what must not be compared."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from lib.analysis.comparison import load_comparison
from lib.ci.check import check_benchmark
from lib.ci.collect import NOTHING_ARRIVED, collect
from lib.cli import main
from lib.errors import RefusedError, UserError
from lib.files import sha256_file
from lib.records.run import Job, load_run
from lib.records.schema import BenchmarkRecord, read_record, second_path, write_record
from tests.made_records import (
    made_benchmark,
    made_environment,
    made_explore,
    made_failed_benchmark,
    made_train,
    write_run_files,
)

CHECKPOINT, OTHER = b"weights", "ef" * 32
BACKENDS = ["torch-blas", "onnxruntime"]


@pytest.fixture
def sha(tmp_path: Path) -> str:
    path = tmp_path / "weights"
    path.write_bytes(CHECKPOINT)
    return sha256_file(path)


@pytest.fixture
def parts(tmp_path: Path, sha: str) -> Path:
    """What a run of two backends uploads."""
    folder = tmp_path / "parts"
    records = {"01_explore": made_explore(checkpoint_sha256=None), "02_train": made_train(checkpoint_sha256=sha)}
    train = write_run_files(folder / "part.train.arm64", records)
    (train / "checkpoint.safetensors").write_bytes(CHECKPOINT)
    for backend in BACKENDS:
        add_benchmark(folder, backend, sha)
    return folder


def add_benchmark(parts: Path, backend: str, sha: str, job: str = "benchmark", **changes: Any) -> Path:
    record = made_benchmark(backend, checkpoint_sha256=sha, **changes)
    return write_run_files(parts / f"part.{job}.{backend}.arm64", {f"03_benchmark.{backend}": record})


def failed_jobs(run: Path) -> dict[str, Job]:
    return {job.label: job for job in load_run(run).jobs if job.status == "failed"}


def test_parts_become_one_run_with_its_index(
    tmp_path: Path, parts: Path, sha: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_NOTE", "synthetic images instead")
    out = tmp_path / "run"
    collect(parts, out, BACKENDS)
    run = load_run(out)
    assert [(found.label, found.status) for found in run.jobs] == [
        ("01_explore", "ok"), ("02_train", "ok"), ("03_benchmark.torch-blas", "ok"), ("03_benchmark.onnxruntime", "ok"),
    ]  # fmt: skip
    assert all(found.page and found.executed and found.label in run.records for found in run.jobs)
    assert (out / "checkpoint.safetensors").read_bytes() == CHECKPOINT
    index = (out / "index.html").read_text()
    assert "torch-blas" in index and "synthetic images instead" in index and run.note == "synthetic images instead"
    assert run.started == made_explore().started and run.duration_s == 4 * 2.0
    with pytest.raises(UserError, match="holds a run already"):
        collect(parts, out, BACKENDS)


def test_a_backend_of_which_nothing_arrived_is_a_failed_job_and_the_rest_is_kept(
    tmp_path: Path, parts: Path, sha: str
) -> None:
    out = tmp_path / "run"
    (line,) = [line for line in collect(parts, out, [*BACKENDS, "ncnn"]) if "ncnn" in line]
    assert {label: job.reason for label, job in failed_jobs(out).items()} == {"03_benchmark.ncnn": NOTHING_ARRIVED}
    assert NOTHING_ARRIVED in line and "ncnn" in (out / "index.html").read_text()


def test_the_only_part_that_arrived_has_no_folder_of_its_own(tmp_path: Path, parts: Path, sha: str) -> None:
    collect(parts / "part.train.arm64", tmp_path / "run", BACKENDS)
    assert list(failed_jobs(tmp_path / "run")) == [f"03_benchmark.{backend}" for backend in BACKENDS]


def test_an_unreadable_record_does_not_stop_the_comparison(tmp_path: Path, parts: Path) -> None:
    record = parts / "part.benchmark.onnxruntime.arm64" / "results" / "03_benchmark.onnxruntime.json"
    record.write_text('{"schema_version": 2, "kind": "benchm')
    collect(parts, tmp_path / "run", BACKENDS)
    (job,) = (job for job in load_run(tmp_path / "run").jobs if job.backend == "onnxruntime")
    assert "readable" in job.reason and load_comparison(tmp_path / "run", BACKENDS).missing == ["onnxruntime"]


def test_a_job_that_ended_before_it_wrote_its_list_is_a_failed_one(tmp_path: Path, parts: Path, sha: str) -> None:
    part = parts / "part.benchmark.onnxruntime.arm64"
    (part / "series.json").unlink()
    (part / "results" / "03_benchmark.onnxruntime.json").unlink()
    collect(parts, tmp_path / "run", BACKENDS)
    ((label, job),) = failed_jobs(tmp_path / "run").items()
    assert label == "03_benchmark.onnxruntime" and job.page is not None and job.reason


def test_a_failure_of_this_run_stays_in_the_comparison(tmp_path: Path, parts: Path, sha: str) -> None:
    add_benchmark(parts, "torch-blas", sha, status="failed", error="crashed")
    collect(parts, tmp_path / "run", BACKENDS)
    assert (tmp_path / "run" / "results" / "03_benchmark.torch-blas.json").is_file()


def test_a_second_measurement_stands_beside_the_first_and_one_that_failed_does_not(
    tmp_path: Path, parts: Path, sha: str
) -> None:
    add_benchmark(parts, "torch-blas", sha, "confirm", started="2026-11-25T00:00:00+00:00")
    add_benchmark(parts, "ncnn", sha, "confirm", status="failed", error="crashed")
    lines = collect(parts, tmp_path / "run", BACKENDS)
    assert read_record(second_path(tmp_path / "run", "torch-blas"), BenchmarkRecord).started.startswith("2026-11-25")
    assert not second_path(tmp_path / "run", "ncnn").exists()
    assert any("ncnn is refused: crashed" in line for line in lines)
    run = load_run(tmp_path / "run")
    assert {job.status for job in run.jobs} == {"ok"} and len(run.jobs) == 4
    assert not run.records["03_benchmark.torch-blas"].started.startswith("2026-11-25")


@pytest.mark.parametrize(("folder", "message"), [("none", "no folder"), ("empty", "no parts")])
def test_bad_input_of_collect_is_refused(tmp_path: Path, parts: Path, folder: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        collect(tmp_path / folder, tmp_path / "run", BACKENDS)
    assert not (tmp_path / "run").exists()


def test_the_command_says_whether_there_are_measurements_to_keep(
    tmp_path: Path, parts: Path, sha: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "outputs"))
    command = ["ci", "collect", str(parts), "--expect-backends", ",".join(BACKENDS), "--out"]
    assert main([*command, str(tmp_path / "all")]) == 0
    for backend in BACKENDS:
        shutil.rmtree(parts / f"part.benchmark.{backend}.arm64")
    assert main([*command, str(tmp_path / "none")]) == 0
    assert (tmp_path / "outputs").read_text() == "measured=true\nmeasured=false\n"


def test_the_checkpoint_that_was_trained_is_named_by_its_sha256(
    parts: Path, sha: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = tmp_path / "outputs"
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    assert main(["ci", "checkpoint", str(parts / "part.train.arm64")]) == 0
    assert main(["ci", "checkpoint", str(parts)]) == 0  # 02 failed and left none
    assert outputs.read_text() == f"checkpoint_sha256={sha}\ncheckpoint_sha256=\n"
    assert main(["ci", "checkpoint", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (None, "no usable record"),
        ({"checkpoint_sha256": OTHER}, f"measured checkpoint {OTHER}"),
        ({"environment": made_environment(blas=None)}, "ran on an unknown BLAS, and openblas was promised"),
        ({"status": "failed", "error": "crashed"}, "failed: crashed"),
    ],
)
def test_a_benchmark_that_is_not_of_the_trained_checkpoint_and_library_is_refused(
    tmp_path: Path, sha: str, changes: dict[str, Any] | None, reason: str
) -> None:
    if changes is not None:
        record = made_benchmark("torch-blas", **{"checkpoint_sha256": sha, **changes})
        write_run_files(tmp_path / "run", {"03_benchmark.torch-blas": record})
    with pytest.raises(RefusedError, match=reason):
        check_benchmark(tmp_path / "run", "torch-blas", sha, "openblas")


def test_a_broken_promise_or_a_missing_record_is_refused_and_unavailable_is_not(tmp_path: Path, sha: str) -> None:
    with pytest.raises(UserError, match="is not a SHA-256"):
        check_benchmark(tmp_path, "torch-blas", "")  # of a job that set no output
    with pytest.raises(RefusedError, match="no usable record"):
        check_benchmark(tmp_path, "torch-blas", sha)
    record = made_benchmark("torch-blas", checkpoint_sha256=sha)
    assert record.proof is not None
    record.proof.passed, record.proof.reason = False, "convolutions ran in NNPACK"
    write_record(record, tmp_path / "results" / "03_benchmark.torch-blas.json")
    with pytest.raises(RefusedError, match="NNPACK"):
        check_benchmark(tmp_path, "torch-blas", sha)
    absent = made_failed_benchmark("ncnn")
    absent.checkpoint_sha256 = sha
    write_record(absent, tmp_path / "results" / "03_benchmark.ncnn.json")
    assert "cannot run" in check_benchmark(tmp_path, "ncnn", sha)
