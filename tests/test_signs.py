"""The drawings, the mirror map and the renderer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.files import PROJECT_ROOT
from lib.signs import NUM_CLASSES, SIGNS, mirror_map, render_artwork
from lib.signs.artwork import num_designs
from lib.signs.renderer import TrackPlan, render_track, render_tracks
from tests.new_python import printed_by

MIRRORED = mirror_map()
ARTWORK = sorted((PROJECT_ROOT / "lib" / "signs" / "artwork").glob("*.svg"))


def on_grey(class_id: int, size: int = 32) -> np.ndarray:
    """float (size, size, 3), 0..1: a drawing on mid grey."""
    pixels = render_artwork(class_id, size).astype(float) / 255
    return pixels[..., :3] * pixels[..., 3:] + 0.5 * (1 - pixels[..., 3:])


def difference(left: np.ndarray, right: np.ndarray) -> float:
    """Mean absolute difference of two pictures, 0..1."""
    return float(np.abs(left - right).mean())


def test_signs_are_the_43_classes_in_order() -> None:
    assert [sign.class_id for sign in SIGNS] == list(range(NUM_CLASSES)) == list(range(43))
    assert len({sign.name for sign in SIGNS}) == NUM_CLASSES
    assert SIGNS[13].shape == "inverted triangle" and SIGNS[14].shape == "octagon" and SIGNS[12].shape == "diamond"


def test_every_class_has_a_drawing_and_further_designs_are_counted_on() -> None:
    names = {path.name for path in ARTWORK}
    for class_id in range(NUM_CLASSES):
        further = {f"{class_id:02d}.{design}.svg" for design in range(2, num_designs(class_id) + 1)}
        assert {f"{class_id:02d}.svg"} | further == {name for name in names if name.startswith(f"{class_id:02d}.")}


@pytest.mark.parametrize("class_id", [label for label in range(NUM_CLASSES) if num_designs(label) > 1])
def test_further_designs_differ_from_the_first_and_are_the_same_sign(class_id: int) -> None:
    first = render_artwork(class_id, 64)
    for design in range(1, num_designs(class_id)):
        other = render_artwork(class_id, 64, design)
        assert (other[..., :3] != first[..., :3]).any(-1).mean() > 0.01
        assert ((other[..., 3] > 127) != (first[..., 3] > 127)).mean() < 0.02, "the outline places the sign"


@pytest.mark.parametrize("path", ARTWORK, ids=lambda path: path.name)
def test_drawings_are_plain_paths_without_text_images_or_references(path: Path) -> None:
    svg = path.read_text(encoding="utf-8")
    assert 'viewBox="0 0 100 100"' in svg
    assert not re.search(r"<(text|image|use|style|script|font|foreignObject)\b|href|url\(|@import|<!ENTITY", svg)
    assert set(re.findall(r"https?://[^\"]*", svg)) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("class_id", range(NUM_CLASSES))
def test_drawing_fills_the_frame_and_is_transparent_outside_the_sign(class_id: int) -> None:
    pixels = render_artwork(class_id, 64)
    assert pixels.shape == (64, 64, 4) and pixels.dtype == np.uint8
    alpha = pixels[..., 3]
    assert alpha[32, 32] == 255
    assert alpha[[0, 0, -1, -1], [0, -1, 0, -1]].max() == 0
    left, upper, right, lower = Image.fromarray(alpha).getbbox() or (0, 0, 0, 0)
    assert right - left >= 0.9 * 64 and lower - upper >= 0.8 * 64
    assert pixels[alpha == 255][:, :3].std() > 20


def test_all_drawings_differ_at_32_pixels() -> None:
    pictures = [on_grey(class_id) for class_id in range(NUM_CLASSES)]
    closest = min(
        (difference(pictures[left], pictures[right]), left, right)
        for left in range(NUM_CLASSES)
        for right in range(left)
    )
    assert closest[0] > 0.01, closest


@pytest.mark.parametrize(
    ("class_id", "ring"), [(1, "red"), (13, "red"), (14, "red"), (17, "red"), (25, "red"), (35, "blue"), (12, "yellow")]
)
def test_colour_families_are_those_of_the_drawings(class_id: int, ring: str) -> None:
    red, green, blue, alpha = np.moveaxis(render_artwork(class_id, 64).astype(int), 2, 0)
    masks = {
        "red": (red > 120) & (green < 80) & (blue < 80),
        "blue": (blue > 100) & (red < 80),
        "yellow": (red > 180) & (green > 120) & (blue < 80),
    }
    assert masks[ring][alpha > 0].mean() > 0.15
    assert SIGNS[class_id].colour == ring


def test_mirror_map_is_an_involution_that_keeps_shape_and_colour() -> None:
    for class_id, other in enumerate(MIRRORED):
        if other is not None:
            assert MIRRORED[other] == class_id
            assert (SIGNS[other].shape, SIGNS[other].colour) == (SIGNS[class_id].shape, SIGNS[class_id].colour)


@pytest.mark.parametrize("class_id", range(NUM_CLASSES))
def test_flipped_drawing_is_the_drawing_of_the_mapped_class(class_id: int) -> None:
    flipped = on_grey(class_id, 64)[:, ::-1]
    distances = [difference(flipped, on_grey(other, 64)) for other in range(NUM_CLASSES)]
    other = MIRRORED[class_id]
    if other is None:
        assert min(distances) > 0.01, f"flipped, class {class_id} looks like class {np.argmin(distances)}"
    else:
        assert distances[other] < 0.005 and int(np.argmin(distances)) == other


def test_keep_right_becomes_keep_left_and_digits_do_not_flip() -> None:
    assert MIRRORED[38] == 39 and MIRRORED[33] == 34 and MIRRORED[19] == 20 and MIRRORED[36] == 37
    assert all(MIRRORED[class_id] is None for class_id in (0, 1, 2, 3, 4, 5, 6, 7, 8, 14, 40))
    assert MIRRORED[12] == 12 and MIRRORED[35] == 35


def test_a_caller_may_write_into_its_picture() -> None:
    render_artwork(3, 16)[:] = 0
    assert render_artwork(3, 16).max() > 0


def test_track_depends_on_its_seed_alone() -> None:
    plan = TrackPlan(class_id=1, seed=11, num_frames=6)
    images, _ = render_track(plan)
    assert np.array_equal(images, render_track(plan)[0])
    among_others = render_tracks([TrackPlan(2, 1, 6), plan, TrackPlan(3, 2, 6)])[1][0]
    assert np.array_equal(images, among_others)
    assert not np.array_equal(images, render_track(TrackPlan(class_id=1, seed=12, num_frames=6))[0])


def test_light_rank_orders_tracks_from_dark_to_bright() -> None:
    def brightness(rank: float) -> float:
        tracks = render_tracks([TrackPlan(17, seed, 3, rank) for seed in range(8)])
        return float(np.mean([images[:, :, 12:20, 12:20].mean() for images, _ in tracks]))

    dark, middle, bright = brightness(0.05), brightness(0.5), brightness(0.95)
    assert dark < 0.6 * middle < 0.6 * 0.9 * bright


def test_importing_signs_does_not_import_torch() -> None:
    assert printed_by("import sys, lib.signs; print('torch' in sys.modules)") == "False"
