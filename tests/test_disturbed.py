"""What was measured beside others has no verdict anywhere: the numbers stay in the record, and pages say why."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lib.analysis.comparison import Comparison, load_comparison
from lib.analysis.csv_files import layer_rows, scenario_rows, sweep_rows
from lib.analysis.history import load_history
from lib.analysis.judgement import allowed_cores, disturbance, disturbances, judge
from lib.analysis.recommendation import front
from lib.ci.gate import judge_run
from lib.ci.step_summary import summary
from lib.html.index import write_index
from lib.records.run import load_run
from lib.records.schema import (
    BenchmarkRecord,
    CompareRecord,
    Conditions,
    LayerTable,
    Scenario,
    SweepPoint,
    read_record,
    record_path,
    write_record,
)
from lib.report import figures
from lib.report.benchmark import batch_sweep, by_layer, clock, end_to_end, glance, machine_limits
from lib.report.compare import answer, costs, layer_map, sweeps, whole_network
from lib.report.compare.backends_table import backends_table
from lib.report.compare.layer_map import layers_table
from lib.report.headline import best_backends, headline
from lib.series.results import write_compare
from lib.series.summary import summary_lines
from lib.series.sweep import headline as sweep_figures
from tests.made_records import made_benchmark, made_layers, made_scenario, made_sweep, write_made_run
from tests.test_pace import slowed

QUIET = Conditions(0.01, 0.0, 0.0, spare_cores=0)
BUSY = Conditions(0.87, 0.02, 0.6, spare_cores=0, num_measured=2, waited_s=60.0)
NAMES = ("single_stream", "offline")
FAST = "openvino-int8"  # the fastest of all made records in both scenarios


def beside_others(record: BenchmarkRecord, scenarios: Sequence[str] = NAMES) -> BenchmarkRecord:
    """The record with scenarios and layers that were measured beside others; the rest was watched and quiet."""

    def conditions(name: str) -> Conditions:
        return BUSY if name in scenarios else QUIET

    return replace(
        record,
        scenarios=[replace(scenario, conditions=conditions(scenario.name)) for scenario in record.scenarios],
        layers=[replace(table, conditions=conditions(table.scenario)) for table in record.layers],
        sweep=[replace(point, conditions=conditions("offline")) for point in record.sweep],
    )


def speedups(*records: BenchmarkRecord) -> list[str]:
    """As pages write them: what must not be seen."""
    return [f"{judge(scenario).ratio.value:.2f}x" for record in records for scenario in record.scenarios]


def run_of(folder: Path, disturbed: dict[str, Sequence[str]], backends: Sequence[str] = ("torch-blas", FAST)) -> Path:
    """A run folder in which some backends were disturbed in some scenarios."""
    write_made_run(folder, backends)
    record_path(folder, "04_compare").unlink()
    for backend, scenarios in disturbed.items():
        path = record_path(folder, "03_benchmark", backend)
        write_record(beside_others(read_record(path, BenchmarkRecord), scenarios), path)
    return folder


def half_disturbed(quiet: str) -> list[BenchmarkRecord]:
    """One backend that is judged, and the fastest, which was disturbed in `offline` alone."""
    return [made_benchmark(quiet), beside_others(made_benchmark(FAST), ["offline"])]


# --- the decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [made_scenario("offline", 2.0), made_layers("offline", 2.0), made_sweep(2.0)[0]],
    ids=lambda part: type(part).__name__,
)
def test_disturbed_is_what_others_used_more_than_is_allowed_of(part: Scenario | LayerTable | SweepPoint) -> None:
    assert disturbance(part) is None, "what nobody watched is judged"
    limit = allowed_cores(0)
    for cores, disturbed in ((0.9 * limit, False), (1.1 * limit, True)):
        found = disturbance(replace(part, conditions=replace(QUIET, others_cores=cores)))
        assert (found is not None) == disturbed
    assert allowed_cores(60) > 1, "cores that are left over may be used"
    why = disturbance(replace(part, conditions=BUSY))
    figures = {"allowed_cores": limit, "stolen_cores": 0.02, "num_measured": 2, "waited_s": 60.0}
    assert why is not None and why.figures == {"others_cores": 0.87, **figures}


def test_a_pace_that_changes_is_a_disturbance_and_one_that_holds_is_none() -> None:
    scenario = replace(made_scenario("single_stream", 2.0), conditions=QUIET)
    changed = disturbance(slowed(scenario, 2.0, slice(7, None)))
    assert changed is not None and float(changed.figures["slow_s"]) > 1.8 * float(changed.figures["quick_s"])
    assert disturbance(slowed(scenario, 2.0)) is None
    assert disturbance(slowed(scenario, 5.0, slice(0, 1))) is None, "one round is a hiccup"


# --- every output -----------------------------------------------------------------------------------------------------


def test_headline_of_a_backend_judges_what_was_quiet() -> None:
    record = beside_others(made_benchmark(FAST), ["offline"])
    assert headline(record) == f"single stream {speedups(record)[0]} faster, offline disturbed, not judged"


def test_index_summaries_and_gate_of_a_run_have_the_word_the_reason_and_no_speed(tmp_path: Path) -> None:
    run = run_of(tmp_path, {"torch-blas": NAMES, FAST: NAMES})
    write_index(run)
    index, lines = (run / "index.html").read_text(), "\n".join(summary_lines(run))
    assert index.count("Others used 0.87 cores") == 1, "one sentence with the reason"
    assert "Offline: disturbed, not judged." in index
    assert "single stream: –, disturbed, not judged; offline: –, disturbed, not judged" in lines
    assert "layer by layer: disturbed, not judged" in lines
    written = index + lines + summary(run, {})
    assert not [speedup for speedup in speedups(*load_run(run).benchmarks) if speedup in written]
    times = [verdict for verdict in judge_run(run) if verdict.check == "times"]
    assert {verdict.subject for verdict in times} == {"torch-blas", FAST}
    assert all(verdict.outcome == "investigate" and "0.87 cores" in verdict.found for verdict in times)


def test_the_best_is_one_that_was_quiet_and_names_who_is_missing(tmp_path: Path) -> None:
    run = run_of(tmp_path, {FAST: ["offline"]}, ["torch-blas", "onnxruntime", FAST])
    single, offline = best_backends(load_run(run).benchmarks)
    assert single.backend == FAST and "not judged" not in single.words
    assert offline.backend == "onnxruntime" and offline.words.endswith(f"; not judged, since disturbed: {FAST}")
    assert {verdict.subject for verdict in judge_run(run) if verdict.check == "times"} == {FAST}


def test_recommendation_ranking_and_front_leave_out_what_was_disturbed() -> None:
    records = half_disturbed("onnxruntime")
    assert FAST not in front(records, "offline") and FAST in front(records, "single_stream")
    found = {(item.scenario, item.precision): item for item in answer.recommendations(Comparison(records))}
    best = found["offline", "any"]
    assert best.backend == "onnxruntime" and f"not judged, since disturbed: {FAST}" in best.text
    assert FAST not in found["offline", "fp32"].text, "an int8 backend is missed by nobody who may only use fp32"


def test_nothing_is_recommended_where_all_were_disturbed() -> None:
    records = [beside_others(made_benchmark(name)) for name in ("onnxruntime", FAST)]
    for item in answer.recommendations(Comparison(records)):
        assert item.backend == "" and item.ratio is None
        assert "disturbed, not judged" in item.text and "Stay with" not in item.text


def test_csv_has_the_word_and_no_numbers() -> None:
    record = beside_others(made_benchmark(FAST, sweep=True), ["offline"])
    single, offline = scenario_rows([record])
    assert single["verdict"] == "faster" and offline["verdict"] == "disturbed, not judged"
    for name in ("speedup", "p50_ms", "images_per_s"):
        assert single[name] and name not in offline
    layers = [row for row in layer_rows([record]) if row["scenario"] == "offline"]
    assert layers and not [row for row in layers if row.get("ms") or row.get("speedup")]
    points = [row for row in sweep_rows([record]) if not row["error"]]
    assert points and all(row["verdict"] == "disturbed, not judged" and "speedup" not in row for row in points)


def test_record_of_the_comparison_has_the_verdict_and_no_ratio(tmp_path: Path) -> None:
    run = run_of(tmp_path, {FAST: ["offline"]})
    comparison = load_comparison(run, [])
    common = {key: getattr(comparison.records[0], key) for key in ("params", "environment", "started", "duration_s")}
    path = record_path(run, "04_compare")

    def write(record: CompareRecord) -> Path:
        write_record(record, path)
        return path

    stand_in: Any = SimpleNamespace(
        common=lambda data, sha256: {**common, "data": data, "checkpoint_sha256": sha256, "profile": "fast"},
        warnings=[],
        write=write,
    )
    write_compare(stand_in, comparison)
    record = read_record(path, CompareRecord)
    found = {name: next(speed for speed in speeds if speed.name == FAST) for name, speeds in record.speeds.items()}
    assert (found["offline"].verdict, found["offline"].ratio) == ("disturbed", None)
    assert found["single_stream"].verdict == "faster" and found["single_stream"].ratio is not None
    with (path.parent / "compare_scenarios.csv").open() as file:
        assert "disturbed, not judged" in {row["verdict"] for row in csv.DictReader(file)}


def test_comparison_page_says_it_in_every_section() -> None:
    records = [beside_others(made_benchmark(name, sweep=True)) for name in ("torch-blas", FAST)]
    comparison = Comparison(records)
    shown = [
        answer.caveats(comparison), answer.recommended(comparison), layer_map.layers(records, "offline"),
        backends_table(records), costs.costs_table(records), sweeps.curves(records),
    ]  # fmt: skip
    for view in shown:
        assert "disturbed" in repr(view).lower()
        assert not [speedup for speedup in speedups(*records) if speedup in repr(view)]
    assert repr(shown[0]).count("Others used 0.87 cores") == 1


def test_speedups_of_a_disturbed_backend_are_not_drawn_and_its_layers_have_no_column() -> None:
    records = half_disturbed("torch-blas")
    _, panel = figures.figure_of(whole_network.plot_ratios(records)).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == [FAST, "torch-blas"]
    assert [text.get_text() for text in panel.texts if "judged" in text.get_text()] == ["disturbed, not judged"]
    assert not [text for text in panel.texts if speedups(records[1])[1] in text.get_text()]
    table = layers_table(records, "offline")
    assert FAST not in table.columns and f"disturbed and not judged: {FAST}" in table.note
    assert FAST in layers_table(records, "single_stream").columns


def test_earlier_runs_that_were_disturbed_are_no_points_of_a_trend(tmp_path: Path) -> None:
    for number in range(4):
        record = made_benchmark(FAST, started=f"2026-11-2{number}T10:00:00+00:00")
        record = beside_others(record, ["offline"] if number == 1 else [])
        write_record(record, record_path(tmp_path / f"run-{number}", "03_benchmark", FAST))
    newest = made_benchmark(FAST, started="2026-11-25T10:00:00+00:00")
    history = load_history(tmp_path, [newest], tmp_path / "newest")
    assert {trend.scenario: len(trend.earlier) for trend in history.trends} == {"single_stream": 4, "offline": 3}
    history = load_history(tmp_path, [beside_others(newest, ["offline"])], tmp_path / "newest")
    assert [trend.scenario for trend in history.trends] == ["single_stream"]


def test_figures_of_a_sweep_leave_out_what_was_disturbed() -> None:
    found = sweep_figures(beside_others(made_benchmark(FAST), ["offline"]))
    assert not [name for name in found if name.startswith("offline")]
    assert "single_stream_speedup" in found


def test_page_of_a_backend_has_the_raw_numbers_in_a_fold_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in (clock, by_layer, machine_limits, figures):
        monkeypatch.setattr(section, "show", lambda figure: pytest.fail("a figure makes a claim"))
    record = beside_others(made_benchmark(FAST, sweep=True))
    scenarios, layers = clock.scenarios(record), by_layer.layers(record, "offline")
    shown = [
        scenarios, layers, clock.latencies(record), clock.round_ratios(record), by_layer.bars(record),
        machine_limits.roofline(record), end_to_end.image_cost(record), batch_sweep.curves(record),
    ]  # fmt: skip
    for view in shown:
        html = view._repr_html_()
        before, fold, inside = html.partition("<details>")
        assert "disturbed, not judged" in before.lower()
        assert "faster" not in html and not [speedup for speedup in speedups(record) if speedup in before]
        assert record.backend in inside if fold else view not in (scenarios, layers)
    assert speedups(record)[0].removesuffix("x") in scenarios._repr_html_()


def test_first_screen_has_one_sentence_and_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[Any] = []
    monkeypatch.setattr("IPython.display.update_display", lambda shown, display_id: updates.append(shown))
    record = beside_others(made_benchmark(FAST))
    record.warnings = disturbances(record)
    glance.fill(record)
    told = repr(updates[0])
    assert "WARNING: Single stream, offline, layers in single stream, layers in offline: disturbed, not judged." in told
    assert told.count("Others used 0.87 cores") == 1 and "after 2 attempts and waiting 1 min 00 s for quiet" in told
    assert not [speedup for speedup in speedups(record) if speedup in told]
