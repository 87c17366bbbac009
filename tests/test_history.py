"""Earlier runs: which count, and when a change is one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lib.errors import UserError
from lib.records.history import History, Point, Trend, load_history
from lib.records.results import BenchmarkRecord, record_path, write_record
from lib.records.statistics import Ratio
from tests.made_records import made_benchmark, made_scenario

START = datetime(2026, 11, 1, tzinfo=UTC)


def trend(*speedups: float, width: float = 0.01, noise_floor: float = 0.02) -> Trend:
    points = [
        Point(f"run{day}", START + timedelta(days=day), Ratio(value, value - width, value + width), noise_floor)
        for day, value in enumerate(speedups)
    ]
    return Trend("torch-blas", "offline", points)


@pytest.mark.parametrize(
    ("speedups", "expected"),
    [
        ((2.0, 2.0, 1.0), "too few runs"),
        ((2.0, 2.02, 1.98, 2.01), "no change"),
        ((2.0, 2.02, 1.98, 1.5), "suspected slower"),
        ((2.0, 2.02, 1.98, 2.5), "suspected faster"),
        ((2.0, 2.02, 1.98, 1.5, 1.5), "confirmed slower"),
        ((2.0, 2.02, 1.98, 2.5, 2.6), "confirmed faster"),
        ((2.0, 2.02, 1.98, 1.5, 2.0), "no change"),  # one odd run
        ((2.0, 2.02, 1.98, 1.5, 2.5), "suspected faster"),  # two odd runs in different directions confirm nothing
        ((2.0, 2.02, 1.98, 1.96), "no change"),  # beyond the range, but not beyond the noise
    ],
)
def test_change_needs_confirmation(speedups: tuple[float, ...], expected: str) -> None:
    assert trend(*speedups).verdict == expected


def test_wide_interval_or_noisy_runs_give_no_suspicion() -> None:
    assert trend(2.0, 2.0, 2.0, 1.5).verdict == "suspected slower"
    assert trend(2.0, 2.0, 2.0, 1.5, width=0.6).verdict == "no change"
    assert trend(2.0, 2.0, 2.0, 1.5, noise_floor=0.4).verdict == "no change"


def write_run(folder: Path, day: int, speedup: float = 0.42, **changes: Any) -> BenchmarkRecord:
    started = (START + timedelta(days=day)).isoformat()
    record = made_benchmark("torch-blas", scenarios=[made_scenario("offline", speedup, seed=day)], layers=[])
    record = replace(record, started=started, **changes)
    write_record(record, record_path(folder / f"run{day}", "03_benchmark", "torch-blas"))
    return record


def history_of(folder: Path, newest: BenchmarkRecord, run: str) -> History:
    return load_history(folder, [newest], folder / run)


def test_earlier_runs_stand_in_the_order_of_their_start_and_this_run_last(tmp_path: Path) -> None:
    for day in (2, 0, 1):
        write_run(tmp_path, day)
    newest = write_run(tmp_path, 3, 0.3)
    history = history_of(tmp_path, newest, "run3")
    assert [point.run for point in history.trends[0].points] == ["run0", "run1", "run2", "run3"]
    assert history.trends[0].verdict == "suspected slower"
    assert (history.num_runs, history.left_out) == (3, {})


def test_link_to_the_latest_run_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    newest = write_run(tmp_path, 1)
    (tmp_path / "latest").symlink_to("run1")
    (tmp_path / "other").symlink_to("run0")
    assert len(history_of(tmp_path, newest, "latest").trends[0].points) == 2


def test_what_is_not_comparable_is_counted_in_words(tmp_path: Path) -> None:
    newest = write_run(tmp_path, 9)
    machine = newest.environment
    write_run(tmp_path, 1, schema_version=1)
    write_run(tmp_path, 2, model="another")
    write_run(tmp_path, 3, profile="smoke")
    write_run(tmp_path, 4, environment=replace(machine, cpu_model="another"))
    write_run(tmp_path, 5, environment=replace(machine, num_threads=1))
    write_run(tmp_path, 6, status="failed")
    write_run(tmp_path, 10)
    record_path(write_folder := tmp_path / "run7", "03_benchmark", "torch-blas").parent.mkdir(parents=True)
    record_path(write_folder, "03_benchmark", "torch-blas").write_text('{"schema_')
    write_record(made_benchmark("onnxruntime"), record_path(tmp_path / "run8", "03_benchmark", "onnxruntime"))
    history = history_of(tmp_path, newest, "run9")
    assert history.left_out == {
        "of another version": 1,
        "of another network or profile": 2,
        "of another CPU or number of threads": 2,
        "without numbers": 1,
        "that are damaged": 1,
        "that are newer than this run": 1,
        "of backends that this run did not measure": 1,
    }
    assert history.num_runs == 0 and history.trends[0].verdict == "too few runs"
    assert "left out: " in history.words() and "1 records that are damaged" in history.words()


def test_machines_in_another_boot_are_comparable_since_only_ratios_are_compared(tmp_path: Path) -> None:
    newest = write_run(tmp_path, 1)
    write_run(tmp_path, 0, environment=replace(newest.environment, machine_id="another boot"))
    assert history_of(tmp_path, newest, "run1").num_runs == 1


def test_other_batch_size_is_another_question(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    newest = write_run(tmp_path, 1)
    newest.scenarios[0].batch_size = 64
    assert history_of(tmp_path, newest, "run1").trends[0].earlier == []


def test_missing_folder_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        load_history(tmp_path / "none", [], tmp_path)
