"""What extra training images change: per class, with pictures."""

from __future__ import annotations

from collections import Counter

import numpy as np
from IPython.display import display
from matplotlib.axes import Axes

from lib.data import Data, Split
from lib.data.difference import difference_of
from lib.report.figures import describe, show, styled
from lib.report.pictures import class_label, sheet, sign_cell
from lib.report.table import Banner, Table

SHOWN = 24  # pictures of each kind
_HOW = (
    "Not given: python -m lib data add DIR keeps a folder of new images and prints their hash; then run this page with "
    "-p extra_data HASH"
)
_Image = tuple[Split, int, str]  # where it is, its row, and what its text begins with


def changes(before: Data, after: Data) -> Banner | None:
    """The training images of each class before and after, with pictures of those that are not in both.

    Args:
        before: the data set alone, or with earlier extra images.
        after: the same data set with extra images.
    """
    if not (before.extra_hash or after.extra_hash):
        return Banner(_HOW, "info")
    found, old, new, classes = difference_of(before, after), before.train, after.train, after.classes
    kinds: dict[str, list[tuple[_Image, ...]]] = {
        "added": [((new, row, ""),) for row in found.added],
        "removed": [((old, row, ""),) for row in found.removed],
        "changed": [((old, earlier, "before:\n"), (new, later, "now:\n")) for earlier, later in found.changed],
    }
    counts = {
        kind: Counter(label for group in groups for label in {int(split.labels[row]) for split, row, _ in group})
        for kind, groups in kinds.items()
    }
    rows = [
        {
            "class": sign_cell(label, classes),
            "before": int((old.labels == label).sum()),
            **{kind: counted[label] for kind, counted in counts.items()},
            "after": int((new.labels == label).sum()),
        }
        for label in sorted({label for counted in counts.values() for label in counted})
    ]
    if not rows:
        return Banner("No training image was added, removed or changed.", "info")
    caption = f"Training images: {_name(before)}, then {_name(after)}"
    note = f"The other {len(classes) - len(rows)} classes have the images that they had."
    display(Table.of(rows, caption=caption, note=note, compact=True))  # type: ignore[no-untyped-call]
    for kind, groups in kinds.items():
        if groups:
            show(plot_images(kind, groups, classes))
    return None


def _name(data: Data) -> str:
    return f"{data.source} with extra data {data.extra_hash[:12]}" if data.extra_hash else f"{data.source} alone"


@styled
def plot_images(kind: str, groups: list[tuple[_Image, ...]], classes: tuple[str, ...]) -> Axes:
    """Evenly chosen images, each above its class; those of a group side by side."""
    places = np.linspace(0, len(groups) - 1, min(len(groups), SHOWN // len(groups[0]))).round().astype(int)
    images = [image for place in places for image in groups[place]]
    texts = [text + class_label(int(split.labels[row]), classes) for split, row, text in images]
    ax = sheet([split.images[row] for split, row, _ in images], texts, 8, (1.22, 1.8))
    title = f"{kind.capitalize()}: {len(places)} of {len(groups):,} images"
    ax.set_title(title)
    return describe(ax, f"{title}, each above its class.")
