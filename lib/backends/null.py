"""No network at all: answers zeros. What it takes is the harness's own share of every other number."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.backends.interface import Backend, Kernels, register
from lib.signs import NUM_CLASSES


@register
class Null(Backend):
    name = "null"
    title = "control: returns zeros, so that its time is the harness's own"
    promise = "nothing is computed"
    order = 900
    is_network = False

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        pass

    def predict(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), NUM_CLASSES), np.float32)

    def broken_promise(self, kernels: Kernels) -> str:
        return "something was computed" if kernels else ""
