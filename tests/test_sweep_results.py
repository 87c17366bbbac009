"""What the combinations of a sweep say together, on the page and from the jobs of a workflow."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.analysis.effects import effects, front, mean_of
from lib.ci.sweeping import collect_sweep, sweep_settings
from lib.errors import UserError
from lib.records.schema import BenchmarkRecord, Record
from lib.series import sweep
from lib.series.sweep import Plan, plan_points, read_plan, write_results
from tests.made_records import made_accuracy, made_benchmark, made_environment, made_train, write_run_files

SEEDS = "docs/sweeps/seeds.toml"


def test_interval_is_that_of_students_t_and_missing_for_one_value() -> None:
    mean = mean_of([1.0, 2.0, 3.0])
    assert mean.interval == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), rel=1e-4)
    assert mean_of([5.0]) == (5.0, None, 1)


def test_effect_is_found_over_other_parameters_and_seeds_and_missing_points_count_for_none() -> None:
    points = [{"epochs": e, "recipe": r, "seed": s} for e in ("2", "4") for r in ("a", "b") for s in ("0", "1", "2")]
    noise = np.random.default_rng(0).normal(0, 0.001, len(points))
    figures = [0.05 * (p["epochs"] == "4") - 0.1 * (p["recipe"] == "b") for p in points]
    figures = [figure + n for figure, n in zip(figures, noise, strict=True)]
    found = effects(points[:-1], figures[:-1], ["epochs", "recipe", "seed"])
    assert [(e.parameter, e.value, e.base, e.difference.num) for e in found] == [
        ("epochs", "4", "2", 5), ("recipe", "b", "a", 5)
    ]  # fmt: skip
    for effect, true in zip(found, (0.05, -0.1), strict=True):
        low, high = effect.difference.interval or (0, 0)
        assert low < true < high and high - low < 0.01


def test_front_has_what_none_beats_the_cheapest_first() -> None:
    assert front([0.9, 0.95, 0.94, 0.95, 0.8], [1.0, 2.0, 3.0, 2.0, 0.5]) == [4, 0, 1]


def trained(epochs: int, seed: int, machine: str = "one") -> Record:
    record = made_train(accuracy=made_accuracy(0.9 + 0.01 * epochs + 0.001 * seed), train_s=10.0 * epochs)
    return replace(record, environment=made_environment(machine_id=machine))


def written(folder: Path, record: Record, notebook: str = "02_train") -> Path:
    label = f"{notebook}.{record.backend}" if isinstance(record, BenchmarkRecord) else notebook
    (folder / "results").mkdir(parents=True)
    return write_run_files(folder, {label: record})


def test_page_shows_best_effects_front_and_every_run_and_says_that_there_were_two_machines(tmp_path: Path) -> None:
    plan = Plan(["02"], {"num_epochs": ["2", "4"], "seed": ["0", "1", "2"]}, [])
    points = plan_points(plan)
    for point in points[:-1]:
        epochs, seed = (int(point.given[name]) for name in ("num_epochs", "seed"))
        written(tmp_path / point.folder, trained(epochs, seed, "two" if seed else "one"))
    rows = write_results(tmp_path, points, plan)
    page = (tmp_path / "sweep.html").read_text()
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["not run"]
    assert {row["machine_id"] for row in csv.DictReader(io.StringIO((tmp_path / sweep.TABLE).read_text()))} == {
        "one", "two", ""
    }  # fmt: skip
    assert "Most accurate on validation: num_epochs 4, 94.45 %" in page
    assert "num_epochs 4 against 2: top-1 on validation, points +2 [" in page and "training time, s +20 [" in page
    assert "2 of 2 combinations are on the front" in page
    assert "The points come from 2 machines: compare accuracies; times differ by machine." in page
    assert 'href="num_epochs%3D2%2Cseed%3D0/index.html"' in page


def test_page_of_backends_compares_them_and_one_without_accuracy_only_lists(tmp_path: Path) -> None:
    plan = Plan(["03"], {"backend": ["torch-blas", "onnxruntime"]}, [])
    for point in plan_points(plan):
        written(tmp_path / point.folder, made_benchmark(point.given["backend"]), "03_benchmark")
    write_results(tmp_path, plan_points(plan), plan)
    page = (tmp_path / "sweep.html").read_text()
    assert "backend onnxruntime against torch-blas" in page and "latency of one image, ms" in page
    assert "machines: compare" not in page
    empty = Plan(["01"], {"seed": ["0", "1"]}, [])
    write_results(tmp_path / "empty", plan_points(empty), empty)
    assert "0 of 2 notebook runs done." in (tmp_path / "empty/sweep.html").read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("notebooks = [", "is not a sweep"),
        ("backends = []", "'notebooks'"),
        ('notebooks = ["02"]\nseeds = 3', "it has seeds"),
        ('notebooks = ["02"]\nparameters = {seed = 1}', "not iterable"),
        ('notebooks = ["02"]\nparameters = {seed = [1, 1]}', "one of them twice"),
    ],
)
def test_file_that_is_no_sweep_is_refused_with_what_it_needs(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError, match=why):
        read_plan(str(tmp_path / "mine.toml"))


def test_workflow_runs_each_combination_of_a_file_once_and_puts_together_what_came(tmp_path: Path) -> None:
    found = sweep_settings(SEEDS)
    folders = json.loads(found["folders"])
    assert len({*folders}) == 12 and (found["dataset"], found["data_key"], found["extras"]) == ("synthetic", "", "")
    for folder in folders[1:]:
        written(tmp_path / folder, trained(8, 0))
    assert "11 of 12" in collect_sweep(SEEDS, tmp_path)
    statuses = [row["status"] for row in csv.DictReader(io.StringIO((tmp_path / "sweep.csv").read_text()))]
    assert statuses == ["not run", *["ok"] * 11] and (tmp_path / "sweep.html").exists()


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        (f"seed = {list(range(257))}", "at most 256 jobs"),
        ('dataset = ["synthetic", "gtsrb"]', "several data sets"),
        ('seed = ["one"]', "got 'one'"),
    ],
)
def test_file_that_no_workflow_can_run_is_refused(
    parameters: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'notebooks = ["02"]\n[parameters]\n{parameters}\n')
    with pytest.raises(UserError, match="is not in this repository"):
        sweep_settings(str(file))
    monkeypatch.setattr("lib.ci.sweeping.PROJECT_ROOT", tmp_path)
    with pytest.raises(UserError, match=complaint):
        sweep_settings(str(file))
