"""The official GTSRB folder layout: finding it, listing it, and refusing anything incomplete.

    data_root/gtsrb/GTSRB/Final_Training/Images/<class>/<track>_<frame>.ppm and GT-<class>.csv    gtsrb
    data_root/gtsrb/GTSRB/Training/<class>/...                                                    gtsrb-torchvision
    data_root/gtsrb/GTSRB/Final_Test/Images/<number>.ppm with data_root/gtsrb/GT-final_test.csv   test, for both

Upper and lower case are alike, hidden files do not count, and archives may have been unpacked into a folder each.

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
from collections.abc import Iterable, Iterator, Sequence
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
_LEFTOVERS = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")  # of macOS, Windows and Synology; others are hidden


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


class Places(NamedTuple):
    """Where the parts of a data set are."""

    base: Path  # holds `GTSRB/` with the training images
    training: Path  # the folder of the class folders
    test: Path | None  # the folder of the test images
    labels: Path | None  # the csv with their classes


class Listed(NamedTuple):
    """One file as the folder lists it."""

    path: str  # canonical: as in the official layout, relative to data_root/gtsrb, wherever the file is
    file: str  # where it is
    size: int  # bytes
    # Of content and entry: a program that replaces a file may keep the first, as `cp -p` and `rsync -t` do, but not the
    # second. An inode would add nothing, and network folders number theirs anew.
    times_ns: tuple[int, int]


class Entry(NamedTuple):
    """One labelled image."""

    path: str  # canonical
    file: str
    label: int
    track_id: int


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """What people see in a folder, by name: no `._NAME` files of macOS, and no leftovers of file managers."""
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _LEFTOVERS]
    return sorted(seen, key=lambda entry: entry.name)


def _seen(folder: Path) -> list[os.DirEntry[str]]:
    """The same of what may be a file, not there or not readable: then nothing."""
    try:
        return _visible(folder)
    except OSError:
        return []


def _below(folder: Path, path: PurePosixPath) -> Path | None:
    """`folder / path` in upper or lower case; None where it is not there."""
    for name in path.parts:
        if not os.path.exists(folder / name):
            alike = [entry.name for entry in _seen(folder) if entry.name.lower() == name.lower()]
            if not alike:
                return None
            name = alike[0]
        folder /= name
    return folder


def _only(data_root: Path, what: str, found: Iterable[Path | None]) -> Path | None:
    """The one that was found, or None.

    Raises:
        UserError: there are several.
    """
    places = {os.path.realpath(path): path for path in found if path is not None}
    if len(places) > 1:
        named = " and ".join(str(path) for path in places.values())
        raise UserError(f"{data_root} holds {what} twice: {named}; point data_root at one")
    return next(iter(places.values()), None)


def _bases(root: Path, wanted: PurePosixPath) -> Iterator[list[Path]]:
    """Folders that may hold `GTSRB/`: those for a `root` at any level of the layout, then those one level down."""

    def inside(folder: Path) -> list[Path]:
        return [folder, *filter(None, [_below(folder, PurePosixPath("gtsrb"))])]

    names, levels = ([part.lower() for part in path.parts] for path in (root, wanted))
    above = [root.parents[depth - 1] for depth in range(1, len(levels) + 1) if names[-depth:] == levels[:depth]]
    yield [*inside(root), *above]
    yield [
        base
        for folder in inside(root)
        for entry in _seen(folder)
        if entry.is_dir()
        for base in inside(Path(entry.path))
    ]


def find(dataset: str, data_root: Path) -> Places | None:
    """The parts of a data set, for a `data_root` at any level of the layout or one above it; None without a folder for
    training images.

    Raises:
        UserError: a part is there twice.
    """
    wanted = TRAINING_SETS[dataset]
    root = Path(os.path.abspath(data_root))
    for bases in _bases(root, wanted.folder):
        folders = {base: folder for base in bases if (folder := _below(base, wanted.folder)) and folder.is_dir()}
        training = _only(root, f"a {wanted.title}", folders.values())
        if training is not None:
            base = next(base for base in folders if folders[base] == training)
            test = _below(base, TEST_FOLDER) or _only(root, "test images", (_below(b, TEST_FOLDER) for b in bases))
            labels = _labels_below(base) or _only(root, f"a {TEST_LABELS}", map(_labels_below, bases))
            return Places(base, training, test if test and _seen(test) else None, labels)
    return None


def _labels_below(base: Path) -> Path | None:
    """The csv of the test images: its archive puts it beside GTSRB/, and people keep it beside the images too."""
    folders = [*reversed(TEST_FOLDER.parents), TEST_FOLDER]
    return next(filter(None, (_below(base, folder / TEST_LABELS) for folder in folders)), None)


def locate(dataset: str, data_root: Path) -> Places:
    """As `find`.

    Raises:
        UserError: no such data; the message says what is there instead.
    """
    wanted = TRAINING_SETS[dataset]
    if not data_root.is_dir():
        raise UserError(f"no folder {data_root} (data_root); {GET_DATA}, or point data_root at your copy")
    places = find(dataset, data_root)
    if places is not None:
        return places
    expected = data_root / "gtsrb" / wanted.folder
    for other, training_set in TRAINING_SETS.items():
        if other != dataset and find(other, data_root) is not None:
            raise UserError(
                f"{data_root} holds a {training_set.title}, but no {wanted.title} ({expected}); "
                f"choose the data set {other!r}, or {GET_DATA}"
            )
    raise UserError(
        f"{data_root} holds no {wanted.title}: {_found(data_root)}, but there is no folder {expected}; "
        f"{_advice(data_root)}"
    )


def _advice(data_root: Path) -> str:
    """What to do about the layouts in which people have GTSRB, by the names in a folder and one down."""
    entries = _seen(data_root)
    names = {entry.name.lower() for entry in [*entries, *(e for below in entries for e in _seen(Path(below.path)))]}
    if "train.csv" in names:
        return f"this is the Kaggle copy, whose images were converted, and the official ones are needed: {GET_DATA}"
    if {"0", "42"} <= names or {"00000", "00042"} <= names:
        return f"move the class folders there, named 00000 to 00042 and each with its GT-<class>.csv, or {GET_DATA}"
    if any(name.startswith("gtsrb") and name.endswith(".zip") for name in names):
        return f"put the archives into {data_root / 'gtsrb'}, where `python -m lib data get` unpacks them"
    return GET_DATA


def _found(folder: Path) -> str:
    """What is in a folder, in words."""
    names = [entry.name + "/" * entry.is_dir() for entry in _visible(folder)]
    return f"it has {_some(names)}" if names else "it is empty"


def _listed(path: str, file: str, status: os.stat_result) -> Listed:
    return Listed(path, file, status.st_size, (status.st_mtime_ns, status.st_ctime_ns))


def _scan(folder: Path, canonical: PurePosixPath) -> list[Listed]:
    """The .ppm and .csv files of one folder, by name."""
    return sorted(
        _listed(f"{canonical}/{_canonical(entry.name)}", entry.path, entry.stat())
        for entry in _visible(folder)
        if entry.name.lower().endswith((".ppm", ".csv")) and entry.is_file()
    )


def _canonical(name: str) -> str:
    """The name of an official file, whatever a copy made of its case."""
    return name.lower().replace("gt-", "GT-", 1)


def scan_training(dataset: str, folder: Path) -> list[list[Listed]]:
    """Files of each class folder, by class id; an empty list for a class without a folder.

    Args:
        folder: `Places.training`.
    """
    canonical = TRAINING_SETS[dataset].folder
    names = [f"{label:05d}" for label in range(NUM_CLASSES)]
    return [_scan(folder / name, canonical / name) if (folder / name).is_dir() else [] for name in names]


def scan_test(places: Places) -> list[Listed]:
    """Test images and the csv with their classes; an empty list where there is neither."""
    files = _scan(places.test, TEST_FOLDER) if places.test else []
    images = [file for file in files if file.path.endswith(".ppm")]
    if places.labels is None:
        return images
    return [*images, _listed(TEST_LABELS, str(places.labels), places.labels.stat())]


def fingerprint(files: Iterable[Listed]) -> str:
    """A quick hash over names, sizes and times: while it is equal, nobody has touched the files."""
    lines = (f"{file.file}\0{file.size}\0{file.times_ns}\n" for file in files)
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def _read_csv(file: Listed) -> list[tuple[str, int]]:
    """(canonical file name, class id) per row of an official csv, ';'-separated."""
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
            result.append((_canonical(row[name_column].strip()), int(row[class_column])))
        except ValueError:
            raise UserError(f"{file.file}, row {number}, is cut off or damaged: {';'.join(row)[:80]!r}") from None
    return result


def _some(names: Iterable[str]) -> str:
    """At most three names, fit for a terminal, and how many more."""
    ordered = [name.encode("unicode_escape").decode() for name in sorted(names)]
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


def _match(
    csv_file: Listed, images: Sequence[Listed], pattern: re.Pattern[str]
) -> list[tuple[Listed, re.Match[str], int]]:
    """Rows of a csv joined with the files beside it: exactly the same names on both sides."""
    rows = _read_csv(csv_file)
    by_name = {PurePosixPath(image.path).name: image for image in images}
    named = dict(rows)
    if len(named) < len(rows):
        raise UserError(f"{csv_file.file} names a file twice; unpack the data again")
    if len(by_name) < len(images):
        raise UserError(f"{Path(images[0].file).parent} has a file in upper and in lower case; keep one of the two")
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


def index_training(dataset: str, folder: Path, classes: list[list[Listed]]) -> list[Entry]:
    """Every training image, by class, track and frame.

    Args:
        folder: `Places.training`.
        classes: From `scan_training`.

    Raises:
        UserError: anything missing, unnamed, or of a wrong class.
    """
    missing = [f"{label:05d}" for label, files in enumerate(classes) if not files]
    if missing:
        first = folder / missing[0]
        if first.is_dir():
            raise UserError(f"{first} holds no images (.ppm): {_found(first)}; {GET_DATA}, or unpack it again")
        if len(missing) == NUM_CLASSES:
            raise UserError(f"{folder} holds no class folders 00000 to {missing[-1]}: {_found(folder)}; {GET_DATA}")
        raise UserError(
            f"{folder} is half unpacked: {len(missing)} of {NUM_CLASSES} classes are missing ({', '.join(missing)}); "
            f"{GET_DATA}, or unpack it again"
        )
    entries = []
    for label, files in enumerate(classes):
        place = folder / f"{label:05d}"
        csv_file = next((file for file in files if PurePosixPath(file.path).name == f"GT-{label:05d}.csv"), None)
        if csv_file is None:
            raise UserError(f"no {place}/GT-{label:05d}.csv; half unpacked: {GET_DATA}, or unpack it again")
        images = [file for file in files if file.path.endswith(".ppm")]
        if not images:
            raise UserError(f"{place} holds no images (.ppm): {_found(place)}; {GET_DATA}, or unpack it again")
        for image, match, class_id in _match(csv_file, images, _TRAIN_NAME):
            if class_id != label:
                raise UserError(f"{csv_file.file} gives class {class_id} to {Path(image.file).name}, not {label}")
            entries.append(Entry(image.path, image.file, label, label * TRACK_STRIDE + int(match[1])))
    for other, training_set in TRAINING_SETS.items():
        if other != dataset and len(entries) == training_set.num_images:
            raise UserError(
                f"{folder} holds {len(entries):,} images, as many as the {training_set.title} and not the "
                f"{TRAINING_SETS[dataset].title}; move them to a folder {training_set.folder} and choose {other!r}"
            )
    return sorted(entries)


def index_test(places: Places, files: list[Listed]) -> list[Entry]:
    """Every test image by name, each a track of its own: the names of official test images do not tell the track.

    Args:
        places: With test images, or the csv with their classes, or both.
        files: From `scan_test`.

    Raises:
        UserError: images without csv, csv without images, or any difference between the two.
    """
    images = [file for file in files if file.path != TEST_LABELS]
    csv_file = next((file for file in files if file.path == TEST_LABELS), None)
    if csv_file is None:
        raise UserError(
            f"{places.test} is there, but {places.base / TEST_LABELS} with the classes of its images is not; "
            f"it is an archive of its own (GTSRB_Final_Test_GT.zip), {GET_DATA}"
        )
    if not images:
        instead = f"{places.test} holds no images (.ppm): {_found(places.test)}" if places.test else "none are there"
        raise UserError(f"{csv_file.file} has the classes of test images, but {instead}; {GET_DATA}")
    entries = []
    for image, match, label in _match(csv_file, images, _TEST_NAME):
        if not 0 <= label < NUM_CLASSES:
            raise UserError(f"{csv_file.file} gives class {label} to {match[0]}; classes are 0 to {NUM_CLASSES - 1}")
        track_id = NUM_CLASSES * TRACK_STRIDE + int(match[0].removesuffix(".ppm"))
        entries.append(Entry(image.path, image.file, label, track_id))
    return sorted(entries)
