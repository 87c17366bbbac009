"""The synthetic data set: its shape, its tracks and that it is the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.data import Split
from lib.data.dataset import ARRAYS
from lib.data.sets.synthetic import FRAMES_PER_TRACK, GTSRB_COUNTS, frames_per_track, generate, tracks_per_class
from lib.signs import NUM_CLASSES

NUM_IMAGES = 2 * NUM_CLASSES * FRAMES_PER_TRACK + 10  # the fewest whose tracks are full, and a rest


@pytest.fixture(scope="module")
def made() -> Split:
    return generate(NUM_IMAGES, seed=0)


def test_arrays_have_the_promised_shapes(made: Split) -> None:
    assert made.images.shape == (NUM_IMAGES, 3, 32, 32) and made.images.dtype == np.uint8
    assert made.labels.shape == (NUM_IMAGES,) and made.labels.dtype == np.int64
    assert made.track_ids.shape == (NUM_IMAGES,) and made.track_ids.dtype == np.int64
    assert made.sizes.shape == (NUM_IMAGES, 2) and made.sizes.dtype == np.int32


def test_tracks_are_thirty_growing_frames_of_one_class(made: Split) -> None:
    track_ids, lengths = np.unique(made.track_ids, return_counts=True)
    assert track_ids.tolist() == list(range(len(track_ids)))
    assert lengths[:-1].tolist() == [FRAMES_PER_TRACK] * (len(lengths) - 1) and lengths[-1] == 10
    for track_id in track_ids:
        chosen = made.track_ids == track_id
        assert len(np.unique(made.labels[chosen])) == 1
        larger = made.sizes[chosen].max(1)
        assert larger[-1] > larger[0] and (np.diff(larger) >= -1).all()


def test_sizes_are_those_of_gtsrb(made: Split) -> None:
    larger = made.sizes.max(1)
    assert made.sizes.min() >= 20 and larger.max() <= 260
    assert 35 < np.median(larger) < 60 and np.percentile(larger, 95) > 80


def test_images_are_not_constant_and_brightness_is_wide(made: Split) -> None:
    images = made.images.astype(np.float32)
    assert (images.std((1, 2, 3)) > 0.5).all()
    brightness = images.mean((1, 2, 3))
    assert np.percentile(brightness, 5) < 40 and np.percentile(brightness, 95) > 150
    assert (images.std((1, 2, 3)) > 20).mean() > 0.5


def test_frames_of_one_track_are_not_copies(made: Split) -> None:
    for track_id in range(0, made.track_ids.max(), 17):
        frames = made.images[made.track_ids == track_id]
        assert len({frame.tobytes() for frame in frames}) == len(frames)


def test_classes_are_as_frequent_as_in_gtsrb() -> None:
    assert len(GTSRB_COUNTS) == NUM_CLASSES and sum(GTSRB_COUNTS) == 39209
    tracks = tracks_per_class(1307)
    assert sum(tracks) == 1307
    assert np.abs(np.array(tracks) - np.array(GTSRB_COUNTS) / 30).max() <= 1
    few = tracks_per_class(100)
    assert sum(few) == 100 and min(few) == 2 and few[2] > few[0]
    assert tracks_per_class(NUM_CLASSES) == [1] * NUM_CLASSES


@pytest.mark.parametrize("num_images", [43, 86, 100, 2579, 2580, 2581, 10_000])
def test_track_lengths_add_up(num_images: int) -> None:
    lengths = frames_per_track(num_images)
    assert sum(lengths) == num_images and min(lengths) >= 1 and max(lengths) <= FRAMES_PER_TRACK


def test_same_seed_gives_the_same_bytes_with_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = generate(90, seed=3)
        torch.set_num_threads(2)
        together = generate(90, seed=3)
    finally:
        torch.set_num_threads(before)
    for array in ARRAYS:
        assert np.array_equal(getattr(alone, array), getattr(together, array))


def test_another_seed_gives_other_images() -> None:
    assert not np.array_equal(generate(86, seed=1).images, generate(86, seed=2).images)


def test_light_is_spread_within_a_class() -> None:
    made = generate(86 * 4, seed=4)
    spread = []
    for class_id in range(NUM_CLASSES):
        chosen = made.labels == class_id
        first, second = (
            made.images[chosen & (made.track_ids == track_id)][:, :, 8:24, 8:24].mean()
            for track_id in np.unique(made.track_ids[chosen])[:2]
        )
        spread.append(max(first, second) / min(first, second))
    assert np.median(spread) > 1.5


def test_progress_ends_with_the_last_track() -> None:
    lines: list[str] = []
    generate(86, seed=0, progress=lines.append)
    assert lines[-1] == "rendered 86 of 86 tracks"
