"""From artifacts to one run folder: merging, what is missing, and what must not come in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lib.analysis.comparison import load_comparison
from lib.ci import RefusedError
from lib.ci.check import check_benchmark, require_checkpoint
from lib.ci.collect import NOTHING_ARRIVED, collect
from lib.cli import main
from lib.errors import UserError
from lib.files import sha256_file
from lib.records.run import load_run
from lib.records.schema import BenchmarkRecord, DataInfo, read_record, second_path, write_record
from tests.made_records import made_benchmark, made_environment, made_explore, made_failed_benchmark, made_train

CHECKPOINT = b"weights"


def job(notebook: str, backend: str = "", status: str = "ok", **changes: Any) -> dict[str, Any]:
    label = f"{notebook}.{backend}" if backend else notebook
    return {"notebook": notebook, "backend": backend, "status": status, "page": f"pages/{label}.html",
            "executed": f"notebooks/{label}.ipynb", "record": f"results/{label}.json", "seconds": 2.0, "reason": "",
            "started": "2026-11-24T14:50:00+00:00", **changes}  # fmt: skip


def write_part(folder: Path, records: dict[str, Any], jobs: list[dict[str, Any]]) -> Path:
    for label, record in records.items():
        write_record(record, folder / "results" / f"{label}.json")
        for kind, suffix in (("pages", "html"), ("notebooks", "ipynb")):
            (folder / kind).mkdir(exist_ok=True)
            (folder / kind / f"{label}.{suffix}").write_text(f"{kind} of {label}")
    series = {"started": "2026-11-24T14:50:00+00:00", "notebooks": jobs}
    (folder / "series.json").write_text(json.dumps(series))
    return folder


@pytest.fixture
def sha(tmp_path: Path) -> str:
    path = tmp_path / "weights"
    path.write_bytes(CHECKPOINT)
    return sha256_file(path)


@pytest.fixture
def parts(tmp_path: Path, sha: str) -> Path:
    """What a run of two backends uploads."""
    folder = tmp_path / "parts"
    train = write_part(
        folder / "part.train.arm64",
        {"01_explore": made_explore(checkpoint_sha256=None), "02_train": made_train(checkpoint_sha256=sha)},
        [job("01_explore"), job("02_train")],
    )
    (train / "checkpoint.safetensors").write_bytes(CHECKPOINT)
    for backend in ("torch-blas", "onnxruntime"):
        add_benchmark(folder, backend, sha)
    return folder


def add_benchmark(parts: Path, backend: str, sha: str, name: str = "", **changes: Any) -> Path:
    label = f"03_benchmark.{backend}"
    record = made_benchmark(backend, checkpoint_sha256=sha, **changes)
    return write_part(
        parts / (name or f"part.benchmark.{backend}.arm64"), {label: record}, [job("03_benchmark", backend)]
    )


def refused(parts: Path, out: Path, told: str) -> None:
    """Refused with a clear line, exit status 1, and nothing written."""
    with pytest.raises(RefusedError, match=told) as error:
        collect(parts, out, ["torch-blas"])
    assert "\n" not in str(error.value) and not out.exists()
    assert main(["ci", "collect", str(parts), "--out", str(out)]) == 1


def test_parts_become_one_run_with_its_index(tmp_path: Path, parts: Path) -> None:
    out = tmp_path / "run"
    collect(parts, out, ["torch-blas", "onnxruntime"])
    run = load_run(out)
    assert [(found.label, found.status) for found in run.jobs] == [
        ("01_explore", "ok"), ("02_train", "ok"), ("03_benchmark.torch-blas", "ok"), ("03_benchmark.onnxruntime", "ok"),
    ]  # fmt: skip
    assert all(found.page and found.executed and found.label in run.records for found in run.jobs)
    assert (out / "checkpoint.safetensors").read_bytes() == CHECKPOINT
    assert "torch-blas" in (out / "index.html").read_text()
    assert run.started == "2026-11-24T14:50:00+00:00" and run.duration_s == 4 * 2.0


def test_note_of_the_training_stands_on_the_merged_run(
    tmp_path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUN_NOTE", raising=False)
    listed = parts / "part.train.arm64" / "series.json"
    listed.write_text(json.dumps({**json.loads(listed.read_text()), "note": "synthetic\nimages  instead"}))
    collect(parts, tmp_path / "run")
    assert load_run(tmp_path / "run").note == "synthetic images instead"
    assert "synthetic images instead" in (tmp_path / "run" / "index.html").read_text()


def test_a_backend_of_which_nothing_arrived_is_a_failed_job_and_the_rest_is_kept(tmp_path: Path, parts: Path) -> None:
    out = tmp_path / "run"
    (line,) = [line for line in collect(parts, out, ["torch-blas", "onnxruntime", "ncnn"]) if "ncnn" in line]
    failed = [found for found in load_run(out).jobs if found.status == "failed"]
    assert [(found.label, found.reason) for found in failed] == [("03_benchmark.ncnn", NOTHING_ARRIVED)]
    assert NOTHING_ARRIVED in line
    assert "ncnn" in (out / "index.html").read_text()


def test_an_unreadable_record_fails_its_job_and_does_not_stop_the_comparison(tmp_path: Path, parts: Path) -> None:
    record = parts / "part.benchmark.onnxruntime.arm64" / "results" / "03_benchmark.onnxruntime.json"
    record.write_text('{"schema_version": 2, "kind": "benchm')
    out = tmp_path / "run"
    collect(parts, out, ["torch-blas", "onnxruntime"])
    (failed,) = [found for found in load_run(out).jobs if found.status == "failed"]
    assert failed.backend == "onnxruntime" and "readable" in failed.reason
    assert load_comparison(out, ["torch-blas", "onnxruntime"]).missing == ["onnxruntime"]
    assert (out / "results" / f"{record.name}.unreadable").exists()


def test_a_job_that_ended_before_it_wrote_its_list_is_a_failed_one(tmp_path: Path, parts: Path) -> None:
    part = parts / "part.benchmark.onnxruntime.arm64"
    (part / "series.json").unlink()
    (part / "results" / "03_benchmark.onnxruntime.json").unlink()
    out = tmp_path / "run"
    collect(parts, out, ["onnxruntime"])
    (failed,) = [found for found in load_run(out).jobs if found.status == "failed"]
    assert failed.label == "03_benchmark.onnxruntime" and failed.page is not None and failed.reason


def test_one_backend_in_two_parts_is_refused(tmp_path: Path, parts: Path, sha: str) -> None:
    shutil.copytree(parts / "part.benchmark.torch-blas.arm64", parts / "part.benchmark.torch-blas.x64")
    refused(parts, tmp_path / "run", r"03_benchmark\.torch-blas comes twice, in part\S+arm64 and in part\S+x64")


def test_what_a_job_took_over_from_the_training_may_come_again_unchanged(tmp_path: Path, parts: Path) -> None:
    part = parts / "part.benchmark.torch-blas.arm64"
    shutil.copytree(parts / "part.train.arm64" / "results", part / "results", dirs_exist_ok=True)
    collect(parts, tmp_path / "run", ["torch-blas"])
    assert len(load_run(tmp_path / "run").jobs) == 4
    shutil.rmtree(tmp_path / "run")
    (part / "pages" / "02_train.html").write_text("another page")
    refused(parts, tmp_path / "run", "pages/02_train.html comes twice and differs")


@pytest.mark.parametrize("what", ["checkpoint", "data"])
def test_parts_of_which_nobody_knows_the_right_one_are_refused(
    tmp_path: Path, parts: Path, sha: str, what: str
) -> None:
    shutil.rmtree(parts / "part.train.arm64")
    if what == "checkpoint":
        add_benchmark(parts, "ncnn", "ef" * 32)
    else:
        add_benchmark(parts, "ncnn", sha, data=other_data())
    refused(parts, tmp_path / "run", f"different {what}.*ncnn")


def other_data() -> DataInfo:
    data = made_benchmark().data
    assert data is not None
    data.manifest_hash = "12" * 32
    return data


@pytest.mark.parametrize("what", ["checkpoint", "data", "blas"])
def test_one_that_measured_something_else_fails_alone_and_is_not_compared(
    tmp_path: Path, parts: Path, sha: str, what: str
) -> None:
    shutil.rmtree(parts / "part.benchmark.torch-blas.arm64")
    changes: dict[str, dict[str, Any]] = {
        "checkpoint": {"sha": "ef" * 32},
        "data": {"sha": sha, "data": other_data()},
        "blas": {"sha": sha, "environment": made_environment(blas="mkl")},
    }
    add_benchmark(parts, "torch-blas", **changes[what])
    out = tmp_path / "run"
    lines = collect(parts, out, ["torch-blas", "onnxruntime"], checkpoint=sha, blas="openblas")
    failed = [found for found in load_run(out).jobs if found.status == "failed"]
    assert [found.label for found in failed] == ["03_benchmark.torch-blas"]
    told = {"checkpoint": f"measured checkpoint {'ef' * 32}", "data": "measured other data", "blas": "ran on mkl"}
    assert told[what] in failed[0].reason and any(told[what] in line for line in lines)
    assert [record.backend for record in load_comparison(out, []).records] == ["onnxruntime"]
    assert (out / "results" / "03_benchmark.torch-blas.json.refused").is_file(), "kept to look at"


def test_a_failure_of_this_run_stays_in_the_comparison(tmp_path: Path, parts: Path, sha: str) -> None:
    shutil.rmtree(parts / "part.benchmark.torch-blas.arm64")
    add_benchmark(parts, "torch-blas", sha, status="failed", error="crashed")
    collect(parts, tmp_path / "run", ["torch-blas", "onnxruntime"], checkpoint=sha, blas="openblas")
    assert (tmp_path / "run" / "results" / "03_benchmark.torch-blas.json").is_file()


def test_a_training_that_is_not_the_expected_one_is_refused(tmp_path: Path, parts: Path) -> None:
    out = tmp_path / "run"
    arguments = ["ci", "collect", str(parts), "--out", str(out), "--checkpoint"]
    assert main([*arguments, "ab" * 32]) == 1
    assert main([*arguments, "no digest"]) == 2
    assert not out.exists()


def test_a_checkpoint_that_is_not_the_trained_one_is_refused(tmp_path: Path, parts: Path) -> None:
    (parts / "part.train.arm64" / "checkpoint.safetensors").write_bytes(b"others")
    refused(parts, tmp_path / "run", "different checkpoints")


@pytest.mark.parametrize("name", ["part.benchmark...", "part.<b>.arm64", "part.a b", "other", "part.a\nb"])
def test_a_hostile_name_of_an_artifact_is_refused(tmp_path: Path, parts: Path, sha: str, name: str) -> None:
    add_benchmark(parts, "ncnn", sha, name)
    refused(parts, tmp_path / "run", "is no name of a part")


@pytest.mark.parametrize(
    "entry",
    [
        job("../../etc", "x"),
        job("03_benchmark", "../../up"),
        job("03_benchmark", "a\nb"),
        job("03_benchmark", "torch-blas", record="results/02_train.json"),
        job("", "torch-blas"),
    ],
)
def test_a_hostile_list_of_jobs_is_refused(tmp_path: Path, parts: Path, entry: dict[str, Any]) -> None:
    part = parts / "part.benchmark.torch-blas.arm64"
    shutil.copy(parts / "part.train.arm64" / "results" / "02_train.json", part / "results")
    (part / "series.json").write_text(json.dumps({"notebooks": [entry]}))
    refused(parts, tmp_path / "run", "part.benchmark.torch-blas.arm64")


def test_paths_and_links_that_lead_out_of_a_part_bring_nothing(tmp_path: Path, parts: Path) -> None:
    secret = tmp_path / "secret.html"
    secret.write_text("secret")
    part = parts / "part.benchmark.torch-blas.arm64"
    listed = job("03_benchmark", "torch-blas", page="../../secret.html")
    (part / "series.json").write_text(json.dumps({"notebooks": [listed]}))
    collect(parts, tmp_path / "run", ["torch-blas"])
    assert next(found for found in load_run(tmp_path / "run").jobs if found.backend == "torch-blas").page is None
    shutil.rmtree(tmp_path / "run")
    (part / "pages" / "link.html").symlink_to(secret)
    refused(parts, tmp_path / "run", "link")


def test_a_record_of_another_backend_is_refused(tmp_path: Path, parts: Path, sha: str) -> None:
    record = parts / "part.benchmark.torch-blas.arm64" / "results" / "03_benchmark.torch-blas.json"
    write_record(made_benchmark("torch-onednn", checkpoint_sha256=sha), record)
    refused(parts, tmp_path / "run", "torch-onednn")


def test_a_second_measurement_stands_beside_the_first_and_is_checked_like_it(
    tmp_path: Path, parts: Path, sha: str
) -> None:
    add_benchmark(parts, "torch-blas", sha, "part.confirm.torch-blas.arm64", started="2026-11-25T00:00:00+00:00")
    add_benchmark(parts, "onnxruntime", "ef" * 32, "part.confirm.onnxruntime.arm64")
    lines = collect(parts, tmp_path / "run", ["torch-blas", "onnxruntime"], checkpoint=sha)
    assert read_record(second_path(tmp_path / "run", "torch-blas"), BenchmarkRecord).started.startswith("2026-11-25")
    assert not second_path(tmp_path / "run", "onnxruntime").exists(), "it measured another network"
    assert any("onnxruntime" in line and "refused" in line for line in lines)
    run = load_run(tmp_path / "run")
    assert {job.label: job.status for job in run.jobs if job.backend} == {
        "03_benchmark.torch-blas": "ok", "03_benchmark.onnxruntime": "ok",
    }  # fmt: skip
    first = run.records["03_benchmark.torch-blas"]
    assert not first.started.startswith("2026-11-25")


def test_a_second_measurement_that_failed_leaves_the_first_alone(tmp_path: Path, parts: Path, sha: str) -> None:
    add_benchmark(parts, "torch-blas", sha, "part.confirm.torch-blas.arm64", status="failed", error="crashed")
    collect(parts, tmp_path / "run", ["torch-blas"], checkpoint=sha)
    assert not second_path(tmp_path / "run", "torch-blas").exists()
    assert {job.status for job in load_run(tmp_path / "run").jobs} == {"ok"}


def test_files_that_are_no_part_of_a_run_are_left_out_and_told(tmp_path: Path, parts: Path) -> None:
    (parts / "part.train.arm64" / "notes.exe").write_text("x")
    out = tmp_path / "run"
    assert any("notes.exe" in line for line in collect(parts, out, []))
    assert not (out / "notes.exe").exists()


def test_bad_input_of_collect_is_told(tmp_path: Path, parts: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no folder"):
        collect(tmp_path / "none", tmp_path / "run")
    with pytest.raises(UserError, match="no parts"):
        collect(tmp_path / "empty", tmp_path / "run")
    with pytest.raises(UserError, match="no name of a backend"):
        collect(parts, tmp_path / "run", ["../x"])
    collect(parts, tmp_path / "run")
    with pytest.raises(UserError, match="holds a run already"):
        collect(parts, tmp_path / "run")


def test_the_checkpoint_must_be_the_one_that_was_trained(
    parts: Path, sha: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, outputs = parts / "part.train.arm64", tmp_path / "outputs"
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    assert main(["ci", "checkpoint", str(run)]) == 0
    assert outputs.read_text() == f"checkpoint_sha256={sha}\n"
    assert main(["ci", "checkpoint", str(run), "--expect", sha]) == 0
    assert main(["ci", "checkpoint", str(run), "--expect", "ab" * 32]) == 1
    assert main(["ci", "checkpoint", str(run), "--expect", ""]) == 2  # of a job that set no output
    assert main(["ci", "checkpoint", str(tmp_path / "none")]) == 2
    with pytest.raises(RefusedError, match="another file"):
        require_checkpoint(run, "ab" * 32)


@pytest.mark.parametrize(
    ("changes", "blas", "told"),
    [
        ({}, "openblas", ""),
        ({"checkpoint_sha256": "ef" * 32}, "", "measured checkpoint ef"),
        ({"environment": made_environment(blas="mkl")}, "openblas", "ran on mkl, and openblas was promised"),
        ({"environment": made_environment(blas=None)}, "openblas", "unknown BLAS"),
        ({"backend": "onnxruntime"}, "", "record of 'onnxruntime'"),
        ({"status": "failed", "error": "crashed"}, "", "failed: crashed"),
    ],
)
def test_a_benchmark_is_checked_against_checkpoint_and_library(
    tmp_path: Path, sha: str, changes: dict[str, Any], blas: str, told: str
) -> None:
    record = made_benchmark(**{"backend": "torch-blas", "checkpoint_sha256": sha, **changes})
    write_record(record, tmp_path / "results" / "03_benchmark.torch-blas.json")
    if not told:
        assert "openblas" in check_benchmark(tmp_path, "torch-blas", sha, blas)
        return
    with pytest.raises(RefusedError, match=told):
        check_benchmark(tmp_path, "torch-blas", sha, blas)


def test_a_broken_promise_or_a_missing_record_is_refused_and_unavailable_is_not(tmp_path: Path, sha: str) -> None:
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


def test_the_only_part_that_arrived_lies_flat_and_is_read_too(tmp_path: Path, parts: Path) -> None:
    collect(parts / "part.train.arm64", tmp_path / "run", ["torch-blas"])
    run = load_run(tmp_path / "run")
    assert {job.label: job.status for job in run.jobs}["03_benchmark.torch-blas"] == "failed"
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file() and (tmp_path / "run" / "index.html").is_file()
