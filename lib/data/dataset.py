"""What a data set is: a name, its classes, its archives, and how its images are loaded at a size."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, TypeVar

import numpy as np

from lib.data.images import WHOLE
from lib.errors import UserError
from lib.progress import Progress
from lib.records.schema import DataInfo


@dataclass(frozen=True)
class Split:
    """Images of one split, in a fixed order. `images` may be memory-mapped; writing to it never reaches the file."""

    name: str  # train, val, test
    images: np.ndarray  # uint8 (N, 3, H, W)
    labels: np.ndarray  # int64 (N,), class ids
    track_ids: np.ndarray  # int64 (N,), one per physical track over the whole data set
    sizes: np.ndarray  # int32 (N, 2), original height and width, pixels
    sources: np.ndarray  # str (N,), file paths as in the official layout, below gtsrb/; "" for a synthetic image
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

    def hex_digests(self) -> list[str]:
        """The digests as text, 64 characters each."""
        text = self.digests.tobytes().hex()
        return [text[start : start + 64] for start in range(0, len(text), 64)]

    def take(self, kept: np.ndarray) -> Split:
        """Some of the images, by index or by a bool (N,)."""
        return replace(self, **{name: getattr(self, name)[kept] for name in ARRAYS})


ARRAYS = tuple(field.name for field in fields(Split) if field.name != "name")


def joined(name: str, first: Split, second: Split) -> Split:
    """The images of two splits, one after the other."""
    return Split(name, **{array: np.concatenate([getattr(first, array), getattr(second, array)]) for array in ARRAYS})


@dataclass(frozen=True)
class Data:
    """One data set, cut into splits by track."""

    source: str  # name of the data set
    manifest_hash: str  # SHA-256 of paths, pixels and labels; of generator and parameters for synthetic images
    classes: tuple[str, ...]  # their names, by class id
    train: Split
    val: Split
    test: Split | None
    notes: list[str]  # what a page must say about these data
    crop: str = WHOLE  # what of each image is shown, see `lib.data.images.crop_margin`
    extra_hash: str = ""  # of the extra training images (`lib.data.store`), which `manifest_hash` leaves out

    @property
    def image_size(self) -> int:
        """Height and width of the images, pixels."""
        return int(self.train.images.shape[-1])

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
            classes=list(self.classes),
            extra_hash=self.extra_hash,
        )


@dataclass(frozen=True)
class Archive:
    """One ZIP file on the server of a data set. It is used only if its size and SHA-256 are these."""

    name: str
    size: int  # bytes
    sha256: str
    part: Literal["training", "test"]  # what it belongs to
    target: PurePosixPath  # what it becomes, below the folder of the data set: a folder, or a file


class DataSet(ABC):
    """A data set that people choose by its name. To add one, add a file to `lib/data/sets/` with a class marked
    `@register`."""

    name: ClassVar[str]  # as in `-p dataset NAME`
    title: ClassVar[str]  # what it is, without the word "official"
    classes: ClassVar[tuple[str, ...]]  # their names, by class id; signs that `lib.signs` knows have an artwork
    order: ClassVar[int] = 100  # place in lists
    base_url: ClassVar[str] = ""  # of the server that has the archives
    archives: ClassVar[tuple[Archive, ...]] = ()  # what `data get` fetches, in this order; empty: nothing
    reads_files: ClassVar[bool] = False  # True where `load` reads a data_root
    num_images: ClassVar[Mapping[str, int]] = {"smoke": 4_000, "fast": 0, "full": 0}  # by profile, as of `load`

    def cropped(self, crop: str) -> DataSet:
        """The same set with every image cropped to the box of its sign, see `lib.data.images.crop_margin`.

        Raises:
            UserError: the boxes of its signs are not known.
        """
        raise UserError(f"the data set {self.name!r} has no boxes of its signs to crop to; leave -p crop out")

    @abstractmethod
    def load(self, data_root: Path, num_images: int, seed: int, image_size: int, progress: Progress) -> Data:
        """Load the images, cut into splits by track. Validation is chosen from the data alone.

        Args:
            data_root: the folder to look in; for a set that does not read files it means nothing.
            num_images: training and validation images together; 0 = all.
            seed: of images that are made; others do not depend on it.
            image_size: height and width that every image is resized to, pixels.

        Raises:
            UserError: data that are missing, incomplete or damaged.
        """


def check_data(data: Data, dataset: DataSet, image_size: int) -> None:
    """Refuse what a data set loaded wrongly, before a network is trained on it.

    Raises:
        UserError: a split without images, or arrays of another shape or type than `Split` says, or labels of no class.
    """
    for split in data.splits.values():
        number, last = len(split.labels), len(dataset.classes) - 1
        expected = {
            "images": ("uint8", (number, 3, image_size, image_size)),
            "labels": ("int64", (number,)),
            "track_ids": ("int64", (number,)),
            "sizes": ("", (number, 2)),
            "sources": ("", (number,)),
            "digests": ("uint8", (number, 32)),
        }
        for name, (dtype, shape) in expected.items():
            found = getattr(split, name)
            if found.shape != shape or (dtype and found.dtype != dtype) or not number:
                raise UserError(
                    f"the data set {dataset.name!r} gave {name} of {split.name} as {found.dtype} {found.shape}; "
                    f"they must be {dtype} {shape if number else 'of at least one image'}"
                )
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high > last:
            raise UserError(
                f"the data set {dataset.name!r} gave labels of {split.name} from {low} to {high}; its {last + 1} "
                f"classes are 0 to {last}"
            )


_REGISTRY: dict[str, DataSet] = {}
_DataSetType = TypeVar("_DataSetType", bound=type[DataSet])


def register(dataset: _DataSetType) -> _DataSetType:
    """Class decorator: make a data set known by its name.

    Raises:
        UserError: another one has the name already.
        ValueError: the name cannot be part of a file name, or the data set does not say what it is.
    """
    for attribute in ("name", "title", "classes"):
        if not getattr(dataset, attribute, ""):
            raise ValueError(f"the data set {dataset.__qualname__} has no {attribute}; pages and records need them")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", dataset.name):
        raise ValueError(f"a data set is named {dataset.name!r}; use letters, digits, - and _ only")
    if (known := _REGISTRY.get(dataset.name)) is not None:
        raise UserError(f"two data sets are named {dataset.name!r}: this one and that of {type(known).__module__}")
    _REGISTRY[dataset.name] = dataset()
    return dataset


def registered() -> dict[str, DataSet]:
    """The registry itself."""
    return _REGISTRY
