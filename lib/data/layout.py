"""The official GTSRB folder layout: finding it, listing it, and refusing anything incomplete.

    data_root/gtsrb/GTSRB/Final_Training/Images/<class>/<track>_<frame>.ppm and GT-<class>.csv    gtsrb
    data_root/gtsrb/GTSRB/Training/<class>/...                                                    gtsrb-torchvision
    data_root/gtsrb/GTSRB/Final_Test/Images/<number>.ppm with data_root/gtsrb/GT-final_test.csv   test, for both

An interrupted extraction leaves classes out, a folder without its csv, or a csv with missing files. So completeness
means: every class is there, and each csv and its folder name the same files. Any set in this layout passes. Only one
whose paths, pixels and labels have the known hash is called official.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lib.data.images import MAX_SIGN_BYTES
from lib.errors import UserError
from lib.signs import NUM_CLASSES

DEFAULT_ROOT = "data"  # data_root when none is given, below the project root
GET_DATA = "fetch it with `python -m lib data get`"
TEST_FOLDER = PurePosixPath("GTSRB/Final_Test/Images")
TEST_LABELS = "GT-final_test.csv"
TRACK_STRIDE = 100_000  # track ids: class * stride + track number; file names have five digits for the track
MAX_CSV_BYTES = 8_000_000  # the official test csv has 0.4 MB
_TRAIN_NAME = re.compile(r"([0-9]{5})_[0-9]{5}\.ppm")
_TEST_NAME = re.compile(r"[0-9]{5}\.ppm")


@dataclass(frozen=True)
class TrainingSet:
    """One of the two training sets that go under the name GTSRB."""

    title: str  # without the word "official"
    folder: PurePosixPath  # below data_root/gtsrb
    num_images: int
    manifest_hash: str  # `lib.data.loading.hash_manifest` of the original images; empty where it is not known


TRAINING_SETS = {
    "gtsrb": TrainingSet(
        "GTSRB training set",
        PurePosixPath("GTSRB/Final_Training/Images"),
        39_209,
        "75af4b5dfe8fccde69f9eff7364ddf405b9fff3c2dfac7438de8b8b9e44d7843",
    ),
    "gtsrb-torchvision": TrainingSet("torchvision GTSRB training split", PurePosixPath("GTSRB/Training"), 26_640, ""),
}


class Listed(NamedTuple):
    """One file as the folder lists it."""

    path: str  # canonical: relative to data_root/gtsrb, with slashes, wherever the folder lies
    file: str  # where it lies
    size: int  # bytes
    mtime_ns: int


class Entry(NamedTuple):
    """One labelled image."""

    path: str  # canonical
    file: str
    label: int
    track_id: int


def find_base(dataset: str, data_root: Path) -> Path | None:
    """The folder that holds `GTSRB/`, for a `data_root` at any level of the layout; None without training images.

    Raises:
        UserError: the layout is there twice, at different levels.
    """
    parts = ("gtsrb", *TRAINING_SETS[dataset].folder.parts)
    root = Path(os.path.abspath(data_root))
    found = [root.joinpath(*parts[level:]) for level in range(len(parts) + 1)]
    found = [folder for folder in found if folder.is_dir() and folder.parts[1 - len(parts) :] == parts[1:]]
    if len(found) > 1:
        places = " and ".join(str(folder) for folder in found)
        raise UserError(f"{data_root} holds a {TRAINING_SETS[dataset].title} twice: {places}; point data_root at one")
    return found[0].parents[len(parts) - 2] if found else None


def base_folder(dataset: str, data_root: Path) -> Path:
    """As `find_base`.

    Raises:
        UserError: no such data; the message says what is there instead.
    """
    wanted = TRAINING_SETS[dataset]
    if not data_root.is_dir():
        raise UserError(f"no folder {data_root} (data_root); {GET_DATA}, or point data_root at your copy")
    base = find_base(dataset, data_root)
    if base is not None:
        return base
    expected = data_root / "gtsrb" / wanted.folder
    for other, training_set in TRAINING_SETS.items():
        if other != dataset and find_base(other, data_root) is not None:
            raise UserError(
                f"{data_root} holds a {training_set.title}, but no {wanted.title} ({expected}); "
                f"choose the data set {other!r}, or {GET_DATA}"
            )
    if (data_root / "Train.csv").is_file():
        raise UserError(
            f"{data_root} holds the Kaggle copy of GTSRB (Train.csv), whose images were converted; "
            f"the official files are needed in {expected}: {GET_DATA}"
        )
    state = "is empty" if not any(data_root.iterdir()) else "holds no GTSRB"
    raise UserError(f"{data_root} {state}: no folder {expected}; {GET_DATA}")


def _scan(folder: Path, canonical: PurePosixPath) -> list[Listed]:
    """The .ppm and .csv files of one folder, by name."""
    listed = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".ppm", ".csv")) and entry.is_file():
                status = entry.stat()
                listed.append(Listed(f"{canonical}/{entry.name}", entry.path, status.st_size, status.st_mtime_ns))
    return sorted(listed)


def scan_training(dataset: str, base: Path) -> list[list[Listed]]:
    """Files of each class folder, by class id; an empty list for a class without a folder."""
    canonical = TRAINING_SETS[dataset].folder
    names = [f"{label:05d}" for label in range(NUM_CLASSES)]
    folders = [base / canonical / name for name in names]
    return [_scan(folder, canonical / folder.name) if folder.is_dir() else [] for folder in folders]


def scan_test(base: Path) -> list[Listed]:
    """Test images and the csv with their classes; an empty list where there is neither."""
    folder = base / TEST_FOLDER
    images = [file for file in _scan(folder, TEST_FOLDER) if file.path.endswith(".ppm")] if folder.is_dir() else []
    # The archive puts the csv beside GTSRB/; people also keep it beside the images.
    places = [base, *(folder.parents[level] for level in (1, 0)), folder]
    labels = next((place / TEST_LABELS for place in places if (place / TEST_LABELS).is_file()), None)
    if labels is None:
        return images
    status = labels.stat()
    return [*images, Listed(TEST_LABELS, str(labels), status.st_size, status.st_mtime_ns)]


def fingerprint(base: Path, files: Iterable[Listed]) -> str:
    """A quick hash over names, sizes and times: while it is equal, nobody has touched the files."""
    lines = (f"{file.path}\0{file.size}\0{file.mtime_ns}\n" for file in files)
    return hashlib.sha256(os.fsencode(f"{os.path.abspath(base)}\n{''.join(lines)}")).hexdigest()


def _read_csv(file: Listed) -> list[tuple[str, int]]:
    """(file name, class id) per row of an official csv, ';'-separated."""
    if file.size > MAX_CSV_BYTES:
        raise UserError(f"{file.file} has {file.size:,} bytes; a GTSRB csv has at most {MAX_CSV_BYTES:,}")
    try:
        text = Path(file.file).read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=";", skipinitialspace=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file.file} is not a readable csv ({error}); unpack the data again") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if not {"Filename", "ClassId"} <= set(header):
        raise UserError(f"{file.file} has no columns Filename and ClassId, separated by ';'; unpack the data again")
    name_column, class_column = header.index("Filename"), header.index("ClassId")
    result = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            if len(row) != len(header):
                raise ValueError
            result.append((row[name_column].strip(), int(row[class_column])))
        except ValueError:
            raise UserError(f"{file.file}, row {number}, is cut off or damaged: {';'.join(row)[:80]!r}") from None
    return result


def _some(names: Iterable[str]) -> str:
    """At most three names, fit for a terminal, and how many more."""
    ordered = [name.encode("unicode_escape").decode() for name in sorted(names)]
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


def _match(csv_file: Listed, images: list[Listed], pattern: re.Pattern[str]) -> list[tuple[Listed, re.Match[str], int]]:
    """Rows of a csv joined with the files beside it: exactly the same names on both sides."""
    rows = _read_csv(csv_file)
    by_name = {PurePosixPath(image.path).name: image for image in images}
    named = dict(rows)
    if len(named) < len(rows):
        raise UserError(f"{csv_file.file} names a file twice; unpack the data again")
    if missing := named.keys() - by_name.keys():
        raise UserError(
            f"{csv_file.file} names files that are not there: {_some(missing)}; "
            f"the data are half unpacked, {GET_DATA} or unpack them again"
        )
    if extra := by_name.keys() - named.keys():
        raise UserError(f"{csv_file.file} does not name these files beside it: {_some(extra)}; unpack the data again")
    matched = []
    for name, label in rows:
        match = pattern.fullmatch(name)
        image = by_name[name]
        if match is None:
            raise UserError(f"{image.file} is not named as a GTSRB image is, such as 00000_00000.ppm")
        if not 0 < image.size <= MAX_SIGN_BYTES:
            raise UserError(f"{image.file} has {image.size:,} bytes; a GTSRB image has 1 to {MAX_SIGN_BYTES:,}")
        matched.append((image, match, label))
    return matched


def index_training(dataset: str, base: Path, classes: list[list[Listed]]) -> list[Entry]:
    """Every training image, by class, track and frame.

    Args:
        classes: From `scan_training`.

    Raises:
        UserError: anything missing, unnamed, or of a wrong class.
    """
    folder = base / TRAINING_SETS[dataset].folder
    if missing := [label for label, files in enumerate(classes) if not files]:
        if len(missing) == NUM_CLASSES:
            raise UserError(f"{folder} is empty: no class folder 00000 to {NUM_CLASSES - 1:05d}; {GET_DATA}")
        names = ", ".join(f"{label:05d}" for label in missing)
        raise UserError(
            f"{folder} is half unpacked: {len(missing)} of {NUM_CLASSES} classes are missing or empty ({names}); "
            f"{GET_DATA}, or unpack it again"
        )
    entries = []
    for label, files in enumerate(classes):
        csv_path = f"{TRAINING_SETS[dataset].folder}/{label:05d}/GT-{label:05d}.csv"
        csv_file = next((file for file in files if file.path == csv_path), None)
        if csv_file is None:
            raise UserError(f"no {base / csv_path}; the data are half unpacked, {GET_DATA} or unpack them again")
        images = [file for file in files if file.path.endswith(".ppm")]
        if not images:
            raise UserError(f"{folder / f'{label:05d}'} holds no images; {GET_DATA}, or unpack it again")
        for image, match, class_id in _match(csv_file, images, _TRAIN_NAME):
            if class_id != label:
                raise UserError(f"{csv_file.file} gives class {class_id} to {Path(image.file).name}, not {label}")
            entries.append(Entry(image.path, image.file, label, label * TRACK_STRIDE + int(match[1])))
    for other, training_set in TRAINING_SETS.items():
        if other != dataset and len(entries) == training_set.num_images:
            raise UserError(
                f"{folder} holds {len(entries):,} images, as many as the {training_set.title} and not the "
                f"{TRAINING_SETS[dataset].title}; move them to {base / training_set.folder} and choose {other!r}"
            )
    return sorted(entries)


def index_test(base: Path, files: list[Listed]) -> list[Entry]:
    """Every test image by name, each a track of its own: the names of official test images do not tell the track.

    Args:
        files: From `scan_test`, not empty.

    Raises:
        UserError: images without csv, csv without images, or any difference between the two.
    """
    csv_file = next((file for file in files if file.path == TEST_LABELS), None)
    if csv_file is None:
        raise UserError(
            f"{base / TEST_FOLDER} holds test images, but {base / TEST_LABELS} with their classes is not there; "
            f"it is an archive of its own (GTSRB_Final_Test_GT.zip), {GET_DATA}"
        )
    entries = []
    images = [file for file in files if file is not csv_file]
    for image, match, label in _match(csv_file, images, _TEST_NAME):
        if not 0 <= label < NUM_CLASSES:
            raise UserError(f"{csv_file.file} gives class {label} to {match[0]}; classes are 0 to {NUM_CLASSES - 1}")
        track_id = NUM_CLASSES * TRACK_STRIDE + int(match[0].removesuffix(".ppm"))
        entries.append(Entry(image.path, image.file, label, track_id))
    if not entries:
        raise UserError(f"{csv_file.file} is empty; {GET_DATA}")
    return sorted(entries)
