"""Pictures inside figures and tables: camera images, and the artwork of a sign as a label."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from lib.report.table import Cell
from lib.signs import SIGNS, render_artwork

THUMBNAIL = 44  # pixels, shown at half of that


def sign_cell(class_id: int) -> Cell:
    """A class by artwork, number and name."""
    return Cell(f"{class_id} {SIGNS[class_id].name}", image=render_artwork(class_id, THUMBNAIL))


def as_picture(image: np.ndarray) -> np.ndarray:
    """(3, H, W), uint8 or float 0..1 -> uint8 (H, W, 3)."""
    image = np.asarray(image)
    if image.dtype != np.uint8:
        image = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def put_picture(ax: Axes, picture: np.ndarray, x: float, y: float, width: float = 1.0) -> None:
    """A picture with its upper left corner at (x, y), in an axes whose y grows downwards."""
    ax.imshow(picture, extent=(x, x + width, y + width, y), interpolation="nearest", aspect="equal")


def put_artwork(ax: Axes, class_id: int, xy: tuple[float, float], pixels: int, coords: str = "data") -> None:
    """The official drawing of a class, `pixels` CSS pixels wide, centred at `xy`."""
    drawing = OffsetImage(render_artwork(class_id, 4 * pixels), zoom=0.25 * 72 / 96, resample=True)
    box = AnnotationBbox(
        drawing, xy, xycoords=coords, frameon=False, pad=0, box_alignment=(0.5, 0.5), annotation_clip=False
    )
    box.set_in_layout(False)
    ax.add_artist(box)


def picture_axes(ax: Axes, columns: float, rows: float) -> None:
    """An axes that is only a sheet of paper: unit squares, y downwards, no frame."""
    ax.set_xlim(0, columns)
    ax.set_ylim(rows, 0)
    ax.set_aspect("equal")
    ax.set_axis_off()


def class_label(class_id: int, width: int = 16) -> str:
    """Number and name of a class, wrapped."""
    return "\n".join(textwrap.wrap(f"{class_id} {SIGNS[class_id].name}", width))


def class_axes(ax: Axes, num_classes: int, pixels: int = 13) -> None:
    """Label both axes of a class x class picture with artwork and class number."""
    classes = range(num_classes)
    ax.set_xticks(classes, [str(c) for c in classes], fontsize=5.5)
    ax.set_yticks(classes, [str(c) for c in classes], fontsize=6)
    ax.tick_params(axis="x", length=0, pad=pixels + 1)
    ax.tick_params(axis="y", length=0, pad=pixels + 1)
    for class_id in classes:
        _mark(ax, class_id, pixels, (class_id, 0), (0, -0.5 * pixels), "x")
        _mark(ax, class_id, pixels, (0, class_id), (-0.5 * pixels, 0), "y")


def _mark(
    ax: Axes, class_id: int, pixels: int, xy: tuple[float, float], offset: tuple[float, float], axis: str
) -> None:
    """Artwork beside a tick: `offset` points away from `xy`, of which the other coordinate is that of the edge."""
    drawing = OffsetImage(render_artwork(class_id, 4 * pixels), zoom=0.25 * 72 / 96, resample=True)
    transform = ax.get_xaxis_transform() if axis == "x" else ax.get_yaxis_transform()
    box = AnnotationBbox(
        drawing,
        xy,
        xybox=offset,
        xycoords=transform,
        boxcoords="offset points",
        frameon=False,
        pad=0,
        annotation_clip=False,
    )
    box.set_in_layout(False)
    ax.add_artist(box)


def class_axis(ax: Axes, class_ids: Sequence[int], pixels: int = 17) -> None:
    """Label the x axis with artwork and class number, one column per class."""
    ax.set_xticks(range(len(class_ids)), [f"\n\n{class_id}" for class_id in class_ids], fontsize=6.5)
    ax.tick_params(axis="x", length=0, pad=1)
    ax.set_xlim(-0.7, len(class_ids) - 0.3)
    for position, class_id in enumerate(class_ids):
        _mark(ax, class_id, pixels, (position, 0), (0, -10), "x")
