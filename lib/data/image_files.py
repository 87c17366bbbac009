"""Data sets of image files in a folder: found, listed, checked, decoded, and described by their pixels."""

from __future__ import annotations

import copy
import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import PIL

from lib.data.cache import Splits, cached, sent
from lib.data.dataset import Archive, Data, DataSet, Split, registered
from lib.data.folders import GET_DATA, Listed, contents, fingerprint
from lib.data.images import WHOLE, Box, crop_margin, decode_sign
from lib.data.splitting import choose_val, thinned
from lib.errors import UserError
from lib.progress import Progress

_REPORT_EVERY = 10_000  # images


class Entry(NamedTuple):
    """One labelled image."""

    path: str  # canonical: as in the official layout, whatever the file is called here
    file: str
    label: int
    track_id: int
    box: Box | None = None  # of the sign, where the data set has it


@dataclass(frozen=True)
class Part:
    """The training images or the test images, before they are read."""

    files: list[Listed]  # that the images depend on: while none of them is touched, nothing is read again
    index: Callable[[], list[Entry]]  # checks that all is there; raises a UserError for anything else


class Found(NamedTuple):
    """A data set in a folder."""

    base: Path  # where the archives of the data set are unpacked
    training: Part
    test: Part | None


class FileSet(DataSet):
    """A data set of image files."""

    reads_files = True
    home: ClassVar[str]  # the folder below data_root that archives are unpacked into
    expected: ClassVar[str]  # what a data_root must hold, below it
    num_official: ClassVar[int]  # original images for training and validation
    manifest_hash: ClassVar[str] = ""  # `hash_manifest` of those; empty where it is not known
    crop: str = WHOLE

    def cropped(self, crop: str) -> DataSet:
        """See `DataSet`."""
        other = copy.copy(self)
        other.crop = crop
        return other

    @abstractmethod
    def find(self, root: Path) -> Found | None:
        """The data set in `root`, at any level of its layout or one above it; None where there is none.

        Raises:
            UserError: a part is there twice, or a folder cannot be read.
        """

    def advice(self, root: Path) -> str:
        """What to do where `root` does not hold the data set."""
        return GET_DATA if self.archives else "point data_root at your copy"

    def locate(self, root: Path) -> Found:
        """As `find`.

        Raises:
            UserError: no such data; the message says what is there instead.
        """
        if not root.is_dir():
            raise UserError(f"no folder {root} (data_root); {GET_DATA}, or point data_root at your copy")
        if (found := self.find(root)) is not None:
            return found
        advice = self.advice(root)
        for other in registered().values():
            if isinstance(other, FileSet) and other.find(root):
                advice = f"choose the data set {other.name!r}, or {advice}"
        raise UserError(
            f"{root} holds no {self.title}: {contents(root)}, but {root / self.expected} does not exist; {advice}"
        )

    def has(self, archive: Archive, root: Path) -> bool:
        """Whether what an archive brings is there, complete by the rules of loading."""
        try:
            found = self.locate(root)
            part = found.training if archive.part == "training" else found.test
            return part is not None and bool(part.index())
        except UserError:
            return False

    def load(self, data_root: Path, num_images: int, seed: int, image_size: int, progress: Progress) -> Data:
        """See `DataSet`. The test images are thinned in the same proportion as the others."""
        cropped = "" if self.crop == WHOLE else f"-{self.crop}"
        kept = f"{self.name}-{image_size}px{cropped}"
        splits = sent(kept) or self._cached(kept, data_root, image_size, progress)
        notes, total = self._notes(splits), splits["train"].num_images + splits["val"].num_images
        if 0 < num_images < total:
            notes.append(f"a part of it: {num_images:,} of {total:,} images for training and validation")
            splits = thinned(splits, num_images)
        elif num_images > total:
            notes.append(f"{num_images:,} images were asked for; there are {total:,}")
        notes += [f"images cropped to the sign: {self.crop}"] if self.crop != WHOLE else []
        return Data(
            source=self.name,
            manifest_hash=hash_manifest(splits.values()),
            classes=self.classes,
            train=splits["train"],
            val=splits["val"],
            test=splits.get("test"),
            notes=notes,
            crop=self.crop,
        )

    def _cached(self, kept: str, data_root: Path, image_size: int, progress: Progress) -> Splits:
        found = self.locate(data_root)
        place = hashlib.sha256(os.fsencode(os.path.realpath(found.base))).hexdigest()[:12]
        files = [*found.training.files, *(found.test.files if found.test else [])]
        made_from = f"{fingerprint(files)} Pillow {PIL.__version__}"  # another one may decode or resize otherwise
        return cached(f"{kept}-{place}", made_from, lambda: _decoded(found, image_size, self.crop, progress))

    def _notes(self, splits: Splits) -> list[str]:
        """Which set this is. Only equal pixels make it the official one: others may have the same number of images."""
        trained = splits["train"], splits["val"]
        total = sum(split.num_images for split in trained)
        counted = f"{total:,} images in {sum(split.num_tracks for split in trained):,} tracks"
        if not self.manifest_hash:
            note = f"{self.title}: {counted}; not verified, as no hash of the original images is known"
        elif hash_manifest(trained) == self.manifest_hash:
            note = f"official {self.title}, verified by its pixels: {counted}"
        else:
            how = ", some of them with other pixels, labels or names" if total == self.num_official else ""
            note = f"not the official {self.title} ({self.num_official:,} images): {counted}{how}"
        test = splits.get("test")
        return [note, f"{test.num_images:,} test images" if test else "no test images: evaluated on validation"]


def hash_manifest(splits: Iterable[Split]) -> str:
    """SHA-256 over the sorted (path, digest, label) of all images: equal on every machine with the same images."""
    rows: list[tuple[str, str, int]] = []
    for split in splits:
        rows += zip(split.sources.tolist(), split.hex_digests(), split.labels.tolist(), strict=True)
    return hash_rows(rows)


def hash_rows(rows: Iterable[tuple[str, str, int]]) -> str:
    """The same for (path, hex digest, label)."""
    lines = sorted(f"{path}\0{digest}\0{label}\n" for path, digest, label in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _decoded(found: Found, image_size: int, crop: str, progress: Progress) -> Splits:
    """Check that all is there, choose what validates, and decode."""
    entries = found.training.index()
    tested = found.test.index() if found.test else None
    is_val = choose_val(np.array([entry.label for entry in entries]), np.array([entry.track_id for entry in entries]))
    parts = {side: [entry for entry, val in zip(entries, is_val, strict=True) if val == (side == "val")]
             for side in ("train", "val")}  # fmt: skip
    if tested is not None:
        parts["test"] = tested
    return {name: decode_entries(name, part, image_size, crop_margin(crop), progress) for name, part in parts.items()}


def decode_entries(name: str, entries: list[Entry], image_size: int, margin: float | None, progress: Progress) -> Split:
    """Read and decode every file. One thread: with tiny files more threads only wait for each other."""
    images = np.empty((len(entries), 3, image_size, image_size), np.uint8)
    sizes = np.empty((len(entries), 2), np.int32)
    digests = np.empty((len(entries), 32), np.uint8)
    for index, entry in enumerate(entries):
        if index % _REPORT_EVERY == 0:
            progress(f"decoding {name} images: {index:,} of {len(entries):,}")
        box = entry.box if margin is not None else None
        if margin is not None and box is None:
            raise UserError(f"no box of the sign in {entry.file} is known; leave -p crop out")
        images[index], sizes[index], digest = decode_sign(Path(entry.file), image_size, box, margin or 0.0)
        digests[index] = np.frombuffer(digest, np.uint8)
    labels = np.array([entry.label for entry in entries], np.int64)
    track_ids = np.array([entry.track_id for entry in entries], np.int64)
    return Split(name, images, labels, track_ids, sizes, np.array([entry.path for entry in entries]), digests)
