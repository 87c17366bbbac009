"""Loading, splitting and caching of images, on a tiny GTSRB in the official layout."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from lib.data import IMAGE_SIZE, Data, Split, audit_splits, load_data
from lib.data import cache as cache_module
from lib.data import image_files as files_module
from lib.data import images as images_module
from lib.data.dataset import ARRAYS
from lib.data.image_files import hash_manifest
from lib.data.images import resize_image
from lib.data.sets import dataset_names, synthetic
from lib.data.sets.gtsrb import Gtsrb
from lib.data.splitting import choose_val, thinned
from lib.errors import UserError
from lib.files import PROJECT_ROOT
from lib.signs import CLASS_NAMES
from tests.gtsrb_layout import HEADER, TEST_FOLDER, TORCHVISION_FOLDER, TRAIN_FOLDER, write_image, write_layout
from tests.made_data import made_split
from tests.new_python import printed_by


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or leaves decoded images outside its own folder."""
    monkeypatch.setenv("GTSRB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    write_layout(root, test_images=12)
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    """A data_root of its own: 43 classes of 2 tracks of 3 frames, and 12 test images.

    All classes but 7 are links to the shared files, which no test may alter: hundreds of copies take minutes to delete.
    """
    root = tmp_path / "data"
    shutil.copytree(pristine / "gtsrb" / TEST_FOLDER, root / "gtsrb" / TEST_FOLDER)
    shutil.copy(pristine / "gtsrb/GT-final_test.csv", root / "gtsrb")
    (root / "gtsrb" / TRAIN_FOLDER).mkdir(parents=True)
    for folder in (pristine / "gtsrb" / TRAIN_FOLDER).iterdir():
        place = root / "gtsrb" / TRAIN_FOLDER / folder.name
        if folder.name == "00007":
            shutil.copytree(folder, place)
        else:
            place.symlink_to(folder)
    return root


def test_splits_hold_the_images_labels_and_sizes_of_the_named_files(root: Path) -> None:
    data = load_data("gtsrb", data_root=root)
    assert data.source == "gtsrb" and data.image_size == IMAGE_SIZE == 32 and data.classes == CLASS_NAMES
    found = data.info()
    assert found.num_images == {"train": 129, "val": 129, "test": 12} and tuple(found.classes) == CLASS_NAMES
    assert found.num_tracks == {"train": 43, "val": 43, "test": None}  # nobody knows the tracks of test images
    for split in data.splits.values():
        assert split.images.dtype == np.uint8 and split.images.shape == (split.num_images, 3, 32, 32)
        assert split.labels.dtype == np.int64 and split.track_ids.dtype == np.int64 and split.sizes.dtype == np.int32
        assert len(split.sources) == split.num_images
        for index in range(0, split.num_images, 7):
            path = root / "gtsrb" / split.sources[index]
            with Image.open(path) as image:
                assert split.sizes[index].tolist() == [image.height, image.width]
                np.testing.assert_array_equal(split.images[index], resize_image(image))
            if split.name != "test":
                assert split.labels[index] == int(path.parent.name)


def test_images_come_at_the_size_that_is_asked_for_and_count_as_the_same_data(root: Path) -> None:
    small, large = load_data("gtsrb", data_root=root), load_data("gtsrb", data_root=root, image_size=48)
    assert large.image_size == 48 and large.train.images.shape == (129, 3, 48, 48)
    assert large.info() == small.info()
    with Image.open(root / "gtsrb" / large.train.sources[0]) as image:
        np.testing.assert_array_equal(large.train.images[0], resize_image(image, 48))
    assert load_data("gtsrb", data_root=root).image_size == 32, "one size does not take the place of the other"


def test_resize_takes_the_whole_image_and_averages_it() -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 64:] = 200  # right half
    pixels[::2] += 40  # fine stripes: a resize without antialiasing keeps only one kind of row
    small = resize_image(Image.fromarray(pixels)).astype(int)
    assert small.shape == (3, 32, 32)
    assert abs(small[:, 4:28, :14] - 20).max() <= 3 and abs(small[:, 4:28, 18:] - 220).max() <= 3


def test_images_and_preprocessing_and_the_parameters_need_no_torch() -> None:
    modules = "lib.data, lib.data.download, lib.data.preprocessing, lib.training.recipes, lib.series.parameters"
    code = f"import sys, {modules}; lib.data.sets.dataset_names(); print('torch' in sys.modules)"
    assert printed_by(code) == "False"


@pytest.mark.parametrize("level", ["", "gtsrb", "gtsrb/GTSRB", "gtsrb/GTSRB/Final_Training", f"gtsrb/{TRAIN_FOLDER}"])
def test_any_level_of_the_layout_gives_the_same_data(root: Path, cache_folder: Path, level: str) -> None:
    data = load_data("gtsrb", data_root=root / level)
    assert data.manifest_hash == load_data("gtsrb", data_root=root).manifest_hash
    assert data.test is not None and len(list(cache_folder.glob("data/*/meta.json"))) == 1
    assert (root / "gtsrb" / data.train.sources[0]).is_file() and (root / "gtsrb" / data.test.sources[0]).is_file()


def test_relative_data_root_counts_from_the_project_and_an_unknown_data_set_lists_the_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"no folder {PROJECT_ROOT}/no-such-folder .*python -m lib data get"):
        load_data("gtsrb", data_root="no-such-folder")
    with pytest.raises(UserError, match=r"'gtsbr'; did you mean 'gtsrb'\?"):
        load_data("gtsbr")
    assert dataset_names()[:2] == ["synthetic", "gtsrb"]


# The split


def tracks(num_classes: int, tracks_per_class: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    track_ids = np.repeat(np.arange(num_classes * tracks_per_class), frames)
    return track_ids // tracks_per_class, track_ids


def test_no_track_is_on_both_sides_of_a_split(root: Path) -> None:
    data = load_data("gtsrb", data_root=root)
    sides = [set(split.track_ids.tolist()) for split in data.splits.values()]
    assert not sides[0] & sides[1] and not (sides[0] | sides[1]) & sides[2]
    # By the file names too, which know nothing of our track ids.
    names = [{source.rpartition("_")[0] for source in split.sources} for split in (data.train, data.val)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 43 * 2


def test_val_is_a_tenth_of_each_class_and_at_least_one_track() -> None:
    for count, expected in ((2, 1), (7, 1), (20, 2), (75, 8)):
        labels, track_ids = tracks(3, count, 4)
        is_val = choose_val(labels, track_ids)
        for label in range(3):
            assert len(set(track_ids[is_val & (labels == label)].tolist())) == expected


def test_val_depends_on_the_tracks_alone() -> None:
    labels, track_ids = tracks(5, 20, 3)
    shuffle = np.random.default_rng(0).permutation(len(labels))
    np.testing.assert_array_equal(
        choose_val(labels, track_ids)[shuffle], choose_val(labels[shuffle], track_ids[shuffle])
    )
    chosen = sorted(set(track_ids[choose_val(labels, track_ids)].tolist()))
    assert chosen == [10, 16, 20, 37, 42, 48, 61, 79, 92, 98]  # never changes: old records stay comparable


def test_class_with_one_track_is_refused() -> None:
    with pytest.raises(UserError, match="class 0 has 1 track; at least 2"):
        choose_val(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]))


def test_thinning_keeps_classes_and_the_split(root: Path) -> None:
    full = load_data("gtsrb", data_root=root)
    for num_images in (86, 100, 200):
        part = load_data("gtsrb", data_root=root, num_images=num_images)
        assert part.train.num_images + part.val.num_images == num_images
        assert set(part.val.sources) < set(full.val.sources) and set(part.train.sources) < set(full.train.sources)
        assert len(set(part.train.labels.tolist())) == len(set(part.val.labels.tolist())) == 43
        assert part.test is not None and abs(part.test.num_images - 12 * num_images / 258) <= 1
        assert part.manifest_hash != full.manifest_hash
        assert f"a part of it: {num_images} of 258 images for training and validation" in part.notes
        if num_images == 86:
            assert part.info().num_tracks == {"train": 43, "val": 43, "test": None}, "known also by single frames"


def test_thinning_drops_frames_before_tracks_and_spreads_them() -> None:
    labels, track_ids = tracks(2, 10, 30)
    is_val = choose_val(labels, track_ids)
    images = np.tile((np.arange(600) % 30).astype(np.uint8)[:, None, None, None], (1, 3, 1, 1))
    parts = thinned({name: made_split(name, images[side], labels[side], track_ids[side])
                     for name, side in (("train", ~is_val), ("val", is_val))}, 60)  # fmt: skip
    kept = np.concatenate([part.track_ids for part in parts.values()])
    assert np.bincount(kept).tolist() == [3] * 20
    frames = np.concatenate([part.images[:, 0, 0, 0] for part in parts.values()])
    assert sorted(set(frames.tolist())) == [1, 15, 23], "the middle first; never changes: old records stay comparable"


@pytest.mark.parametrize("num_images", [-1, 1, 85])
def test_too_few_images_are_refused(root: Path, num_images: int) -> None:
    with pytest.raises(UserError, match=rf"num_images is {num_images}; give 0 for all or at least 86"):
        load_data("gtsrb", data_root=root, num_images=num_images)


# Which set


def flip_last_bits(path: Path, bits: int = 255) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ bits]))


def test_equal_pixels_make_a_set_the_official_one_and_the_right_number_does_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "not the official GTSRB training set (39,209 images): 258 images in 86 tracks"
    assert load_data("gtsrb", data_root=root).notes == [other, "12 test images"]
    trained = root.with_name("trained") / "gtsrb" / TRAIN_FOLDER
    trained.parent.mkdir(parents=True)
    trained.symlink_to(root / "gtsrb" / TRAIN_FOLDER)
    monkeypatch.setattr(Gtsrb, "manifest_hash", load_data("gtsrb", data_root=root.with_name("trained")).manifest_hash)
    monkeypatch.setattr(Gtsrb, "num_official", 258)
    expected = ["official GTSRB training set, verified by its pixels: 258 images in 86 tracks", "12 test images"]
    assert load_data("gtsrb", data_root=root).notes == expected
    part = load_data("gtsrb", data_root=root, num_images=100).notes
    assert part == [*expected, "a part of it: 100 of 258 images for training and validation"]
    with Image.open(root / SOME_IMAGE) as image:  # another file with the same pixels
        (root / SOME_IMAGE).write_bytes(b"P6\n# copied\n%d %d\n255\n" % image.size + image.tobytes())
    assert load_data("gtsrb", data_root=root).notes == expected
    flip_last_bits(root / SOME_IMAGE, 1)
    note = "not the official GTSRB training set (258 images): 258 images in 86 tracks, some of them with other pixels"
    assert load_data("gtsrb", data_root=root).notes[0].startswith(note)


def test_without_test_images_validation_is_evaluated_and_the_notes_say_so(root: Path) -> None:
    with_test = load_data("gtsrb", data_root=root)
    shutil.rmtree(root / "gtsrb" / TEST_FOLDER)
    (root / "gtsrb/GT-final_test.csv").unlink()
    data = load_data("gtsrb", data_root=root)
    assert data.test is None and data.evaluation is data.val and "test" not in data.info().num_images
    assert "no test images: evaluated on validation" in data.notes
    assert with_test.evaluation is with_test.test and data.manifest_hash != with_test.manifest_hash


def test_torchvision_split_is_another_set_and_is_not_taken_for_the_official_one(root: Path) -> None:
    with pytest.raises(UserError, match=r"no torchvision GTSRB training split: .*choose the data set 'gtsrb'"):
        load_data("gtsrb-torchvision", data_root=root)
    write_layout(root, tracks_per_class=3, folder=TORCHVISION_FOLDER)
    data, other = load_data("gtsrb", data_root=root), load_data("gtsrb-torchvision", data_root=root)
    assert (data.train.num_images + data.val.num_images, other.train.num_images + other.val.num_images) == (258, 387)
    assert other.source == "gtsrb-torchvision" and data.manifest_hash != other.manifest_hash
    assert other.notes[0].startswith("torchvision GTSRB training split: 387 images in 129 tracks; not verified")
    assert not set(data.train.sources) & set(other.train.sources)


# As people have the files


def renamed(folder: Path, change: Callable[[str], str]) -> None:
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(change(path.name)))


def another_case(root: Path) -> None:
    """As some copies through DOS names leave it."""
    renamed(root / SOME_CLASS, str.upper)
    renamed(root / SOME_CLASS.replace("7", "8"), str.lower)
    renamed(root / "gtsrb" / TEST_FOLDER, str.upper)
    for folder in (f"gtsrb/{TRAIN_FOLDER}", f"gtsrb/{TEST_FOLDER}"):
        for path in [root / folder, *(root / folder).parents][:2]:
            path.rename(path.with_name(path.name.lower()))
    (root / "gtsrb/GTSRB").rename(root / "gtsrb/gtsrb")
    (root / "gtsrb/GT-final_test.csv").rename(root / "gtsrb/GT-FINAL_TEST.CSV")


def folder_for_each_archive(root: Path) -> None:
    """As file managers unpack them."""
    for archive, part in (("Training_Images", "GTSRB/Final_Training"), ("Test_Images", "GTSRB/Final_Test"),
                          ("Test_GT", "GT-final_test.csv")):  # fmt: skip
        place = root / f"GTSRB_Final_{archive}" / part
        place.parent.mkdir(parents=True)
        (root / "gtsrb" / part).rename(place)
    shutil.rmtree(root / "gtsrb")


def one_down(root: Path) -> None:
    (root / "datasets").mkdir()
    (root / "gtsrb").rename(root / "datasets/gtsrb")
    write_layout(root / "__MACOSX", classes=[0])  # where macOS packs files of its own


def leftovers(root: Path) -> None:
    """What macOS, Windows and network drives put beside the files that people see."""
    for folder in (root, root / "gtsrb", root / SOME_CLASS, root / "gtsrb" / TEST_FOLDER):
        for name in (".DS_Store", "._00000_00000.ppm", "._00000.ppm", "._GT-00007.csv", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"\0\5\26\7")


def labels_in(place: str) -> Callable[[Path], None]:
    def arrange(root: Path) -> None:
        (root / "gtsrb/GT-final_test.csv").rename(root / place / "GT-final_test.csv")
        (root / "gtsrb" / TEST_FOLDER / "GT-final_test.test.csv").write_text(HEADER)  # as in the official archive

    return arrange


def a_copy_one_level_down(root: Path) -> None:
    write_layout(root / "backup", classes=[0])


@pytest.mark.parametrize(
    "arrange",
    [another_case, folder_for_each_archive, one_down, leftovers, a_copy_one_level_down]
    + [labels_in(place) for place in ("gtsrb/GTSRB", "gtsrb/GTSRB/Final_Test", f"gtsrb/{TEST_FOLDER}")],
)
def test_the_same_files_as_people_have_them_are_the_same_data(root: Path, arrange: Callable[[Path], None]) -> None:
    expected = load_data("gtsrb", data_root=root)
    arrange(root)
    data = load_data("gtsrb", data_root=root)
    assert data.manifest_hash == expected.manifest_hash and data.info() == expected.info()


@pytest.mark.parametrize("places", [("", "gtsrb"), ("backup", "backup 2")])
def test_layout_at_two_places_is_refused(root: Path, places: tuple[str, str]) -> None:
    shutil.rmtree(root / "gtsrb")
    for place in places:
        write_layout(root / "written", classes=[0])
        (root / place).mkdir(exist_ok=True)
        (root / "written/gtsrb/GTSRB").rename(root / place / "GTSRB")
    with pytest.raises(UserError, match=r"holds a GTSRB training set twice: .*GTSRB.* and .*GTSRB.*; point data_root"):
        load_data("gtsrb", data_root=root)


# Defects: one clear line that names the file

SOME_CLASS = f"gtsrb/{TRAIN_FOLDER}/00007"
SOME_IMAGE = f"{SOME_CLASS}/00001_00002.ppm"
SOME_CSV = f"{SOME_CLASS}/GT-00007.csv"


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return change


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content)


def remove(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        place = root / name
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()

    return change


def unpadded_classes(root: Path) -> None:
    renamed(root / "gtsrb" / TRAIN_FOLDER, lambda name: str(int(name)))


def classes_alone(root: Path) -> None:
    for folder in (root / "gtsrb" / TRAIN_FOLDER).iterdir():
        folder.rename(root / folder.name)
    shutil.rmtree(root / "gtsrb")


def converted(folder: str) -> Callable[[Path], None]:
    return lambda root: renamed(root / folder, lambda name: name.replace(".ppm", ".png"))


DEFECTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "data_root missing": (remove("."), r"no folder \S+ \(data_root\).*python -m lib data get"),
    "data_root empty": (remove("gtsrb"), r"it is empty, but \S+Final_Training/Images does not exist; .*data get"),
    "class folders alone": (classes_alone, r"it has 00000/, 00001/, 00002/ and 40 more, .*move the class folders"),
    "class folders 0 to 42": (unpadded_classes, r"43 of 43 classes are missing .* it has 0/, 1/, 10/ and 40 more"),
    "PNG files": (converted(SOME_CLASS), r"00007 holds no images \(\.ppm\): it has 00000_00000\.png, .* and 4 more"),
    "PNG test files": (converted(f"gtsrb/{TEST_FOLDER}"), r"Final_Test/Images holds no images .* and 9 more"),
    "archives": (
        lambda root: (remove("gtsrb")(root), (root / "GTSRB_Final_Training_Images.zip").write_bytes(b"PK")),
        r"it has GTSRB_Final_Training_Images\.zip, but .*put the archives into \S+/gtsrb",
    ),
    "in upper and lower case": (
        lambda root: shutil.copy(root / SOME_IMAGE, (root / SOME_IMAGE).with_suffix(".PPM")),
        r"00007 has a file in upper and in lower case; keep one of the two",
    ),
    "a class missing": (remove(SOME_CLASS), r"half unpacked: 1 of 43 classes are missing \(00007\)"),
    "csv missing": (remove(SOME_CSV), r"no \S+GT-00007\.csv; half unpacked"),
    "image missing": (remove(SOME_IMAGE), r"GT-00007\.csv names files that are not there: 00001_00002\.ppm.*data get"),
    "image not in csv": (
        lambda root: write_image(root / f"{SOME_CLASS}/00002_00000.ppm", 7, 1),
        r"GT-00007\.csv does not name these files beside it: 00002_00000\.ppm",
    ),
    "wrong class": (edit(SOME_CSV, ";7\n", ";8\n"), r"GT-00007\.csv gives class 8 to 00000_00000\.ppm, not 7"),
    "class not a number": (edit(SOME_CSV, ";7\n", ";seven\n"), r"GT-00007\.csv, row 2, is cut off or damaged"),
    "csv row cut off": (lambda root: os.truncate(root / SOME_CSV, (root / SOME_CSV).stat().st_size - 6), "row 7"),
    "comma for semicolon": (edit(SOME_CSV, HEADER, HEADER.replace(";", ",")), r"no columns Filename and ClassId"),
    "csv empty": (write(SOME_CSV, b""), r"GT-00007\.csv has no columns"),
    "csv binary": (write(SOME_CSV, bytes(range(256))), r"GT-00007\.csv is not a readable csv"),
    "file named twice": (edit(SOME_CSV, "00000_00001", "00000_00000"), r"GT-00007\.csv names a file twice"),
    "image name that is not text": (
        lambda root: write_image(Path(os.fsdecode(os.fsencode(root / SOME_CLASS) + b"/\xff\x1b.ppm")), 7, 1),
        r"beside it: .udcff.x1b\.ppm",
    ),
    "image name without track": (
        lambda root: (
            (root / SOME_IMAGE).rename(root / f"{SOME_CLASS}/a.ppm"),
            edit(SOME_CSV, "00001_00002.ppm", "a.ppm")(root),
        ),
        r"a\.ppm is not named as the images of this data set",
    ),
    "image empty": (write(SOME_IMAGE, b""), r"00001_00002\.ppm is not an image .*; unpack the data again"),
    "image truncated": (
        lambda root: os.truncate(root / SOME_IMAGE, 300),
        r"00007/00001_00002\.ppm is not a readable image .*; unpack",
    ),
    "too large": (write(SOME_IMAGE, b"P6 9000 9000 255\n" + bytes(99)), r"00001_00002\.ppm: image of 9000 x 9000 pix"),
    "decompression bomb": (write(SOME_IMAGE, b"P6 60000 60000 255\n" + bytes(99)), r"00002\.ppm has more pixels than"),
    "grey image": (write(SOME_IMAGE, b"P5 15 15 255\n" + bytes(225)), r"00001_00002\.ppm: image of mode L, not 8-bit"),
    "test labels missing": (
        remove("gtsrb/GT-final_test.csv"),
        r"Images is there, but no GT-final_test\.csv .*data get",
    ),
    "test images missing": (remove(f"gtsrb/{TEST_FOLDER}"), r"GT-final_test\.csv has .*, but none are there"),
    "a test image missing": (remove(f"gtsrb/{TEST_FOLDER}/00011.ppm"), r"not there: 00011\.ppm; the data are half"),
    "test class out of range": (edit("gtsrb/GT-final_test.csv", ";9\n", ";43\n"), r"class 43 to 00009\.ppm"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_is_one_clear_error(root: Path, name: str) -> None:
    make, message = DEFECTS[name]
    make(root)
    with pytest.raises(UserError, match=message) as caught:
        load_data("gtsrb", data_root=root)
    assert "\n" not in str(caught.value)


# The crop


def with_box(root: Path, box: str) -> Path:
    """An image of 40 x 40 pixels with this box of its sign in the csv."""
    table = root / SOME_CSV
    lines = table.read_text().splitlines()
    image = table.with_name(lines[1].split(";")[0])
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(image)
    lines[1] = f"{image.name};40;40;{box};7"
    table.write_text("\n".join(lines) + "\n")
    return image


def test_images_are_cropped_to_the_box_of_the_sign_with_its_margin(root: Path) -> None:
    file = with_box(root, "10;12;30;32")
    regions: dict[str, Any] = {
        "whole": None, "box": (10, 12, 30, 32), "box+10": (8, 10, 32, 34), "box+99": (0, 0, 40, 40)
    }  # fmt: skip
    for crop, region in regions.items():
        data = load_data("gtsrb", data_root=root, crop=crop)
        assert data.crop == crop and any(crop in note for note in data.notes) == (crop != "whole")
        assert data.manifest_hash == load_data("gtsrb", data_root=root).manifest_hash, "of whole images"
        (found,) = [
            split.images[row]
            for split in (data.train, data.val)
            for row in np.flatnonzero([source.endswith(f"00007/{file.name}") for source in split.sources])
        ]
        with Image.open(file) as image:
            np.testing.assert_array_equal(found, resize_image(image, IMAGE_SIZE, region))


@pytest.mark.parametrize("box", ["10;12;9;32", "0;0;41;40", ";;;", "a;b;c;d"])
def test_box_that_is_none_is_refused_where_it_is_needed(root: Path, box: str) -> None:
    name = with_box(root, box).name
    load_data("gtsrb", data_root=root)
    with pytest.raises(UserError, match=rf"{name}.*is known; leave -p crop out|{name}: the box .* is not in its 40 x"):
        load_data("gtsrb", data_root=root, crop="box")


# The cache


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were decoded."""
    seen = []
    decode = images_module.decode_sign

    def noting(file: Path, *arguments: Any) -> tuple[np.ndarray, tuple[int, int], bytes]:
        seen.append(file)
        return decode(file, *arguments)

    monkeypatch.setattr(files_module, "decode_sign", noting)
    return seen


def assert_same(first: Data, second: Data) -> None:
    assert first.info() == second.info() and first.notes == second.notes
    for name, split in first.splits.items():
        other: Split = second.splits[name]
        for array in ARRAYS:
            np.testing.assert_array_equal(getattr(split, array), getattr(other, array))


def test_loads_after_the_first_and_at_once_decode_nothing(root: Path, cache_folder: Path, decoded: list[Path]) -> None:
    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(lambda _: load_data("gtsrb", data_root=root), range(3))
    for other in (*others, load_data("gtsrb", data_root=root)):
        assert_same(first, other)
        assert isinstance(other.train.images, np.memmap)
    assert len(decoded) == 270 and len(list(cache_folder.glob("data/*/meta.json"))) == 1


def test_new_times_change_nothing_and_new_content_of_the_same_size_and_time_is_read_again(root: Path) -> None:
    first = load_data("gtsrb", data_root=root)
    os.utime(root / SOME_IMAGE, ns=(1, 1))
    assert load_data("gtsrb", data_root=root).manifest_hash == first.manifest_hash
    flip_last_bits(root / SOME_IMAGE)
    os.utime(root / SOME_IMAGE, ns=(1, 1))  # as `cp -p` and `rsync -t` do
    changed = load_data("gtsrb", data_root=root)
    assert changed.manifest_hash != first.manifest_hash
    both = [np.concatenate([data.train.images, data.val.images]) for data in (first, changed)]
    assert (both[0] != both[1]).any(axis=(1, 2, 3)).sum() == 1


def test_writing_to_images_changes_neither_the_cache_nor_another_load(root: Path, cache_folder: Path) -> None:
    first, second = load_data("gtsrb", data_root=root), load_data("gtsrb", data_root=root)
    files = {path: path.read_bytes() for path in cache_folder.glob("data/*/*.images.npy")}
    expected = second.train.images.copy()
    first.train.images[:] = 0
    np.testing.assert_array_equal(second.train.images, expected)
    assert files == {path: path.read_bytes() for path in files}


def test_manifest_hash_does_not_depend_on_the_place(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    there = load_data("gtsrb", data_root=tmp_path / "elsewhere").manifest_hash
    assert there == load_data("gtsrb", data_root=root).manifest_hash
    digests = np.frombuffer(bytes(range(64)), np.uint8).reshape(2, 32)
    images = np.zeros((2, 3, 4, 4), np.uint8)
    split = replace(made_split("train", images, np.array([1, 2]), np.arange(2), ["a", "b"]), digests=digests)
    order = np.array([1, 0])
    first = hash_manifest([split])
    assert first == hash_manifest([split.take(order)]) != hash_manifest([replace(split, labels=np.array([2, 1]))])
    assert first == "b0ffed119da8bfc5bab566a9380e807b83f1e0dc8ac547411f231797aa723add"


@pytest.mark.parametrize(
    ("name", "damage"),
    [("train.images.npy", "flipped bit"), ("val.labels.npy", "gone"), ("meta.json", "cut"), ("meta.json", "gone")],
)
def test_damaged_cache_is_rebuilt(root: Path, cache_folder: Path, name: str, damage: str) -> None:
    first = load_data("gtsrb", data_root=root)
    (file,) = cache_folder.glob(f"data/*/{name}")
    content = file.read_bytes()
    if damage == "flipped bit":
        flip_last_bits(file, 1)
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()
    second = load_data("gtsrb", data_root=root)
    assert second.info() == first.info() and file.read_bytes() == content
    with Image.open(root / "gtsrb" / second.train.sources[0]) as image:
        np.testing.assert_array_equal(second.train.images[0], resize_image(image))


def test_leftovers_of_a_killed_process_are_removed(root: Path, cache_folder: Path) -> None:
    load_data("gtsrb", data_root=root)
    key = next(path.parent.name for path in cache_folder.glob("data/*/meta.json"))
    leftover = cache_folder / "data" / f".{key}.abcdef"
    leftover.mkdir()
    (leftover / "images.npy").write_bytes(b"half")
    (cache_folder / "data" / key / "meta.json").unlink()
    load_data("gtsrb", data_root=root)
    assert not leftover.exists() and (cache_folder / "data" / key / "meta.json").is_file()
    assert not [path for path in cache_folder.glob("data/.*") if path.is_dir()]


def test_full_disk_is_a_clear_error_and_leaves_nothing(root: Path, cache_folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write the cache .*No space left on device; free .* set GTSRB_CA"):
            load_data("gtsrb", data_root=root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in (cache_folder / "data").iterdir() if path.is_dir()]


@pytest.mark.parametrize(("module", "name", "value"), [(cache_module, "VERSION", -1), (PIL, "__version__", "0.0")])
def test_cache_of_another_version_or_pillow_is_not_read(
    root: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[Path], module: Any, name: str, value: Any
) -> None:
    load_data("gtsrb", data_root=root)
    monkeypatch.setattr(module, name, value)
    load_data("gtsrb", data_root=root)
    assert len(decoded) == 2 * 270


def test_images_that_differ_only_before_they_are_resized_are_no_duplicates(root: Path) -> None:
    flat = np.full((64, 64, 3), 100, np.uint8)
    for frame, pixels in enumerate((flat, flat[:50])):
        Image.fromarray(pixels).save(root / SOME_CLASS / f"00000_0000{frame}.ppm")
    data = load_data("gtsrb", data_root=root)
    rows = [
        (split, row)
        for split in (data.train, data.val)
        for row, source in enumerate(split.sources)
        if source.endswith(("00007/00000_00000.ppm", "00007/00000_00001.ppm"))
    ]
    np.testing.assert_array_equal(*(split.images[row] for split, row in rows))
    assert audit_splits(data).duplicates == []


# Synthetic data


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Replace the renderer by noise; the calls made to it."""
    calls = []

    def generate(num_images: int, seed: int, progress: Callable[[str], None]) -> Split:
        calls.append((num_images, seed))
        num_images = min(num_images, 1500)  # the 10,000 of a run that asks for no number take seconds
        generator = np.random.default_rng(seed)
        track_ids = np.sort(np.arange(num_images) % max(86, num_images // 30))
        images = generator.integers(0, 256, (num_images, 3, 32, 32)).astype(np.uint8)
        return made_split("drawn", images, track_ids % 43, track_ids)

    monkeypatch.setattr(synthetic, "generate", generate)
    return calls


def test_synthetic_splits_share_no_track_and_the_test_has_its_own_stream(generated: list[tuple[int, int]]) -> None:
    data = load_data("synthetic", num_images=1290)
    assert data.test is not None and data.evaluation is data.test and data.source == "synthetic"
    assert data.train.num_images + data.val.num_images == 1290 and 380 < data.test.num_images < 450
    sides = [set(split.track_ids.tolist()) for split in data.splits.values()]
    assert not sides[0] & sides[1] and not (sides[0] | sides[1]) & sides[2]
    assert set(data.train.labels.tolist()) == set(data.val.labels.tolist()) == set(range(43))
    assert len({seed for _, seed in generated}) == 2 and set(data.train.sources) == {""}
    assert "synthetic" in data.notes[0]


def test_synthetic_images_are_generated_once_per_recipe(generated: list[tuple[int, int]]) -> None:
    first = load_data("synthetic", num_images=1290)
    assert_same(first, load_data("synthetic", num_images=1290))
    assert len(generated) == 2
    others = ((1290, 1), (1320, 0), (0, 0))
    hashes = {load_data("synthetic", num_images=number, seed=seed).manifest_hash for number, seed in others}
    assert len(hashes | {first.manifest_hash}) == 4 and len(generated) == 8
    assert generated[-2][0] == 10_000, "where no number is given"


def test_other_sources_make_other_synthetic_images_and_files_that_macos_leaves_do_not(
    generated: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "project/lib"
    (sources / "signs").mkdir(parents=True)
    (sources / "data/sets").mkdir(parents=True)
    for name in ("signs/renderer.py", "data/sets/synthetic.py"):
        (sources / name).write_text("")
    monkeypatch.setattr(synthetic, "PROJECT_ROOT", sources.parent)
    expected = load_data("synthetic", num_images=1290).manifest_hash
    (sources / "signs/._renderer.py").write_bytes(b"\0\5\26\7")
    assert load_data("synthetic", num_images=1290).manifest_hash == expected and len(generated) == 2
    (sources / "signs/renderer.py").write_text("changed")
    assert load_data("synthetic", num_images=1290).manifest_hash != expected and len(generated) == 4


def test_synthetic_images_at_another_size_are_resized_and_say_so(generated: list[tuple[int, int]]) -> None:
    drawn, larger = (load_data("synthetic", num_images=1290, image_size=size) for size in (32, 48))
    assert larger.image_size == 48 and larger.info() == drawn.info()
    assert any("drawn at 32 x 32" in note for note in larger.notes) and len(drawn.notes) == 1
    np.testing.assert_array_equal(larger.train.digests, drawn.train.digests)
