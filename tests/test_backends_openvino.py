"""The OpenVINO backends: right answers, groups of layers that cover the network, and proofs that can fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("openvino")

from lib.backends import Backend
from lib.backends._folding import fold_batch_norms
from lib.backends._openvino import OpenVino, group_steps
from lib.backends.interface import RUNTIME, Kernels
from lib.backends.openvino import OpenVinoFp32
from lib.backends.openvino_bf16 import OpenVinoBf16
from lib.backends.openvino_f16 import OpenVinoF16
from lib.backends.openvino_int8 import OpenVinoInt8
from tests.new_python import printed_by
from tests.ready_backend import images, loaded, prepared
from tests.untrained import save_untrained


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the network in fp32, in which tests load OpenVINO."""
    return prepared(OpenVinoFp32, checkpoint, tmp_path_factory.mktemp("fp32"))


@pytest.fixture(scope="module")
def fp32(checkpoint: Path, folder: Path) -> Backend:
    return loaded(OpenVinoFp32, checkpoint, folder, 8)


def test_each_answer_is_an_array_of_its_own_also_to_images_that_are_read_only(fp32: Backend) -> None:
    batch = images(8)
    first = fp32.predict(batch)
    kept = first.copy()
    fp32.predict(np.zeros_like(batch))
    np.testing.assert_array_equal(first, kept)
    batch.flags.writeable = False
    np.testing.assert_array_equal(fp32.predict(batch), kept)


def test_more_passes_than_one_model_is_profiled_for_are_all_timed(fp32: Backend) -> None:
    times = fp32.layer_times(images(8), 9)
    assert set(times) == set(fp32.trace(images(8)))
    assert {len(passes) for passes in times.values()} == {9}
    assert any(group.startswith("stem.conv+stem.bn") for group in times)  # what else is fused depends on the CPU


@pytest.mark.parametrize("backend", [OpenVinoInt8, OpenVinoBf16, OpenVinoF16])
def test_the_fp32_graph_does_not_pass_for_a_shorter_type(backend: type[OpenVino], fp32: Backend) -> None:
    proof = backend().prove(fp32.trace(images(8)))
    assert not proof.passed
    assert "F32" in proof.reason


def test_int8_fails_its_proof_when_the_file_holds_no_quantized_network(checkpoint: Path, folder: Path) -> None:
    instance = loaded(OpenVinoInt8, checkpoint, folder, 8)
    proof = instance.prove(instance.trace(images(8)))
    assert not proof.passed and "14 of 14 convolutions did not run in int8" in proof.reason


def test_a_shorter_type_does_not_pass_for_fp32() -> None:
    kernels = {"conv": ["brgconv_avx512_core_amx BF16 Convolution"], "head": ["gemm F32 FullyConnected"]}
    assert "BF16" in OpenVinoFp32().broken_promise(kernels)
    assert not OpenVinoBf16().broken_promise(kernels)


@pytest.mark.parametrize(
    ("kernels", "word"),
    [
        ({"a": ["brgconv I8 Convolution"], "b": ["brgconv F32 Convolution"]}, "1 of 2 convolutions ran in F32"),
        ({"a": ["ref I8 Convolution"]}, "reference implementation"),
        ({"a": ["brgconv I8 Convolution"], RUNTIME: ["brgconv I8 Convolution"]}, "lost the name"),
        ({"a": ["brgconv U8 Convolution"]}, ""),
    ],
)
def test_what_keeps_the_promise_only_in_part_is_doubted(kernels: Kernels, word: str) -> None:
    assert OpenVinoInt8().broken_promise(kernels) == ""
    doubts = OpenVinoInt8().doubts(kernels)
    assert word in doubts if word else not doubts


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_int8_in_the_lesser_part_of_the_convolutions_breaks_the_promise_and_on_arm_is_to_be_investigated(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    proof = OpenVinoInt8().prove(
        {"a": ["acl I8 Convolution"], "b": ["gemm_acl F32 Convolution"], "c": ["ref_any F32 Convolution"]}
    )
    assert proof.passed == (machine == "aarch64")
    if proof.passed:
        assert "not what its name promises: on Arm 2 of 3 convolutions ran in F32; 1 convolutions" in proof.investigate
    else:
        assert "2 of 3 convolutions did not run in int8, but in F32" in proof.reason
    assert not OpenVinoInt8().prove({"a": ["winograd_acl F32 Convolution"]}).passed, "none at all is too few anywhere"


def test_no_convolution_is_a_broken_promise() -> None:
    assert OpenVinoFp32().broken_promise({"head": ["gemm F32 FullyConnected"]}) == "no convolution ran"


def test_a_layer_that_vanished_goes_with_the_one_before_and_a_repeated_one_with_its_first_step() -> None:
    steps = [("reorder", []), ("c1", ["conv1", "relu"]), ("c2", ["conv2", "relu"]), ("late", ["relu"]), ("fc", ["fc"])]
    layers = ["conv1", "bn1", "relu", "conv2", "bn2", "flatten", "fc"]
    assert group_steps(steps, layers) == {
        "reorder": RUNTIME,
        "c1": "conv1+bn1+relu",
        "c2": "conv2+bn2+flatten",
        "late": "conv1+bn1+relu",
        "fc": "fc",
    }


def test_batch_norms_are_folded_only_into_a_convolution_of_their_own() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alone = nn.Conv2d(3, 3, 1)
            self.bn1 = nn.BatchNorm2d(3)
            self.shared = nn.Conv2d(3, 3, 1)
            self.bn2 = nn.BatchNorm2d(3)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            hidden = self.shared(self.bn1(self.alone(batch)))
            result: torch.Tensor = self.bn2(hidden) + hidden
            return result

    network = Shared().eval()
    for norm in (network.bn1, network.bn2):
        norm.running_mean = torch.tensor([1.0, 2.0, 3.0])
    batch = torch.from_numpy(images(8))
    with torch.inference_mode():
        before = network(batch)
        fold_batch_norms(network)
        torch.testing.assert_close(network(batch), before)
    assert isinstance(network.bn1, nn.Identity) and isinstance(network.bn2, nn.BatchNorm2d)


def test_loads_without_torch_and_reports_to_nobody(checkpoint: Path, folder: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from lib.backends import get_backend
backend = get_backend("openvino")()
backend.import_runtime()
backend.load(Path({str(checkpoint)!r}), Path({str(folder)!r}), 1)
print([name for name in ("torch", "nncf", "openvino_telemetry.main") if name in sys.modules])
"""
    assert printed_by(program) == "[]"
