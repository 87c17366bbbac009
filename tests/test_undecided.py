"""A backend whose loss of top-1 nobody can decide: what every reader of its record says."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lib.analysis.comparison import load_comparison
from lib.analysis.csv_files import write_csv
from lib.ci.gate import judge_benchmark
from lib.ci.step_summary import summary
from lib.html.index import write_index
from lib.html.markdown import escape
from lib.records.schema import BenchmarkRecord, record_path, write_record
from lib.report.compare import answer
from lib.report.headline import best_sentence
from lib.series.summary import summary_lines
from tests.made_records import made_benchmark, made_parity, made_train

REASON = "0.47 [0.10, 0.83] points of top-1 lost, 0.30 are allowed"
NAMED = f"not ranked: onnxruntime-int8: {REASON}"


@pytest.fixture
def records() -> list[BenchmarkRecord]:
    """The fastest by far is undecided."""
    parity = made_parity(
        num_images=1920, num_tracks=64, num_lost=11, num_gained=2, top1_drop_allowed=0.003,
        top1_drop_interval=(0.001, 0.0083), outcome="inconclusive", reason=REASON,
    )  # fmt: skip
    return [
        made_benchmark("torch-onednn"),
        made_benchmark("onnxruntime"),
        made_benchmark("onnxruntime-int8", parity=parity),
    ]


@pytest.fixture
def run_dir(records: list[BenchmarkRecord], tmp_path: Path) -> Path:
    write_record(made_train(), record_path(tmp_path, "02_train"))
    for record in records:
        write_record(record, record_path(tmp_path, "03_benchmark", record.backend))
    return tmp_path


def test_it_is_ranked_nowhere(records: list[BenchmarkRecord], run_dir: Path) -> None:
    comparison = load_comparison(run_dir, [])
    assert "onnxruntime, " in best_sentence(comparison.measured) and "int8" not in best_sentence(comparison.measured)
    assert {found.backend for found in answer.recommendations(comparison)} == {"onnxruntime"}
    assert not any("int8" in found.text for found in answer.recommendations(comparison))
    (speed,) = (line for line in summary_lines(run_dir) if line.startswith("Speed"))
    assert "onnxruntime, " in speed and "int8" not in speed


def test_pages_and_summary_name_it_with_the_reason(run_dir: Path) -> None:
    assert NAMED in str(answer.caveats(load_comparison(run_dir, [])))
    assert NAMED in write_index(run_dir).read_text()
    assert escape(NAMED) in summary(run_dir, {})


def test_the_table_of_numbers_has_outcome_and_interval(records: list[BenchmarkRecord], tmp_path: Path) -> None:
    rows = [*csv.DictReader(write_csv(records, tmp_path)[0].open())]
    undecided = [row for row in rows if row["backend"] == "onnxruntime-int8"]
    assert {row["parity"] for row in undecided} == {"inconclusive"}
    assert {(row["top1_drop"], row["top1_drop_low"], row["top1_drop_high"]) for row in undecided} == {
        ("0.0046875", "0.001", "0.0083")
    }
    others = [row for row in rows if row not in undecided]
    assert {(row["parity"], row["top1_drop_low"]) for row in others} == {("passed", "0")}


def test_the_gate_asks_to_investigate(records: list[BenchmarkRecord]) -> None:
    (verdict,) = (verdict for verdict in judge_benchmark(records[2]) if verdict.check == "parity")
    assert (
        verdict.outcome == "investigate" and REASON in verdict.found and verdict.asked.startswith("at most 0.30 points")
    )
