"""Backends that check the harness: the reference with a known slow-down. No part of the registry."""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np

from lib.backends.torch_onednn import TorchOneDnn

_SIDE = 8  # of the matrices that are multiplied as additional work: about a microsecond for a product


class Planted(TorchOneDnn):
    """The reference, with small matrix products after the network that take a known share of its time.

    Both are timed inside the same call, because a product takes another time there than in a loop of its own. What the
    last product takes too much is taken off the next call, but never more than a call's share: a product that was
    interrupted changes one call.
    """

    extra_work: ClassVar[float]  # as a share of the network's time

    def __init__(self) -> None:
        self._matrix = np.eye(_SIDE, dtype=np.float32)
        self._too_much_s = 0.0

    def predict(self, images: np.ndarray) -> np.ndarray:
        started = time.perf_counter()
        logits = super().predict(images)
        answered = now = time.perf_counter()
        share_s = self.extra_work * (answered - started)
        end = answered + share_s - self._too_much_s
        while now < end:
            self._matrix @ self._matrix
            now = time.perf_counter()
        self._too_much_s = min(now - end, share_s)
        return logits


class Planted3(Planted):
    name = "planted-3-percent"
    title = "control: the reference with 3 % more work in every call"
    extra_work = 0.03


class Planted5(Planted):
    name = "planted-5-percent"
    title = "control: the reference with 5 % more work in every call"
    extra_work = 0.05


PLANTED: tuple[type[Planted], ...] = (Planted3, Planted5)
