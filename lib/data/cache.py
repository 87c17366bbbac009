"""Decoded images on disk: made once, memory-mapped afterwards, and made again when anything about them is wrong.

One folder per data set, place and image size. It is written beside its place and renamed. Its `meta.json` says what
the images were made from and has the SHA-256 of every file. So a folder is made again when the source files have
changed, and when a full disk, a killed process or a bad copy has damaged it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib.data.dataset import ARRAYS, Split
from lib.errors import UserError
from lib.files import cache_dir, locked, sha256_file, writing

SENT_VARIABLE = "GTSRB_SENT"  # in the environment: folder of caches that another machine has sent
VERSION = 3  # raise when the stored layout, the decoding or the split changes

Splits = dict[str, Split]  # by name


def _read(folder: Path, made_from: str | None) -> Splits | None:
    """What the folder holds, or None where it is not there, damaged, or made from something else. None: whatever."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        if made_from not in (None, meta["made_from"]):
            return None
        if any(sha256_file(folder / name) != digest for name, digest in meta["sha256"].items()):
            return None
        return {name: _opened(folder, name) for name in meta["splits"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _opened(folder: Path, name: str) -> Split:
    # Copy-on-write: torch warns about read-only arrays, and a stray write stays in this process.
    images = np.load(folder / f"{name}.images.npy", mmap_mode="c")
    return Split(name, images, **{array: np.load(folder / f"{name}.{array}.npy") for array in ARRAYS[1:]})


def _write(splits: Splits, folder: Path, made_from: str) -> None:
    for name, split in splits.items():
        for array in ARRAYS:
            np.save(folder / f"{name}.{array}.npy", getattr(split, array), allow_pickle=False)
    digests = {file.name: sha256_file(file) for file in sorted(folder.iterdir())}
    meta = {"made_from": made_from, "splits": list(splits), "sha256": digests}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _install(splits: Splits, folder: Path, made_from: str) -> Splits:
    """Write beside `folder`, rename into place, open."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp makes 0700; a cache may be shared
        _write(splits, temporary, made_from)
        if folder.exists():
            os.rename(folder, temporary / "old")
        os.rename(temporary, folder)
        shutil.rmtree(folder / "old", ignore_errors=True)
        return {name: _opened(folder, name) for name in splits}
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cached(key: str, made_from: str, make: Callable[[], Splits]) -> Splits:
    """The splits kept under `key`; where there are none that were made from this, `make` makes them.

    Args:
        key: a file name that stands for a data set in its place, at its size.
        made_from: a text that differs when the source files, the generator or a library that shapes the pixels differ.

    Raises:
        UserError: the cache folder is not writable or the disk is full.
    """
    folder = cache_dir() / "data" / key
    made_from = f"{made_from} {VERSION}"
    splits = _read(folder, made_from)
    if splits is not None:
        return splits
    with writing(f"the cache {folder}", "set GTSRB_CACHE to a folder that is writable"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{key}.lock"):
            splits = _read(folder, made_from)  # another process may have made them meanwhile
            if splits is not None:
                return splits
            for orphan in folder.parent.glob(f".{key}.*"):  # of processes that were killed: we hold their lock
                if orphan.is_dir():
                    shutil.rmtree(orphan, ignore_errors=True)
            return _install(make(), folder, made_from)


def sent_folder(name: str) -> Path | None:
    """What another machine has sent under this name; None where it has sent none."""
    place = os.environ.get(SENT_VARIABLE, "")
    return folder if place and (folder := Path(place, name)).is_dir() else None


def sent(name: str) -> Splits | None:
    """The splits that another machine has sent, checked by their hashes; None where it has sent none of this name.

    Raises:
        UserError: what it has sent is damaged.
    """
    if (folder := sent_folder(name)) is None:
        return None
    if (splits := _read(folder, None)) is None:
        raise UserError(f"the images that were sent to {folder} are damaged; remove the folder: they are sent again")
    return splits


def folder_of(splits: Splits) -> Path:
    """The folder that cached splits were opened from."""
    images = next(iter(splits.values())).images
    assert isinstance(images, np.memmap) and isinstance(images.filename, Path | str)
    return Path(images.filename).parent
