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

import re
from pathlib import Path, PurePosixPath
from typing import ClassVar

from lib.data.dataset import Archive, register
from lib.data.folders import (
    GET_DATA,
    Labelled,
    Listed,
    bases,
    below,
    contents,
    listed,
    match,
    only,
    read_labels,
    scan,
    visible_if_any,
)
from lib.data.image_files import Entry, FileSet, Found, Part
from lib.errors import UserError
from lib.signs import CLASS_NAMES

TRAINING_FOLDER = PurePosixPath("GTSRB/Final_Training/Images")
TEST_FOLDER = PurePosixPath("GTSRB/Final_Test/Images")
TEST_LABELS = "GT-final_test.csv"
TRAIN_FILES = r"([0-9]{5})/(?:[0-9]{5}_[0-9]{5}\.ppm|GT-\1\.csv)"
TEST_ARCHIVES = (
    Archive(  # first: it says which images have to be there
        "GTSRB_Final_Test_GT.zip",
        99_620,
        "f94e5a7614d75845c74c04ddb26b8796b9e483f43541dd95dd5b726504e16d6d",
        "test",
        PurePosixPath(TEST_LABELS),
        re.compile(re.escape(TEST_LABELS)),
    ),
    Archive(
        "GTSRB_Final_Test_Images.zip",
        88_978_620,
        "48ba6fab7e877eb64eaf8de99035b0aaecfbc279bee23e35deca4ac1d0a837fa",
        "test",
        TEST_FOLDER,
        re.compile(rf"{TEST_FOLDER}/[0-9]{{5}}\.ppm"),
    ),
)
_TRACK_STRIDE = 100_000  # track ids: class * stride + track number; file names have five digits for the track


def training_entry(folder: PurePosixPath, file: str, label: int, track: str, frame: str) -> Entry:
    """A training image, from the numbers in its name."""
    return Entry(f"{folder}/{label:05d}/{track}_{frame}.ppm", file, label, label * _TRACK_STRIDE + int(track))


def test_entry(file: str, label: int, number: str) -> Entry:
    """A test image, a track of its own: the names of official test images do not tell the track."""
    return Entry(f"{TEST_FOLDER}/{number}.ppm", file, label, len(CLASS_NAMES) * _TRACK_STRIDE + int(number))


class OfficialLayout(FileSet):
    """A training set in the official layout, with the official test images."""

    classes = CLASS_NAMES
    base_url = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"  # as in torchvision
    home = "gtsrb"
    folder: ClassVar[PurePosixPath]  # of the class folders

    def search(self, root: Path) -> Found | None:
        """See `FileSet`."""
        for places in bases(root, self.folder):
            training = only(root, f"a {self.title}", (below(base, self.folder) for base in places))
            if training is not None:
                base = training.parents[len(self.folder.parts) - 1]
                test = below(base, TEST_FOLDER) or only(root, "test images", (below(b, TEST_FOLDER) for b in places))
                labels = _test_labels(base) or only(root, f"a {TEST_LABELS}", map(_test_labels, places))
                return Found(base, self._training(training), _test(base, test, labels))
        return None

    def advice(self, root: Path) -> str:
        """What to do about the layouts in which people have GTSRB, by the names in a folder and one down."""
        entries = visible_if_any(root)
        nested = [entry for outer in entries for entry in visible_if_any(Path(outer.path))]
        names = {entry.name.lower() for entry in [*entries, *nested]}
        if {"0", "42"} <= names or {"00000", "00042"} <= names:
            return f"move the class folders there, named 00000 to 00042 and each with its GT-<class>.csv, or {GET_DATA}"
        if any(name.startswith("gtsrb") and name.endswith(".zip") for name in names):
            return f"put the archives into {root / self.home}, where `python -m lib data get` unpacks them"
        return super().advice(root)

    def _training(self, folder: Path) -> Part:
        names = [f"{label:05d}" for label in range(len(self.classes))]
        images = {name: scan(folder / name, ".ppm") for name in names if (folder / name).is_dir()}
        tables = {name: scan(folder / name, ".csv") for name in images}
        files = [file for name in images for file in [*images[name], *tables[name]]]
        return Part(files, lambda: self._index(folder, images, tables))

    def _index(self, folder: Path, images: dict[str, list[Listed]], tables: dict[str, list[Listed]]) -> list[Entry]:
        """Every training image, by class, track and frame."""
        num_classes = len(self.classes)
        missing = [name for name in (f"{label:05d}" for label in range(num_classes)) if name not in images]
        if len(missing) == num_classes:
            raise UserError(f"{folder} holds no class folders 00000 to {missing[-1]}: {contents(folder)}; {GET_DATA}")
        if missing:
            raise UserError(
                f"{folder} is half unpacked: {len(missing)} of {num_classes} classes are missing "
                f"({', '.join(missing)}); {GET_DATA}, or unpack it again"
            )
        entries = []
        for label, name in enumerate(images):
            place = folder / name
            table = next((file for file in tables[name] if _canonical(file) == f"GT-{name}.csv"), None)
            if not images[name]:
                raise UserError(f"{place} holds no images (.ppm): {contents(place)}; {GET_DATA}, or unpack it again")
            if table is None:
                raise UserError(f"no {place}/GT-{name}.csv; half unpacked: {GET_DATA}, or unpack it again")
            for image in _match(table, images[name], r"([0-9]{5})_([0-9]{5})\.ppm"):
                if image.label != label:
                    raise UserError(f"{table.file} gives class {image.label} to {image.name[0]}, not {label}")
                entries.append(training_entry(self.folder, image.file, label, *image.name.groups()))
        return sorted(entries)


def _test_labels(base: Path) -> Path | None:
    """The csv of the test images: its archive puts it beside GTSRB/, and people keep it beside the images too."""
    folders = [*reversed(TEST_FOLDER.parents), TEST_FOLDER]
    return next(filter(None, (below(base, folder / TEST_LABELS) for folder in folders)), None)


def _test(base: Path, folder: Path | None, labels: Path | None) -> Part | None:
    """The test images; None where there are neither images nor labels."""
    images = scan(folder, ".ppm") if folder else []
    if not (labels or (folder and visible_if_any(folder))):
        return None

    def index() -> list[Entry]:
        if labels is None:
            raise UserError(
                f"{folder} is there, but {base / TEST_LABELS} with the classes of its images is not; "
                f"it is an archive of its own ({TEST_ARCHIVES[0].name}), {GET_DATA}"
            )
        if not images:
            instead = f"{folder} holds no images (.ppm): {contents(folder)}" if folder else "none are there"
            raise UserError(f"{labels} has the classes of test images, but {instead}; {GET_DATA}")
        found = _match(listed(labels), images, r"([0-9]{5})\.ppm")
        return sorted(test_entry(image.file, image.label, image.name[1]) for image in found)

    return Part([*images, *([listed(labels)] if labels else [])], index)


def _canonical(file: Listed) -> str:
    """The name of an official file, whatever a copy made of its case."""
    return Path(file.file).name.lower().replace("gt-", "GT-", 1)


def _match(table: Listed, images: list[Listed], pattern: str) -> list[Labelled]:
    """Rows of an official csv joined with the images beside it."""
    labels = [(name.lower(), label) for name, label in read_labels(table.file, "Filename", ";")]
    by_name = {_canonical(image): image for image in images}
    if len(by_name) < len(images):
        raise UserError(f"{Path(images[0].file).parent} has a file in upper and in lower case; keep one of the two")
    return match(table.file, labels, by_name, pattern, len(CLASS_NAMES))


@register
class Gtsrb(OfficialLayout):
    """The set of the benchmark itself."""

    name = "gtsrb"
    title = "GTSRB training set"
    order = 10
    folder = TRAINING_FOLDER
    expected = f"gtsrb/{TRAINING_FOLDER}"
    num_official = 39_209
    manifest_hash = "75af4b5dfe8fccde69f9eff7364ddf405b9fff3c2dfac7438de8b8b9e44d7843"
    archives = (
        Archive(
            "GTSRB_Final_Training_Images.zip",
            276_294_756,
            "d32ac4b5fa9a1cbd1994768413902e8193599d9434cf0a8eb9cfd00a6d3a290c",
            "training",
            TRAINING_FOLDER,
            re.compile(f"{TRAINING_FOLDER}/{TRAIN_FILES}"),
        ),
        *TEST_ARCHIVES,
    )
