"""Backends that check the harness: the reference with a known slow-down. No part of the registry."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from lib.backends.interface import Shape
from lib.backends.torch_onednn import TorchOneDnn

NUM_CALIBRATIONS = 60  # pairs of calls; times scatter, their middles less
_SIDE = 48  # of the matrices that are multiplied as additional work: some microseconds


class PlantedSlow(TorchOneDnn):
    """The reference, with a fixed number of small matrix products after every call that take a twentieth as long.

    The number is found once for each shape of batches, before any clock starts, and is the same in every call however
    long that call took.
    """

    name = "planted-5-percent"
    title = "control: the reference with 5 % more work in every call"
    extra_work: ClassVar[float] = 0.05

    def compile(self, shape: Shape) -> None:
        images = np.zeros(shape, np.float32)
        self._matrix = np.eye(_SIDE, dtype=np.float32)
        self.num_products: dict[int, int] = getattr(self, "num_products", {})
        repeats = NUM_CALIBRATIONS if shape[0] == 1 else NUM_CALIBRATIONS // 4
        calls, products = [], []
        for _ in range(repeats):
            calls.append(_seconds(lambda: super(PlantedSlow, self).predict(images)))
            products.append(_seconds(lambda: self._work(100)) / 100)
        self.num_products[shape[0]] = round(self.extra_work * float(np.median(calls)) / float(np.median(products)))

    def predict(self, images: np.ndarray) -> np.ndarray:
        logits = super().predict(images)
        self._work(self.num_products[len(images)])
        return logits

    def _work(self, num_products: int) -> None:
        for _ in range(num_products):
            self._matrix @ self._matrix


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
