"""The sweep: every combination once, failures kept, nothing done twice, one table."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from lib.cli import main
from lib.errors import UserError
from lib.files import sha256_file
from lib.records.run import Job, RunFolder
from lib.records.schema import record_path, write_record
from lib.series import sweep as module
from lib.series.joblist import add_jobs
from lib.series.jobs import plan_jobs
from lib.series.sweep import folder_name, headline, plan_points, split_values, unfinished
from tests.conftest import Refused
from tests.made_records import made_benchmark, made_train


@pytest.mark.parametrize(
    ("text", "values"),
    [("2,4", ["2", "4"]), (" 2 , 4 ", ["2", "4"]), (",x", ["", "x"]), ("x", ["x"])],
)
def test_values_are_parted_by_commas(text: str, values: list[str]) -> None:
    assert split_values("name", text) == values


@pytest.mark.parametrize("text", ["", " ", "2,2"])
def test_values_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="'name'"):
        split_values("name", text)


def test_every_combination_is_planned_and_the_last_parameter_changes_fastest() -> None:
    points = plan_points(["02"], {"num_epochs": ["2", "4"], "recipe": ["minute", "learning_path"]}, [])
    assert [point.folder for point in points] == [
        "num_epochs=2,recipe=minute",
        "num_epochs=2,recipe=learning_path",
        "num_epochs=4,recipe=minute",
        "num_epochs=4,recipe=learning_path",
    ]
    assert points[3].jobs == plan_jobs(["02"], {"num_epochs": "4", "recipe": "learning_path"}, [])


def test_name_of_a_folder_cannot_lead_out_of_it_and_is_never_shared() -> None:
    hostile = [folder_name({"data_root": value}) for value in ("../../x", "__/__/x", "a" * 300, "a" * 301, "ö\n")]
    assert len(set(hostile)) == 5 and all("/" not in name and len(name) < 120 for name in hostile)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["02", "-p", "num_epoch", "1,2"], "did you mean 'num_epochs'"),
        (["02", "-p", "num_epochs", "1,two"], "got 'two'"),
        (["02", "-p", "num_epochs", "1", "-p", "num_epochs", "2"], "is given twice: '1' and '2'"),
        (["02", "-p", "run_dir", "a,b"], "--out"),
        (["02", "-p", "seed", ",".join(map(str, range(1001)))], "1,001 combinations"),
        (["02", "--network-of", "runs/none"], "--network-of is for"),
        (["03", "--network-of", "runs/none"], "no checkpoint.safetensors"),
        (["03", "-p", "backend", "null,ort"], "unknown backend 'ort'"),
        ([], "NOTEBOOK"),
    ],
)
def test_bad_sweep_ends_in_one_line_and_status_2_and_writes_nothing(
    argv: list[str], complaint: str, tmp_path: Path, refused: Refused
) -> None:
    assert complaint in refused("sweep", *argv, "--out", tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for running notebooks: writes records as they would; two epochs fail while `broken` is in the list."""
    started: list[str] = []

    def run(jobs: list[Job], run_dir: Path, **_: int) -> None:
        for job in jobs:
            started.append(f"{run_dir.name}: {job.label}")
            if "broken" in started and job.parameters.get("num_epochs") == 2:
                add_jobs(run_dir, [replace(job, status="failed", reason="broke")])
                continue
            path = record_path(run_dir, job.notebook, job.backend)
            write_record(made_train(params=dict(job.parameters), checkpoint_sha256=None), path)
            add_jobs(run_dir, [replace(job, status="ok", record=str(path.relative_to(run_dir)))])

    monkeypatch.setattr(module, "run_jobs", run)
    return started


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "sweep.csv").read_text())))


def test_failed_combination_is_kept_and_only_it_runs_again(
    ran: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["sweep", "02", "-p", "num_epochs", "1,2,3", "--out", str(tmp_path / "sweep")]
    ran.append("broken")
    assert main(argv) == 1
    assert [(row["num_epochs"], row["status"], row["reason"]) for row in rows_of(tmp_path / "sweep")] == [
        ("1", "ok", ""),
        ("2", "failed", "broke"),
        ("3", "ok", ""),
    ]
    assert float(rows_of(tmp_path / "sweep")[0]["val_top1"]) > 0 and rows_of(tmp_path / "sweep")[1]["val_top1"] == ""
    assert "broke" in capsys.readouterr().out
    ran.clear()
    assert main(argv) == 0
    assert ran == ["num_epochs=2: 02_train"]
    ran.clear()
    assert main([*argv, "--again"]) == 0 and len(ran) == 3


def test_record_of_another_network_or_of_other_parameters_is_measured_again(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"weights")
    record = made_benchmark("null")
    (job,) = plan_jobs(["03"], {"backend": "null", "num_threads": "1"}, [])
    run = RunFolder(tmp_path, "", [replace(job, status="ok")], {job.label: record})
    record.params, record.checkpoint_sha256 = dict(job.parameters), sha256_file(tmp_path / "checkpoint.safetensors")
    assert unfinished([job], run) == []
    record.params["num_threads"] = 2
    assert unfinished([job], run) == [job]
    record.params["num_threads"] = 1
    (tmp_path / "checkpoint.safetensors").write_bytes(b"other weights")
    assert unfinished([job], run) == [job]


def test_figures_of_a_benchmark_are_its_ratio_with_bounds_and_its_times() -> None:
    figures = headline(made_benchmark("torch-blas"))
    low, middle, high = (figures[f"offline_speedup{part}"] for part in ("_low", "", "_high"))
    assert low is not None and middle is not None and high is not None and low <= middle <= high
    assert (figures["offline_samples_per_s"] or 0) > 0 and (figures["single_stream_median_ms"] or 0) > 0
