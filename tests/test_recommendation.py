"""What the records together say: layers by backends, recommendations, the front, and the numbers as files."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib.analysis.categories import category, category_columns
from lib.analysis.comparison import Comparison
from lib.analysis.csv_files import write_csv
from lib.analysis.layer_grid import layer_grid
from lib.analysis.recommendation import front
from lib.analysis.statistics import median_latency
from lib.analysis.sweep_points import faster_from
from lib.records.schema import BenchmarkRecord, LayerTable, Needs, Recommendation, SweepPoint
from lib.report.compare.answer import recommendations
from lib.report.headline import drop_words
from tests.made_records import LAYERS, made_benchmark, made_failed_benchmark, made_layers, made_parity, made_scenario


def measured(backend: str, speedup: float, **changes: Any) -> BenchmarkRecord:
    """A record with an offline scenario only, of exactly this speedup in every round."""
    scenario = made_scenario("offline", 1.0)
    scenario.control_latencies_s = scenario.reference_latencies_s
    scenario.latencies_s = [[call / speedup for call in calls] for calls in scenario.reference_latencies_s]
    return made_benchmark(backend, scenarios=[scenario], **changes)


def widened(record: BenchmarkRecord, spread: float) -> BenchmarkRecord:
    """Every other round is quicker by `spread`, so that the interval reaches from the speedup to beyond it."""
    scenario = record.scenarios[0]
    scenario.latencies_s = [
        [call / (1 + spread * (number % 2)) for call in calls] for number, calls in enumerate(scenario.latencies_s)
    ]
    return record


def best(*records: BenchmarkRecord, precision: str = "any") -> Recommendation:
    return next(found for found in recommendations(Comparison(list(records))) if found.precision == precision)


# -------------------------------------------------------------------------------------------- recommendations


def test_fastest_right_backend_is_recommended_with_interval_and_loss() -> None:
    found = best(measured("onnxruntime", 1.5), measured("onnxruntime-int8", 2.0))
    assert found.backend == "onnxruntime-int8"
    assert found.text.startswith(
        "Offline, batch 256: use onnxruntime-int8, 2.00x faster [2.00, 2.00] than torch-onednn, for 0.20 "
        "[-0.10, 0.60] points of top-1. Conditions: it computes in int8, on a CPU with i8mm; it is calibrated on 512 "
        "training images"
    )


def test_without_loss_of_precision_only_fp32_counts() -> None:
    records = (measured("onnxruntime", 1.5), measured("onnxruntime-int8", 2.0))
    assert best(*records, precision="fp32").backend == "onnxruntime"


@pytest.mark.parametrize("wrong", ["failed", "inconclusive", "proof", "emulated", "status", "null"])
def test_wrong_and_undecided_backends_are_never_recommended(wrong: Any) -> None:
    record = measured("onnxruntime", 2.0)
    assert record.parity is not None and record.proof is not None
    if wrong in ("failed", "inconclusive"):
        record.parity.outcome = wrong
    elif wrong == "proof":
        record.proof.passed = False
    elif wrong == "emulated":
        record.environment.emulated = True
    elif wrong == "status":
        record.status = "failed"
    else:
        record.parity = None
    assert best(record, measured("openvino", 1.5)).backend == "openvino"


def test_nothing_faster_beyond_the_noise_means_stay() -> None:
    found = best(measured("onnxruntime", 1.01), measured("torch-blas", 0.5))
    assert (found.backend, found.ratio) == ("torch-onednn", None)
    assert found.text == "Offline: no other backend is faster beyond the noise. Stay with torch-onednn."


def test_noise_floor_of_the_record_itself_counts() -> None:
    noisy = measured("onnxruntime", 1.1)
    scenario = noisy.scenarios[0]
    scenario.control_latencies_s = [[1.3 * call for call in calls] for calls in scenario.reference_latencies_s]
    assert best(noisy).ratio is None


def test_equally_good_backends_are_named_and_the_one_with_fewest_conditions_is_used() -> None:
    fast = widened(measured("onnxruntime-int8", 1.9), 0.3)
    plain = widened(measured("openvino", 1.85), 0.3)
    found = best(fast, plain)
    assert (found.backend, found.equally_good) == ("openvino", ["onnxruntime-int8"])
    assert "Equally good: onnxruntime-int8." in found.text
    plain.needs = Needs(("openvino",), "more", default=False)
    assert best(fast, plain).backend == "onnxruntime-int8"
    assert best(fast, measured("openvino", 1.5)).equally_good == []


def test_conditions_tell_packages_compilation_memory_and_batch_sizes() -> None:
    record = measured("torch-compile", 2.0)
    record.scenarios[0].compile_s = 9.4
    assert record.cold_start is not None and record.proof is not None
    record.cold_start.peak_memory_bytes = 2**30
    record.proof.investigate = "a reorder per layer"
    record.needs = Needs(("compiler",), "compiled", default=False)
    told = best(record).conditions
    for part in (
        "it needs the packages compiler",
        "it compiles for 9 s in every process",
        "it takes 1,024 MiB of memory, the reference 398 MiB",
        "batches of 256; other sizes were not measured",
        "4 threads on Neoverse-N2",
        "to be looked at: a reorder per layer",
    ):
        assert part in told


def points(*speedups: float) -> list[SweepPoint]:
    return [
        SweepPoint(size, 4, [[1 / speedup]] * 3, [[1.0]] * 3)
        for size, speedup in zip((1, 8, 32, 256, 512), speedups, strict=True)
    ]


def test_batch_size_from_which_a_recommendation_holds() -> None:
    assert faster_from(points(0.5, 1.2, 0.9, 1.1, 1.2)) == 256
    assert faster_from(points(1.5, 1.2, 1.3, 1.1, 1.0)) is None
    record = measured("onnxruntime", 1.5, sweep=False)
    record.sweep = points(0.5, 1.2, 1.3, 1.5, 1.6)
    assert "batches of 8 and more (measured up to 512)" in best(record).conditions


def test_smoke_records_recommend_nothing() -> None:
    assert recommendations(Comparison([measured("onnxruntime", 2.0, profile="smoke")])) == []


def test_random_weights_say_nothing_about_accuracy() -> None:
    found = best(measured("onnxruntime", 2.0, random_weights=True))
    assert "top-1" not in found.text
    assert "nothing is known about its accuracy" in found.text


def test_architectures_are_recommended_apart() -> None:
    record = measured("onnxruntime", 3.0)
    intel = replace(record, environment=replace(record.environment, architecture="x86_64", cpu_model="Xeon"))
    found = recommendations(Comparison([measured("openvino", 1.5), intel]))
    assert {item.architecture: item.backend for item in found} == {"aarch64": "openvino", "x86_64": "onnxruntime"}


def test_loss_of_top1_is_told_with_its_interval() -> None:
    lost = made_parity(num_images=1000, num_lost=12, num_gained=4, top1_drop_interval=(-0.0003, 0.0163))
    assert drop_words(lost) == "for 0.80 [-0.03, 1.63] points of top-1"
    assert drop_words(made_parity()) == "at equal top-1"
    gained = made_parity(num_images=1000, num_lost=4, num_gained=12, top1_drop_interval=(-0.0163, 0.0003))
    assert drop_words(gained) == "at 0.80 [-0.03, 1.63] points more top-1"
    assert drop_words(made_parity(num_lost=2, top1_drop_interval=None)) == "for 0.20 points of top-1"


def test_front_keeps_what_no_other_backend_beats_in_both() -> None:
    records = [
        measured("torch-onednn", 1.0),
        measured("onnxruntime", 1.3),
        measured("openvino", 1.2),
        measured("onnxruntime-int8", 2.0),
        measured("torch-onednn-bf16", 1.8),
    ]
    assert front(records, "offline") == ["onnxruntime-int8", "onnxruntime"]


# ------------------------------------------------------------------------------------------------ layer grid

NAMES = [name for name, _, _ in LAYERS]


def test_rows_are_the_layers_of_the_network_in_its_order_whoever_comes_first() -> None:
    records = [made_benchmark("onnxruntime"), made_benchmark("torch-blas")]
    assert layer_grid(records, "offline").rows == NAMES
    assert layer_grid(records[:1], "offline").rows == NAMES


def test_fused_group_stands_once_at_its_heaviest_member() -> None:
    grid = layer_grid([made_benchmark("torch-blas"), made_benchmark("onnxruntime")], "offline")
    column = grid.columns["onnxruntime"]
    assert column.shown["stem.conv"].name == "stem.conv+stem.norm"
    assert column.hidden == {"stem.norm": "stem.conv", "pool": "stage3.0.conv2"}
    assert column.runtime_s is not None and grid.columns["torch-blas"].runtime_s is None
    assert sum(grid.shares.values()) == pytest.approx(1)
    other_order = layer_grid([made_benchmark("onnxruntime"), made_benchmark("torch-blas")], "offline")
    assert other_order.shares == pytest.approx(grid.shares, rel=0.05), "of a layer alone, whichever job timed it"


def test_backend_without_layer_times_has_no_column() -> None:
    silent = made_benchmark("torch-aoti", layers=[])
    grid = layer_grid([silent, made_benchmark("torch-blas"), made_failed_benchmark("x")], "offline")
    assert (list(grid.columns), grid.silent) == (["torch-blas"], ["torch-aoti"])


def test_layers_that_compute_come_before_those_that_move_data() -> None:
    table = made_layers("offline", 0.5)
    norm = table.layers[1]
    norm.reference_latencies_s = [[100 * call for call in calls] for calls in norm.reference_latencies_s]
    grid = layer_grid([made_benchmark("torch-blas", layers=[table])], "offline")
    assert "stem.norm" not in grid.slowest(9)
    assert "head" in grid.slowest(9) and grid.slowest(10) == [name for name in NAMES if name != "pool"]


# ------------------------------------------------------------------------------------------------ categories


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Conv2d", "convolution"),
        ("BatchNorm2d+Conv2d+ReLU", "convolution"),
        ("Linear+Conv1d", "convolution"),
        ("Linear+ReLU", "matmul"),
        ("BatchNorm2d", "element-wise"),
        ("AdaptiveAvgPool2d+Flatten", "element-wise"),
        ("Flatten", "data movement"),
    ],
)
def test_layers_that_run_as_one_step_count_as_what_computes_most(kind: str, name: str) -> None:
    assert category(kind) == name


def test_category_has_the_time_of_its_layers_and_steps_of_the_runtime_move_data() -> None:
    table = made_layers("offline", 2.0, fused=True)
    for layer in table.layers:
        layer.control_latencies_s = layer.reference_latencies_s
        faster = 4 if "Conv" in layer.kind else 1
        layer.latencies_s = [[call / faster for call in calls] for calls in layer.reference_latencies_s]
    (column,) = category_columns([made_benchmark("onnxruntime", layers=[table])], "offline")
    assert sum(found.share for found in column.times.values()) == pytest.approx(1)
    assert column.bottleneck == "convolution" and list(column.times) == ["convolution", "matmul", "data movement"]
    ratio, moved = column.times["convolution"].ratio, column.times["data movement"]
    assert ratio is not None and ratio.value == pytest.approx(4)
    assert moved.ratio is None and moved.seconds == pytest.approx(median_latency(table.runtime_latencies_s))


def test_backend_that_was_disturbed_or_cannot_time_its_layers_has_no_category() -> None:
    silent = made_benchmark("torch-aoti", layers=[LayerTable("offline", 256, [])])
    assert category_columns([silent, made_failed_benchmark("x")], "offline") == []


# ----------------------------------------------------------------------------------------------------- files


def test_csv_files_hold_a_row_per_backend_and_scenario_or_layer(tmp_path: Path) -> None:
    records = [
        made_benchmark("torch-blas"),
        made_benchmark("onnxruntime"),
        made_failed_benchmark("x", error="no, none"),
    ]
    scenarios, layers = (list(csv.DictReader(path.open())) for path in write_csv(records, tmp_path))
    assert [(row["backend"], row["scenario"]) for row in scenarios] == [
        ("torch-blas", "single_stream"), ("torch-blas", "offline"), ("onnxruntime", "single_stream"),
        ("onnxruntime", "offline"), ("x", ""),
    ]  # fmt: skip
    assert scenarios[4]["error"] == "no, none"
    assert scenarios[1]["verdict"] == "slower" and float(scenarios[1]["speedup"]) == pytest.approx(0.42, abs=0.02)
    named = {row["layer"] for row in layers if row["backend"] == "onnxruntime"}
    assert {"stem.conv+stem.norm", "(runtime)"} <= named and "pool" not in named
    assert {row["machine_id"] for row in layers} == {"5f2c90ab"}
