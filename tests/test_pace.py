"""A reference that did not keep its pace flatters a backend: pages say so, and the ranking allows for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib.analysis.comparison import Comparison
from lib.analysis.judgement import two_paces
from lib.analysis.pace import pace_warnings, slow_references
from lib.analysis.recommendation import candidates, choices
from lib.ci.step_summary import summary
from lib.html.index import write_index
from lib.records.schema import BenchmarkRecord, Scenario, write_record
from lib.report.compare.answer import caveats
from tests.made_records import made_benchmark, made_environment, made_scenario


def slowed(scenario: Scenario, factor: float, rounds: slice = slice(None)) -> Scenario:
    """The reference and its control hand over more slowly in some rounds; the backend does not care."""

    def slow(sides: list[list[float]]) -> list[list[float]]:
        chosen = set(range(len(sides))[rounds])
        return [[call * (factor if i in chosen else 1) for call in calls] for i, calls in enumerate(sides)]

    return replace(
        scenario,
        reference_latencies_s=slow(scenario.reference_latencies_s),
        control_latencies_s=slow(scenario.control_latencies_s),
    )


def record(backend: str, speedup: float, factor: float = 1.0, **changes: Any) -> BenchmarkRecord:
    scenario = slowed(made_scenario("single_stream", speedup, seed=len(backend)), factor)
    return made_benchmark(backend, scenarios=[scenario], **changes)


def test_one_pace_is_not_told_also_with_single_hiccups() -> None:
    scenario = made_scenario("single_stream", 2.0)
    for found in (scenario, slowed(scenario, 5.0, slice(0, 1))):
        assert two_paces(found.latencies_s, found.reference_latencies_s) is None, "one round of fifteen is a hiccup"


def test_a_change_of_pace_within_a_job_is_told_with_both() -> None:
    scenario = slowed(made_scenario("single_stream", 2.0), 2.0, slice(7, None))
    found = two_paces(scenario.latencies_s, scenario.reference_latencies_s)
    assert found is not None and found[1] == pytest.approx(2 * found[0], rel=0.1)


@pytest.mark.parametrize(("follows", "disturbed"), [(1.0, True), (1.2, True), (1.9, False), (2.0, False)])
def test_a_change_of_pace_that_the_backend_shares_moves_no_speedup(follows: float, disturbed: bool) -> None:
    scenario = slowed(made_scenario("single_stream", 2.0), 2.0, slice(7, None))
    latencies = [
        [follows * call for call in calls] if i >= 7 else calls for i, calls in enumerate(scenario.latencies_s)
    ]
    assert (two_paces(latencies, scenario.reference_latencies_s) is not None) == disturbed


def test_a_slow_reference_is_named_and_widens_the_interval_that_ranks() -> None:
    records = [record("onnxruntime", 2.0), record("openvino", 1.8, factor=2.0)]
    assert candidates(records[1:], "single_stream")[0].ratio.value > 3, "alone, it looks best"
    assert list(slow_references(records, "single_stream")) == ["openvino"]
    together = {found.record.backend: found.ratio for found in candidates(records, "single_stream")}
    assert list(together) == ["onnxruntime", "openvino"], "no longer the best"
    assert 1.6 < together["openvino"].low < 1.9 and together["openvino"].high > 3
    for precision in ("any", "fp32"):
        assert [found.backend for found in choices(records, precision)] == ["onnxruntime"]
    (warning,) = pace_warnings(records)
    assert warning.scenario == "single_stream" and warning.figures == {"openvino": pytest.approx(2.0, rel=0.1)}
    told = str(caveats(Comparison(records, [])))
    assert "reach down by that factor" in told and "openvino (2.0x)" in told


def test_the_quickest_job_counts_also_where_its_backend_may_not_be_used() -> None:
    records = [record("openvino-int8", 2.0), record("openvino", 1.8, factor=2.0)]
    (only_fp32,) = choices(records, "fp32")
    assert only_fp32.best is not None and only_fp32.best.ratio.low < 1.9, "the interval of its one candidate is widened"


def test_a_backend_that_is_fastest_even_after_its_slow_reference_is_what_to_use() -> None:
    records = [record("onnxruntime", 2.0), record("openvino", 6.0, factor=1.5)]
    assert slow_references(records, "single_stream") and choices(records)[0].backend == "openvino"


def test_other_machines_and_small_differences_have_paces_of_their_own() -> None:
    other = made_environment(cpu_model="another CPU")
    records = [record("onnxruntime", 2.0), record("openvino", 1.8, factor=2.0, environment=other)]
    assert slow_references(records, "single_stream") == {}
    assert slow_references([record("onnxruntime", 2.0), record("openvino", 1.8, factor=1.2)], "single_stream") == {}


def test_index_and_summary_of_a_run_tell_it_too(tmp_path: Path) -> None:
    for found in (record("onnxruntime", 2.0), record("openvino", 1.8, factor=2.0)):
        write_record(found, tmp_path / "results" / f"03_benchmark.{found.backend}.json")
    write_index(tmp_path)
    assert "openvino (2.0x)" in (tmp_path / "index.html").read_text()
    assert "openvino (2.0x)" in summary(tmp_path, {})
