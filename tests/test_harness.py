"""The check of what measuring costs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import lib.bench.harness as harness
from lib.backends._torch_eager import TorchEager
from tests.untrained import save_untrained

SLEEP_S = 0.05


def test_what_a_worker_adds_to_a_call_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = TorchEager.predict

    def slower(self: TorchEager, images: np.ndarray) -> np.ndarray:
        time.sleep(SLEEP_S)
        return plain(self, images)

    monkeypatch.setattr(TorchEager, "predict", slower)
    monkeypatch.setattr(harness, "NUM_CALLS", {1: 2})
    monkeypatch.setattr(harness, "NUM_TURNS", {1: 5})
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((4, 3, 32, 32), np.float32))
    found = harness.cost([harness.measure(save_untrained(tmp_path), images, num_threads=1)[1]])
    times = found["call_s"]
    for loop in ("arrays", "network"):  # which go past `predict`
        assert times["worker"] - times[loop] == pytest.approx(SLEEP_S, rel=0.3)
        assert found[f"worker_over_{loop}"]["mean"] == pytest.approx(times["worker"] / times[loop], rel=0.3)
    assert times["null"] < 0.001
