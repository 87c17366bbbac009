"""Run by the conformance suite in a process of its own, as backends are in real life:

`python -m tests.backend_child prepare|use BACKEND CHECKPOINT FOLDER`; `use` prints what it found as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lib.backends import get_backend
from lib.backends.interface import Shape
from tests.ready_backend import images, loaded, prepared


def use(name: str, checkpoint: Path, folder: Path) -> dict[str, Any]:
    backend = loaded(get_backend(name), checkpoint, folder)

    def logits(num_images: int) -> np.ndarray:
        batch, shape = images(num_images), (num_images, 3, 32, 32)
        if shape not in compiled:
            backend.compile(shape)
            compiled.add(shape)
        answer = np.array(backend.predict(batch))
        assert (batch == images(num_images)).all(), "the input was altered"
        return answer

    compiled: set[Shape] = set()
    first, again = logits(3), logits(3)
    batch = logits(32)
    kernels = backend.trace(images(32))
    single = logits(1)
    times = backend.layer_times(images(32), 2)
    return {
        "logits": batch.tolist(),
        "three": first.tolist(),
        "dtype": str(first.dtype),
        "deterministic": bool((first == again).all() and (single == logits(1)).all()),
        "kernels": kernels,
        "times": times,
        "reason": backend.prove(kernels).reason,
    }


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no part of the answer
    what, name, checkpoint, folder = sys.argv[1:]
    if what == "prepare":
        prepared(get_backend(name), Path(checkpoint), Path(folder))
    else:
        json.dump(use(name, Path(checkpoint), Path(folder)), answers)
