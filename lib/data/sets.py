"""What a data set is in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from lib.data.images import IMAGE_SIZE
from lib.records.schema import DataInfo

DATASETS = ("synthetic", "gtsrb", "gtsrb-torchvision")


@dataclass(frozen=True)
class Split:
    """Images of one split, in a fixed order. `images` may be memory-mapped; writing to it never reaches the file."""

    name: str  # train, val, test
    images: np.ndarray  # uint8 (N, 3, 32, 32)
    labels: np.ndarray  # int64 (N,), class ids
    track_ids: np.ndarray  # int64 (N,), one per physical track over the whole data set
    sizes: np.ndarray  # int32 (N, 2), original height and width, pixels
    sources: list[str]  # N file paths as in the official layout, below gtsrb/; "" for a synthetic image
    digests: np.ndarray  # uint8 (N, 32), equal for images with the same pixels at their original size

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def num_tracks(self) -> int:
        """Number of physical tracks."""
        return len(np.unique(self.track_ids))

    @property
    def has_tracks(self) -> bool:
        """False for test images that are a track each: which official ones belong together was not published."""
        return self.name != "test" or self.num_tracks < self.num_images

    def image_name(self, index: int) -> str:
        """How people call an image: `00014/00023_00005.ppm` in training, `01795.ppm` in the test."""
        path = PurePosixPath(self.sources[index])
        if not path.name:
            return f"image {index}"
        return f"{path.parent.name}/{path.name}" if path.parent.name.isdigit() else path.name

    def track_name(self, index: int) -> str:
        """How people call its track: `00014/00023`, or its number; empty where each image is a track of its own."""
        if not self.has_tracks:
            return ""
        return self.image_name(index).split("_")[0] if self.sources[index] else str(self.track_ids[index])

    def take(self, kept: np.ndarray) -> Split:
        """Some of the images, by index or by a bool (N,)."""
        return Split(
            name=self.name,
            images=self.images[kept],
            labels=self.labels[kept],
            track_ids=self.track_ids[kept],
            sizes=self.sizes[kept],
            sources=np.array(self.sources, object)[kept].tolist(),
            digests=self.digests[kept],
        )


@dataclass(frozen=True)
class Data:
    """One data set, cut into splits by track."""

    source: str  # one of DATASETS
    manifest_hash: str  # SHA-256 of paths, pixels and labels; of generator and parameters for synthetic images
    image_size: int
    train: Split
    val: Split
    test: Split | None
    notes: list[str]  # what a page must say about these data

    @property
    def splits(self) -> dict[str, Split]:
        """Splits that are there, by name."""
        return {split.name: split for split in (self.train, self.val, self.test) if split is not None}

    @property
    def evaluation(self) -> Split:
        """The split that accuracy is reported on: test if present, else val."""
        return self.val if self.test is None else self.test

    def info(self) -> DataInfo:
        """What a record says about the data."""
        return DataInfo(
            source=self.source,
            manifest_hash=self.manifest_hash,
            num_images={name: split.num_images for name, split in self.splits.items()},
            num_tracks={name: split.num_tracks if split.has_tracks else None for name, split in self.splits.items()},
        )


__all__ = ["DATASETS", "IMAGE_SIZE", "Data", "Split"]
