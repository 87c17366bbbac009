"""01_explore: what is in the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from lib.report.figures import NEUTRAL, PALETTE, describe, new_axes, styled
from lib.report.plots.pictures import as_picture, class_axis, class_label, picture_axes, put_picture
from lib.signs import NUM_CLASSES, SIGNS

MEDIUM_LIGHT = 100.0  # mean pixel value at which a sign is easily seen
BATCH = 4096  # images per step over a memory-mapped array


@styled
def plot_class_balance(
    images_per_class: Sequence[int], tracks_per_class: Sequence[int], ax: Axes | None = None
) -> Axes:
    """Images per class, the most frequent first; the number of tracks stands on each bar."""
    ax = new_axes(ax, 3.5)
    order = sorted(range(len(images_per_class)), key=lambda class_id: -images_per_class[class_id])
    counts = [images_per_class[class_id] for class_id in order]
    ax.bar(range(len(order)), counts, width=0.78, color=PALETTE[0])
    for position, class_id in enumerate(order):
        text = str(tracks_per_class[class_id])
        ax.annotate(text, (position, counts[position]), (0, 2), textcoords="offset points", ha="center", fontsize=6.5)
    class_axis(ax, order)
    ax.grid(axis="y")
    ax.set_ylabel("training images")
    ax.set_xlabel("class")
    ax.set_title(f"Images per class; on each bar its number of tracks ({sum(tracks_per_class):,} in all)")
    most, least = order[0], order[-1]
    ratio = counts[0] / counts[-1] if counts[-1] else float("inf")
    return describe(
        ax,
        f"Bar chart of {sum(counts):,} training images over {len(counts)} classes. Most frequent: {SIGNS[most].name} "
        f"with {counts[0]:,} images from {tracks_per_class[most]} tracks; least frequent: {SIGNS[least].name} with "
        f"{counts[-1]:,} from {tracks_per_class[least]}; a factor of {ratio:.1f}.",
    )


def _histogram(ax: Axes, values: np.ndarray, unit: str, what: str, bins: np.ndarray) -> Axes:
    """Histogram with lines at the 5th, 50th and 95th percentile."""
    ax.hist(values, bins=bins.tolist(), color=PALETTE[0], alpha=0.85)
    low, middle, high = (float(value) for value in np.percentile(values, (5, 50, 95)))
    top = ax.get_ylim()[1]
    ax.set_ylim(0, top * 1.14)
    for name, value in (("p5", low), ("p50", middle), ("p95", high)):
        ax.axvline(value, color="#24292f", linewidth=1, linestyle="--", ymax=0.88)
        ax.annotate(f"{name} {value:.0f}", (value, top * 1.02), ha="center", va="bottom", fontsize=8)
    ax.set_ylabel("images")
    ax.set_xlabel(f"{what} ({unit})")
    ax.grid(axis="y")
    return describe(
        ax,
        f"Histogram of {what} of {len(values):,} images, in {unit}: 5 % lie below {low:.0f}, half below {middle:.0f}, "
        f"95 % below {high:.0f}.",
    )


@styled
def plot_sizes(sizes: np.ndarray, ax: Axes | None = None, image_size: int = 32) -> Axes:
    """Histogram of the larger side of the original images; `sizes` is (N, 2), height and width in pixels."""
    ax = new_axes(ax, 2.6)
    larger = np.asarray(sizes).max(1)
    span = int(larger.max()) - int(larger.min())
    step = max(1, span // 60)
    bins = np.arange(larger.min(), larger.max() + 2 * step, step) - 0.5
    ax = _histogram(ax, larger, "pixels", "larger image side", bins)
    below = float((larger < image_size).mean())
    ax.axvline(image_size, color=PALETTE[1], linewidth=1.4, ymax=0.88, label=f"network input, {image_size} pixels")
    ax.legend(loc="upper right")
    ax.set_title(f"Size of the original images; {100 * below:.0f} % are smaller than the network's input")
    return ax


def mean_brightness(images: np.ndarray) -> np.ndarray:
    """uint8 (N, 3, H, W) -> mean pixel value of each image, float64 (N,), 0..255. Also for memory-mapped arrays."""
    parts = [np.asarray(images[start : start + BATCH]).mean((1, 2, 3)) for start in range(0, len(images), BATCH)]
    return np.concatenate(parts) if parts else np.empty(0)


@styled
def plot_brightness(brightness: np.ndarray, ax: Axes | None = None) -> Axes:
    """Histogram of the mean pixel value per image, 0..255 (see `mean_brightness`)."""
    ax = _histogram(new_axes(ax, 2.6), np.asarray(brightness), "0..255", "mean pixel value", np.arange(0, 257, 4))
    ax.set_xlim(0, 255)
    ax.set_title("Brightness of the images")
    return ax


@styled
def plot_class_gallery(images: np.ndarray, labels: np.ndarray, ax: Axes | None = None, columns: int = 9) -> Axes:
    """One picture of each class with its name. Of 64 spread over the class, the one nearest to medium light.

    Args:
        images: uint8 (N, 3, H, W).
        labels: int (N,).
    """
    rows = -(-NUM_CLASSES // columns)
    pitch = 1.62  # height of a row in picture widths: the picture and three lines of text
    ax = new_axes(ax, 9.4 / (columns * 1.22) * rows * pitch)
    labels = np.asarray(labels)
    missing = []
    for class_id in range(NUM_CLASSES):
        x, y = (class_id % columns) * 1.22 + 0.11, (class_id // columns) * pitch
        members = np.flatnonzero(labels == class_id)
        if len(members):
            members = members[:: max(1, len(members) // 64)]
            light = mean_brightness(np.asarray(images[members]))
            put_picture(ax, as_picture(images[members[np.abs(light - MEDIUM_LIGHT).argmin()]]), x, y)
        else:
            missing.append(class_id)
            ax.text(x + 0.5, y + 0.5, "none", ha="center", va="center", fontsize=8, color=NEUTRAL)
        ax.text(x + 0.5, y + 1.05, class_label(class_id), ha="center", va="top", fontsize=6.8, linespacing=1.05)
    picture_axes(ax, columns * 1.22, rows * pitch)
    without = f" Without images: classes {', '.join(map(str, missing))}." if missing else ""
    return describe(ax, f"One image of each of the {NUM_CLASSES} classes, above its number and name.{without}")


@styled
def plot_track(images: np.ndarray, title: str = "", ax: Axes | None = None, columns: int = 15) -> Axes:
    """The frames of one track, uint8 (N, 3, H, W), in the order of the drive; at most 30 evenly chosen ones."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), 30)).round().astype(int))
    rows = max(1, -(-len(chosen) // columns))
    ax = new_axes(ax, 9.4 / (columns * 1.06) * rows * 1.3 + 0.3 * bool(title))
    for position, frame in enumerate(chosen):
        x, y = (position % columns) * 1.06, (position // columns) * 1.3
        put_picture(ax, as_picture(images[frame]), x, y)
        ax.text(x + 0.5, y + 1.03, str(frame + 1), ha="center", va="top", fontsize=6.8, color=NEUTRAL)
    picture_axes(ax, columns * 1.06 - 0.06, rows * 1.3)
    ax.set_title(title)
    return describe(ax, f"{len(chosen)} of {len(images)} frames of one track{': ' if title else ''}{title}, in order.")


@styled
def plot_augmentation(before: np.ndarray, after: np.ndarray, ax: Axes | None = None) -> Axes:
    """Images above their augmented versions.

    Args:
        before: uint8 (N, 3, H, W) or float 0..1.
        after: the same images augmented, (N, 3, H, W) or, with several versions each, (versions, N, 3, H, W).
    """
    before, after = np.asarray(before), np.asarray(after)
    versions = after[None] if after.ndim == 4 else after
    num_images = len(before)
    width = 1.6 + num_images * 1.06
    height = 1.2 + len(versions) * 1.06
    ax = new_axes(ax, 9.4 / width * height)
    for row, images in enumerate([before, *versions]):
        y = row * 1.06 + 0.14 * (row > 0)
        text = "original" if row == 0 else "augmented" if row == 1 else ""
        ax.text(1.5, y + 0.5, text, ha="right", va="center", fontsize=8)
        for column, image in enumerate(images):
            put_picture(ax, as_picture(image), 1.6 + column * 1.06, y)
    picture_axes(ax, width, height)
    return describe(
        ax, f"{num_images} training images in the first row, {len(versions)} augmented version(s) of each below."
    )
