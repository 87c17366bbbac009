"""`python -m lib prove`: what ran on this machine, and a failure where that is not what was promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.backends import get_backend
from lib.backends.torch_onednn import TorchOneDnn
from lib.bench.selfcheck import Outcome, summary
from lib.cli import main
from lib.data import load_data
from lib.model import load_checkpoint
from lib.records.statistics import Ratio
from lib.series.prove import BATCH_SIZE, NUM_IMAGES, _judge, random_network


class OneDnnSwitchedOff(TorchOneDnn):
    """Says oneDNN and runs without it."""

    name = "onednn-switched-off"

    def configure(self) -> None:
        import torch

        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("proof") / "proof.json"
    assert main(["prove", "--backends", "torch-onednn,null", "--out", str(out)]) == 0
    content: dict[str, Any] = json.loads(out.read_text())
    return content


def test_proof_names_the_kernels_of_every_layer_and_the_machine(proof: dict[str, Any]) -> None:
    onednn, null = proof["backends"]
    assert onednn["status"] == "ok" and onednn["agreement"] == 1.0
    assert any("onednn convolution" in kernel for kernel in onednn["kernels"]["stem.conv"])
    assert null["status"] == "ok" and null["kernels"] == {}
    assert proof["environment"]["isa_flags"] and proof["environment"]["onednn"]


def test_unknown_backend_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["prove", "--backends", "torch-onedn", "--out", str(tmp_path / "proof.json")]) == 2
    assert "did you mean 'torch-onednn'" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_promise_that_is_not_kept_fails(tmp_path: Path) -> None:
    data = load_data("synthetic", num_images=NUM_IMAGES)
    path = random_network(tmp_path, data.train.images)
    images = load_checkpoint(path).preprocessing.normalize(np.array(data.val.images[:BATCH_SIZE])).numpy()
    for name in ("train", "val"):
        np.save(tmp_path / f"{name}.npy", images)
    reference = {"logits": np.ones((len(images), 43)), "kernels": {}, "proof": {}}
    result = _judge(OneDnnSwitchedOff, path, tmp_path, 1, reference)
    assert result["status"] == "failed" and "no convolution ran on oneDNN" in result["error"]


def test_backend_for_another_cpu_has_not_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lib.backends.interface.isa_flags", lambda: ("avx2",))
    result = _judge(get_backend("torch-onednn-bf16"), tmp_path, tmp_path, 1, {})
    assert result["status"] == "unavailable" and "bf16" in result["error"]


def test_selfcheck_counts_false_claims_and_what_was_found() -> None:
    even = Ratio(1.0, 0.99, 1.01)
    outcomes = [
        Outcome("same", 0, "offline", even, even, 0.02, "no difference"),
        Outcome("same", 1, "offline", even, even, 0.02, "faster"),
        Outcome("same", 2, "offline", even, even, 0.02, "slower", ("offline: other processes used 0.50 cores",)),
        Outcome("planted", 0, "offline", even, even, 0.02, "slower"),
        Outcome("planted", 1, "offline", even, even, 0.02, "faster"),
    ]
    assert summary(outcomes)["offline"] == {
        "runs_of_the_same": 3,
        "claimed_a_difference": 2,
        "claimed_it_without_a_warning": 1,
        "runs_with_5_percent_more_work": 2,
        "found_it": 1,
        "missed_it_without_a_warning": 1,
    }
