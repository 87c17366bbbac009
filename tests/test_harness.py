"""The check of what measuring costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import lib.bench.harness as harness
from lib.backends._torch_eager import TorchEager
from tests.untrained import save_untrained

ADDED_S, LAYER_S, TICK_S = 0.05, 0.001, 1e-6


class Clock:
    """Goes on by a tick with every look at it, and by what is done for as long as it is said to take."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += TICK_S
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """What harness and worker read; every layer of a network takes some time by it."""
    made = Clock()
    for module in ("lib.bench.harness", "lib.bench.worker"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(perf_counter=made.perf_counter))

    def spend(module: nn.Module, *_: object) -> None:
        if not list(module.children()):
            made.spend(LAYER_S)

    handle = register_module_forward_hook(spend)
    yield made
    handle.remove()


def test_what_a_worker_adds_to_a_call_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    plain = TorchEager.predict

    def slower(self: TorchEager, images: np.ndarray) -> np.ndarray:
        clock.spend(ADDED_S)
        return plain(self, images)

    monkeypatch.setattr(TorchEager, "predict", slower)
    monkeypatch.setattr(harness, "NUM_CALLS", {1: 2})
    monkeypatch.setattr(harness, "NUM_TURNS", {1: 5})
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((4, 3, 32, 32), np.float32))
    found = harness.cost([harness.measure(save_untrained(tmp_path), images, num_threads=1)[1]])
    times = found["call_s"]
    for loop in ("arrays", "network"):  # which go past `predict`
        assert times[loop] > LAYER_S
        assert times["worker"] - times[loop] == pytest.approx(ADDED_S, abs=3 * TICK_S)
        assert found[f"worker_over_{loop}"]["mean"] == pytest.approx(times["worker"] / times[loop])
    assert times["null"] == pytest.approx(TICK_S) and found["null_share"] == pytest.approx(TICK_S / times["network"])
