"""Warnings are data; the words of each kind come from one place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from lib.analysis.judgement import record_warnings
from lib.records.schema import (
    BenchmarkRecord,
    Conditions,
    Figure,
    Proof,
    RecordWarning,
    WarningKind,
    read_record,
    write_record,
)
from lib.report.caveats import warning_words, warnings_words
from tests.made_records import made_benchmark, made_environment, made_parity, made_scenario

FIGURES: dict[WarningKind, dict[str, Figure]] = {
    "too_many_threads": {"threads": 8, "cores": 2},
    "inconclusive": {
        "openvino-int8": "0.47 [0.10, 0.83] points of top-1 lost, 0.30 are allowed",
    },
    "investigate": {"reason": "the same kernels as without the switch"},
    "disturbed": {
        "others_cores": 0.87, "allowed_cores": 0.1, "stolen_cores": 0.3, "num_measured": 2, "waited_s": 60.0
    },
    "layers_disturbed": {"quick_s": 0.0013, "slow_s": 0.0028, "num_measured": 1, "waited_s": 0.0},
    "sweep_disturbed": {
        "others_cores": 0.2, "allowed_cores": 0.1, "stolen_cores": 0.0, "num_measured": 1, "waited_s": 0.0
    },
    "backends_disturbed": {
        "backends": "openvino (offline)", "others_cores": 0.87, "allowed_cores": 0.1, "stolen_cores": 0.0,
        "num_measured": 1, "waited_s": 0.0,
    },
    "not_measured": {"backend": "ncnn", "status": "failed", "reason": "no wheel."},
    "missing": {"backends": "openvino, ncnn"},
    "memorized": {"images": 7, "total": 300},
    "left_out": {"reason": "x.json is damaged"},
    "unstable": {"torch-blas": 0.042, "the reference torch-onednn": 0.051},
    "slow_reference": {"openvino": 2.0},
    "variables": {"notebook": "OMP_PROC_BIND=close", "measured": "LD_PRELOAD=x.so"},
}  # fmt: skip


@pytest.mark.parametrize("kind", get_args(WarningKind))
def test_every_kind_has_words_that_name_its_scenario_and_figures(kind: WarningKind) -> None:
    words = warning_words(RecordWarning(kind, "single_stream", FIGURES.get(kind, {})))
    assert words.startswith("Single stream: ") and words.endswith(".") and not words.endswith("..")
    assert all(
        name in words for name in FIGURES.get(kind, {}) if kind in ("unstable", "slow_reference", "inconclusive")
    )


def test_figures_are_shown_in_the_units_of_readers() -> None:
    told = warnings_words([RecordWarning(kind, "offline", figures) for kind, figures in FIGURES.items()])
    for words in (
        "8 threads on 2 cores", "openvino-int8: 0.47 [0.10, 0.83] points of top-1 lost",
        "offline", "0.87 cores", "at most 0.10 are allowed", "0.30 of them", "2 attempts and waiting 1 min 00 s",
        "torch-blas (±4 %) and the reference torch-onednn (±5 %)", "openvino (2.0x)",
        "not measured: ncnn (failed), no wheel.", "no record of openvino, ncnn", "left out: x.json is damaged",
        "judged: openvino (offline).",
        "no measured process: OMP_PROC_BIND=close", "in measured processes: LD_PRELOAD=x.so",
    ):  # fmt: skip
        assert words in told


def test_what_was_disturbed_is_told_in_one_sentence_with_the_worst_reason() -> None:
    kinds: tuple[WarningKind, ...] = ("disturbed", "layers_disturbed", "sweep_disturbed")
    told = warnings_words([RecordWarning(kind, "offline", FIGURES[kind]) for kind in kinds])
    assert told.startswith("Offline, layers in offline, points of the sweep: disturbed, not judged. Others used 0.87")
    assert told.count("disturbed") == 1
    pace = warnings_words([RecordWarning("disturbed", "offline", FIGURES["layers_disturbed"])])
    assert "changed its pace between 1.30 and 2.80 ms a call" in pace and "attempts" not in pace


def test_warnings_survive_the_way_through_a_file(tmp_path: Path) -> None:
    record = made_benchmark(warnings=[RecordWarning(kind, "offline", figures) for kind, figures in FIGURES.items()])
    write_record(record, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json", BenchmarkRecord).warnings == record.warnings


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"environment": made_environment(num_threads=5, emulated=True)}, ["too_many_threads", "emulated"]),
        ({"random_weights": True, "parity": made_parity(reference_top1=0.02)}, ["random_weights"]),
        ({"random_weights": True, "parity": None}, []),
        ({"parity": made_parity(reference_top1=0.069)}, ["near_chance"]),
        ({"parity": made_parity(reference_top1=0.07)}, []),
        ({"parity": made_parity(outcome="inconclusive", reason="why")}, ["inconclusive"]),
        ({"proof": Proof("what", {}, passed=True, investigate="why")}, ["investigate"]),
    ],
)
def test_the_numbers_of_a_record_say_what_readers_must_know(changes: dict[str, Any], expected: list[str]) -> None:
    assert [warning.kind for warning in record_warnings(made_benchmark("torch-blas", **changes))] == expected


def test_scattering_times_are_unstable_unless_a_disturbance_is_the_reason() -> None:
    scenario = made_scenario("offline", 2.0)
    scattered = [[call * (1 + number % 2) for call in calls] for number, calls in enumerate(scenario.latencies_s)]
    for conditions, expected in ((None, "unstable"), (Conditions(3.0, 0.0, 0.0, spare_cores=0), "disturbed")):
        scenario = replace(scenario, latencies_s=scattered, conditions=conditions)
        (warning,) = record_warnings(made_benchmark("torch-blas", scenarios=[scenario], layers=[]))
        assert (warning.kind, warning.scenario) == (expected, "offline")
