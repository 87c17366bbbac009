"""Compiled PyTorch: right logits, every layer in one group, and proofs that fail when they should."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.backends import Kernels, get_backend
from lib.backends._torch_compiled import TorchAhead, TorchCompiled, assign, own_cache, require_compiler
from lib.backends.interface import RUNTIME
from lib.errors import UserError
from lib.machine import flags_for, has_any
from lib.model import LayerInfo, leaf_layers
from lib.model import load_checkpoint as read
from lib.onednn import parse_report
from tests.ready_backend import expected, images, loaded, prepared
from tests.untrained import save_untrained

BATCH = images(4)
NETWORKS = {"torch-compile": "signnet_small", "torch-aoti": "learning_path", "torch-int8": "learning_path"}
Compiled = tuple[TorchCompiled, Path]  # the backend, and the checkpoint of its network


# one compile takes 10 to 20 s of CPU time
@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    name = request.param
    backend = get_backend(name)
    if missing := backend.missing_packages():
        pytest.skip(f"not installed: {', '.join(missing)}")
    if issubclass(backend, TorchAhead):
        backend = type(name, (backend,), {"prepared_sizes": (len(BATCH),)})
    folder = tmp_path_factory.mktemp(name)
    checkpoint = save_untrained(folder, NETWORKS[name])
    instance = loaded(backend, checkpoint, prepared(backend, checkpoint, folder / "prepared"), len(BATCH))
    assert isinstance(instance, TorchCompiled)
    return instance, checkpoint


in_process = pytest.mark.parametrize("compiled", [pytest.param("torch-compile", marks=pytest.mark.slow)], indirect=True)


@pytest.fixture
def fp32_precision_as_it_was() -> Iterator[None]:
    switches = (torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    yield
    for switch, precision in zip(switches, before, strict=True):
        switch.fp32_precision = precision


@in_process  # the others in the conformance suite
def test_agrees_with_eager_mode_and_times_every_layer_in_one_group(compiled: Compiled) -> None:
    backend, checkpoint = compiled
    np.testing.assert_allclose(backend.predict(BATCH), expected(checkpoint, BATCH), atol=1e-5)
    times, kernels = backend.layer_times(BATCH, 3), backend.trace(BATCH)
    layers = [layer for group in times if group != RUNTIME for layer in group.split("+")]
    assert sorted(layers) == sorted(layer.name for layer in leaf_layers(read(checkpoint).model))
    assert all(len(passes) == 3 and min(passes) > 0 for passes in times.values())
    assert list(kernels) == list(times)


class TestEveryCompiledBackend:
    def test_keeps_its_promise_without_doubts_and_not_with_onednn_switched_off(self, compiled: Compiled) -> None:
        backend, _ = compiled
        kernels = backend.trace(BATCH)
        proof = backend.prove(kernels)
        assert proof.passed, proof.reason
        assert not proof.investigate
        without = {group: [name for name in names if not name.startswith("onednn")] for group, names in kernels.items()}
        assert "oneDNN" in backend.prove(without).reason

    def test_fails_its_proof_if_the_network_was_not_compiled(
        self, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend, checkpoint = compiled
        monkeypatch.setitem(backend._compiled, BATCH.shape, read(checkpoint).model)
        assert not backend.prove(backend.trace(BATCH)).passed


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


@in_process
def test_batch_norm_is_folded_and_the_rest_fused_where_onednn_can_and_shorter_types_are_promised_in_vain(
    compiled: Compiled,
) -> None:
    kernels = compiled[0].trace(BATCH)
    block = "stage1.block1"
    fused = {"stem.conv+stem.bn+stem.relu", f"{block}.conv2+{block}.bn2+{block}.add+{block}.relu2"}
    apart = {"stem.conv+stem.bn", "stem.relu", f"{block}.conv2+{block}.bn2", f"{block}.add+{block}.relu2"}
    assert (apart if torch.backends.mkldnn.is_acl_available() else fused) <= set(kernels)
    for name, precision in (("torch-int8", "int8"), ("torch-compile-bf16", "bf16")):
        proof = get_backend(name)().prove(kernels)
        assert not proof.passed and f"not in {precision}" in proof.reason
    in_bf16 = {group: [name.replace(" f32", " bf16") for name in names] for group, names in kernels.items()}
    assert get_backend("torch-compile-bf16")().prove(in_bf16).passed


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["torch-aoti"], indirect=True)
def test_sizes_that_were_not_prepared_are_compiled_where_they_turn_up(
    compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, _ = compiled
    asked: list[tuple[int, ...]] = []

    def package(_program: torch.nn.Module, shape: tuple[int, ...], _folder: Path) -> None:
        asked.append(shape)
        raise InterruptedError

    monkeypatch.setattr(backend, "_package", package)
    with pytest.raises(InterruptedError):
        backend.compile((7, 3, 32, 32))
    backend.compile((len(BATCH), 3, 32, 32))
    assert asked == [(7, 3, 32, 32)]


def test_missing_compiler_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no-such-compiler.*apt-get install g\+\+"):
        require_compiler()


@pytest.mark.usefixtures("fp32_precision_as_it_was")
class TestFastMath:
    def test_every_convolution_may_use_bf16_and_the_promise_is_broken_where_it_was_not_allowed(
        self, tmp_path: Path
    ) -> None:
        backend = loaded(get_backend("torch-onednn-fastmath"), save_untrained(tmp_path, "learning_path"), tmp_path)
        kernels = backend.trace(images(32))
        refused = not has_any(flags_for("bf16"))  # by PyTorch
        assert refused or any("fpmath bf16" in name for name in kernels["conv1"])
        assert backend.prove(kernels).passed or backend.unavailable()
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
