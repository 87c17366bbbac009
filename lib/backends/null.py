"""No network at all: it returns zeros. Its time is the harness's own share of every other time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors

from lib.backends.interface import Backend, Kernels, register


@register
class Null(Backend):
    name = "null"
    title = "control: returns zeros, so that its time is the harness's own"
    promise = "nothing is computed"
    order = 900
    default = True
    is_network = False

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        with safetensors.safe_open(checkpoint, framework="np") as file:
            (metadata,) = file.metadata().values()
        self._num_classes = len(json.loads(metadata)["classes"])

    def predict(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), self._num_classes), np.float32)

    def broken_promise(self, kernels: Kernels) -> str:
        return "something was computed" if kernels else ""
