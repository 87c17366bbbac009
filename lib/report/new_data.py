"""What extra training images change: per class, with pictures."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes

from lib.data import Data, Split
from lib.data.difference import difference_of
from lib.report.figures import describe, show, styled
from lib.report.pictures import class_label, sheet, sign_cell
from lib.report.table import Banner, Stack, Table

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
    counts = {
        "added": Counter(new.labels[found.added].tolist()),
        "removed": Counter(old.labels[found.removed].tolist()),
        "changed": Counter(int(new.labels[later]) for _, later in found.changed),
    }
    concerned = {*counts["added"], *counts["removed"], *counts["changed"]}
    concerned |= {int(old.labels[earlier]) for earlier, _ in found.changed}
    if not concerned:
        return Banner("No training image was added, removed or changed.", "info")
    rows = [
        {
            "class": sign_cell(label, classes),
            "before": int((old.labels == label).sum()),
            **{kind: counted[label] for kind, counted in counts.items()},
            "after": int((new.labels == label).sum()),
        }
        for label in sorted(concerned)
    ]
    for split, kind, chosen in ((new, "Added", found.added), (old, "Removed", found.removed)):
        if chosen:
            show(plot_images(split.take(np.array(_spread(chosen))), f"{kind}: {len(chosen):,} images", classes))
    if found.changed:
        show(plot_changed(before, after, _spread(found.changed), f"Changed: {len(found.changed):,} images"))
    note = f"The other {len(classes) - len(rows)} classes have the images that they had."
    return Stack(
        Table.of(rows, caption=f"Training images, {_name(before)} and {_name(after)}", note=note, compact=True)
    )


def _name(data: Data) -> str:
    return f"with extra data {data.extra_hash[:12]}" if data.extra_hash else f"{data.source} alone"


def _spread(rows: list[_Row]) -> list[_Row]:
    """At most `SHOWN` of them, evenly chosen."""
    return [
        rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), SHOWN)).round().astype(int))
    ]


@styled
def plot_images(split: Split, title: str, classes: tuple[str, ...]) -> Axes:
    """Training images, each above its class."""
    ax = sheet(list(split.images), [class_label(int(label), classes) for label in split.labels], 9, (1.22, 1.62))
    ax.set_title(title)
    return describe(ax, f"{title}; {split.num_images} of them, each above its class.")


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
