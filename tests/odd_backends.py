"""Controls that misbehave or leave something behind, in a file that a worker imports in no time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from lib.backends.null import Null


class NeverEnough(Null):
    """Has no memory for large batches."""

    def trace(self, images: np.ndarray) -> dict[str, list[str]]:
        if len(images) > 1:
            raise MemoryError("Unable to allocate 9 TiB")
        return super().trace(images)


class RefusesFour(Null):
    """Breaks with batches of four, and leaves behind which processes ran, with how many threads."""

    def load(self, checkpoint: Path, folder: Path, num_threads: int) -> None:
        super().load(checkpoint, folder, num_threads)
        (checkpoint.parent / f"threads-{os.environ['OMP_NUM_THREADS']}-{os.getpid()}").touch()

    def predict(self, images: np.ndarray) -> np.ndarray:
        if len(images) == 4:
            raise RuntimeError("four are too many")
        return super().predict(images)


class Exports(Null):
    """Has files."""

    def prepare(self, checkpoint: Path, calibration: np.ndarray, folder: Path) -> None:
        (folder / "parts").mkdir()
        (folder / "parts" / "model.bin").write_bytes(b"weights")
