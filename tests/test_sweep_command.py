"""The sweep: every combination once, failures kept, nothing done twice, one table."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from lib.cli import main
from lib.errors import UserError
from lib.files import sha256_file
from lib.records.run import RunFolder
from lib.series import combination
from lib.series.combination import Combination, unfinished
from lib.series.jobs import plan_jobs
from lib.series.sources import code_hash
from lib.series.sweep import Plan, folder_name, headline, plan_points, split_values
from tests import standin_sweep
from tests.conftest import Refused
from tests.made_records import made_benchmark


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
    points = plan_points(Plan(["02"], {"num_epochs": ["2", "4"], "recipe": ["minute", "learning_path"]}, []))
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
        (["02", "--only", "seed=1"], "unknown combination 'seed=1'"),
        (["02", "--engine", "cloud"], "unknown engine 'cloud'"),
        (["02", "--at", "node1:6379"], "--at is for the other engines"),
        (["02", "--jobs", "1000"], "cores are granted here; give at most as many jobs"),
        (["02", "--engine", "slurm", "--jobs", "2"], "--jobs is not for --engine slurm"),
        (["02", "--engine", "slurm"], "there is no sbatch here"),
        (["02", "--engine", "ray", "--at", "127.0.0.1:9"], "no Ray cluster at 127.0.0.1:9 ([Errno 111] Connection ref"),
        (["02", "--engine", "ray", "--at", "node1"], "give HOST:PORT as `ray start --head` printed it"),
        (["docs/sweeps/seeds.toml", "03"], "give no notebooks, -p or --backends beside it"),
        (["docs/sweeps/none.toml"], "none.toml is not a sweep (No such file or directory)"),
    ],
)
def test_bad_sweep_ends_in_one_line_and_status_2_and_writes_nothing(
    argv: list[str], complaint: str, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("ray", "submitit"):  # whether they are installed or not
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setenv("PATH", "")
    assert complaint in refused("sweep", *argv, "--out", tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Notebooks are not executed; the folder of what the processes of combinations note and are told."""
    monkeypatch.setattr(combination, "COMMAND", standin_sweep.COMMAND)
    monkeypatch.setenv(standin_sweep.NOTES, str(tmp_path))
    return tmp_path


def started(notes: Path) -> list[str]:
    """What ran since the last call."""
    text = (notes / "started").read_text() if (notes / "started").exists() else ""
    (notes / "started").unlink(missing_ok=True)
    return text.splitlines()


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "sweep.csv").read_text())))


def test_what_breaks_or_kills_its_process_is_kept_and_only_that_runs_again(
    notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["sweep", "02", "-p", "num_epochs", "2,3,4", "--out", str(tmp_path / "sweep")]
    (notes / "trouble").touch()
    assert main(argv) == 1
    rows = rows_of(tmp_path / "sweep")
    assert [row["status"] for row in rows] == ["failed", "failed", "ok"]
    assert [row["reason"].partition(":")[0] for row in rows] == ["broke", "its process ended with signal 9", ""]
    assert rows[0]["val_top1"] == "" and float(rows[2]["val_top1"]) > 0
    assert "signal 9" in capsys.readouterr().out and "signal 9" in (tmp_path / "sweep/sweep.html").read_text()
    (notes / "trouble").unlink()
    started(notes)
    assert main([*argv, "--only", "num_epochs=2"]) == 0 and started(notes) == ["num_epochs=2: 02_train"]
    assert main(argv) == 0 and started(notes) == ["num_epochs=3: 02_train"]
    assert capsys.readouterr().err.count("done already") == 2
    assert main([*argv, "--only", "num_epochs=2", "--again"]) == 0 and len(started(notes)) == 1


def test_record_of_another_network_or_parameters_or_images_or_code_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"weights")
    record = made_benchmark("null")
    (job,) = plan_jobs(["03"], {"backend": "null", "num_threads": "1"}, [])
    listed = replace(job, status="ok", code=code_hash("03"))
    run = RunFolder(tmp_path, "", [listed], {job.label: record})
    record.params, record.checkpoint_sha256 = dict(job.parameters), sha256_file(tmp_path / "checkpoint.safetensors")
    assert record.data is not None
    expected = Combination("one", ["03"], {}, [], {job.notebook: code_hash("03")}, {}, {})
    same, other = ({job.label: images} for images in (record.data.manifest_hash, "of other images"))
    assert unfinished([job], run, expected) == unfinished([job], run, replace(expected, images=same)) == []
    assert unfinished([job], run, replace(expected, images=other)) == [job]
    listed.code = "of other code"
    assert unfinished([job], run, expected) == [job]
    listed.code = code_hash("03")
    record.params["num_threads"] = 2
    assert unfinished([job], run, expected) == [job]
    record.params["num_threads"] = 1
    (tmp_path / "checkpoint.safetensors").write_bytes(b"other weights")
    assert unfinished([job], run, expected) == [job]


def test_figures_of_a_benchmark_are_its_ratio_with_bounds_and_its_times() -> None:
    figures = headline(made_benchmark("torch-blas"))
    low, middle, high = (figures[f"offline_speedup{part}"] for part in ("_low", "", "_high"))
    assert low is not None and middle is not None and high is not None and low <= middle <= high
    assert (figures["offline_samples_per_s"] or 0) > 0 and (figures["single_stream_median_ms"] or 0) > 0
