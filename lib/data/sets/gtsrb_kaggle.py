"""GTSRB as most people have it, from Kaggle: the official images converted to PNG, with the track in the file name.

    data_root/Train/<class>/<class>_<track>_<frame>.png, classes 0 to 42, listed in data_root/Train.csv
    data_root/Test/<number>.png, listed in data_root/Test.csv

PNG keeps every pixel and the names keep every number. So the images go by their official names here, and what was
computed on them compares with what was computed on `gtsrb`: both have the same hash.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from lib.data.dataset import register
from lib.data.folders import Labelled, find, listed, match, read_labels, scan
from lib.data.image_files import Entry, FileSet, Found, Part
from lib.data.sets.gtsrb import TRAINING_FOLDER, Gtsrb, test_entry, training_entry
from lib.errors import UserError
from lib.signs import CLASS_NAMES

_TRAIN_NAME = r"Train/([0-9]+)/0*\1_([0-9]{5})_([0-9]{5})\.png"
_TEST_NAME = r"Test/([0-9]{5})\.png"


@register
class GtsrbKaggle(FileSet):
    name = "gtsrb-kaggle"
    title = "Kaggle copy of the GTSRB training set"
    classes = CLASS_NAMES
    order = 30
    expected = "Train.csv"
    num_official = Gtsrb.num_official
    manifest_hash = Gtsrb.manifest_hash

    def find(self, root: Path) -> Found | None:
        """See `FileSet`."""
        folder = find(root, PurePosixPath("Train"), f"a {self.title}")
        table = (folder or root).with_name("Train.csv")
        if folder is None or not table.is_file():
            return None
        training = _part(table, [f"Train/{label}" for label in range(len(CLASS_NAMES))])
        has_test = table.with_name("Test.csv").is_file()
        return Found(table.parent, training, _part(table.with_name("Test.csv"), ["Test"]) if has_test else None)


def _part(table: Path, folders: list[str]) -> Part:
    """The images that a csv lists, in these folders beside it."""
    files = [(folder, image) for folder in folders for image in scan(table.parent / folder, ".png")]
    images = {f"{folder}/{Path(image.file).name}": image for folder, image in files}
    pattern, entry = (_TEST_NAME, test_entry) if folders == ["Test"] else (_TRAIN_NAME, _training)

    def index() -> list[Entry]:
        labels = read_labels(table, "Path", ",")
        return sorted(entry(image) for image in match(str(table), labels, images, pattern, len(CLASS_NAMES)))

    return Part([listed(table), *images.values()], index)


def _training(image: Labelled) -> Entry:
    if int(image.name[1]) != image.label:
        raise UserError(f"Train.csv gives class {image.label} to {image.name[0]}")
    return training_entry(TRAINING_FOLDER, image)
