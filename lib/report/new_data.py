"""What extra training images change: per class, with pictures."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes

from lib.data import Data
from lib.data.difference import difference_of
from lib.report.figures import describe, show, styled
from lib.report.pictures import class_label, sheet, sign_cell
from lib.report.table import Banner, Stack, Table, Value

SHOWN = 27  # pictures of each kind
_Row = TypeVar("_Row")
_HOW = (
    "Not given: python -m lib data add DIR keeps a folder of new images and prints their hash; then run this page with "
    "-p extra_data HASH"
)


def changes(before: Data, after: Data) -> Banner | Stack:
    """The training images of each class before and after, with pictures of those that are not in both.

    Args:
        before: the data set alone, or with earlier extra images.
        after: the same data set with extra images.
    """
    if not (before.extra_hash or after.extra_hash):
        return Banner(_HOW, "info")
    found, old, new, classes = difference_of(before, after), before.train, after.train, after.classes
    pairs = {label for row, later in found.changed for label in (int(old.labels[row]), int(new.labels[later]))}
    added, removed = (
        Counter(split.labels[rows].tolist()) for split, rows in ((new, found.added), (old, found.removed))
    )
    changed = Counter(int(new.labels[later]) for _, later in found.changed)
    rows: list[dict[str, Value]] = [
        {
            "class": sign_cell(label, classes),
            "before": int((old.labels == label).sum()),
            "added": added[label],
            "removed": removed[label],
            "changed": changed[label],
            "after": int((new.labels == label).sum()),
        }
        for label in sorted(added.keys() | removed.keys() | pairs)
    ]
    for split, kind, chosen in ((new, "Added", found.added), (old, "Removed", found.removed)):
        if chosen:
            show(plot_images(split.images, split.labels, _spread(chosen), f"{kind}: {len(chosen):,} images", classes))
    if found.changed:
        show(plot_changed(before, after, _spread(found.changed), f"Changed: {len(found.changed):,} images"))
    note = f"The other {len(classes) - len(rows)} classes have the images that they had."
    if not rows:
        return Stack(Banner("No training image was added, removed or changed.", "info"))
    caption = f"Training images, {_name(before)} and {_name(after)}"
    return Stack(Table.of(rows, caption=caption, note=note, compact=True))


def _name(data: Data) -> str:
    return f"with extra data {data.extra_hash[:12]}" if data.extra_hash else f"{data.source} alone"


def _spread(rows: list[_Row]) -> list[_Row]:
    """At most `SHOWN` of them, evenly chosen."""
    return [
        rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), SHOWN)).round().astype(int))
    ]


@styled
def plot_images(images: np.ndarray, labels: np.ndarray, rows: list[int], title: str, classes: tuple[str, ...]) -> Axes:
    """Some training images, each above its class.

    Args:
        images: uint8 (N, 3, H, W).
        labels: int (N,).
    """
    ax = sheet([images[row] for row in rows], [class_label(int(labels[row]), classes) for row in rows], 9, (1.22, 1.62))
    ax.set_title(title)
    return describe(ax, f"{title}; {len(rows)} of them, each above its class.")


@styled
def plot_changed(before: Data, after: Data, pairs: list[tuple[int, int]], title: str) -> Axes:
    """Images before and after a change, side by side."""
    pictures, texts = [], []
    for pair in pairs:
        for data, row, when in zip((before, after), pair, ("before", "now"), strict=True):
            pictures.append(data.train.images[row])
            texts.append(f"{when}:\n{class_label(int(data.train.labels[row]), data.classes)}")
    ax = sheet(pictures, texts, 8, (1.22, 1.8))
    ax.set_title(title)
    return describe(ax, f"{title}; {len(pairs)} of them, before on the left and now on the right.")
