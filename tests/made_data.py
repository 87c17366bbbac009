"""Data sets in memory, for tests of what works on images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.data import Data, Split
from lib.data.images import digest_images
from lib.signs import CLASS_NAMES


def made_split(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    track_ids: np.ndarray,
    sources: Sequence[str] = (),
    side: int = 40,
) -> Split:
    """Images, uint8 (N, 3, H, W), as if they had been `side` pixels wide and high; drawn ones without `sources`."""
    sizes = np.full((len(images), 2), side, np.int32)
    paths = np.array(sources) if sources else np.full(len(images), "")
    return Split(name, images, labels, track_ids, sizes, paths, digest_images(images))


def made_data(train: Split, val: Split, test: Split | None = None, source: str = "synthetic") -> Data:
    """The signs of GTSRB."""
    return Data(source, "ab" * 32, CLASS_NAMES, train, val, test, [])


def noise(name: str, num_images: int, seed: int = 0) -> Split:
    """Noise of all classes in turn, 32 x 32; each image is a track of its own."""
    images = np.random.default_rng(seed).integers(0, 256, (num_images, 3, 32, 32), np.uint8)
    numbers = np.arange(num_images)
    return made_split(name, images, numbers % len(CLASS_NAMES), numbers)
