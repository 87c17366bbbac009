"""ExecuTorch with XNNPACK: same logits, every layer in one group, a proof that can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.backends import get_backend
from lib.backends._executorch import MAX_BATCH, _operators
from lib.backends.interface import RUNTIME, Backend
from tests.ready_backend import expected, images, loaded, prepared
from tests.untrained import save_untrained

pytest.importorskip("executorch.exir")
pytest.importorskip("torchao")
pytestmark = pytest.mark.slow

FP32, INT8 = "executorch-xnnpack", "executorch-xnnpack-int8"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model"), "learning_path")


def ready(backend: type[Backend], checkpoint: Path, folder: Path) -> Backend:
    return loaded(backend, checkpoint, prepared(backend, checkpoint, folder))


@pytest.fixture(scope="module")
def fp32(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return ready(get_backend(FP32), checkpoint, tmp_path_factory.mktemp("fp32"))


@pytest.fixture(scope="module")
def int8(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return ready(get_backend(INT8), checkpoint, tmp_path_factory.mktemp("int8"))


@pytest.fixture(scope="module")
def undelegated(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    class Undelegated(get_backend(FP32)):  # type: ignore[misc]
        def partitioners(self) -> list[Any]:
            return []

    return ready(Undelegated, checkpoint, tmp_path_factory.mktemp("undelegated"))


@pytest.mark.parametrize("num_images", [1, MAX_BATCH, MAX_BATCH + 1])
def test_fp32_gives_the_logits_of_torch_at_every_batch_size(fp32: Backend, checkpoint: Path, num_images: int) -> None:
    batch = images(num_images)
    fp32.compile((num_images, 3, 32, 32))
    assert np.allclose(fp32.predict(batch), expected(checkpoint, batch), atol=1e-4)


def test_answers_stay_when_the_next_batch_is_computed(fp32: Backend) -> None:
    first = fp32.predict(images(2))
    kept = first.copy()
    fp32.predict(-images(2))
    assert (first == kept).all()


def test_promises_are_kept_by_what_xnnpack_ran(fp32: Backend, int8: Backend) -> None:
    kernels = fp32.trace(images(8))
    assert kernels["conv1+relu1"][0].startswith("XNNPACK Convolution (NHWC, F32)")
    assert fp32.prove(kernels).passed and not fp32.prove(kernels).investigate
    assert "fc1+relu3" in kernels
    kernels = int8.trace(images(8))
    assert kernels["conv1+relu1"][0].startswith("XNNPACK Convolution (NHWC, QC8)")
    assert int8.prove(kernels).passed and not int8.prove(kernels).investigate


def test_proof_of_int8_fails_with_the_fp32_network(fp32: Backend, int8: Backend) -> None:
    assert "2 of 2 convolutions did not run in int8" in int8.prove(fp32.trace(images(8))).reason


def test_proof_fails_where_no_node_is_delegated(undelegated: Backend, checkpoint: Path) -> None:
    assert np.allclose(undelegated.predict(images(2)), expected(checkpoint, images(2)), atol=1e-3)
    proof = undelegated.prove(undelegated.trace(images(2)))
    assert not proof.passed and "ExecuTorch aten::convolution" in proof.reason


def test_operator_outside_xnnpack_is_doubted(fp32: Backend) -> None:
    kernels = {"conv": ["XNNPACK Convolution (NHWC, F32) IGEMM"], RUNTIME: ["ExecuTorch aten::gelu"]}
    proof = fp32.prove(kernels)
    assert proof.passed and "aten::gelu" in proof.investigate


def test_what_no_operator_took_is_left_to_the_runtime() -> None:
    events = [
        {"delegate_debug_id_str": "Add (ND) #12", "start_time": 1000, "end_time": 3000, "instruction_id": 0},
        {"name": "DELEGATE_CALL", "start_time": 900, "end_time": 3100, "instruction_id": 0},
        {"name": "OPERATOR_CALL", "start_time": 3100, "end_time": 4100, "instruction_id": 1},
        {"name": "Method::execute", "start_time": 0, "end_time": 5000, "instruction_id": 0},
    ]
    names, seconds = zip(*_operators(events, ["XnnpackBackend", "aten::view_copy.out"]), strict=True)
    assert names == ("XNNPACK Add (ND)", "ExecuTorch aten::view_copy", "")
    assert seconds == pytest.approx((2e-6, 1e-6, 2e-6))
