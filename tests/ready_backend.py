"""Backends that are ready to predict in this process, for tests of each of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.backends.interface import Backend


def images(num_images: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_images, 3, 32, 32)).astype(np.float32)


def prepared(backend: type[Backend], checkpoint: Path, folder: Path) -> Path:
    """The folder, which is made, with what the backend prepares once."""
    folder.mkdir(exist_ok=True)
    backend().prepare(checkpoint, images(64, seed=1) if backend.needs_calibration else images(0), folder)
    return folder


def loaded(backend: type[Backend], checkpoint: Path, folder: Path, *sizes: int, num_threads: int = 1) -> Backend:
    """The backend with what was prepared in `folder`, compiled for batches of these sizes."""
    instance = backend()
    instance.import_runtime()
    instance.load(checkpoint, folder, num_threads)
    for size in sizes:
        instance.compile((size, 3, 32, 32))
    return instance


def expected(checkpoint: Path, batch: np.ndarray) -> np.ndarray:
    """The logits of plain torch, which tests of other runtimes do without until they ask for these."""
    import torch

    from lib.model import load_checkpoint

    with torch.inference_mode():
        logits: np.ndarray = load_checkpoint(checkpoint).model(torch.from_numpy(batch)).numpy()
    return logits
