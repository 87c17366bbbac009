"""`python -m lib prove`: what ran on this machine, and a failure where that is not what was promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.analysis.statistics import Ratio
from lib.backends import get_backend
from lib.backends.torch_onednn import TorchOneDnn
from lib.bench.prove import BATCH_SIZE, NUM_IMAGES, judge_backend, random_network
from lib.bench.selfcheck import Outcome, summary
from lib.cli import main
from lib.data import load_data
from lib.model import load_checkpoint


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
    path = random_network(tmp_path, data)
    images = load_checkpoint(path).preprocessing.normalize(data.val.images[:BATCH_SIZE])
    for name in ("train", "val"):
        np.save(tmp_path / f"{name}.npy", images)
    reference = {"logits": np.ones((len(images), 43)), "kernels": {}, "proof": {}}
    result = judge_backend(OneDnnSwitchedOff, path, tmp_path, 1, reference)
    assert result["status"] == "failed" and "no convolution ran on oneDNN" in result["error"]


def test_backend_for_another_cpu_has_not_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lib.backends.interface.isa_flags", lambda: ("avx2",))
    result = judge_backend(get_backend("torch-onednn-bf16"), tmp_path, tmp_path, 1, {})
    assert result["status"] == "unavailable" and "bf16" in result["error"]


def test_selfcheck_counts_false_claims_and_what_was_found() -> None:
    even, told = Ratio(1.0, 0.99, 1.01), ("offline: other processes used 0.50 cores",)

    def outcome(planted: float, verdict: str, warnings: tuple[str, ...] = (), ratio: Ratio = even) -> Outcome:
        return Outcome(planted, 0, "offline", ratio, even, 0.02, verdict, warnings)

    found = summary(
        [
            outcome(0.0, "no difference"),
            outcome(0.0, "faster", ratio=Ratio(1.05, 1.04, 1.06)),
            outcome(0.0, "slower", told),
            outcome(0.03, "no difference", told),
            outcome(0.05, "slower", ratio=Ratio(1 / 1.05, 1 / 1.06, 1 / 1.04)),
            outcome(0.05, "faster", ratio=Ratio(1 / 1.07, 1 / 1.08, 1 / 1.06)),
        ]
    )["offline"]
    same, planted = found["nothing planted"], found["5% planted"]
    assert (same["runs"], same["claimed_a_difference"], same["claimed_it_without_a_warning"]) == (3, 2, 1)
    assert same["intervals_that_hold_the_size"] == 2
    assert (planted["runs"], planted["found_it"], planted["missed_it_without_a_warning"]) == (2, 1, 1)
    assert (planted["mean_size"], planted["standard_error"]) == (pytest.approx(0.06), pytest.approx(0.01))
    assert planted["intervals_that_hold_the_size"] == 1
    assert found["3% planted"]["missed_it_without_a_warning"] == 0
