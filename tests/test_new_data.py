"""Extra training images: what is added is checked, kept once, trained with, compared, and removed with care."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib.cli import main
from lib.data import Data, load_data
from lib.data.dataset import ARRAYS
from lib.data.difference import difference_of
from lib.data.store import add, all_extras, with_extra
from lib.errors import UserError
from lib.files import PROJECT_ROOT, locked
from lib.release import Release, verify
from lib.release.bom import bom_of
from lib.release.reader import BOM, MANIFEST
from lib.release.verifying import broken_link
from lib.release.writer import plan_release, sums_of, write_release, write_sums
from lib.report import new_data
from lib.series import rundir
from lib.series.jobs import plan_jobs
from lib.series.preflight import check_data
from lib.training.loop import train
from tests.conftest import Refused
from tests.gtsrb_layout import HEADER, TEST_FOLDER, write_image, write_layout
from tests.made_data import made_data, noise
from tests.made_release import made_run, released_data

Add = Callable[..., int]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in the official layout; tests leave it as it is."""
    return write_layout(tmp_path_factory.mktemp("official"), test_images=12)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GTSRB_CACHE", str(cache))
    monkeypatch.setenv("GTSRB_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def data(official: Path, store: Path) -> Data:
    return load_data("gtsrb", data_root=official)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tracks of class 14 and a single image of class 3."""
    for track, frame in ((0, 0), (0, 1), (1, 0)):
        write_image(tmp_path / f"new/14/{track:05d}_{frame:05d}.ppm", 14, 5000 + 10 * track + frame)
    write_image(tmp_path / "new/00003/IMG_7.png", 3, 6000)
    return tmp_path / "new"


def kept(store: Path) -> list[str]:
    return sorted(path.name for path in store.rglob("*") if path.is_file())


def test_what_is_added_is_listed_verified_and_there_once(
    folder: Path, official: Path, store: Path, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    known = data.train.sources[data.train.labels == 14][0]
    shutil.copy(official / known, folder / "14/known.ppm")
    shutil.copy(folder / "14/00001_00000.ppm", folder / "14/twice.ppm")
    (folder / "14/GT-00014.csv").write_text("boxes of GTSRB")
    command = ["data", "add", str(folder), "--data-root", str(official)]
    assert main(command) == 0
    (extra,) = all_extras()
    first = capsys.readouterr()
    assert f"images: 4, tracks: 3, classes: 2; use them with -p extra_data {extra.hash}" in first.out
    assert "4 of 6 images are new" in first.err
    assert main(command) == 0 and "they were there already" in capsys.readouterr().out
    assert main(["data", "list"]) == 0 and main(["data", "verify"]) == 0
    listed, verified = capsys.readouterr().out.splitlines()
    assert listed.startswith(extra.hash[:12]) and listed.endswith("from new, for gtsrb")
    assert verified.startswith(f"ok  {extra.hash[:12]}")
    assert kept(store) == sorted([f"{extra.hash}.json", *(f"{image.digest}.png" for image in extra.images)])


def test_training_gets_them_as_tracks_of_their_own_and_nothing_else_changes(folder: Path, data: Data) -> None:
    extra, _ = add(folder, data)
    both = with_extra(data, extra.hash[:12])
    assert (both.manifest_hash, both.extra_hash) == (data.manifest_hash, extra.hash)
    assert both.info().extra_hash == extra.hash and with_extra(data, "") is data
    for name in ("val", "test"):
        assert both.splits[name] is data.splits[name]
    new = both.train.take(np.arange(data.train.num_images, both.train.num_images))
    assert [int(label) for label in new.labels] == [3, 14, 14, 14]
    assert new.num_tracks == 3 and new.track_ids[1] == new.track_ids[2]
    assert not set(new.track_ids) & {track for split in data.splits.values() for track in split.track_ids}
    for array in ARRAYS:
        np.testing.assert_array_equal(getattr(both.train, array)[: -new.num_images], getattr(data.train, array))


def test_boxes_cut_signs_out_of_a_photo_with_a_margin(tmp_path: Path, official: Path, data: Data) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos/street.png")
    rows = ["street.png;400;300;100;50;199;149;14", "street.png;400;300;0;0;20;20;3"]
    (tmp_path / "photos/signs.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    extra, _ = add(tmp_path / "photos", data)
    new = with_extra(data, extra.hash).train.take(np.array([-2, -1]))
    assert new.sizes.tolist() == [[123, 123], [27, 27]] and new.labels.tolist() == [14, 3] and new.num_tracks == 2
    shutil.copytree(official / TEST_FOLDER, tmp_path / "tested")
    shutil.copy(official / "GT-final_test.csv", tmp_path / "tested")
    with pytest.raises(UserError, match=r"12 of the extra images are in the test or validation part of gtsrb"):
        add(tmp_path / "tested", data)


def _emptied(folder: Path, data: Data) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path)


def _all_known(folder: Path, data: Data) -> None:
    _emptied(folder, data)
    (folder / "0").mkdir()
    shutil.copy(folder.parent / "here" / data.train.sources[0], folder / "0")


def _csv(*rows: str) -> Callable[[Path, Data], object]:
    """Instead of class folders."""

    def write(folder: Path, data: Data) -> None:
        shutil.rmtree(folder / "14")
        (folder / "00003/IMG_7.png").rename(folder / "a.png")
        (folder / "00003").rmdir()
        (folder / "signs.csv").write_text("\n".join([HEADER, *rows]) + "\n")

    return write


def _copied(split: str) -> Callable[[Path, Data], object]:
    """An image of the data set, as another file."""

    def copy(folder: Path, data: Data) -> None:
        with Image.open(folder.parent / "here" / data.splits[split].sources[0]) as image:
            image.save(folder / "14/x.png")

    return copy


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder, _: (folder / "77").mkdir(), "77 is not the folder of a class; name them 0 to 42"),
        (lambda folder, _: (folder / "stop").mkdir(), "stop is not the folder of a class"),
        (lambda folder, _: (folder / "readme.txt").touch(), "readme.txt is not the folder of a class"),
        (lambda folder, _: (folder / "14/x.png").write_bytes(b"\x89PNG"), "x.png is not"),
        (
            lambda folder, _: Image.new("RGB", (1200, 9)).save(folder / "14/x.png"),
            "more than 1024; crop it to the sign",
        ),
        (lambda folder, _: shutil.copy(folder / "14/00001_00000.ppm", folder / "00003"), "and also as"),
        (
            lambda folder, _: (folder / "14/00001_00000.ppm").rename(folder / "14/caf\udce9.ppm"),
            "is not UTF-8; rename it",
        ),
        (lambda folder, _: shutil.rmtree(folder), "No such file"),
        (_emptied, "has no images"),
        (lambda folder, _: [(folder / name).write_text("") for name in ("a.csv", "b.csv")], "has 2 csv files"),
        (_csv("a.png;9;9;0;0;9;9;43"), "gives class 43 to a.png; classes are 0 to 42"),
        (_csv("a.png;9;9;0;0;900;9;3"), "is not in its"),
        (_csv("a.png;9;9;5;0;5;9;3"), "has no box"),
        (_csv("a.png;9;9;-1;0;5;9;3"), "has no box"),
        (_csv(f"a.png;9;9;0;0;5;9;{'9' * 5000}"), "is cut off or damaged"),
        (_csv(f"a.png;9;9;0;0;{'9' * 5000};9;3"), "has no box"),
        (_csv("a\0.png;9;9;0;0;5;9;3"), "is not a readable image (embedded null byte)"),
        (_csv("../here/x.png;9;9;0;0;5;9;3"), "give paths below"),
        (_csv("/x.png;9;9;0;0;5;9;3"), "give paths below"),
        (_csv("b.png;9;9;0;0;5;9;3"), "no file"),
        (_csv("a.png;9;9;0;0"), "is cut off or damaged"),
        (_copied("test"), "1 of the extra images are in the test or validation part of gtsrb, pixel for pixel: "),
        (_copied("val"), "1 of the extra images are in the test or validation part of gtsrb, pixel for pixel: "),
        (_copied("train"), "is given as class 14, and also as 0"),
        (_all_known, "has nothing new: all images are in the training part of gtsrb"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    folder: Path, official: Path, data: Data, store: Path, refused: Refused, spoil: Any, message: str
) -> None:
    (folder.parent / "here").symlink_to(official)
    spoil(folder, data)
    assert message in refused("data", "add", folder, "--data-root", official)
    assert kept(store) == []


def test_a_disk_that_is_full_in_the_middle_leaves_what_was_there(
    folder: Path, data: Data, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(folder, data)
    before = kept(store)
    write_image(folder / "14/00002_00000.ppm", 14, 7000)
    write_image(folder / "14/00002_00001.ppm", 14, 7001)
    replace_file, done = os.replace, []

    def full(source: str, target: Path) -> None:
        done.append(target)
        if len(done) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(source, target)

    with monkeypatch.context() as patched, pytest.raises(UserError, match=r"cannot write .*No space left on device"):
        patched.setattr(os, "replace", full)
        add(folder, data)
    assert done[0].suffix == ".png" and kept(store) == before
    assert add(folder, data)[1] and len(all_extras()) == 2


def test_two_processes_that_add_at_once_both_end_well(folder: Path, official: Path, store: Path, data: Data) -> None:
    other = shutil.copytree(folder, folder.parent / "other")
    write_image(other / "14/00002_00000.ppm", 14, 7000)
    command = [sys.executable, "-m", "lib", "data", "add", "--data-root", str(official)]
    begun = [subprocess.Popen([*command, str(place)], cwd=PROJECT_ROOT) for place in (folder, other)]
    assert [process.wait() for process in begun] == [0, 0]
    assert sorted(len(extra.images) for extra in all_extras()) == [4, 5]
    assert main(["data", "verify"]) == 0 and len(kept(store)) == 2 + 5


def test_nobody_else_changes_the_store_while_images_are_added(folder: Path, data: Data, store: Path) -> None:
    said = []

    def other(line: str) -> None:
        said.append(line)
        with pytest.raises(BlockingIOError), locked(store / ".lock", wait=False):
            pass

    add(folder, data, other)
    assert said == ["4 of 4 images are new"] and not (store / ".lock").exists()


def test_removing_keeps_what_others_need_and_asks_where_releases_were_trained_with_it(
    folder: Path, data: Data, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    extra, _ = add(folder, data)
    write_image(folder / "14/00002_00000.ppm", 14, 7000)
    larger, _ = add(folder, data)
    monkeypatch.setattr(rundir, "RUNS", tmp_path / "runs")
    plan = plan_release(made_run(tmp_path / "runs/mine", extra_hash=larger.hash))
    release = write_release(plan, released_data(extra_hash=larger.hash)).release
    assert release is not None
    line = refused("data", "remove", larger.hash)
    assert f"trained with these images: {release.path} ({release.name} {release.version}); add --yes" in line
    assert main(["data", "remove", extra.hash[:8]]) == 0 and len(kept(store)) == 1 + 5
    assert main(["data", "remove", larger.hash, "--yes"]) == 0 and kept(store) == []
    assert str(release.path) in capsys.readouterr().out
    assert main(["data", "list"]) == 0 and capsys.readouterr().out == f"no extra data in {store}\n"
    assert f"no extra data have the hash '{extra.hash}'" in refused("data", "remove", extra.hash)


def test_both_hashes_are_in_a_release_and_one_without_the_second_still_verifies(tmp_path: Path) -> None:
    extra_hash = "ef" * 32
    plan = plan_release(made_run(tmp_path / "run", ("onnxruntime",), extra_hash=extra_hash))
    release = write_release(plan, released_data(extra_hash=extra_hash)).release
    assert release is not None and verify(release.path)
    figures = release.manifest.figures
    assert (figures.data_hash, figures.extra_hash) == (released_data().manifest_hash, extra_hash)
    assert f"`{figures.data_hash}` and of the extra training images `{extra_hash}`" in release.text("README.md")
    assert extra_hash in release.text(BOM)
    plan = plan_release(made_run(tmp_path / "earlier", ("onnxruntime",)))
    earlier = write_release(plan, released_data()).release
    assert earlier is not None
    content = json.loads(earlier.text(MANIFEST))
    del content["figures"]["extra_hash"]
    (earlier.path / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")
    sums = {path: sha256 for path, sha256 in sums_of(earlier.path).items() if path != BOM}
    assert plan.train is not None
    bom = bom_of(earlier.manifest, earlier.metadata, plan.train.environment, sums)
    (earlier.path / BOM).write_text(json.dumps(bom))
    write_sums(earlier.path)
    assert Release.load(earlier.path).manifest.figures.extra_hash == "" and not broken_link(earlier.path)


@pytest.mark.parametrize("fault", ["another image", "no image", "manifest"])
def test_what_is_damaged_is_found_and_not_trained_with(
    folder: Path, data: Data, store: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra, _ = add(folder, data)
    monkeypatch.setenv("GTSRB_CACHE", str(store / "cache"))
    image = store / f"images/{extra.images[0].digest}.png"
    if fault == "manifest":
        manifest = store / f"manifests/{extra.hash}.json"
        manifest.write_text(manifest.read_text().replace("14\n", "15\n"))
    elif fault == "no image":
        image.unlink()
    else:
        Image.new("RGB", (20, 20)).save(image)
    assert main(["data", "verify"]) != 0
    with pytest.raises(UserError, match="damaged"):
        with_extra(data, extra.hash)
    assert add(folder, data)[0].hash == extra.hash and main(["data", "verify"]) == 0, "adding it again repairs it"


def test_other_data_than_those_that_they_were_checked_with_are_checked_again(folder: Path, data: Data) -> None:
    extra, _ = add(folder, data)
    tested = replace(data, test=replace(with_extra(data, extra.hash).train, name="test"))
    with pytest.raises(UserError, match="4 of the extra images are in the test or validation part"):
        with_extra(tested, extra.hash)
    with pytest.raises(UserError, match="have other classes than gtsrb"):
        with_extra(replace(data, classes=data.classes[::-1]), extra.hash)
    with pytest.raises(UserError, match="leave -p crop or -p extra_data out"):
        with_extra(replace(data, crop="box"), extra.hash)


def test_unknown_extra_data_are_refused_before_anything_runs(folder: Path, data: Data) -> None:
    for given in ({"extra_data": "0123456789ab"}, {"previous_data": "0123456789ab"}):
        with pytest.raises(UserError, match="no extra data have the hash '0123456789ab'"):
            check_data(plan_jobs(["01"], given, []), lambda line: None)
    add(folder, data)
    (extra,) = all_extras()
    check_data(plan_jobs(["01", "02"], {"extra_data": extra.hash}, []), lambda line: None)


def test_a_checkpoint_and_the_state_of_a_training_name_the_extra_data(tmp_path: Path) -> None:
    plain = made_data(noise("train", 86), noise("val", 43, seed=1))
    for number, extra_hash in enumerate(("", "ef" * 32)):
        trained = train(
            "tiny", replace(plain, extra_hash=extra_hash), profile="smoke", num_epochs=1, run_dir=tmp_path, resume=True
        )
        assert trained.metadata.extra_hash == extra_hash
        assert trained.num_resumed == 0, f"training {number} does not go on with one of other data"


def test_the_page_shows_what_was_added_removed_and_changed_by_class(
    folder: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = add(folder, data)
    write_image(folder / "14/00002_00000.ppm", 14, 7000)  # added
    (folder / "14/00001_00000.ppm").unlink()  # removed
    (folder / "15").mkdir()
    (folder / "14/00000_00001.ppm").rename(folder / "15/00000_00001.ppm")  # another class
    write_image(folder / "00003/IMG_7.png", 3, 8000)  # other pixels
    second, _ = add(folder, data)
    before, after = (with_extra(data, extra.hash) for extra in (first, second))
    found = difference_of(before, after)
    assert (len(found.added), len(found.removed), len(found.changed)) == (1, 1, 2)
    tables: list[Any] = []
    titles: list[str] = []
    monkeypatch.setattr(new_data, "display", tables.append)
    monkeypatch.setattr(new_data, "show", lambda ax: titles.append(ax.get_title("left")))
    assert new_data.changes(before, after) is None
    text = str(tables[0])
    rows = [line.split() for line in text.splitlines() if line.split() and line.split()[0] in ("3", "14", "15")]
    assert [[row[0], *row[-5:]] for row in rows] == [
        ["3", "4", "0", "0", "1", "4"], ["14", "6", "1", "1", "1", "5"], ["15", "3", "0", "0", "1", "4"],
    ]  # fmt: skip
    assert titles == ["Added: 1 of 1 images", "Removed: 1 of 1 images", "Changed: 2 of 2 images"]
    assert "data add" in str(new_data.changes(data, data)) and "No training image" in str(
        new_data.changes(before, before)
    )
    with pytest.raises(UserError, match="two different data sets"):
        difference_of(before, replace(after, manifest_hash="0" * 64))
