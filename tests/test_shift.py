"""Whether splits differ, on tracks that were drawn to."""

from __future__ import annotations

import numpy as np
import pytest

from lib.analysis.shift import beyond_chance, shifts
from lib.data.audit import CLASS_MIX, LIGHT, SHARPNESS, SIZE, sharpness, track_statistics
from lib.report.explore import shift_table
from tests.made_data import made_split

Tracks = dict[str, dict[str, np.ndarray]]


def drawn(moved: float = 0.0, rare: float = 0.5) -> Tracks:
    """Training and validation of 300 and 60 tracks of two classes."""
    random = np.random.default_rng(0)
    return {
        name: {LIGHT: random.normal(distance, 1, count), CLASS_MIX: (random.random(count) < share).astype(int)}
        for name, count, distance, share in (("train", 300, 0.0, 0.5), ("val", 60, moved, rare))
    }


@pytest.mark.parametrize(
    ("tracks", "differ"), [(drawn(), []), (drawn(moved=0.8), [LIGHT]), (drawn(rare=0.1), [CLASS_MIX])]
)
def test_only_what_was_shifted_is_beyond_chance(tracks: Tracks, differ: list[str]) -> None:
    found = shifts(tracks)
    assert [(shift.split, shift.measure) for shift in found] == [("val", LIGHT), ("val", CLASS_MIX)]
    assert [shift.measure for shift in beyond_chance(found)] == differ
    named = ", ".join(f"val in {measure.partition(',')[0]}" for measure in differ)
    assert f"beyond chance: {named or 'nothing'}." in str(shift_table(tracks, found))


def test_distances_are_those_that_can_be_worked_out_by_hand() -> None:
    tracks = {
        "train": {SIZE: np.array([1, 1, 2, 3]), CLASS_MIX: np.array([0, 0, 1, 1])},
        "val": {SIZE: np.array([1, 3]), CLASS_MIX: np.array([1, 1])},
    }
    smirnov, variation = shifts(tracks)
    assert smirnov.statistic == pytest.approx(0.25), "3/4 of one and 1/2 of the other are at most 2"
    assert variation.statistic == pytest.approx(0.5)


def test_statistics_are_of_tracks_and_not_of_images() -> None:
    images = np.zeros((5, 3, 32, 32), np.uint8)
    images[:, ..., ::2] = np.array([20, 40, 100, 60, 80], np.uint8)[:, None, None, None]
    split = made_split("train", images, np.array([3, 3, 3, 7, 7]), np.array([5, 5, 5, 9, 9]))
    split.sizes[:, 0] = [45, 50, 90, 60, 48]
    found = track_statistics(split)
    assert found[SIZE].tolist() == pytest.approx([(45 + 50 + 90) / 3, 54])
    assert found[LIGHT].tolist() == pytest.approx([80 / 3, 35]) and found[CLASS_MIX].tolist() == [3, 7]
    assert found["frames"].tolist() == [3, 2]
    assert found["growth, last size over first"].tolist() == pytest.approx([2, 0.8])
    assert found["change of light, 0..255"].tolist() == [40, 10]


def test_tracks_that_are_not_known_have_no_length_and_the_page_says_so() -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8)
    tracks = {
        name: track_statistics(made_split(name, images, np.zeros(8, int), ids))
        for name, ids in (("train", np.arange(8) // 2), ("test", np.arange(8)))
    }
    assert list(tracks["test"]) == [SIZE, LIGHT, SHARPNESS, CLASS_MIX]
    assert "which test images belong together" in str(shift_table(tracks, shifts(tracks))).lower()


def test_blur_lowers_sharpness_and_contrast_does_not() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), np.uint8)
    (sharp,) = sharpness(noise)
    (smooth,) = sharpness(noise.reshape(1, 3, 16, 2, 16, 2).mean((3, 5)).astype(np.uint8).repeat(2, 2).repeat(2, 3))
    (pale,) = sharpness(noise // 4 + 96)
    assert smooth < 0.7 * sharp and pale == pytest.approx(sharp, rel=0.05)
