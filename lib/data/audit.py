"""Checks of a loaded data set that a reader of its accuracy wants to see."""

from __future__ import annotations

import hashlib
from itertools import combinations

from lib.data.sets import Data
from lib.errors import UserError


def assert_fair(data: Data) -> None:
    """Raise where an accuracy on these splits would mean nothing.

    Raises:
        UserError: a track, or the same pixels, in two splits.
    """
    duplicates = count_duplicates(data)
    for (first, one), (second, other) in combinations(data.splits.items(), 2):
        tracks = set(one.track_ids.tolist()) & set(other.track_ids.tolist())
        images = duplicates[f"{first}/{second}"]
        if tracks or images:
            raise UserError(
                f"{first} and {second} share {len(tracks)} tracks and {images} images; cut the data by track"
            )


def count_duplicates(data: Data) -> dict[str, int]:
    """Images with exactly the same pixels as another one.

    Returns:
        By split ("train"): images that repeat an earlier one of the split. By pair of splits ("train/val"): images of
        the second split that are also in the first; such images make accuracy look better than it is.
    """
    pixels = {
        name: [hashlib.sha256(image.tobytes()).digest() for image in split.images]
        for name, split in data.splits.items()
    }
    found = {name: len(digests) - len(set(digests)) for name, digests in pixels.items()}
    for (first, known), (second, digests) in combinations(pixels.items(), 2):
        known_once = set(known)
        found[f"{first}/{second}"] = sum(digest in known_once for digest in digests)
    return found
