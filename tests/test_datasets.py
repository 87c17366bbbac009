"""The interface of data sets: GTSRB as Kaggle has it, and classes that are not those of GTSRB."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.ci.inputs import dispatch_inputs
from lib.data import load_data
from lib.data.audit import class_counts
from lib.data.dataset import ARRAYS, DataSet, register
from lib.data.sets import dataset_names, fetchable_names, get_dataset
from lib.errors import UserError
from lib.report import explore, train
from lib.report.pictures import sign_cell
from lib.signs import mirror_map
from tests.gtsrb_layout import write_kaggle, write_layout
from tests.made_data import made_data, made_split, noise


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("official")
    write_layout(root, test_images=12)
    return root


@pytest.fixture(scope="module")
def pristine(official: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kaggle")
    write_kaggle(root, official / "gtsrb")
    return root


@pytest.fixture
def kaggle(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GTSRB_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(pristine, tmp_path / "kaggle")


def test_kaggle_copy_is_the_official_set_pixel_for_pixel(kaggle: Path, official: Path) -> None:
    data, same = load_data("gtsrb-kaggle", data_root=kaggle), load_data("gtsrb", data_root=official)
    assert data.source == "gtsrb-kaggle" and data.manifest_hash == same.manifest_hash
    for name, split in same.splits.items():
        for array in ARRAYS:
            np.testing.assert_array_equal(getattr(data.splits[name], array), getattr(split, array))
    part = load_data("gtsrb-kaggle", data_root=kaggle, num_images=100)
    assert part.manifest_hash == load_data("gtsrb", data_root=official, num_images=100).manifest_hash


@pytest.mark.parametrize("level", ["one up", "Train"])
def test_kaggle_copy_is_found_at_any_level(kaggle: Path, level: str) -> None:
    root = kaggle / "Train" if level == "Train" else kaggle.parent
    assert load_data("gtsrb-kaggle", data_root=root).info() == load_data("gtsrb-kaggle", data_root=kaggle).info()


def test_kaggle_copy_without_test_images_is_evaluated_on_validation(kaggle: Path) -> None:
    (kaggle / "Test.csv").unlink()
    data = load_data("gtsrb-kaggle", data_root=kaggle)
    assert data.test is None and data.notes[0].startswith("not the official Kaggle copy of the GTSRB training set")


def rewrite(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text((root / name).read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "Train/7/00007_00001_00002.png").unlink(), r"not there: Train/7/00007_00001_00002\.png"),
        (lambda root: (root / "Test/00011.png").rename(root / "Test/x.png"), r"not there: Test/00011\.png"),
        (rewrite("Train.csv", ",7,Train/7/", ",8,Train/7/"), r"Train\.csv gives class 8 to Train/7/00007_00000_00000"),
        (rewrite("Train.csv", "ClassId", "Class"), r"Train\.csv has no columns Path and ClassId, separated by ','"),
    ],
    ids=["image missing", "test image renamed", "wrong class", "column missing"],
)
def test_damaged_kaggle_copy_is_one_clear_error(kaggle: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(kaggle)
    with pytest.raises(UserError, match=message) as caught:
        load_data("gtsrb-kaggle", data_root=kaggle)
    assert "\n" not in str(caught.value)


def test_one_layout_is_not_taken_for_the_other(kaggle: Path, official: Path) -> None:
    with pytest.raises(
        UserError, match=r"no GTSRB training set: it has Test\.csv, .*choose the data set 'gtsrb-kaggle'"
    ):
        load_data("gtsrb", data_root=kaggle)
    with pytest.raises(UserError, match=r"no Kaggle copy of .*choose the data set 'gtsrb', or point data_root at your"):
        load_data("gtsrb-kaggle", data_root=official)


# The registries


def test_workflows_offer_the_data_sets_that_they_can_fetch() -> None:
    options = dispatch_inputs()["dataset"]["options"]
    assert options == fetchable_names(), "paste what `python -m lib ci inputs` prints into the workflow"
    assert {"synthetic", "gtsrb", "gtsrb-torchvision"} <= {*options} and "gtsrb-kaggle" not in options


@pytest.mark.parametrize("attribute", ["name", "title", "classes"])
def test_data_set_that_does_not_say_what_it_is_is_refused_where_it_is_registered(attribute: str) -> None:
    known = dataset_names()
    described = {"name": "mine", "title": "mine", "classes": ("a", "b")}
    with pytest.raises(ValueError, match=f"the data set Faulty has no {attribute}"):
        register(type("Faulty", (DataSet,), {**described, attribute: ""}))
    with pytest.raises(UserError, match=r"two data sets are named 'gtsrb': this one and that of lib\.data\.sets"):
        register(type("Faulty", (DataSet,), {**described, "name": "gtsrb"}))
    assert dataset_names() == known


@pytest.mark.parametrize(
    ("array", "spoil", "words"),
    [
        ("labels", lambda labels: labels + 1, "gave labels of train from 1 to 43; its 43 classes are 0 to 42"),
        ("labels", lambda labels: labels - 1, "gave labels of train from -1 to 41; its 43"),
        ("labels", lambda labels: labels.astype(float), "labels of train as float64 (86,); they must be int64 (86,)"),
        ("images", lambda images: images / 255, "images of train as float64 (86, 3, 32, 32); they must be uint8 (86, "),
        ("images", lambda images: images.transpose(0, 2, 3, 1), "images of train as uint8 (86, 32, 32, 3); they must"),
        ("track_ids", lambda tracks: tracks[1:], "track_ids of train as int64 (85,); they must be int64 (86,)"),
    ],
)
def test_data_set_that_loads_other_arrays_than_it_must_is_refused(
    array: str, spoil: Callable[[np.ndarray], np.ndarray], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = noise("train", 86)
    synthetic = get_dataset("synthetic")
    monkeypatch.setattr(synthetic, "load", lambda *_: made_data(good, noise("val", 43, seed=1)))
    assert load_data("synthetic").train is good
    changed: dict[str, Any] = {array: spoil(getattr(good, array))}
    spoiled = replace(good, **changed)
    monkeypatch.setattr(synthetic, "load", lambda *_: made_data(spoiled, noise("val", 43, seed=1)))
    with pytest.raises(UserError, match=re.escape(words)):
        load_data("synthetic")


def test_only_signs_are_mirrored_whatever_their_number() -> None:
    assert mirror_map(["a tree", "keep left", "stop", "keep right", "turn left ahead"]) == (None, 3, None, 1, None)


def test_pages_name_the_classes_of_the_data_set_and_draw_those_that_are_signs() -> None:
    classes = ("a tree", "stop", "a house")
    labels = np.arange(60) % 3
    split = made_split("train", np.zeros((60, 3, 8, 8), np.uint8), labels, np.arange(60) // 6)
    data = replace(made_data(split, split), classes=classes)
    images_per_class, tracks_per_class = class_counts(data)
    assert images_per_class == [20, 20, 20] and len(tracks_per_class) == 3
    assert "0 a tree" in (pairs := str(train.confused_pairs_table([[5, 2, 0], [0, 5, 0], [0, 0, 5]], classes)))
    assert "1 stop" in pairs
    gallery = explore.plot_class_gallery(split.images, labels, classes)
    assert {"0 a tree", "1 stop", "2 a house"} <= {text.get_text() for text in gallery.texts}
    tree, stop = sign_cell(0, classes), sign_cell(1, classes)
    assert (tree.text, tree.image, stop.text) == ("0 a tree", None, "1 stop") and stop.image is not None
