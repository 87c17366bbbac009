"""Layers against the machine's bounds, the whole call against its layers, and what images cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lib.analysis.cost import cost_of, price_table
from lib.analysis.roofline import LayerRoofline, Roofline, machine_limits, roofline
from lib.records.schema import BenchmarkRecord, Layer, LayerTable, Peak, Peaks, Scenario
from tests.made_records import made_benchmark, made_environment

PEAKS = Peaks({"fp32": Peak(100e9, "MKL, 512 x 512 x 512"), "int8": Peak(400e9, "oneDNN")}, Peak(10e9, "memcpy"))


def layer(name: str = "conv", seconds: float = 1e-3, **changes: Any) -> Layer:
    made = Layer(
        name=name,
        members=name.split("+"),
        kind="Conv2d",
        num_macs=1_000_000,
        num_inputs=1000,
        num_weights=500,
        output_shape=[10, 10, 20],
        latencies_s=[[seconds], [seconds]],
        reference_latencies_s=[[1.0], [1.0]],
        control_latencies_s=[[1.0], [1.0]],
        kernels=["jit:avx512"],
        reference_kernels=[],
    )
    return replace(made, **changes)


def record(
    *layers: Layer, batch_size: int = 10, call_s: float = 1e-3, runtime: Any = (), **changes: Any
) -> BenchmarkRecord:
    scenario = Scenario("offline", batch_size, [[call_s], [call_s]], [[1.0], [1.0]], [[1.0], [1.0]], num_warmup=1)
    table = LayerTable("offline", batch_size, list(layers), [list(each) for each in runtime])
    made = replace(made_benchmark("torch-onednn"), scenarios=[scenario], layers=[table], peaks=PEAKS)
    return replace(made, **changes)


def rooflined(*layers: Layer, **changes: Any) -> Roofline:
    found = roofline(record(*layers, **changes))
    assert found is not None
    return found


def only(*layers: Layer, **changes: Any) -> LayerRoofline:
    return rooflined(*layers, **changes).layers[0]


def test_operations_and_bytes_of_a_batch() -> None:
    found = only(layer())
    assert found.flops == 2 * 1_000_000 * 10
    assert found.num_bytes == 4 * ((1000 + 2000) * 10 + 500), "weights are read once for the whole batch"
    assert found.intensity == pytest.approx(20e6 / 122e3)
    assert found.flops_per_s == pytest.approx(20e9)
    assert found.bytes_per_s == pytest.approx(122e6) and found.bandwidth_share == pytest.approx(0.0122)


@pytest.mark.parametrize(("precision", "num_bytes"), [("fp32", 4), ("bf16", 2), ("f16", 2), ("int8", 1)])
def test_elements_are_as_wide_as_the_backend_stores_them(precision: str, num_bytes: int) -> None:
    assert only(layer(), precision="bf16", storage=precision).num_bytes == num_bytes * 30_500


@pytest.mark.parametrize(("precision", "peak"), [("fp32", 100e9), ("int8", 400e9)])
def test_a_layer_is_held_against_the_peak_of_the_precision_in_which_it_multiplies(precision: str, peak: float) -> None:
    assert only(layer(), precision=precision).peak_share == pytest.approx(20e9 / peak)


def test_the_tighter_of_the_two_bounds_counts() -> None:
    compute = only(layer())
    assert compute.limit == "compute" and compute.bound_s == pytest.approx(20e6 / 100e9)
    assert compute.bound_share == pytest.approx(0.2)
    memory = only(layer(num_macs=100))
    assert memory.limit == "memory" and memory.bound_s == pytest.approx(122e3 / 10e9)


def test_a_layer_without_multiplications_is_bound_by_memory_in_any_precision() -> None:
    found = only(layer(kind="ReLU", num_macs=0, num_weights=0), precision="bf16")
    assert found.flops == 0 and found.flops_per_s is None and found.peak_share is None
    assert found.limit == "memory" and found.bound_share is not None


@pytest.mark.parametrize(("kind", "is_view"), [("Flatten", True), ("Dropout+Flatten", True), ("Conv2d+Flatten", False)])
def test_a_view_moves_nothing(kind: str, is_view: bool) -> None:
    found = only(layer(kind=kind, num_macs=0))
    assert (found.num_bytes == 0, found.bytes_per_s is None, found.limit == "") == (is_view,) * 3


def test_a_precision_that_nobody_measured_has_no_shares() -> None:
    found = rooflined(layer(), precision="bf16")
    assert found.limits is not None and found.limits.matmul is None and found.limits.ridge is None
    assert found.layers[0].peak_share is None and found.layers[0].bound_share is None and found.layers[0].limit == ""
    assert found.network.bound_s is None and found.network.peak_share is None


def test_limits_meet_at_the_ridge_and_there_are_none_in_emulation() -> None:
    limits = machine_limits(record(layer()))
    assert limits is not None and limits.ridge == pytest.approx(10.0)
    assert machine_limits(record(layer(), environment=made_environment(emulated=True))) is None


def test_without_peaks_there_are_times_and_no_shares() -> None:
    found = rooflined(layer(), peaks=None)
    assert found.limits is None
    assert found.layers[0].flops_per_s == pytest.approx(20e9) and found.layers[0].bound_share is None


def test_without_layers_or_scenario_there_is_no_roofline() -> None:
    assert roofline(record(layers=[])) is None
    assert roofline(record(layer()), "single_stream") is None


@pytest.mark.parametrize(
    ("kernels", "word"),
    [
        (["jit_wino:avx512"], "Winograd"),
        (["brgconv:bf16"], "computes in bf16"),
        (["gemm:u8"], "computes in int8"),
        (["jit:avx512_block_u80"], "MKL, 512 x 512 x 512"),
    ],
)
def test_a_share_of_the_peak_above_one_is_shown_and_explained(kernels: list[str], word: str) -> None:
    found = only(layer(seconds=1e-4, kernels=kernels))
    assert found.peak_share == pytest.approx(2.0) and found.bound_share == pytest.approx(2.0)
    assert word in found.explanation
    assert only(layer(kernels=kernels)).explanation == "", "below one"


def test_a_share_of_the_bandwidth_above_one_is_explained_by_caches() -> None:
    found = only(layer(seconds=1e-6, kind="ReLU", num_macs=0))
    assert found.bandwidth_share == pytest.approx(12.2) and "caches" in found.explanation


def test_layers_and_steps_of_the_runtime_add_up_to_the_call() -> None:
    network = rooflined(layer("a", 4e-4), layer("b", 3e-4), runtime=([2e-4], [2e-4])).network
    assert network.layers_s == pytest.approx(7e-4) and network.runtime_s == pytest.approx(2e-4)
    assert network.missing_share == pytest.approx(0.1)
    assert network.flops == 40e6 and network.peak_share == pytest.approx(0.4)
    assert network.bound_share == pytest.approx(0.4)


@pytest.mark.parametrize("seconds", [0.95e-3, 1.05e-3])
def test_a_small_gap_between_layers_and_call_needs_no_words(seconds: float) -> None:
    assert rooflined(layer(seconds=seconds)).network.sentence == ""


def test_layers_that_nobody_tells_are_named() -> None:
    found = roofline(record(layer("a+b", 5e-4)), network_layers=["a", "b", "c", "d", "e", "f", "g"])
    assert found is not None and found.network.missing_share == pytest.approx(0.5)
    assert found.network.sentence.startswith("50% of the call are in no layer")
    assert "c, d, e and 2 more layers" in found.network.sentence and "one image" not in found.network.sentence
    assert "one image" in rooflined(layer(seconds=5e-4), batch_size=1).network.sentence, "dispatch weighs most there"


def test_layers_that_add_up_to_more_than_the_call_are_explained() -> None:
    network = rooflined(layer(seconds=1.5e-3)).network
    assert network.missing_share == pytest.approx(-0.5)
    assert "50% more than the call" in network.sentence


def test_scattered_calls_put_the_gap_in_doubt() -> None:
    made = record(layer(seconds=5e-4))
    calm = roofline(made)
    made.scenarios[0].latencies_s = [[1e-3], [1e-3], [9e-3]]
    scattered = roofline(made)
    assert calm is not None and scattered is not None
    assert "scatter" in scattered.network.sentence and "scatter" not in calm.network.sentence


def priced(**changes: Any) -> BenchmarkRecord:
    machine = {"architecture": "aarch64", "num_cores": 4, "num_threads": 4, **changes}
    return replace(record(layer(), call_s=1e-2), environment=made_environment(**machine))


def test_images_per_dollar_by_hand() -> None:
    (row,) = cost_of(priced()).rows
    assert row.images_per_s == pytest.approx(1000)
    assert row.million_images_per_dollar == pytest.approx(1000 * 60 / 0.008 / 1e6)
    assert "4-core" in row.runner


def test_only_runners_of_the_measured_size_and_architecture_are_priced() -> None:
    assert {row.usd_per_min for row in cost_of(priced(architecture="x86_64")).rows} == {0.012}
    two = cost_of(priced(num_cores=2, num_threads=2))
    assert len(two.rows) == 2 and any("free in public" in row.note for row in two.rows)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_cores": 6, "num_threads": 6}, "no aarch64 runner with 6 cores"),
        ({"num_threads": 2}, "2 threads on 4 cores"),
        ({"emulated": True}, "emulation"),
        ({"status": "failed"}, "throughput was not measured"),
        ({"scenarios": []}, "throughput was not measured"),
        ({"parity": None}, "computes no network"),
    ],
)
def test_without_throughput_network_or_matching_runner_the_reason_is_given(changes: dict[str, Any], word: str) -> None:
    machine = {name: value for name, value in changes.items() if hasattr(made_environment(), name)}
    others = {name: value for name, value in changes.items() if name not in machine}
    cost = cost_of(replace(priced(**machine), **others))
    assert cost.rows == [] and word in cost.reason


def test_price_list_is_dated_and_has_each_runner_once() -> None:
    table = price_table()
    assert table.url.startswith("https://docs.github.com/") and table.date.count("-") == 2
    assert len({price.sku for price in table.runners}) == len(table.runners)
    assert all(price.usd_per_min > 0 for price in table.runners)
