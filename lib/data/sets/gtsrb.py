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

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar

from lib.data.dataset import Archive, register
from lib.data.folders import GET_DATA, Labelled, Listed, alike, contents, find, listed, match, read_labels, scan, some
from lib.data.image_files import Entry, FileSet, Found, Part
from lib.errors import UserError
from lib.signs import CLASS_NAMES

TRAINING_FOLDER = PurePosixPath("GTSRB/Final_Training/Images")
TEST_FOLDER = PurePosixPath("GTSRB/Final_Test/Images")
TEST_LABELS = "GT-final_test.csv"
TEST_ARCHIVES = (
    Archive(  # first: it says which images have to be there
        "GTSRB_Final_Test_GT.zip",
        99_620,
        "f94e5a7614d75845c74c04ddb26b8796b9e483f43541dd95dd5b726504e16d6d",
        "test",
        PurePosixPath(TEST_LABELS),
    ),
    Archive(
        "GTSRB_Final_Test_Images.zip",
        88_978_620,
        "48ba6fab7e877eb64eaf8de99035b0aaecfbc279bee23e35deca4ac1d0a837fa",
        "test",
        TEST_FOLDER,
    ),
)
_TRACK_STRIDE = 100_000  # track ids: class * stride + track number; file names have five digits for the track


def training_entry(folder: PurePosixPath, image: Labelled) -> Entry:
    """A training image; its name ends in the numbers of its track and frame."""
    track, frame = image.name.groups()[-2:]
    path = f"{folder}/{image.label:05d}/{track}_{frame}.ppm"
    return Entry(path, image.file, image.label, image.label * _TRACK_STRIDE + int(track), image.box)


def test_entry(image: Labelled) -> Entry:
    """A test image, a track of its own: the names of official test images do not tell the track."""
    number = image.name[1]
    track_id = len(CLASS_NAMES) * _TRACK_STRIDE + int(number)
    return Entry(f"{TEST_FOLDER}/{number}.ppm", image.file, image.label, track_id, image.box)


class OfficialLayout(FileSet):
    """A training set in the official layout, with the official test images."""

    classes = CLASS_NAMES
    base_url = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"  # as in torchvision
    home = "gtsrb"
    folder: ClassVar[PurePosixPath]  # of the class folders

    def find(self, root: Path) -> Found | None:
        """See `FileSet`."""
        training = find(root, self.folder, f"a {self.title}")
        if training is None:
            return None
        base = training.parents[len(self.folder.parts) - 1]
        test = next(base.glob(alike(TEST_FOLDER)), None) or find(root, TEST_FOLDER, "test images") or base / TEST_FOLDER
        # its archive puts the csv beside GTSRB/, and people keep it beside the images too
        places = [alike(folder / TEST_LABELS) for folder in (*reversed(TEST_FOLDER.parents), TEST_FOLDER)]
        beside = next((path for place in places for path in base.glob(place)), None)
        labels = beside or find(root, PurePosixPath(TEST_LABELS), f"a {TEST_LABELS}")
        return Found(base, self._training(training), _test(test, labels))

    def advice(self, root: Path) -> str:
        """What to do about the layouts in which people have GTSRB, by the names in a folder and one down."""
        names = {path.name.lower() for pattern in ("*", "*/*") for path in root.glob(pattern)}
        if {"0", "42"} <= names or {"00000", "00042"} <= names:
            return f"move the class folders there, named 00000 to 00042 and each with its GT-<class>.csv, or {GET_DATA}"
        if any(name.startswith("gtsrb") and name.endswith(".zip") for name in names):
            return f"put the archives into {root / self.home}, where `python -m lib data get` unpacks them"
        return super().advice(root)

    def _training(self, folder: Path) -> Part:
        names = [f"{label:05d}" for label in range(len(self.classes))]
        images = {name: scan(folder / name, ".ppm") for name in names}
        tables = {name: file for name in names for file in scan(folder / name, f"GT-{name}.csv")}
        files = [*tables.values(), *(file for listed_files in images.values() for file in listed_files)]

        def index() -> list[Entry]:
            if missing := [name for name in names if not images[name] and name not in tables]:
                raise UserError(
                    f"{folder} is half unpacked: {len(missing)} of {len(names)} classes are missing ({some(missing)}), "
                    f"and {contents(folder)}; {GET_DATA}, or unpack it again"
                )
            return sorted(entry for label, name in enumerate(names) for entry in class_entries(label, name))

        def class_entries(label: int, name: str) -> Iterator[Entry]:
            table = folder / name / f"GT-{name}.csv"
            if not images[name]:
                found = contents(table.parent)
                raise UserError(f"{table.parent} holds no images (.ppm): {found}; {GET_DATA}, or unpack it again")
            if name not in tables:
                raise UserError(f"no {table}; half unpacked: {GET_DATA}, or unpack it again")
            for image in _match(Path(tables[name].file), images[name], r"([0-9]{5})_([0-9]{5})\.ppm"):
                if image.label != label:
                    raise UserError(f"{table} gives class {image.label} to {image.name[0]}, not {label}")
                yield training_entry(self.folder, image)

        return Part(files, index)


def _test(folder: Path, labels: Path | None) -> Part | None:
    """The test images; None where there are neither images nor labels."""
    images = scan(folder, ".ppm")
    if labels is None and not images:
        return None

    def index() -> list[Entry]:
        if labels is None:
            raise UserError(
                f"{folder} is there, but no {TEST_LABELS} with the classes of its images; "
                f"it is an archive of its own ({TEST_ARCHIVES[0].name}), {GET_DATA}"
            )
        if not images:
            instead = f"{folder} holds no images (.ppm): {contents(folder)}" if folder.is_dir() else "none are there"
            raise UserError(f"{labels} has the classes of test images, but {instead}; {GET_DATA}")
        found = _match(labels, images, r"([0-9]{5})\.ppm")
        return sorted(map(test_entry, found))

    return Part([*images, *([listed(labels)] if labels else [])], index)


def _match(table: Path, images: list[Listed], pattern: str) -> list[Labelled]:
    """Rows of an official csv joined with the images beside it."""
    labels = [row._replace(name=row.name.lower()) for row in read_labels(table, "Filename", ";")]
    by_name = {Path(image.file).name.lower(): image for image in images}
    if len(by_name) < len(images):
        raise UserError(f"{table.parent} has a file in upper and in lower case; keep one of the two")
    return match(str(table), labels, by_name, pattern, len(CLASS_NAMES))


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
        ),
        *TEST_ARCHIVES,
    )
