"""Decoded images on disk: made once, memory-mapped afterwards, and made again when anything about them is wrong.

One folder per set of images. It is written beside its place and renamed, and every file in it has its SHA-256 in
`meta.json`, so a folder that a full disk, a killed process or a bad copy has damaged is noticed and rebuilt.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.data.images import IMAGE_SIZE
from lib.files import cache_dir, locked, sha256_file, write_atomic, writing

VERSION = 2  # raise when the stored layout, the decoding or the order of the images changes
_FILES = ("images", "labels", "track_ids", "sizes", "digests")


@dataclass(frozen=True)
class Stored:
    """Images as the cache keeps them."""

    images: np.ndarray  # uint8 (N, 3, 32, 32)
    labels: np.ndarray  # int64 (N,)
    track_ids: np.ndarray  # int64 (N,)
    sizes: np.ndarray  # int32 (N, 2), original height and width
    digests: np.ndarray  # uint8 (N, 32), `pixel_digest` of each image as it was decoded or drawn
    paths: list[str]  # N canonical paths, or "" each
    num_val: int = 0  # the last images are validation


def data_cache() -> Path:
    """Folder of all decoded data sets."""
    return cache_dir() / "data"


def _consistent(stored: Stored) -> bool:
    count = len(stored.paths)
    return (
        stored.images.shape == (count, 3, IMAGE_SIZE, IMAGE_SIZE)
        and stored.images.dtype == np.uint8
        and stored.labels.shape == stored.track_ids.shape == (count,)
        and stored.labels.dtype == stored.track_ids.dtype == np.int64
        and stored.sizes.shape == (count, 2)
        and stored.sizes.dtype == np.int32
        and stored.digests.shape == (count, 32)
        and stored.digests.dtype == np.uint8
        and 0 <= stored.num_val <= count
    )


def _read(folder: Path) -> Stored | None:
    """What the folder holds, or None where it is not there, damaged or of another version."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        if meta["version"] != VERSION:
            return None
        for name, digest in meta["sha256"].items():
            if sha256_file(folder / name) != digest:
                return None
        # Copy-on-write: torch warns about read-only arrays, and a stray write stays in this process.
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="c" if name == "images" else None, allow_pickle=False)
            for name in _FILES
        }
        stored = Stored(**arrays, paths=json.loads((folder / "paths.json").read_bytes()), num_val=meta["num_val"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None
    return stored if _consistent(stored) else None


def _write(stored: Stored, folder: Path) -> None:
    for name in _FILES:
        np.save(folder / f"{name}.npy", getattr(stored, name), allow_pickle=False)
    (folder / "paths.json").write_text(json.dumps(stored.paths), encoding="utf-8")
    digests = {file.name: sha256_file(file) for file in sorted(folder.iterdir())}
    meta = {"version": VERSION, "num_val": stored.num_val, "sha256": digests}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _install(stored: Stored, folder: Path) -> Stored:
    """Write beside `folder`, open, rename into place."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp makes 0700; a cache may be shared
        _write(stored, temporary)
        opened = _read(temporary)  # before the rename: an open mapping survives whatever others do to the folder
        if opened is None:
            raise OSError("what was written reads back differently")
        if folder.exists():
            os.rename(folder, temporary / "damaged")
        os.rename(temporary, folder)
        shutil.rmtree(folder / "damaged", ignore_errors=True)
        return opened
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def store(key: str, make: Callable[[], Stored]) -> Stored:
    """The cached images under `key`; made by `make`, and put there, if they are not there or damaged.

    Args:
        key: A file name that stands for the content of the images.

    Raises:
        UserError: the cache folder is not writable or the disk is full.
    """
    folder = data_cache() / key
    stored = _read(folder)
    if stored is not None:
        return stored
    with writing(f"the cache {folder}", "set GTSRB_CACHE to a folder that is writable"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{key}.lock"):
            stored = _read(folder)  # another process may have made it meanwhile
            if stored is not None:
                return stored
            for orphan in folder.parent.glob(f".{key}.*"):  # of processes that were killed: we hold their lock
                if orphan.is_dir():
                    shutil.rmtree(orphan, ignore_errors=True)
            return _install(make(), folder)


def remember(note: str, key: str) -> None:
    """Note that files have the content `key`; `note` is a file name that stands for those files as they are now."""
    write_atomic(data_cache() / "fingerprints" / note, key)


def recall(note: str) -> Stored | None:
    """The cached images of files that were noted, if they are undamaged."""
    try:
        key = (data_cache() / "fingerprints" / note).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    # The key is a file name: a damaged note must not lead out of the cache.
    return _read(data_cache() / key) if key and all(letter.isalnum() or letter in "-" for letter in key) else None
