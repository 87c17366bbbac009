"""What a training costs, on a few images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.bench.training import STAGES, cost_lines, measure_training
from lib.records.schema import Peak, Peaks
from lib.training.recipes import RECIPES
from tests.made_data import made_data, made_split


def test_cost_of_a_training_is_in_epochs_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lib.bench.training.measure_peaks", lambda _threads: Peaks({"fp32": Peak(1e11, "")}, Peak(1, ""))
    )
    train, val = (
        made_split(name, np.zeros((count, 3, 32, 32), np.uint8), np.arange(count) // 2 % 43, np.arange(count) // 2)
        for name, count in (("train", 640), ("val", 64))
    )
    twice = replace(RECIPES["learning_path"], name="twice", num_epochs=2)
    cost = measure_training(twice, made_data(train, val), seconds=1.0, num_threads=1)
    assert set(cost.stage_s) == set(STAGES) and all(taken > 0 for taken in cost.stage_s.values())
    assert cost.ratios[1] <= cost.ratios[0] <= cost.ratios[2]
    assert cost.train_s > cost.reference_epoch_s, "two epochs of the same steps, whatever else this machine does"
    assert cost.flops == pytest.approx(6 * 4_193_024 * cost.images_per_s)
    assert any("of this machine's matmul peak" in line for line in cost_lines(cost))
