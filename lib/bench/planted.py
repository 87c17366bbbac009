"""Backends that check the harness: the reference with a known slow-down. No part of the registry."""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np

from lib.backends.torch_onednn import TorchOneDnn


class PlantedSlow(TorchOneDnn):
    """The reference, which works on for a twentieth of the time that each call took."""

    name = "planted-5-percent"
    title = "control: the reference with 5 % more work in every call"
    extra_work: ClassVar[float] = 0.05

    def predict(self, images: np.ndarray) -> np.ndarray:
        started = time.perf_counter()
        logits = super().predict(images)
        now = time.perf_counter()
        until = now + self.extra_work * (now - started)
        while time.perf_counter() < until:
            pass
        return logits
