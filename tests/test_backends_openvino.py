"""The OpenVINO backends: right answers, groups of layers that cover the network, and proofs that can fail."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("openvino")

from lib.backends import get_backend
from lib.backends._folding import fold_batch_norms
from lib.backends._openvino import OpenVino, group_steps
from lib.backends.interface import RUNTIME, Kernels
from lib.backends.openvino import OpenVinoFp32
from lib.backends.openvino_bf16 import OpenVinoBf16
from lib.backends.openvino_f16 import OpenVinoF16
from lib.backends.openvino_int8 import OpenVinoInt8
from lib.bench.parity import Tolerance, compare_logits
from lib.model import build_network, leaf_layers
from tests.untrained import save_untrained

SHAPE = (8, 3, 32, 32)


def images(num_images: int = SHAPE[0]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_images, *SHAPE[1:])).astype(np.float32)


@dataclass(frozen=True)
class Prepared:
    network: nn.Module
    checkpoint: Path
    folders: dict[str, Path]

    def load(self, backend: type[OpenVino], prepared_for: str = "") -> OpenVino:
        instance = backend()
        instance.import_runtime()
        instance.load(self.checkpoint, self.folders[prepared_for or backend.name], 1)
        instance.compile(SHAPE)
        return instance

    def logits(self, batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = self.network(torch.from_numpy(batch)).numpy()
        return result


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("openvino")
    network = build_network("signnet_small").eval()
    for module in network.modules():  # so that folding them is more than doing nothing
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.1
            module.running_var = torch.rand(module.num_features) * 0.2 + 0.1
    checkpoint = save_untrained(folder, network=network)
    folders = {}
    backends: list[type[OpenVino]] = [OpenVinoFp32]
    if not OpenVinoInt8.missing_packages():
        backends.append(OpenVinoInt8)
    for backend in backends:
        folders[backend.name] = folder / backend.name
        folders[backend.name].mkdir()
        calibration = images(64) if backend.needs_calibration else images(0)
        backend().prepare(checkpoint, calibration, folders[backend.name])
    return Prepared(network, checkpoint, folders)


@pytest.fixture(params=["openvino", "openvino-int8"])
def loaded(request: pytest.FixtureRequest, prepared: Prepared) -> OpenVino:
    if request.param not in prepared.folders:
        pytest.skip("nncf is not installed")
    backend = get_backend(request.param)
    assert issubclass(backend, OpenVino)
    if reason := backend.unavailable():
        pytest.skip(reason)
    return prepared.load(backend)


def test_answers_like_the_network_within_its_own_tolerance(loaded: OpenVino, prepared: Prepared) -> None:
    batch = images()
    reference = prepared.logits(batch)
    allowed = Tolerance(1.0, loaded.sqnr_min_db, 0.0)  # an untrained network's classes are nearly equal
    parity = compare_logits(loaded.predict(batch), reference, reference.argmax(1), np.arange(len(batch)), allowed)
    assert parity.outcome == "passed", parity.reason


def test_each_answer_is_an_array_of_its_own(loaded: OpenVino) -> None:
    batch = images()
    first = loaded.predict(batch)
    kept = first.copy()
    loaded.predict(np.zeros_like(batch))
    np.testing.assert_array_equal(first, kept)


def test_takes_images_that_are_read_only(loaded: OpenVino) -> None:
    batch = images()
    expected = loaded.predict(batch)
    batch.flags.writeable = False
    np.testing.assert_array_equal(loaded.predict(batch), expected)


def test_serves_several_batch_sizes_at_once(loaded: OpenVino) -> None:
    loaded.compile((1, *SHAPE[1:]))
    whole = loaded.predict(images())
    single = np.concatenate([loaded.predict(images()[index : index + 1]) for index in range(SHAPE[0])])
    assert loaded.predict(images()).shape == whole.shape
    np.testing.assert_allclose(single, whole, atol=0.05 * float(np.abs(whole).max()))


def test_groups_hold_every_layer_once_and_fuse_what_the_runtime_fuses(loaded: OpenVino, prepared: Prepared) -> None:
    kernels = loaded.trace(images())
    layers = [layer for group in kernels if group != RUNTIME for layer in group.split("+")]
    assert sorted(layers) == sorted(layer.name for layer in leaf_layers(prepared.network))
    if loaded.precision == "fp32":  # what else is fused depends on the CPU
        assert any(group.startswith("stem.conv+stem.bn") for group in kernels)


def test_no_group_holds_two_layers_with_weights_to_multiply(loaded: OpenVino, prepared: Prepared) -> None:
    heavy = {layer.name for layer in leaf_layers(prepared.network) if layer.num_macs}
    assert all(len(heavy & set(group.split("+"))) <= 1 for group in loaded.trace(images()))


def test_layer_times_have_the_groups_of_the_trace_and_one_number_per_pass(loaded: OpenVino) -> None:
    times = loaded.layer_times(images(), 9)  # more than one model is profiled for
    assert set(times) == set(loaded.trace(images()))
    assert {len(passes) for passes in times.values()} == {9}
    assert all(seconds >= 0 for passes in times.values() for seconds in passes)
    assert sum(sum(passes) for passes in times.values()) > 0


def test_keeps_its_promise(loaded: OpenVino) -> None:
    proof = loaded.prove(loaded.trace(images()))
    assert proof.passed, proof.reason


@pytest.mark.parametrize("backend", [OpenVinoInt8, OpenVinoBf16, OpenVinoF16])
def test_the_fp32_graph_does_not_pass_for_a_shorter_type(backend: type[OpenVino], prepared: Prepared) -> None:
    kernels = prepared.load(OpenVinoFp32).trace(images())
    proof = backend().prove(kernels)
    assert not proof.passed
    assert "F32" in proof.reason


def test_int8_fails_its_proof_when_the_file_holds_no_quantized_network(prepared: Prepared) -> None:
    instance = prepared.load(OpenVinoInt8, prepared_for="openvino")
    proof = instance.prove(instance.trace(images()))
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


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_no_convolution_in_int8_breaks_the_promise_everywhere(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert not OpenVinoInt8().prove({"a": ["winograd_acl F32 Convolution"]}).passed


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
    batch = torch.from_numpy(images())
    with torch.inference_mode():
        before = network(batch)
        fold_batch_norms(network)
        torch.testing.assert_close(network(batch), before)
    assert isinstance(network.bn1, nn.Identity) and isinstance(network.bn2, nn.BatchNorm2d)


def test_loads_without_torch_and_reports_to_nobody(prepared: Prepared) -> None:
    program = f"""
import sys
from pathlib import Path
from lib.backends import get_backend
backend = get_backend("openvino")()
backend.import_runtime()
backend.load(Path({str(prepared.checkpoint)!r}), Path({str(prepared.folders["openvino"])!r}), 1)
print([name for name in ("torch", "nncf", "openvino_telemetry.main") if name in sys.modules])
"""
    import subprocess

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
