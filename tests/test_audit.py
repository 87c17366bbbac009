"""What is in two places at once, what of it is an error, and what pages and records say about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from lib.data import Data, Split, assert_fair, audit, audit_splits
from lib.data.audit import memorized
from lib.errors import UserError
from lib.report import explore
from lib.report.caveats import warnings_words
from lib.signs import SIGNS
from tests.made_data import made_data, made_split

STOP = 14
FRAMES = 30
NUM_TEST = 12_630


def stop_signs(name: str, seed: int, sources: list[str], track_ids: np.ndarray) -> Split:
    """Small images: only their digests count here."""
    images = np.random.default_rng(seed).integers(0, 256, (len(sources), 3, 4, 4), dtype=np.uint8)
    return made_split(name, images, np.full(len(sources), STOP), track_ids, sources)


@pytest.fixture(scope="module")
def data() -> Data:
    """Stop signs in the official layout: training tracks 0 to 39, validation 40 to 49, 12,630 test images."""
    names = [f"x/00014/{track:05d}_{frame:05d}.ppm" for track in range(50) for frame in range(FRAMES)]
    tracks, border = np.arange(50).repeat(FRAMES), 40 * FRAMES
    test_names = [f"x/Images/{row:05d}.ppm" for row in range(NUM_TEST)]
    return made_data(
        stop_signs("train", 0, names[:border], tracks[:border]),
        stop_signs("val", 1, names[border:], tracks[border:]),
        stop_signs("test", 2, test_names, 10**6 + np.arange(NUM_TEST)),
        source="gtsrb",
    )


def planted(data: Data, name: str, rows: Iterable[int], of: str, of_rows: Iterable[int]) -> Data:
    """The same data with images of one split copied over images of another."""
    split, other = data.splits[name], data.splits[of]
    images, digests = split.images.copy(), split.digests.copy()
    images[list(rows)] = other.images[list(of_rows)]
    digests[list(rows)] = other.digests[list(of_rows)]
    return replace(data, **{name: replace(split, images=images, digests=digests)})  # type: ignore[arg-type]


def known_pair(data: Data, monkeypatch: pytest.MonkeyPatch) -> Data:
    """Eight frames of training track 00014/00023 in the test, listed as that of the official sets is."""
    frames = range(23 * FRAMES, 24 * FRAMES)
    known = {data.train.digests[row].tobytes()[:8] for row in frames}
    monkeypatch.setattr(audit, "KNOWN_DIGESTS", known)
    return planted(data, "test", range(100, 108), "train", frames[3:11])


def shown(data: Data) -> str:
    return str(explore.duplicates(data, audit_splits(data)))


def test_nothing_in_two_places_is_fair_and_shows_nothing(data: Data) -> None:
    found = audit_splits(data)
    assert_fair(found)
    assert found.duplicates == [] and explore.duplicates(data, found) is None
    assert "images in both" in str(explore.audit_table(found))


def test_the_pair_that_gtsrb_is_known_for_is_a_note_that_names_images_track_and_share(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = known_pair(data, monkeypatch)
    found = audit_splits(data)
    assert_fair(found)
    assert (found.num_known(), found.num_unknown()) == (8, 0)
    assert np.flatnonzero(found.seen_earlier("test")).tolist() == list(range(100, 108))
    text = shown(data)
    assert (
        "INFO: Test images that are in training or validation too: 8 of 12,630 (0.06 %). They show one stop sign"
        in text
    )
    assert "WARNING" not in text
    (row,) = [line for line in text.splitlines() if "00103.ppm" in line]
    assert row.split("  ")[0] == f"14 {SIGNS[STOP].name}" and "00014/00023 " in row and "00014/00023_00006.ppm" in row
    assert explore.duplicates(data, found)._repr_html_().count("<img") == 8  # type: ignore[union-attr]


def test_another_pair_is_a_warning_beside_it_and_no_error(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted(known_pair(data, monkeypatch), "test", range(8), "train", range(5 * FRAMES, 5 * FRAMES + 8))
    found = audit_splits(data)
    assert_fair(found)
    assert (found.num_known(), found.num_unknown()) == (8, 8)
    text = shown(data)
    assert "INFO: Test images that are in training or validation too: 8 of 12,630" in text
    warning = "Test images that are in training or validation too, beside those that GTSRB is known for: 8 of 12,630"
    assert f"WARNING: {warning} (0.06 %). Up to 0.1 % is tolerated" in text
    assert "00014/00005_00007.ppm" in text and "00007.ppm" in text


def test_two_hundred_test_images_in_training_are_an_error_that_says_what_to_do(data: Data) -> None:
    data = planted(data, "test", range(200), "train", range(200))
    with pytest.raises(
        UserError, match=r"training or validation too, pixel for pixel: 200 of 12,630; more than 0.1 % .*or none"
    ):
        assert_fair(audit_splits(data))
    text = shown(data)
    assert "The first 16 of 200 pictures; the record of this page names all" in text


@pytest.mark.parametrize("of", ["train", "val"])
@pytest.mark.parametrize(("number", "fair"), [(12, True), (13, False)])
def test_the_limit_is_a_thousandth_of_the_test_images(data: Data, of: str, number: int, fair: bool) -> None:
    found = audit_splits(planted(data, "test", range(number), of, range(number)))
    if fair:
        assert_fair(found)
    else:
        with pytest.raises(UserError, match=f"{number} of 12,630"):
            assert_fair(found)


def test_more_frames_of_the_known_sign_than_the_official_test_has_count(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = planted(known_pair(data, monkeypatch), "test", range(200, 230), "train", range(23 * FRAMES, 24 * FRAMES))
    found = audit_splits(data)
    assert (found.num_known(), found.num_unknown()) == (8, 30)
    with pytest.raises(UserError, match="30 of 12,630"):
        assert_fair(found)


def test_a_track_in_training_and_validation_is_an_error_that_names_it(data: Data) -> None:
    data = replace(data, val=replace(data.val, track_ids=np.where(data.val.track_ids == 45, 7, data.val.track_ids)))
    found = audit_splits(data)
    assert found.shared_tracks["train", "val"] == ["00014/00007"]
    with pytest.raises(UserError, match="in both training and validation: 1, such as 00014/00007"):
        assert_fair(found)


def test_copies_inside_a_split_and_in_validation_are_found_and_shown_and_no_error(data: Data) -> None:
    data = planted(data, "train", [1, 2], "train", [0, 0])
    data = planted(data, "val", [3], "train", [0])
    found = audit_splits(data)
    assert_fair(found)
    assert [found.num_repeats(name) for name in data.splits] == [2, 0, 0]
    assert (found.num_shared("train", "val"), found.num_shared("train", "test")) == (1, 0)
    assert np.flatnonzero(found.seen_earlier("val")).tolist() == [3] and not found.seen_earlier("train").any()
    text = shown(data)
    assert "WARNING: Validation images that are in training too, under another track: 1." in text
    assert "00014/00000_00000.ppm, 00014/00000_00001.ppm, 00014/00000_00002.ppm" in text
    assert "00014/00000, 00014/00040" in text
    assert "inside their split: train 2, val 0, test 0" in str(explore.audit_table(found))


@pytest.mark.parametrize(("number", "warned"), [(0, False), (300, True)])
def test_validation_that_repeats_training_is_a_warning_where_accuracy_is_reported_on_it(
    data: Data, number: int, warned: bool
) -> None:
    data = planted(data, "val", range(number), "train", range(number))
    alone = replace(data, test=None)
    assert memorized(data, audit_splits(data)) == [], "accuracy is that on the test images"
    words = warnings_words(memorized(alone, audit_splits(alone)))
    expected = "300 of 300 validation images are in training too, pixel for pixel: their accuracy is memory."
    assert words.lower() == (expected if warned else "")


def test_equal_pixels_with_two_labels_are_named_with_both_classes(data: Data) -> None:
    data = planted(data, "test", [5], "train", [9])
    assert data.test is not None
    labels = data.test.labels.copy()
    labels[5] = 17
    data = replace(data, test=replace(data.test, labels=labels))
    assert f"14 {SIGNS[14].name}, but also 17 {SIGNS[17].name}" in shown(data)


def test_without_test_images_and_without_files_names_are_numbers(data: Data) -> None:
    data = planted(replace(data, test=None), "train", [1], "train", [0])
    data = replace(data, train=replace(data.train, sources=np.full(data.train.num_images, "")))
    found = audit_splits(data)
    assert_fair(found)
    (row,) = [line for line in shown(data).splitlines() if "image 0, image 1" in line]
    assert row.split()[2] == "0", "the number of the track"
