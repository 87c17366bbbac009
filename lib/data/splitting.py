"""Which images validate: whole tracks, chosen from the data alone, so that every run validates on the same images.

The frames of a track show one physical sign from one passing car and are nearly equal; frames on both sides of a split
would turn validation accuracy into memory.
"""

from __future__ import annotations

import hashlib

import numpy as np

from lib.errors import UserError

VAL_SHARE = 0.1  # of each class's tracks


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


def _spread(count: int) -> list[int]:
    """0..count-1 so that every beginning of the list is evenly spread; the middle comes first."""
    bits = max(1, (count - 1).bit_length())
    order = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits)]
    return [(position + count // 2) % count for position in order if position < count]


def thin(labels: np.ndarray, track_ids: np.ndarray, is_val: np.ndarray, num_images: int) -> np.ndarray:
    """Indices, ascending, of `num_images` images that keep classes, tracks and the split in proportion.

    Frames are thinned before tracks, and every class keeps a training and a validation track as long as `num_images`
    is at least twice the number of classes.
    """
    frame_round = np.empty(len(labels), np.int64)  # in which round over all tracks an image is taken
    depth = np.empty(len(labels))  # how deep in its class's list of tracks its track is, 0..1
    for ids in _tracks_by_class(labels, track_ids).values():
        val_of = {track_id: bool(is_val[track_ids == track_id][0]) for track_id in ids}
        for side in (False, True):
            side_ids = [track_id for track_id in ids if val_of[track_id] is side]
            for number, track_id in enumerate(side_ids):
                frames = np.flatnonzero(track_ids == track_id)
                frame_round[frames[_spread(len(frames))]] = np.arange(len(frames))
                depth[frames] = number / len(side_ids)
    order = np.lexsort((track_ids, depth, frame_round))
    return np.sort(order[:num_images])
