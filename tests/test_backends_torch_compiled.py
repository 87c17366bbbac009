"""Compiled PyTorch: right logits, every layer in one group, and proofs that fail when they should."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.backends import Backend, Kernels, get_backend
from lib.backends._torch_compiled import TorchAhead, TorchCompiled, assign, own_cache, require_compiler
from lib.backends.interface import RUNTIME
from lib.errors import UserError
from lib.machine import flags_for, has_any
from lib.model import LayerInfo, leaf_layers
from lib.model import load_checkpoint as read
from lib.onednn import parse_report
from tests.untrained import save_untrained

SHAPE = (4, 3, 32, 32)


def images(num_images: int = SHAPE[0]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_images, *SHAPE[1:])).astype(np.float32)


def ready(name: str, architecture: str, folder: Path) -> tuple[TorchCompiled, Path]:
    """A backend with one network compiled for `SHAPE`."""
    backend = get_backend(name)()
    assert isinstance(backend, TorchCompiled)
    checkpoint = save_untrained(folder, architecture)
    if isinstance(backend, TorchAhead):
        backend.prepared_sizes = (SHAPE[0],)
    prepared = folder / "prepared"
    prepared.mkdir()
    backend.prepare(checkpoint, images(64) if backend.needs_calibration else images(0), prepared)
    backend.import_runtime()
    backend.load(checkpoint, prepared, 1)
    backend.compile(SHAPE)
    return backend, checkpoint


# one compile takes 10 to 20 s of CPU time: one always, two more with --all-backends


def skip_unless_all(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--all-backends"):
        pytest.skip("takes minutes: pytest --all-backends")


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> tuple[TorchCompiled, Path]:
    return ready("torch-compile", "signnet_small", tmp_path_factory.mktemp("compile"))


@pytest.fixture(scope="module")
def ahead(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TorchCompiled, Path]:
    skip_unless_all(request)
    return ready("torch-aoti", "learning_path", tmp_path_factory.mktemp("aoti"))


@pytest.fixture(scope="module")
def int8(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TorchCompiled, Path]:
    skip_unless_all(request)
    pytest.importorskip("torchao")
    return ready("torch-int8", "learning_path", tmp_path_factory.mktemp("int8"))


@pytest.fixture(params=["in_process", "ahead", "int8"])
def compiled(request: pytest.FixtureRequest) -> tuple[TorchCompiled, Path]:
    backend: tuple[TorchCompiled, Path] = request.getfixturevalue(request.param)
    return backend


@pytest.fixture
def fp32_precision_as_it_was() -> Iterator[None]:
    switches = (torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    yield
    for switch, precision in zip(switches, before, strict=True):
        switch.fp32_precision = precision


def test_agrees_with_eager_mode_and_times_every_layer_in_one_group(in_process: tuple[TorchCompiled, Path]) -> None:
    backend, checkpoint = in_process  # the others in the conformance suite
    network = read(checkpoint).model
    with torch.inference_mode():
        expected = network(torch.from_numpy(images())).numpy()
    np.testing.assert_allclose(backend.predict(images()), expected, atol=1e-5)
    times, kernels = backend.layer_times(images(), 3), backend.trace(images())
    layers = [layer for group in times if group != RUNTIME for layer in group.split("+")]
    assert sorted(layers) == sorted(layer.name for layer in leaf_layers(network))
    assert all(len(passes) == 3 and min(passes) > 0 for passes in times.values())
    assert list(kernels) == list(times)


class TestEveryCompiledBackend:
    def test_keeps_its_promise_without_doubts(self, compiled: tuple[TorchCompiled, Path]) -> None:
        backend, _ = compiled
        proof = backend.prove(backend.trace(images()))
        assert proof.passed, proof.reason
        assert not proof.investigate

    def test_fails_its_proof_if_the_network_was_not_compiled(
        self, compiled: tuple[TorchCompiled, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend, checkpoint = compiled
        monkeypatch.setitem(backend._compiled, SHAPE, read(checkpoint).model)
        assert not backend.prove(backend.trace(images())).passed

    def test_fails_its_proof_with_onednn_switched_off(self, compiled: tuple[TorchCompiled, Path]) -> None:
        backend, _ = compiled
        kernels = {
            group: [name for name in names if not name.startswith("onednn")]
            for group, names in backend.trace(images()).items()
        }
        assert "oneDNN" in backend.prove(kernels).reason


@pytest.mark.parametrize("before", [None, "another"])
def test_files_of_the_compiler_go_to_a_folder_of_their_own(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    else:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before)
    with own_cache(tmp_path):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before


def test_batch_norm_is_folded_and_the_rest_fused_where_onednn_can(
    in_process: tuple[TorchCompiled, Path],
) -> None:
    kernels = in_process[0].trace(images())
    block = "stage1.block1"
    fused = {"stem.conv+stem.bn+stem.relu", f"{block}.conv2+{block}.bn2+{block}.add+{block}.relu2"}
    apart = {"stem.conv+stem.bn", "stem.relu", f"{block}.conv2+{block}.bn2", f"{block}.add+{block}.relu2"}
    assert (apart if torch.backends.mkldnn.is_acl_available() else fused) <= set(kernels)


def test_int8_promise_is_broken_by_fp32_kernels(ahead: tuple[TorchCompiled, Path]) -> None:
    proof = get_backend("torch-int8")().prove(ahead[0].trace(images()))
    assert not proof.passed and "not in int8" in proof.reason


def test_bf16_promise_is_broken_by_fp32_kernels(ahead: tuple[TorchCompiled, Path]) -> None:
    kernels = ahead[0].trace(images())
    proof = get_backend("torch-compile-bf16")().prove(kernels)
    assert not proof.passed and "not in bf16" in proof.reason
    in_bf16 = {group: [name.replace(" f32", " bf16") for name in names] for group, names in kernels.items()}
    assert get_backend("torch-compile-bf16")().prove(in_bf16).passed


def test_sizes_that_were_not_prepared_are_compiled_where_they_turn_up(
    ahead: tuple[TorchCompiled, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, _ = ahead
    asked: list[tuple[int, ...]] = []

    def package(_program: torch.nn.Module, shape: tuple[int, ...], _folder: Path) -> None:
        asked.append(shape)
        raise InterruptedError

    monkeypatch.setattr(backend, "_package", package)
    with pytest.raises(InterruptedError):
        backend.compile((7, 3, 32, 32))
    backend.compile(SHAPE)
    assert asked == [(7, 3, 32, 32)]


def test_missing_compiler_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no-such-compiler.*apt-get install g\+\+"):
        require_compiler()


@pytest.mark.usefixtures("fp32_precision_as_it_was")
class TestFastMath:
    def loaded(self, tmp_path: Path) -> Backend:
        backend = get_backend("torch-onednn-fastmath")()
        backend.load(save_untrained(tmp_path, "learning_path"), tmp_path, 1)
        return backend

    def test_every_convolution_may_use_bf16(self, tmp_path: Path) -> None:
        backend = self.loaded(tmp_path)
        kernels = backend.trace(images(32))
        assert any("fpmath bf16" in name for name in kernels["conv1"]) or not has_any(
            flags_for("bf16")
        )  # PyTorch refuses it there
        assert backend.prove(kernels).passed or backend.unavailable()

    def test_promise_is_broken_where_bf16_was_not_allowed(self, tmp_path: Path) -> None:
        backend = self.loaded(tmp_path)
        torch.backends.mkldnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        proof = backend.prove(backend.trace(images(32)))
        assert not proof.passed and "without fpmath" in proof.reason

    def test_promise_is_broken_where_bf16_was_allowed_and_x86_ran_fp32(self) -> None:
        def reason(implementation: str) -> str:
            kernels: Kernels = {"conv": [f"onednn convolution {implementation} f32 (fpmath bf16)"]}
            return get_backend("torch-onednn-fastmath")().prove(kernels).reason

        assert "no convolution used it" in reason("jit:avx512_core")
        assert not reason("brg_conv_fwd:avx512_core_amx") and not reason("jit:avx512_core_bf16")
        assert not reason("indirect_gemm:acl")


def convolution(name: str, channels: int, num_inputs: int, kernel: int = 3, size: int = 8) -> LayerInfo:
    num_macs = channels * size * size * num_inputs * kernel**2
    return layer(name, "Conv2d", (channels, size, size), num_macs)


def layer(name: str, kind: str, shape: tuple[int, ...] = (8, 8, 8), num_macs: int = 0) -> LayerInfo:
    known = {"name": name, "kind": kind, "output_shape": shape, "num_macs": num_macs}
    others = {field: 0 for field in LayerInfo.__dataclass_fields__ if field not in known}
    return LayerInfo(**known, **others)  # type: ignore[arg-type]


def report(*problems: tuple[int, int, int, str]) -> str:
    """oneDNN's lines for convolutions: output channels, input channels, kernel, post-operations."""
    return "".join(
        "onednn_verbose,v1,primitive,exec,cpu,convolution,brg_conv_fwd:avx512_core,forward_inference,"
        f"src:f32::blocked:acdb::f0 dst:f32::blocked:acdb::f0,attr-scratchpad:user{post_ops},alg:convolution_direct,"
        f"mb1_ic{inputs}oc{outputs}_ih8oh8kh{kernel}sh1dh0ph1_iw8ow8kw{kernel}sw1dw0pw1,0.02\n"
        for outputs, inputs, kernel, post_ops in problems
    )


CONV, BN, ADD = convolution("conv", 8, 4), layer("bn", "BatchNorm2d"), layer("add", "Add")
RELU, POOL = layer("relu", "ReLU"), layer("pool", "MaxPool2d")
CALL = "mkldnn::_convolution_pointwise"
PLAIN = (8, 4, 3, "")


@pytest.mark.parametrize(
    ("layers", "steps", "problems", "groups"),
    [
        pytest.param(
            [CONV, BN, ADD, convolution("shortcut", 8, 4, kernel=1)], [CALL, CALL],
            [(8, 4, 1, ""), (8, 4, 3, " attr-post-ops:sum:0.5+eltwise_relu")], ["shortcut", "conv+bn+add"],
            id="branches that ran in another order are told apart by their problem",
        ),
        pytest.param(
            [CONV, RELU, POOL], ["cpp_fused_relu_0", CALL, "cpp_fused_max_pool2d_with_indices_1"],
            [(8, 4, 3, " attr-post-ops:eltwise_relu")], [RUNTIME, "conv+relu", "pool"],
            id="a conversion named after a fused layer belongs to no layer",
        ),
        pytest.param(
            [CONV, BN, RELU, convolution("second", 16, 8)], [CALL, "cpp_fused_relu_0", CALL],
            [(8, 4, 3, " attr-post-ops:eltwise_relu"), (16, 8, 3, "")], ["conv+bn+relu", RUNTIME, "second"],
            id="the same behind a norm that is folded",
        ),
        pytest.param(
            [CONV, BN, RELU], ["aten::convolution", "cpp_fused__native_batch_norm_legit_no_training_relu_1"],
            [PLAIN], ["conv", "bn+relu"], id="an activation that is not fused is a group of its own",
        ),
        pytest.param(
            [CONV, BN, ADD, RELU], [CALL, "cpp_fused_add_relu_1"], [PLAIN], ["conv+bn", "add+relu"],
            id="on Arm only the norm is folded; sum and activation are steps of their own",
        ),
        pytest.param(
            [layer("pool", "AdaptiveAvgPool2d"), layer("flatten", "Flatten"), layer("head", "Linear")],
            ["cpp_fused_mean_1", "mkl::_mkl_linear", "cpp_fused_addmm_mean_view_2"], [],
            ["pool+flatten", "head", "head"], id="a bias added by a step of its own belongs to the linear layer",
        ),
        pytest.param([CONV], [CALL], [(16, 4, 3, "")], None, id="a convolution that fits no layer"),
        pytest.param([CONV], [], [], None, id="a layer without a step"),
    ],
)  # fmt: skip
def test_steps_are_assigned_to_layers(
    layers: list[LayerInfo], steps: list[str], problems: list[Any], groups: list[str] | None
) -> None:
    assert assign(steps, parse_report(report(*problems)), layers) == groups


def test_report_gives_post_operations_and_fpmath_mode() -> None:
    (primitive,) = parse_report(report((8, 3, 3, " attr-fpmath:bf16 attr-post-ops:sum:0.01+eltwise_relu")))
    assert primitive.post_ops == ("sum", "eltwise_relu")
    assert primitive.text == "onednn convolution brg_conv_fwd:avx512_core f32 (fpmath bf16)"
