"""Which images validate: whole tracks, chosen from the data alone, so that every run validates on the same images.

The frames of a track show one physical sign from one passing car and are nearly equal; frames on both sides of a split
would turn validation accuracy into memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lib.data.dataset import Split, joined
from lib.errors import UserError

VAL_SHARE = 0.1  # of each class's tracks
NUM_FOLDS = 5


def _rank(label: int, track_id: int) -> bytes:
    """A fixed shuffle of the tracks that depends on no random generator's version."""
    return hashlib.sha256(f"{label}/{track_id}".encode()).digest()


def _tracks_by_class(labels: np.ndarray, track_ids: np.ndarray) -> dict[int, list[int]]:
    """Track ids of each class in the fixed shuffle."""
    pairs = np.unique(np.stack([labels, track_ids], 1), axis=0)
    if len(pairs) != len(np.unique(track_ids)):
        raise ValueError("a track has images of two classes")
    tracks: dict[int, list[int]] = {}
    for label, track_id in pairs.tolist():
        tracks.setdefault(label, []).append(track_id)
    return {label: sorted(ids, key=lambda track_id: _rank(label, track_id)) for label, ids in tracks.items()}


def choose_val(labels: np.ndarray, track_ids: np.ndarray) -> np.ndarray:
    """bool (N,): True for the images of validation tracks, about 10 % of each class's tracks and at least one.

    Args:
        labels: int (N,).
        track_ids: int (N,).

    Raises:
        UserError: a class with one track only; it cannot be on both sides.
    """
    chosen: list[int] = []
    for label, ids in _tracks_by_class(labels, track_ids).items():
        if len(ids) < 2:
            raise UserError(f"class {label} has {len(ids)} track; at least 2 are needed, one of them for validation")
        chosen += ids[: max(1, round(len(ids) * VAL_SHARE))]
    return np.isin(track_ids, chosen)


def choose_fold(labels: np.ndarray, track_ids: np.ndarray, fold: int) -> np.ndarray:
    """bool (N,): True for the images of one of `NUM_FOLDS` parts with as many tracks each; together they hold them all.

    Args:
        labels: int (N,).
        track_ids: int (N,).
        fold: 1 to `NUM_FOLDS`.

    Raises:
        UserError: a class with one track only; it cannot be on both sides.
    """
    shuffled: list[int] = []
    for label, ids in _tracks_by_class(labels, track_ids).items():
        if len(ids) < 2:
            raise UserError(f"class {label} has {len(ids)} track; at least 2 are needed to train with and without one")
        shuffled += ids
    return np.isin(track_ids, shuffled[fold - 1 :: NUM_FOLDS])


def refold(train: Split, val: Split, fold: int) -> tuple[Split, Split]:
    """Training and validation cut anew: validation is one of `NUM_FOLDS` parts."""
    both = joined("", train, val)
    is_val = choose_fold(both.labels, both.track_ids, fold)
    return replace(both.take(~is_val), name=train.name), replace(both.take(is_val), name=val.name)


def _van_der_corput(count: int) -> list[int]:
    """0..count-1 in the order of the base-2 van der Corput sequence, from the middle on: any first part of the list is
    spread evenly over the range."""
    bits = max(1, (count - 1).bit_length())
    bit_reversed = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits)]
    return [(position + count // 2) % count for position in bit_reversed if position < count]


def _first_images(labels: np.ndarray, track_ids: np.ndarray, side: np.ndarray, num_images: int) -> np.ndarray:
    """Indices, ascending, of `num_images` images that keep classes, tracks and sides in proportion.

    Every track gives one frame before any gives a second one, and in each such round every side of every class gives
    its first track before any gives its second. So each class keeps a track on each side as long as `num_images` is at
    least the number of classes times that of sides.
    """
    rounds = np.empty(len(labels), np.int64)  # in which an image is taken
    depths = np.empty(len(labels))  # how far down the list of tracks of its class and side its track is, 0..1
    for tracks in _tracks_by_class(labels, track_ids).values():
        frames_of = {track: np.flatnonzero(track_ids == track) for track in tracks}
        for here in np.unique(side):
            on_side = [track for track in tracks if side[frames_of[track][0]] == here]
            for place, track in enumerate(on_side):
                frames = frames_of[track]
                rounds[frames[_van_der_corput(len(frames))]] = np.arange(len(frames))
                depths[frames] = place / len(on_side)
    order = np.lexsort((track_ids, depths, rounds))
    return np.sort(order[:num_images])


def thinned(splits: Mapping[str, Split], num_images: int) -> dict[str, Split]:
    """The same splits with `num_images` images for training and validation, and as large a share of the test images.

    Frames are thinned before tracks. Classes and tracks keep their proportions.
    """
    train, val = splits["train"], splits["val"]
    labels, track_ids = (np.concatenate([getattr(each, name) for each in (train, val)])
                         for name in ("labels", "track_ids"))  # fmt: skip
    total, border = len(labels), train.num_images
    kept = _first_images(labels, track_ids, np.arange(total) >= border, num_images)
    parts = {"train": train.take(kept[kept < border]), "val": val.take(kept[kept >= border] - border)}
    if (test := splits.get("test")) is not None:
        share = max(1, round(test.num_images * num_images / total))
        parts["test"] = test.take(_first_images(test.labels, test.track_ids, np.zeros(test.num_images), share))
    return parts
