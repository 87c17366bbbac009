"""Earlier runs: which count, and when a change is one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lib.analysis.history import History, Point, Trend, load_history
from lib.analysis.statistics import Ratio
from lib.errors import UserError
from lib.records.schema import BenchmarkRecord, record_path, second_path, write_record
from lib.report.compare.trend import change_words, history_table
from tests.made_records import made_benchmark, made_scenario

START = datetime(2026, 11, 1, tzinfo=UTC)


def made_trend(*speedups: float, scenario: str = "offline", width: float = 0.01, noise_floor: float = 0.02) -> Trend:
    points = [
        Point(f"run{day}", START + timedelta(days=day), Ratio(value, value - width, value + width), noise_floor)
        for day, value in enumerate(speedups)
    ]
    return Trend("torch-blas", scenario, points)


@pytest.mark.parametrize(
    ("speedups", "again", "expected"),
    [
        ((2.0, 2.0, 1.0), 1.0, "too few runs"),
        ((2.0, 2.02, 1.98, 2.01), None, "no change"),
        ((2.0, 2.02, 1.98, 1.5), None, "suspected slower"),
        ((2.0, 2.02, 1.98, 2.5), None, "suspected faster"),
        ((2.0, 2.02, 1.98, 1.5), 1.6, "confirmed slower"),
        ((2.0, 2.02, 1.98, 2.5), 2.6, "confirmed faster"),
        ((2.0, 2.02, 1.98, 1.5), 2.01, "slower, not confirmed"),
        ((2.0, 2.02, 1.98, 1.5), 2.5, "slower, not confirmed"),  # two odd measurements in different directions
        ((2.0, 2.02, 1.98, 2.01), 1.5, "no change"),  # the first decides what is in question
        ((2.0, 2.02, 1.98, 1.96), None, "no change"),  # beyond the range, but not beyond the noise
    ],
)
def test_only_a_second_measurement_of_the_run_confirms_a_change(
    speedups: tuple[float, ...], again: float | None, expected: str
) -> None:
    found = made_trend(*speedups)
    second = None if again is None else made_trend(*speedups[:-1], again)
    assert replace(found, second=second).verdict == expected


def test_two_slow_runs_in_a_row_confirm_nothing_and_a_second_measurement_that_cannot_be_judged_neither() -> None:
    assert made_trend(2.0, 2.02, 1.98, 1.5, 1.5).verdict == "no change", "the range of earlier runs reaches down to it"
    found = replace(made_trend(2.0, 2.02, 1.98, 1.5), second=made_trend(2.0, 1.5))
    assert found.verdict == "suspected slower"


def test_wide_interval_or_noisy_runs_give_no_suspicion() -> None:
    assert made_trend(2.0, 2.0, 2.0, 1.5).verdict == "suspected slower"
    assert made_trend(2.0, 2.0, 2.0, 1.5, width=0.6).verdict == "no change"
    assert made_trend(2.0, 2.0, 2.0, 1.5, noise_floor=0.4).verdict == "no change"


def made_run(day: int, speedup: float = 0.42, **changes: Any) -> BenchmarkRecord:
    started = (START + timedelta(days=day)).isoformat()
    record = made_benchmark("torch-blas", scenarios=[made_scenario("offline", speedup, seed=day)], layers=[])
    return replace(record, started=started, **changes)


def write_run(folder: Path, day: int, speedup: float = 0.42, **changes: Any) -> BenchmarkRecord:
    record = made_run(day, speedup, **changes)
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


def test_the_second_measurement_is_judged_by_earlier_runs_on_its_own_kind_of_cpu(tmp_path: Path) -> None:
    """Jobs get machines by chance: the one that confirms may run on another CPU than the first."""
    other = replace(made_run(0).environment, cpu_model="another")
    for day in (0, 1, 2):
        write_run(tmp_path, day)
        write_record(made_run(day, 0.9, environment=other), record_path(tmp_path / f"other{day}", "03_benchmark", "x"))
    newest = write_run(tmp_path, 3, 0.3)
    for speedup, expected in ((0.9, "slower, not confirmed"), (0.5, "confirmed slower")):
        second = made_run(4, speedup, environment=other)
        write_record(second, second_path(tmp_path / "run3", "torch-blas"))
        (found,) = history_of(tmp_path, newest, "run3").trends
        assert found.verdict == expected and found.second is not None
        assert [point.run for point in found.second.earlier] == ["other0", "other1", "other2"]


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
    older = record_path(tmp_path / "run11", "03_benchmark", "torch-blas")
    older.parent.mkdir(parents=True)
    older.write_text('{"schema_version": 2, "kind": "benchmark", "fields": "that are gone"}')
    write_run(tmp_path, 2, model="another")
    write_run(tmp_path, 12, recipe="another")
    assert newest.data is not None
    write_run(tmp_path, 13, data=replace(newest.data, manifest_hash="another"))
    write_run(tmp_path, 14, data=None)
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
        "of another schema": 2,
        "of another recipe, network or profile": 3,
        "of other data": 2,
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
    with pytest.raises(UserError, match=r"no folder .*; give one that holds earlier runs"):
        load_history(tmp_path / "none", [], tmp_path)


def test_the_page_shows_both_measurements_and_the_verdict_in_words() -> None:
    slower = made_trend(2.0, 2.02, 1.98, 1.5)
    confirmed = replace(slower, second=made_trend(2.0, 2.02, 1.98, 1.6))
    assert change_words(confirmed) == (
        "torch-blas, offline: confirmed slower. 1.50x, measured again 1.60x; earlier runs: 1.98x to 2.02x."
    )
    assert "1.50x (not measured again);" in change_words(slower)
    assert "with too few earlier runs to judge it by" in change_words(replace(slower, second=made_trend(1.6)))
    assert "measured again [99 %]" not in history_table(History([slower])).columns
    shown = history_table(History([confirmed, made_trend(2.0, 2.0, 2.0, 2.0)]))
    assert "measured again [99 %]" in shown.columns and "1.60x" in str(shown) and "▼ confirmed slower" in str(shown)
