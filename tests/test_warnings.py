"""Warnings are data; the words of each kind come from one place."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from lib.records.results import (
    BenchmarkRecord,
    Figure,
    RecordWarning,
    WarningKind,
    read_record,
    write_record,
)
from lib.report.warnings import warning_words, warnings_words
from tests.made_records import made_benchmark

FIGURES: dict[WarningKind, dict[str, Figure]] = {
    "too_many_threads": {"threads": 8, "cores": 2},
    "inconclusive": {
        "openvino-int8": "0.47 [0.10, 0.83] points of top-1 lost, 0.30 are allowed",
    },
    "investigate": {"reason": "the same kernels as without the switch"},
    "disturbed": {"cores": 0.87},
    "two_paces": {"quick_s": 0.0013, "slow_s": 0.0028},
    "unstable": {"torch-blas": 0.042, "the reference torch-onednn": 0.051},
    "slow_reference": {"openvino": 2.0},
}  # fmt: skip


@pytest.mark.parametrize("kind", get_args(WarningKind))
def test_every_kind_has_words_that_name_its_scenario_and_figures(kind: WarningKind) -> None:
    words = warning_words(RecordWarning(kind, "single_stream", FIGURES.get(kind, {})))
    assert words.startswith("Single stream: ") and words.endswith(".") and not words.endswith("..")
    assert all(
        name in words for name in FIGURES.get(kind, {}) if kind in ("unstable", "slow_reference", "inconclusive")
    )


def test_figures_are_shown_in_the_units_of_readers() -> None:
    told = warnings_words([RecordWarning(kind, figures=figures) for kind, figures in FIGURES.items()])
    for words in (
        "8 threads on 2 cores", "openvino-int8: 0.47 [0.10, 0.83] points of top-1 lost",
        "1.30 and 2.80 ms a call", "torch-blas (±4 %) and the reference torch-onednn (±5 %)", "openvino (2.0x)",
    ):  # fmt: skip
        assert words in told


def test_warnings_survive_the_way_through_a_file(tmp_path: Path) -> None:
    record = made_benchmark(warnings=[RecordWarning(kind, "offline", figures) for kind, figures in FIGURES.items()])
    write_record(record, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json", BenchmarkRecord).warnings == record.warnings
