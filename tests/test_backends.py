"""One conformance suite over every backend of the registry, and proofs that fail when they should."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lib.analysis.statistics import signal_to_error_db
from lib.backends import Backend, backend_names, get_backend
from lib.backends.interface import RUNTIME, TOLERANCES, register
from lib.backends.null import Null
from lib.backends.torch_blas import TorchBlas
from lib.errors import UserError
from lib.files import PROJECT_ROOT
from lib.machine import ISA_FLAGS, flags_for
from lib.model import build_network, leaf_layers
from lib.onednn import parse_report
from lib.signs import NUM_CLASSES
from tests.ready_backend import expected, images, loaded
from tests.untrained import save_untrained
from tests.waiting import HANG_S

BACKENDS = [get_backend(name) for name in backend_names()]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build_network("signnet_small", NUM_CLASSES).eval()
    for module in network.modules():  # so that folding them is more than doing nothing
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.1
            module.running_var = torch.rand(module.num_features) * 0.2 + 0.1
    return save_untrained(tmp_path_factory.mktemp("model"), network=network)


@pytest.fixture(autouse=True)
def switches_as_they_were() -> object:
    """Backends set process-wide switches; in real life each has a process of its own."""
    before = torch.backends.mkldnn.enabled
    yield
    torch.backends.mkldnn.enabled = before
    torch.backends.nnpack.set_flags(True)


def in_child(what: str, backend: type[Backend], checkpoint: Path, folder: Path) -> str:
    """Prepare or use a backend as a worker does: in a process of its own, with its own environment."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.backend_child", what, backend.name, str(checkpoint), str(folder)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **backend.environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(backend, id=backend.name, marks=() if backend.default else pytest.mark.slow)
        for backend in BACKENDS
    ],
)
def told(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[type[Backend], dict[str, Any]]:
    """A backend, and what it answered in a process of its own."""
    backend: type[Backend] = request.param
    if reason := backend.unavailable():
        pytest.skip(reason)
    if missing := backend.missing_packages():
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("model")
    if backend.prepare is not Backend.prepare:
        in_child("prepare", backend, checkpoint, folder)
    return backend, json.loads(in_child("use", backend, checkpoint, folder))


Told = tuple[type[Backend], dict[str, Any]]


class TestEveryBackend:
    def test_gives_finite_float32_logits_per_class_and_never_alters_its_input(self, told: Told) -> None:
        _, answer = told
        logits = np.array(answer["three"])
        assert logits.shape == (3, 43) and answer["dtype"] == "float32" and np.isfinite(logits).all()

    def test_gives_the_same_logits_twice(self, told: Told) -> None:
        assert told[1]["deterministic"]

    def test_agrees_with_plain_torch(self, told: Told, checkpoint: Path) -> None:
        backend, answer = told
        if not backend.is_network:
            pytest.skip("computes no network")
        logits = np.array(answer["logits"])
        sqnr_db = signal_to_error_db(logits, expected(checkpoint, images(32)).astype(np.float64))
        # random weights are harder for 8 bits than trained ones
        assert sqnr_db is None or sqnr_db > (80 if backend.precision == "fp32" else 10)
        # the same images in a smaller batch: some runtimes compile for each size
        np.testing.assert_allclose(np.array(answer["three"]), logits[:3], atol=0.05 * np.abs(logits).max())

    def test_groups_hold_each_layer_of_the_network_once_and_at_most_one_that_multiplies(self, told: Told) -> None:
        backend, answer = told
        layers = leaf_layers(build_network("signnet_small", NUM_CLASSES)) if backend.is_network else []
        multiplying = {layer.name for layer in layers if layer.num_macs}
        groups = [group.split("+") for group in answer["times"] if group != RUNTIME]
        assert sorted(member for group in groups for member in group) == sorted(layer.name for layer in layers)
        assert all(len(multiplying.intersection(group)) <= 1 for group in groups)
        assert set(answer["times"]) - {RUNTIME} <= set(answer["kernels"])
        traced = [member for group in answer["kernels"] if group != RUNTIME for member in group.split("+")]
        assert len(traced) == len(set(traced)) and multiplying <= set(traced)

    def test_a_convolution_ran_where_the_network_has_one(self, told: Told) -> None:
        backend, answer = told
        groups = {group: kernels for group, kernels in answer["kernels"].items() if "conv" in group}
        assert bool(groups) == backend.is_network
        for group, kernels in groups.items():
            assert any("conv" in kernel.lower() for kernel in kernels), (group, kernels)

    def test_times_every_group_once_a_pass(self, told: Told) -> None:
        backend, answer = told
        assert {len(passes) for passes in answer["times"].values()} == ({2} if backend.is_network else set())
        assert min((min(passes) for passes in answer["times"].values()), default=0) >= 0
        spent = sum(sum(passes) for passes in answer["times"].values())
        assert (spent > 0) == backend.is_network

    def test_keeps_its_promise_in_large_batches(self, told: Told) -> None:
        assert not told[1]["reason"]


def test_operator_that_waited_for_a_core_in_one_pass_is_not_the_kernel_of_its_layer() -> None:
    class Disturbed(nn.Module):
        num_passes = 0

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            self.num_passes += 1
            torch.rand(10_000_000 if self.num_passes == 2 else 1)  # the first that the profiler sees
            return batch.flatten(1) @ weights

    weights = torch.ones(3 * 32 * 32, 256)
    backend = TorchBlas()
    backend.model = nn.Sequential(Disturbed())
    assert backend.trace(images(32)) == {"0": ["mm"]}


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_backend_names_itself_and_its_promise(backend: type[Backend]) -> None:
    assert backend.name == backend.name.lower() and " " not in backend.name
    assert backend.title and backend.promise and backend.architectures
    allowed = backend.tolerance or TOLERANCES[backend.precision]
    assert allowed.top1_drop <= (0.003 if backend.precision == "int8" else 0.0005)
    assert not backend.extra or (PROJECT_ROOT / f"requirements-{backend.extra}.txt").exists()


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_proof_of_a_network_fails_where_no_kernel_was_seen(backend: type[Backend]) -> None:
    unseen = backend().prove({})
    assert unseen.passed != backend.is_network and bool(unseen.reason) == backend.is_network
    assert not backend().prove({"stem.conv": []}).passed


def test_every_flag_that_is_asked_for_is_one_that_records_have() -> None:
    known = {flag for flags in ISA_FLAGS.values() for flag in flags}
    assert {flag for backend in BACKENDS for flag in backend.needs_any_flag} <= known
    for precision in ("bf16", "f16", "int8"):
        assert flags_for(precision) == flags_for(precision, "x86_64") + flags_for(precision, "aarch64") != ()


def test_backend_that_judges_no_kernels_cannot_be_used() -> None:
    class Trusting(Backend):
        load = Null.load
        predict = Null.predict

    with pytest.raises(TypeError, match="broken_promise"):
        Trusting()  # type: ignore[abstract]


@pytest.mark.parametrize(
    ("backend", "sabotage"),
    [
        ("torch-onednn", "onednn off"),
        ("torch-blas", "nothing off"),
        ("torch-nnpack", "nnpack off"),
        ("torch-nnpack", "nothing off"),
    ],
)
def test_proof_fails_when_other_kernels_ran(backend: str, sabotage: str, checkpoint: Path) -> None:
    instance = loaded(get_backend(backend), checkpoint, checkpoint.parent)
    torch.backends.mkldnn.enabled = sabotage == "nothing off"  # type: ignore[assignment]
    torch.backends.nnpack.set_flags(sabotage != "nnpack off")
    proof = instance.prove(instance.trace(images(32)))
    assert not proof.passed and proof.reason


def test_bf16_promise_is_broken_by_fp32_kernels() -> None:
    bf16 = get_backend("torch-onednn-bf16")()
    fp32 = {"stem.conv": ["mkldnn_convolution", "onednn convolution jit:avx512_core f32"]}
    assert not bf16.prove(fp32).passed
    assert bf16.prove({"stem.conv": ["mkldnn_convolution", "onednn convolution brgconv:sve_128 bf16"]}).passed


def test_onednn_on_arm_without_compute_library_is_worth_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    onednn = get_backend("torch-onednn")()
    assert not onednn.prove({"conv": ["onednn convolution indirect_gemm:acl f32"]}).investigate
    without = onednn.prove({"conv": ["onednn convolution brgconv:sve_128 f32"]})
    assert without.passed and "Arm Compute Library" in without.investigate


def test_single_images_skip_onednn_and_the_trace_says_so(checkpoint: Path) -> None:
    kernels = loaded(get_backend("torch-onednn"), checkpoint, checkpoint.parent).trace(images(1))
    assert kernels["stem.conv"][0] == "slow_conv2d_forward"
    assert not any("onednn convolution" in name for name in kernels["stem.conv"])


def test_report_of_onednn_gives_primitive_implementation_and_type() -> None:
    text = (
        "onednn_verbose,v1,info,cpu,isa:Intel AVX2\n"
        "onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:f32::blocked:abcd::f0 dst:f32:a,,,1x1,0.1\n"
        "onednn_verbose,v1,primitive,exec,cpu,convolution,indirect_gemm:acl,forward_training,"
        "src:bf16:a:blocked:acdb::f0 wei:bf16:a dst:bf16:a,,alg:convolution_direct,mb1,0.5\n"
    )
    texts = [primitive.text for primitive in parse_report(text)]
    assert texts == ["onednn reorder jit:uni f32", "onednn convolution indirect_gemm:acl bf16"]


def test_another_cpu_or_architecture_makes_a_backend_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.backends.interface.isa_flags", lambda: ("avx2",))
    assert "avx512_bf16" in get_backend("torch-onednn-bf16").unavailable()
    monkeypatch.setattr("lib.backends.interface.isa_flags", lambda: ("asimd", "bf16"))
    assert not get_backend("torch-onednn-bf16").unavailable()
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "riscv64" in get_backend("torch-blas").unavailable()


def test_unknown_backend_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown backend 'torch-onedn'; did you mean 'torch-onednn'.*torch-blas"):
        get_backend("torch-onedn")


@pytest.mark.parametrize(
    ("faulty", "words"),
    [
        ({"name": "null"}, "two backends are named 'null': lib.backends.null and tests.test_backends; rename one"),
        ({"name": "a b"}, "a backend is named 'a b'; use letters, digits, - and _ only"),
        ({"title": ""}, "the backend Faulty has no title"),
        ({"precision": "fp31"}, "precision of the backend mine is 'fp31'; use fp32, f16, bf16, int8"),
        ({"storage": "8 bits"}, "storage of the backend mine is '8 bits'; use fp32, tf32"),
    ],
)
def test_backend_that_cannot_be_used_is_refused_where_it_is_registered(faulty: dict[str, str], words: str) -> None:
    described = {"name": "mine", "title": "mine", "promise": "none", "__module__": __name__, **faulty}
    with pytest.raises(ValueError, match=re.escape(words)):
        register(type("Faulty", (Backend,), described))
    assert "mine" not in backend_names()


def test_listing_backends_imports_no_runtime() -> None:
    code = (
        "import sys; from lib.cli import main; main(['backends', '--json']);"
        "loaded = {'torch', 'onnxruntime', 'openvino', 'matplotlib', 'executorch'} & set(sys.modules);"
        "sys.exit(f'imported {loaded}' if loaded else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), "a file of lib/backends/ is broken and left out"
    rows = json.loads(ran.stdout)
    assert [row["name"] for row in rows] == backend_names()
    assert {"name", "architectures", "extra"} <= set(rows[0])
