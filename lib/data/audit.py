"""Which images and tracks are in two places, and whether an accuracy still means something.

Everything is found by the digests that were taken when the images were decoded: nothing is hashed here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from lib.data.dataset import Data, Split
from lib.errors import UserError
from lib.records.schema import RecordWarning

TRAIN, VAL, TEST = "train", "val", "test"
MAX_TEST_OVERLAP = 0.001  # share of the test images: it cannot move accuracy by more than a tenth of a point
NUM_KNOWN_DUPLICATES = 8
# One stop sign is in both sets of GTSRB: eight frames of training track 00014/00023 are test images too, pixel for
# pixel. These are the first 8 bytes of the digests of all its frames: which ones it is depends on the test images.
_KNOWN = bytes.fromhex("""
    7d80225ed9853e49 6d0909c16f1c48eb 722d044c5566e0cd 1f71c2273524673f bdae93850b58cf99 3dde9fadf92e7625
    25470d868cb3a344 9a8d084a1ad30faf d0473496a5dbeb2a 726edcf5adfc0a1a 36f79a0f5d1e1145 8f490fc1d4e87413
    94a74c3b2e5f0d84 054392f99b863298 c7d6f3be93b0f94c 19410ab60e376e89 6cd674536804600c 907a03b21d4f854f
    18df8f1fa433cfce b8d10777988b0cdd 7293ebb43b5b3516 1c13d1f91f88140d 9d752b7f5e6c507a 27366ab7a25d7bfe
    ef53188cc30ceb3b c032263ac1618254 b85701e620d5521f b66ba7ede694647d c38e28e978bd19ce 41f0c55b0eebb42b
""")
KNOWN_DIGESTS = frozenset(_KNOWN[start : start + 8] for start in range(0, len(_KNOWN), 8))


class Place(NamedTuple):
    """Where an image is."""

    split: str
    row: int


@dataclass(frozen=True)
class Duplicate:
    """One picture that is there more than once, pixel for pixel."""

    places: list[Place]  # at least two, in the order train, val, test
    known: bool  # a frame of the sign that GTSRB has in both sets

    @property
    def splits(self) -> set[str]:
        """In which it is."""
        return {place.split for place in self.places}

    @property
    def leaks(self) -> bool:
        """True where it is in the test and in training or validation."""
        return TEST in self.splits and len(self.splits) > 1

    def num_in(self, split: str) -> int:
        """How many images of a split show it."""
        return sum(place.split == split for place in self.places)


@dataclass(frozen=True)
class Audit:
    """What was found in all splits of a data set."""

    num_images: dict[str, int]  # by split, in the order train, val, test
    shared_tracks: dict[tuple[str, str], list[str] | None]  # by pair of splits; None where tracks are not known
    duplicates: list[Duplicate]  # those in several splits first

    def num_repeats(self, split: str) -> int:
        """Images that repeat an earlier one of their own split."""
        return sum(max(0, duplicate.num_in(split) - 1) for duplicate in self.duplicates)

    def num_shared(self, first: str, second: str) -> int:
        """Images of the second split that are also in the first."""
        return sum(duplicate.num_in(second) for duplicate in self.duplicates if first in duplicate.splits)

    def seen_earlier(self, split: str) -> np.ndarray:
        """bool (N,): the images of a split that are also in one before it, in the order train, val, test."""
        names = list(self.num_images)
        earlier = set(names[: names.index(split)])
        seen = np.zeros(self.num_images[split], bool)
        for duplicate in self.duplicates:
            if duplicate.splits & earlier:
                seen[[place.row for place in duplicate.places if place.split == split]] = True
        return seen

    def num_known(self) -> int:
        """Test images that are in training or validation, as GTSRB itself has them."""
        known = sum(duplicate.num_in(TEST) for duplicate in self.duplicates if duplicate.known and duplicate.leaks)
        return min(known, NUM_KNOWN_DUPLICATES)

    def num_unknown(self) -> int:
        """All others."""
        return sum(duplicate.num_in(TEST) for duplicate in self.duplicates if duplicate.leaks) - self.num_known()


def audit_splits(data: Data) -> Audit:
    """Find tracks and exact images that are in more than one place, inside and across splits."""
    places: dict[bytes, list[Place]] = defaultdict(list)
    for name, split in data.splits.items():
        for row, digest in enumerate(split.digests):
            places[digest.tobytes()].append(Place(name, row))
    duplicates = [Duplicate(found, digest[:8] in KNOWN_DIGESTS) for digest, found in places.items() if len(found) > 1]
    shared: dict[tuple[str, str], list[str] | None] = {}
    for (first, one), (second, other) in combinations(data.splits.items(), 2):
        shared[first, second] = None
        if one.has_tracks and other.has_tracks:
            in_both, where = np.unique(one.track_ids, return_index=True)
            kept = np.isin(in_both, other.track_ids)
            shared[first, second] = [one.track_name(int(index)) for index in where[kept]]
    return Audit(
        num_images={name: split.num_images for name, split in data.splits.items()},
        shared_tracks=shared,
        duplicates=sorted(duplicates, key=lambda duplicate: -len(duplicate.splits)),
    )


def assert_fair(audit: Audit) -> None:
    """Raise where an accuracy on these splits would mean nothing. Less than that is a finding, and pages show it.

    Raises:
        UserError: a track in both training and validation, or more than `MAX_TEST_OVERLAP` of the test images in one of
            them; the few that GTSRB itself has in both sets do not count.
    """
    if tracks := audit.shared_tracks[TRAIN, VAL]:
        raise UserError(
            f"tracks in both training and validation: {len(tracks)}, such as {tracks[0]}; "
            "accuracy on validation would be memory, cut the data by track"
        )
    if TEST not in audit.num_images:
        return
    found, total = audit.num_unknown(), audit.num_images[TEST]
    if found > MAX_TEST_OVERLAP * total:
        raise UserError(
            f"test images that are in training or validation too, pixel for pixel: {found:,} of {total:,}; more than "
            f"{100 * MAX_TEST_OVERLAP:.1f} % make accuracy on them memory. Use test images of other signs, or none: "
            "accuracy is then reported on validation"
        )


def memorized(data: Data, audit: Audit) -> list[RecordWarning]:
    """The warning that accuracy is reported on images of the training: on validation, where there is no test, and more
    than `MAX_TEST_OVERLAP` of it. Test images are `assert_fair`'s."""
    images, total = audit.num_shared(TRAIN, VAL), data.val.num_images
    if data.test is not None or images <= MAX_TEST_OVERLAP * total:
        return []
    return [RecordWarning("memorized", figures={"images": images, "total": total})]


SIZE, LIGHT, SHARPNESS, CLASS_MIX = "larger side, pixels", "mean level, 0..255", "sharpness", "class mix"
BATCH = 4096  # images per step over a memory-mapped array


def mean_brightness(images: np.ndarray) -> np.ndarray:
    """uint8 (N, 3, H, W) -> mean pixel value of each image, float64 (N,), 0..255. Also for memory-mapped arrays."""
    parts = [np.asarray(images[start : start + BATCH]).mean((1, 2, 3)) for start in range(0, len(images), BATCH)]
    return np.concatenate(parts) if parts else np.empty(0)


def track_statistics(split: Split) -> dict[str, np.ndarray]:
    """What the tracks of a split are like, (tracks,) each, by name: means over the frames, class, and where tracks are
    known, what happens from the first frame to the last."""
    _, first, track, num_frames = np.unique(split.track_ids, return_index=True, return_inverse=True, return_counts=True)
    size, light = np.asarray(split.sizes).max(axis=1), mean_brightness(split.images)
    values = {SIZE: size, LIGHT: light, SHARPNESS: sharpness(split.images)}
    found: dict[str, np.ndarray] = {name: np.bincount(track, value) / num_frames for name, value in values.items()}
    if split.has_tracks:
        order = np.argsort(track, kind="stable")
        starts = np.cumsum(num_frames) - num_frames
        sizes, lights = size[order], light[order]
        found["frames"] = num_frames
        found["growth, last size over first"] = sizes[starts + num_frames - 1] / sizes[starts]
        found["change of light, 0..255"] = np.maximum.reduceat(lights, starts) - np.minimum.reduceat(lights, starts)
    found[CLASS_MIX] = np.asarray(split.labels)[first]
    return found


def sharpness(images: np.ndarray) -> np.ndarray:
    """uint8 (N, 3, H, W) -> mean difference of neighbouring pixels over the deviation of all, float (N,)."""
    found = []
    for start in range(0, len(images), BATCH):
        grey = np.asarray(images[start : start + BATCH]).mean(axis=1, dtype=np.float32)
        steps = [np.abs(np.diff(grey, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2)]
        found.append((steps[0] + steps[1]) / 2 / np.maximum(grey.std(axis=(1, 2)), 1))
    return np.concatenate(found)


def class_counts(data: Data) -> tuple[list[int], list[int]]:
    """Training images and tracks per class."""
    split, num_classes = data.train, len(data.classes)
    labels_of_tracks = np.unique(np.stack([split.labels, split.track_ids]), axis=1)[0]
    return (
        np.bincount(split.labels, minlength=num_classes).tolist(),
        np.bincount(labels_of_tracks, minlength=num_classes).tolist(),
    )
