"""Extra training images: checked once, kept under the hash of their pixels, and used with `-p extra_data HASH`.

    store/images/<SHA-256 of the pixels>.png
    store/manifests/<hash>.json                 its images with their classes; the hash is that of `hash_rows`

The manifest is written last, so what is not complete is not there. `GTSRB_STORE` names another folder.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import pydantic
from PIL import Image

from lib.data.audit import TEST, TRAIN, VAL
from lib.data.cache import cached, sent_folder
from lib.data.dataset import Data, Split, joined
from lib.data.folders import NUMBER, read_rows, some, visible
from lib.data.image_files import Entry, decode_entries, hash_manifest, hash_rows
from lib.data.images import MAX_SIGN_SIDE, WHOLE, pixel_digest, read_image
from lib.errors import RefusedError, UserError
from lib.files import locked, project_path, replacing, write_atomic, writing
from lib.progress import Progress, silent

SHORT = 12  # characters of a hash in a list
SENT_NAME = "store"  # beside caches that another machine has sent
FOLDER = "extra"  # that the sources of these images are in
_BOX = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
_HASH = re.compile(r"[0-9a-f]{6,64}")
_FRAME = re.compile(r"(.*\d{5})_\d{5}\.\w+")  # as GTSRB names the frames of a track; any other file is one of its own
_JUDGES = (TEST, VAL)
_REMEDY = "set GTSRB_STORE to another folder"


class Given(NamedTuple):
    """One sign in a folder that is added."""

    name: str  # of the file, below the folder
    file: Path
    label: int
    box: tuple[int, int, int, int] | None  # first and last column and row of the sign; None: the image is a crop of it


class Kept(NamedTuple):
    """One image of a manifest."""

    source: str  # `extra/<class>-<name of the file>`
    digest: str  # hex, `pixel_digest`
    label: int


@dataclass(frozen=True)
class Extra:
    """A manifest: what was added at once."""

    images: list[Kept]
    classes: list[str]  # their names, by class id
    folder: str  # name of the one that they came from
    checked_with: str  # data set that has none of them
    added: str  # ISO 8601, UTC

    @property
    def hash(self) -> str:
        """SHA-256 of the sorted (source, digest, class) of all images."""
        return hash_rows(self.images)

    @property
    def words(self) -> str:
        """How many images of what they are."""
        tracks, classes = len({_track(image.source) for image in self.images}), {image.label for image in self.images}
        return f"images: {len(self.images):,}, tracks: {tracks:,}, classes: {len(classes)}"


_EXTRA = pydantic.TypeAdapter(Extra)


def store_dir() -> Path:
    """Folder of the store, or where another machine has sent it; `GTSRB_STORE` overrides it."""
    return sent_folder(SENT_NAME) or project_path(os.environ.get("GTSRB_STORE") or "store")


def _manifest_path(extra_hash: str) -> Path:
    return store_dir() / "manifests" / f"{extra_hash}.json"


def _image_path(digest: str) -> Path:
    return store_dir() / "images" / f"{digest}.png"


@contextmanager
def _changing() -> Iterator[list[Path]]:
    """One process at a time; files in the list that it yields are removed if anything goes wrong."""
    made: list[Path] = []
    with writing(f"the store {store_dir()}", _REMEDY):
        store_dir().mkdir(parents=True, exist_ok=True)
        with locked(store_dir() / ".lock"):
            try:
                yield made
            except BaseException:
                for path in made:
                    path.unlink(missing_ok=True)
                raise


def given_in(folder: Path, num_classes: int) -> list[Given]:
    """The signs in class folders (`14/`, `00014/`), or those that the one csv of the folder names.

    A csv is as GTSRB's: `Filename;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId`. It may name a photo once for each of its signs.

    Raises:
        UserError: neither, a class that does not exist, or a csv that is damaged or names files that are not there.
    """
    entries = visible(folder)
    tables = [entry.path for entry in entries if entry.name.lower().endswith(".csv")]
    if len(tables) > 1:
        raise UserError(f"{folder} has {len(tables)} csv files; keep the one that names the images")
    signs = _in_table(folder, tables[0], num_classes) if tables else _in_classes(entries, num_classes)
    if not (found := list(signs)):
        raise UserError(f"{folder} has no images; give class folders 0 to {num_classes - 1}, or a csv with boxes")
    return found


def _in_classes(entries: Iterable[os.DirEntry[str]], num_classes: int) -> Iterator[Given]:
    for entry in entries:
        if not (entry.is_dir() and entry.name.isdecimal() and int(entry.name) < num_classes):
            raise UserError(
                f"{entry.path} is not the folder of a class; name them 0 to {num_classes - 1}, or give a csv"
            )
        for file in visible(Path(entry.path)):
            if not file.name.lower().endswith(".csv"):  # GTSRB's boxes: its images are crops already
                yield Given(f"{entry.name}/{file.name}", project_path(file.path), int(entry.name), None)


def _in_table(folder: Path, table: str, num_classes: int) -> Iterator[Given]:
    for number, row in enumerate(read_rows(table, ("Filename", *_BOX, "ClassId"), ";"), start=2):
        where, name, label = f"{table}, row {number},", row["Filename"], int(row["ClassId"])
        box = [int(row[side]) for side in _BOX if NUMBER.fullmatch(row[side])]
        if len(box) < len(_BOX) or box[0] >= box[2] or box[1] >= box[3]:
            raise UserError(f"{where} has no box of columns and rows: {', '.join(row[side] for side in _BOX)}")
        if label >= num_classes:
            raise UserError(f"{where} gives class {label} to {name}; classes are 0 to {num_classes - 1}")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{where} names {name}; give paths below {folder}")
        left, top, right, bottom = box
        yield Given(name, folder / name, label, (left, top, right, bottom))


def _cropped(image: Image.Image, box: tuple[int, int, int, int] | None, name: str) -> Image.Image:
    """The sign with a margin as that of GTSRB's images, which are all of their size again: 10 %, at least 5 pixels, and
    up to 2 more.

    Raises:
        UserError: a box that is not in the image, or a crop that is too large.
    """
    if box is not None:
        left, top, right, bottom = box
        if right >= image.width or bottom >= image.height:
            raise UserError(f"the box {box} of {name} is not in its {image.width} x {image.height} pixels")
        across, down = (max(5, round(0.1 * side)) + 2 for side in (right - left, bottom - top))
        right, bottom = min(right + across, image.width), min(bottom + down, image.height)
        image = image.crop((max(0, left - across), max(0, top - down), right, bottom))
    if max(image.size) > MAX_SIGN_SIDE:
        raise UserError(
            f"{name} has {image.width} x {image.height} pixels, more than {MAX_SIGN_SIDE}; crop it to the sign"
        )
    return image


def add(folder: Path, data: Data, progress: Progress = silent) -> tuple[Extra, bool]:
    """Check the images of a folder and keep those that are new, all of them or none.

    Images that are in training or there twice are left out.

    Args:
        folder: as of `given_in`.
        data: all of the data set that they are added to.

    Returns:
        The manifest, and whether it is new.

    Raises:
        UserError: as of `given_in`; a file that is not an image; test or validation images among them; an image with
            two classes; nothing that is new; a full disk.
    """
    given, known = given_in(folder, len(data.classes)), _known(data)
    kept: list[Kept] = []
    judges: list[str] = []
    with _changing() as made:
        for number, (name, file, label, box) in enumerate(given):
            if number and number % 1000 == 0:
                progress(f"checking images: {number:,} of {len(given):,}")
            photo = read_image(file)
            for note in photo.notes:
                progress(f"{name}: {note}")
            image = _cropped(photo.image, box, name)
            digest, whole = pixel_digest(image).hex(), pixel_digest(photo.image).hex()
            split, earlier = known.get(digest) or known.get(whole) or ("", label)
            if split in _JUDGES:
                judges.append(name)
            elif earlier != label:
                twice = f"class {label}, and also as {earlier} ({data.classes[earlier]})"
                raise UserError(f"{folder / name} is given as {twice}, pixel for pixel; correct one of them")
            elif not split:
                known[digest] = FOLDER, label
                kept.append(Kept(_source(label, name, box), digest, label))
                if not _holds(digest):
                    made.append(_image_path(digest))
                    with replacing(made[-1]) as temporary:
                        image.save(temporary, "PNG")
        _refuse_judges(judges, data)
        if not kept:
            raise UserError(f"{folder} has nothing new: all images are in the training part of {data.source}")
        progress(f"{len(kept):,} of {len(given):,} images are new")
        added = datetime.now(UTC).isoformat(timespec="seconds")
        extra = Extra(kept, list(data.classes), folder.resolve().name, data.source, added)
        with suppress(UserError):  # there is none, or a damaged one
            return find_extra(extra.hash), False
        write_atomic(_manifest_path(extra.hash), json.dumps(asdict(extra), indent=1) + "\n")
    return extra, True


def _known(data: Data) -> dict[str, tuple[str, int]]:
    """Split and class by digest; of images in two splits, the one that judges."""
    return {
        digest: (split.name, label)
        for split in data.splits.values()  # the test last
        for digest, label in zip(split.hex_digests(), split.labels.tolist(), strict=True)
    }


def _refuse_judges(names: list[str], data: Data) -> None:
    if names:
        raise UserError(
            f"{len(names):,} of the extra images are in the test or validation part of {data.source}, pixel for pixel: "
            f"{some(names)}; training with them would make its accuracy worthless, add the others alone"
        )


def _source(label: int, name: str, box: tuple[int, int, int, int] | None) -> str:
    """Frames of a track keep their numbers at the end; signs of one photo differ by their box."""
    where = f"{'-'.join(map(str, box))}-" if box is not None and not _FRAME.fullmatch(name) else ""
    return f"{FOLDER}/{label:05d}-{where}{name.replace('/', '-')}"


def _track(source: str) -> str:
    frame = _FRAME.fullmatch(source)
    return frame[1] if frame else source


def all_extras() -> list[Extra]:
    """All manifests, the newest last.

    Raises:
        UserError: one is damaged.
    """
    extras = [_read(path) for path in store_dir().glob("manifests/*.json")]
    return sorted(extras, key=lambda extra: (extra.added, extra.hash))


def list_store() -> Iterator[str]:
    """A line for each manifest."""
    for extra in all_extras():
        where = f"from {extra.folder}, for {extra.checked_with}"
        yield f"{extra.hash[:SHORT]}  {extra.added[:10]}  {extra.words}, {where}"


def _read(path: Path) -> Extra:
    try:
        extra = _EXTRA.validate_json(path.read_bytes())
    except (OSError, pydantic.ValidationError):
        extra = None
    if extra is None or extra.hash != path.stem:
        raise UserError(f"{path} is damaged; add its images again, or remove it")
    return extra


def find_extra(extra_hash: str) -> Extra:
    """The extra data of this hash, or of its first characters, at least 6.

    Raises:
        UserError: none, several, or a damaged manifest.
    """
    found = list(store_dir().glob(f"manifests/{extra_hash}*.json")) if _HASH.fullmatch(extra_hash) else []
    if len(found) != 1:
        why = "several extra data have" if found else "no extra data have"
        raise UserError(
            f"{why} the hash {extra_hash!r} in {store_dir()}; `python -m lib data list` shows what is there"
        )
    return _read(found[0])


def remove(extra: Extra) -> int:
    """Remove a manifest, and all images that no other one names; returns their number.

    Raises:
        UserError: another manifest is damaged, so that it is not known which images it needs.
    """
    with _changing():
        needed = {image.digest for other in all_extras() if other.hash != extra.hash for image in other.images}
        unneeded = [path for path in store_dir().glob("images/*.png") if path.stem not in needed]
        _manifest_path(extra.hash).unlink()
        for path in unneeded:
            path.unlink()
    return len(unneeded)


def verify_store() -> Iterator[str]:
    """Decode every image again, and yield a line for each manifest that holds.

    Raises:
        RefusedError: the first one with images that are missing or changed.
        UserError: a damaged manifest.
    """
    for extra in all_extras():
        if broken := [image.source for image in extra.images if not _holds(image.digest)]:
            raise RefusedError(f"{extra.hash} has missing or changed images: {some(broken)}; add its folder again")
        yield f"ok  {extra.hash[:SHORT]}  {extra.words}"


def _holds(digest: str) -> bool:
    try:
        return pixel_digest(read_image(_image_path(digest)).image).hex() == digest
    except UserError:
        return False


def with_extra(data: Data, extra_hash: str, progress: Progress = silent) -> Data:
    """The data set with extra training images, whose tracks are their own. Validation and test stay as they are.

    Args:
        extra_hash: as of `find_extra`; empty: none.

    Raises:
        UserError: as of `find_extra`; images that are damaged, of other classes, or in the validation or test part;
            data that are cropped.
    """
    if not extra_hash:
        return data
    extra = find_extra(extra_hash)
    if data.crop != WHOLE:
        raise UserError("extra data have no boxes of their signs to crop to; leave -p crop or -p extra_data out")
    if tuple(extra.classes) != data.classes:
        raise UserError(f"the extra data {extra_hash} have other classes than {data.source}; add them to that data set")
    known = _known(data)
    _refuse_judges([image.source for image in extra.images if known.get(image.digest, ("",))[0] in _JUDGES], data)
    key, made_from = f"extra-{extra.hash[:SHORT]}-{data.image_size}px", f"{extra.hash} Pillow {PIL.__version__}"
    split = cached(key, made_from, lambda: _decoded(extra, data.image_size, progress))[TRAIN]
    _, numbers = np.unique([_track(image.source) for image in extra.images], return_inverse=True)
    first = 1 + max(int(split.track_ids.max()) for split in data.splits.values())
    split = replace(split, track_ids=first + numbers)
    notes = [*data.notes, f"with extra training images {extra.hash[:SHORT]}: {extra.words}"]
    return replace(data, train=joined(TRAIN, data.train, split), notes=notes, extra_hash=extra.hash)


def _decoded(extra: Extra, image_size: int, progress: Progress) -> dict[str, Split]:
    entries = [Entry(image.source, str(_image_path(image.digest)), image.label, 0) for image in extra.images]
    with suppress(UserError):
        split = decode_entries(TRAIN, entries, image_size, None, progress)
        if hash_manifest([split]) == extra.hash:
            return {TRAIN: split}
    raise UserError(f"the extra data {extra.hash[:SHORT]} are damaged; `python -m lib data verify` names the images")
