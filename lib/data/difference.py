"""What changed between two manifests of one data set: images that were added, removed, or are another now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.data.dataset import Data, Split
from lib.data.store import FOLDER
from lib.errors import UserError


@dataclass(frozen=True)
class Difference:
    """Rows of the training images before and after."""

    added: list[int]  # after
    removed: list[int]  # before
    changed: list[tuple[int, int]]  # before and after: other pixels under the same name, or another class


def difference_of(before: Data, after: Data) -> Difference:
    """Compare the extra training images of two versions of a data set; the others are equal.

    Raises:
        UserError: two data sets.
    """
    if before.manifest_hash != after.manifest_hash:
        raise UserError("extra data of two different data sets cannot be compared")
    old, new = before.train, after.train
    old_digests, new_digests = old.hex_digests(), new.hex_digests()
    missing = dict.fromkeys(_extra_rows(old))
    by_name = {str(old.sources[row]): row for row in missing}
    by_pixels = {old_digests[row]: row for row in missing}
    added, changed = [], []
    for row in _extra_rows(new):
        same = by_pixels.get(new_digests[row], by_name.get(str(new.sources[row])))
        if same is None:
            added.append(row)
            continue
        missing.pop(same, None)
        if old_digests[same] != new_digests[row] or old.labels[same] != new.labels[row]:
            changed.append((same, row))
    return Difference(added, list(missing), changed)


def _extra_rows(split: Split) -> list[int]:
    return [int(row) for row in np.flatnonzero(np.char.startswith(split.sources, f"{FOLDER}/"))]
