"""Pictures inside figures and tables: camera images, and the artwork of a sign as a label."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from lib.data import Split
from lib.records.schema import TrackResult
from lib.report.figures import describe, new_axes
from lib.report.table import Cell
from lib.signs import CLASS_NAMES, render_artwork, sign_named

THUMBNAIL = 44  # pixels, shown at half of that


def sign_cell(class_id: int, classes: Sequence[str] = CLASS_NAMES) -> Cell:
    """A class by artwork, number and name."""
    return Cell(f"{class_id} {classes[class_id]}", image=_drawing(classes[class_id], THUMBNAIL))


def _drawing(name: str, pixels: int) -> np.ndarray | None:
    """The artwork of a class; None where it is not one of the signs that `lib.signs` knows."""
    sign = sign_named(name)
    return render_artwork(sign.class_id, pixels) if sign else None


def as_picture(image: np.ndarray) -> np.ndarray:
    """(3, H, W), uint8 or float 0..1 -> uint8 (H, W, 3)."""
    image = np.asarray(image)
    if image.dtype != np.uint8:
        image = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def put_picture(ax: Axes, picture: np.ndarray, x: float, y: float) -> None:
    """A picture of unit size with its upper left corner at (x, y), in an axes whose y grows downwards."""
    ax.imshow(picture, extent=(x, x + 1, y + 1, y), interpolation="nearest", aspect="equal")


def sheet(pictures: Sequence[np.ndarray | None], texts: Sequence[str], columns: int, step: tuple[float, float]) -> Axes:
    """Pictures in rows, each with its text below; places without a picture have their text alone.

    Args:
        pictures: (3, H, W), uint8 or float 0..1.
        step: from a picture to the next one, to the right and down, in widths of a picture.
    """
    rows, (right, down) = -(-len(pictures) // columns), step
    ax = new_axes(9.4 / (columns * right) * rows * down)
    for place, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        x, y = place % columns * right, place // columns * down
        if picture is not None:
            put_picture(ax, as_picture(picture), x, y)
        ax.text(x + 0.5, y + 1.04, text, ha="center", va="top", fontsize=6.8, linespacing=1.05)
    ax.set_xlim(0, columns * right)
    ax.set_ylim(rows * down, 0)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def track_strips(splits: Sequence[Split], tracks: Sequence[TrackResult], classes: Sequence[str], says: str) -> Axes:
    """Frames of each track, from far to near, with the sign that it is and the one that it is taken for.

    Args:
        splits: that have the tracks.
        says: one sentence about them.
    """
    columns, down = 12, 1.5
    rows_of: dict[str, list[tuple[Split, int]]] = {track.name: [] for track in tracks}
    for split in splits:
        for row in range(split.num_images):
            if (name := split.track_name(row)) in rows_of:
                rows_of[name].append((split, row))
    pictures, lines = [], []
    for track in tracks:
        found = rows_of[track.name]
        chosen = [found[place] for place in np.linspace(0, len(found) - 1, columns).round().astype(int)]
        pictures += [split.images[row] for split, row in chosen]
        taken = "" if track.mistaken_for is None else f", taken for {classes[track.mistaken_for]}"
        lines.append(f"{track.name}: {classes[track.label]}{taken}; {track.num_right} of {track.num_images} right")
    ax = sheet(pictures, [""] * len(pictures), columns, (1.04, down))
    for place, line in enumerate(lines):
        ax.text(0, place * down + 1.04, line, va="top", fontsize=7.5)
    return describe(ax, f"{says} {'. '.join(lines)}.", says)


def put_artwork(ax: Axes, name: str, xy: tuple[float, float], pixels: int, **box: Any) -> None:
    """The drawing of a sign, `pixels` CSS pixels wide, centred at `xy`, or as `box` has it (see `AnnotationBbox`);
    nothing for a class that is not one of the signs."""
    if (picture := _drawing(name, 4 * pixels)) is None:
        return
    drawing = OffsetImage(picture, zoom=0.25 * 72 / 96, resample=True)
    artwork = AnnotationBbox(drawing, xy, frameon=False, annotation_clip=False, **box)
    artwork.set_in_layout(False)
    ax.add_artist(artwork)


def class_label(class_id: int, classes: Sequence[str], width: int = 16) -> str:
    """Number and name of a class, wrapped."""
    return "\n".join(textwrap.wrap(f"{class_id} {classes[class_id]}", width))


def class_axes(ax: Axes, classes: Sequence[str], pixels: int = 13) -> None:
    """Label both axes of a class x class picture with artwork and class number."""
    numbers = [str(class_id) for class_id in range(len(classes))]
    ax.set_xticks(range(len(classes)), numbers, fontsize=5.5)
    ax.set_yticks(range(len(classes)), numbers, fontsize=6)
    ax.tick_params(length=0, pad=pixels + 1)
    beside: dict[str, Any] = {"pad": 0, "boxcoords": "offset points"}
    for class_id, name in enumerate(classes):
        below, left = ax.get_xaxis_transform(), ax.get_yaxis_transform()
        put_artwork(ax, name, (class_id, 0), pixels, xycoords=below, xybox=(0, -0.5 * pixels), **beside)
        put_artwork(ax, name, (0, class_id), pixels, xycoords=left, xybox=(-0.5 * pixels, 0), **beside)


def class_axis(ax: Axes, class_ids: Sequence[int], classes: Sequence[str], pixels: int = 17) -> None:
    """Label the x axis with artwork and class number, one column per class."""
    ax.set_xticks(range(len(class_ids)), [f"\n\n{class_id}" for class_id in class_ids], fontsize=6.5)
    ax.tick_params(axis="x", length=0, pad=1)
    ax.set_xlim(-0.7, len(class_ids) - 0.3)
    below: dict[str, Any] = {"pad": 0, "xycoords": ax.get_xaxis_transform(), "boxcoords": "offset points"}
    for position, class_id in enumerate(class_ids):
        put_artwork(ax, classes[class_id], (position, 0), pixels, xybox=(0, -10), **below)
