"""ONNX Runtime: the way back from its optimized graph to our layers, and proofs that fail when they should."""

from __future__ import annotations

import itertools
import platform
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from lib.backends import Backend
from lib.backends._onnx import node_groups
from lib.backends.interface import RUNTIME
from lib.model import Checkpoint, leaf_layers, random_checkpoint

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from lib.backends.onnxruntime import OnnxRuntime  # noqa: E402
from lib.backends.onnxruntime_bf16 import IN_BF16, IN_FP32, OnnxRuntimeBf16, product_type  # noqa: E402
from lib.backends.onnxruntime_int8 import OnnxRuntimeInt8  # noqa: E402
from tests.made_data import made_data, noise  # noqa: E402
from tests.ready_backend import expected, images, loaded, prepared  # noqa: E402
from tests.untrained import save_untrained  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(OnnxRuntime, checkpoint, tmp_path_factory.mktemp("fp32"))


@pytest.fixture(scope="module")
def fp32(checkpoint: Path, exported: Path) -> Backend:
    return loaded(OnnxRuntime, checkpoint, exported, 4)


@pytest.fixture(scope="module")
def int8(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    folder = prepared(OnnxRuntimeInt8, checkpoint, tmp_path_factory.mktemp("int8"))
    return loaded(OnnxRuntimeInt8, checkpoint, folder, 4)


def test_layers_that_are_fused_share_a_group(fp32: Backend) -> None:
    groups = fp32.trace(images(4))
    assert "stage1.block1.conv2+stage1.block1.bn2+stage1.block1.add+stage1.block1.relu2" in groups
    operator = "nchwc.Conv" if platform.machine() == "x86_64" else "microsoft.FusedConv"
    assert groups["stem.conv+stem.bn+stem.relu"] == [f"{operator} float CPUExecutionProvider"]


@pytest.mark.parametrize("operator", ["nchwc.Conv", "microsoft.FusedConv", "Conv"])
def test_fp32_promise_is_kept_by_the_convolutions_of_every_architecture(operator: str) -> None:
    assert OnnxRuntime().broken_promise({"conv": [f"{operator} float CPUExecutionProvider"]}) == ""
    assert OnnxRuntime().broken_promise({"conv": [f"{operator} float16 CPUExecutionProvider"]})


def test_int8_quantizes_every_convolution_sum_and_pool(int8: Backend) -> None:
    kernels = int8.trace(images(4))
    assert sum("QLinearConv" in names[0] for names in kernels.values()) == 14
    for layers, names in kernels.items():
        assert layers == RUNTIME or "Flatten" in names[0] or "QLinear" in names[0] or "QGemm" in names[0]
    assert not int8.doubts(kernels)


def test_fp32_promise_is_broken_by_a_quantized_model(fp32: Backend, int8: Backend) -> None:
    assert not fp32.prove(int8.trace(images(4))).passed


def test_int8_promise_is_broken_by_the_fp32_model(int8: Backend, fp32: Backend) -> None:
    proof = int8.prove(fp32.trace(images(4)))
    assert not proof.passed and "in int8" in proof.reason


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int8 activations are right elsewhere")
def test_int8_promise_is_broken_where_most_convolutions_stay_in_fp32(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the quantization tool does unless told otherwise: int8 activations."""
    monkeypatch.setattr("lib.backends.onnxruntime_int8.platform.machine", lambda: "aarch64")
    backend = loaded(OnnxRuntimeInt8, checkpoint, prepared(OnnxRuntimeInt8, checkpoint, tmp_path), 4)
    monkeypatch.undo()
    proof = backend.prove(backend.trace(images(4)))
    assert not proof.passed and "convolutions ran in fp32" in proof.reason


def test_bf16_promise_is_broken_where_the_switch_changes_nothing(checkpoint: Path, exported: Path) -> None:
    bf16 = loaded(OnnxRuntimeBf16, checkpoint, exported, 4)
    if not bf16.unavailable():
        pytest.skip("the switch works on this machine")
    kernels = bf16.trace(images(4))
    multiplying = [names for group, names in kernels.items() if "conv" in group or "head" in group]
    assert len(multiplying) == 15 and all(IN_FP32 in names for names in multiplying)
    assert not bf16.prove(kernels).passed


def test_bf16_promise_is_broken_by_a_matrix_product_alone() -> None:
    backend = OnnxRuntimeBf16()
    convolution = "nchwc.Conv float CPUExecutionProvider"
    assert not backend.prove({"conv": [convolution, IN_FP32], "head": ["Gemm float ...", IN_BF16]}).passed
    proof = backend.prove({"conv1": [convolution, IN_BF16], "conv2": [convolution, IN_FP32]})
    assert proof.passed and "conv2" in proof.investigate


def test_rounding_to_bf16_is_told_from_adding_in_another_order() -> None:
    left, right = torch.from_numpy(images(1)), torch.from_numpy(images(1, seed=1))
    exact = (left @ right).numpy()
    rounded = (left.bfloat16().float() @ right.bfloat16().float()).numpy()
    reordered = (left.flip(3) @ right.flip(2)).numpy()
    assert product_type(rounded, exact) == IN_BF16
    assert product_type(reordered, exact) == IN_FP32 and product_type(exact, exact) == IN_FP32


class EverSpinning(OnnxRuntime):
    """As by default: threads go on spinning for a while after a run."""

    session_entries: ClassVar[dict[str, str]] = {"session.force_spinning_stop": "0"}


def test_idle_threads_stop_spinning_after_a_call(exported: Path, checkpoint: Path) -> None:
    batch = images(64)  # enough work for both threads
    ours, spinning = (loaded(each, checkpoint, exported, 64, num_threads=2) for each in (OnnxRuntime, EverSpinning))
    idle: dict[Backend, list[float]] = {ours: [], spinning: []}
    while len(idle[ours]) < 3 or (4 * np.median(idle[ours]) > np.median(idle[spinning]) and len(idle[ours]) < 50):
        for backend, seconds in idle.items():
            backend.predict(batch)
            before = time.process_time()
            time.sleep(0.1)
            seconds.append(time.process_time() - before)
    assert 4 * np.median(idle[ours]) < np.median(idle[spinning]), idle


@pytest.fixture(scope="module", params=["mobilenet_v3_small", "resnet18"])
def foreign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    folder = tmp_path_factory.mktemp("foreign")
    data = made_data(noise("train", 4), noise("val", 4))
    checkpoint = random_checkpoint(request.param, data, folder / "checkpoint.safetensors")
    return checkpoint, prepared(OnnxRuntime, checkpoint.path, folder)


class PlainLayout(OnnxRuntime):
    """As where no convolution has a kernel for the blocked layout: other nodes, with other names."""

    session_entries: ClassVar[dict[str, str]] = {"optimization.disable_specified_optimizers": "NchwcTransformer"}


@pytest.mark.parametrize("backend", [OnnxRuntime, PlainLayout])
def test_layers_of_foreign_networks_are_found_again(
    backend: type[OnnxRuntime], foreign: tuple[Checkpoint, Path]
) -> None:
    checkpoint, folder = foreign
    instance = loaded(backend, checkpoint.path, folder, 4)
    np.testing.assert_allclose(instance.predict(images(4)), expected(checkpoint.path, images(4)), atol=1e-3)
    groups = [group.split("+") for group in instance.trace(images(4)) if group != RUNTIME]
    dropped = {name for name, module in checkpoint.model.named_modules() if isinstance(module, torch.nn.Dropout)}
    layers = [layer for layer in leaf_layers(checkpoint.model) if layer.name not in dropped]
    assert sorted(name for group in groups for name in group) == sorted(layer.name for layer in layers)
    place = {layer.name: number for number, layer in enumerate(layers)}
    for group in groups:  # neighbours, but for the two layers of a shortcut before a sum
        assert place[group[-1]] - place[group[0]] < len(group) + 2
    for layer, after in itertools.pairwise(layers):
        if after.kind == "BatchNorm2d":
            assert any({layer.name, after.name} <= set(group) for group in groups)


def test_a_sum_belongs_to_the_convolution_that_was_computed_last() -> None:
    """Both branches of a residual block end in a convolution; the sum is fused into one of them."""
    make = onnx.helper.make_node

    def layer(node: Any, name: str) -> Any:
        node.metadata_props.append(onnx.StringStringEntryProto(key="layer", value=name))
        return node

    exported = onnx.helper.make_graph(
        [
            layer(make("Conv", ["images", "w1"], ["long/Conv:0"], name="long/Conv"), "long"),
            layer(make("Conv", ["images", "w2"], ["short/Conv:0"], name="short/Conv"), "short"),
            layer(make("Add", ["long/Conv:0", "short/Conv:0"], ["add/Add:0"], name="add/Add"), "add"),
            layer(make("Relu", ["add/Add:0"], ["relu/Relu:0"], name="relu/Relu"), "relu"),
        ], "exported", [], [],
    )  # fmt: skip
    optimized = onnx.helper.make_graph(
        [
            make("ReorderInput", ["images"], ["a"], name="ReorderInput"),
            make("Conv", ["a", "w2"], ["b"], name="short/Conv:0_nchwc"),
            make("Conv", ["a", "w1", "b"], ["c"], name="long/Conv:0_nchwc"),
            make("ReorderOutput", ["c"], ["relu/Relu:0"], name="ReorderOutput"),
        ], "optimized", [], [],
    )  # fmt: skip
    groups = node_groups(onnx.helper.make_model(exported), onnx.helper.make_model(optimized))
    assert groups == [RUNTIME, "short", "long+add+relu", RUNTIME]
