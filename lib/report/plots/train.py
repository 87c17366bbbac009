"""02_train: how the network learned and where it errs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lib.records.schema import Epoch
from lib.report.figures import NEUTRAL, PALETTE, describe, figure_of, new_axes, new_panels, styled, text_colour
from lib.report.plots.pictures import as_picture, class_axes, class_axis, picture_axes, put_artwork, put_picture
from lib.signs import SIGNS

TRAIN_COLOUR, VAL_COLOUR = PALETTE[1], PALETTE[0]


def _log_ticks(low: float, high: float) -> list[float]:
    """At least three round numbers on a logarithmic axis, however short it is."""
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [step * 10.0**power for power in range(-5, 4) for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    return ticks


@styled
def plot_learning_curve(history: Sequence[Epoch], ax: Axes | None = None) -> Axes:
    """Loss, error (100 % - top-1) and learning rate over the epochs; returns the first of the three panels."""
    loss, error, rate = new_panels(ax, 3, 2.7)
    epochs = [line.epoch for line in history]
    marker = "o" if len(history) < 30 else ""
    for panel, key, scale in ((loss, "loss", 1), (error, "top1", 100)):
        for side, colour, style in (("train", TRAIN_COLOUR, "--"), ("val", VAL_COLOUR, "-")):
            values = np.array([getattr(line, f"{side}_{key}") for line in history])
            shown = scale * (1 - values) if key == "top1" else values
            shown = np.maximum(
                shown, 1e-2 if key == "top1" else 1e-4
            )  # no error at all still has a place on a log axis
            panel.plot(epochs, shown, style, color=colour, label=side, marker=marker, markersize=3)
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(FixedLocator(_log_ticks(*panel.get_ylim())))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_locator(NullLocator())
    loss.set_ylabel("loss (cross-entropy, log scale)")
    error.set_ylabel("error, 100 - top-1 (%, log scale)")
    rate.plot(epochs, [line.lr for line in history], color=NEUTRAL, marker=marker, markersize=3)
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    for panel in (loss, error, rate):
        panel.set_xlabel("epoch")
        panel.grid()
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    loss.legend()
    best = max(history, key=lambda line: line.val_top1)
    last = history[-1]
    return describe(
        loss,
        f"Learning curve over {len(history)} epochs. Validation top-1 ends at {100 * last.val_top1:.2f} % (loss "
        f"{last.val_loss:.3f}); best {100 * best.val_top1:.2f} % in epoch {best.epoch}. Training top-1 on augmented "
        f"images ends at {100 * last.train_top1:.2f} %.",
    )


@styled
def plot_confusion(confusion: Sequence[Sequence[int]], ax: Axes | None = None) -> Axes:
    """Counts of (true, predicted) on a logarithmic colour scale, so that single errors are seen beside thousands."""
    counts = np.asarray(confusion)
    ax = new_axes(ax, 7.6, 8.6)
    shown = np.ma.masked_equal(counts, 0)
    picture = ax.imshow(shown, norm=LogNorm(1, max(2, counts.max())), cmap="viridis_r", interpolation="nearest")
    classes = range(len(counts))
    class_axes(ax, len(counts))
    ax.set_xticks([c - 0.5 for c in classes], minor=True)
    ax.set_yticks([c - 0.5 for c in classes], minor=True)
    ax.grid(which="minor", color="#eceff2", linewidth=0.5)
    ax.tick_params(which="minor", length=0)
    ax.set_xlabel("Predicted class")
    ax.set_ylabel("True class")
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)
    bar = figure_of(ax).colorbar(picture, ax=ax, label="images (log scale; white: none)", shrink=0.6, pad=0.015)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    wrong = counts - np.diag(np.diag(counts))
    for true, predicted in np.argwhere(wrong):
        count = int(wrong[true, predicted])
        colour = text_colour(picture.to_rgba(np.array([count]))[0])
        ax.text(predicted, true, str(count), ha="center", va="center", fontsize=5.5, color=colour)
    total, num_wrong = int(counts.sum()), int(wrong.sum())
    text = f"Confusion matrix of {total:,} images in {len(counts)} classes; {num_wrong:,} lie off the diagonal."
    if num_wrong:
        true, predicted = divmod(int(wrong.argmax()), len(counts))
        text += (
            f" The most frequent error: {SIGNS[true].name} taken for {SIGNS[predicted].name}, "
            f"{int(wrong.max())} images."
        )
    ax.set_title(f"{num_wrong:,} of {total:,} images are wrong")
    return describe(ax, text)


@styled
def plot_confident_errors(
    images: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    preds: Sequence[int] | np.ndarray,
    probs: Sequence[float] | np.ndarray,
    ax: Axes | None = None,
    columns: int = 6,
) -> Axes:
    """Wrong predictions: the image, the artwork of the true and of the predicted class, the probability.

    Args:
        images: uint8 (N, 3, H, W), the most confident error first.
        probs: probability of the predicted class, 0..1, (N,).
    """
    num_images = len(images)
    rows = max(1, -(-num_images // columns))
    pitch_x, pitch_y = 2.45, 1.5
    ax = new_axes(ax, max(1.0, 9.4 / (columns * pitch_x) * rows * pitch_y))
    for position in range(num_images):
        x, y = (position % columns) * pitch_x, (position // columns) * pitch_y
        true, predicted = int(labels[position]), int(preds[position])
        put_picture(ax, as_picture(images[position]), x, y)
        put_artwork(ax, true, (x + 1.33, y + 0.27), 29)
        put_artwork(ax, predicted, (x + 1.33, y + 0.78), 29)
        ax.text(x + 1.63, y + 0.27, f"true\n{true}", va="center", fontsize=6.8)
        ax.text(x + 1.63, y + 0.78, f"taken for\n{predicted}", va="center", fontsize=6.8, color=PALETTE[1])
        ax.text(x, y + 1.05, f"p = {100 * float(probs[position]):.1f} %", va="top", fontsize=6.8)
    picture_axes(ax, columns * pitch_x, rows * pitch_y)
    if not num_images:
        ax.text(0, 0.5, "No image was misjudged.", fontsize=9)
        return describe(ax, "No image was misjudged.")
    listed = "; ".join(
        f"{SIGNS[int(labels[i])].name} taken for {SIGNS[int(preds[i])].name} at {100 * float(probs[i]):.0f} %"
        for i in range(min(num_images, 6))
    )
    return describe(ax, f"The {num_images} most confident errors. First: {listed}.")


@styled
def plot_per_class_recall(recalls: Mapping[str, Sequence[float | None]], ax: Axes | None = None) -> Axes:
    """Recall of every class, sorted by the last split given; `recalls`: split -> recall by class id."""
    ax = new_axes(ax, 3.1)
    splits = list(recalls)
    leading = recalls[splits[-1]]
    present = [c for c in range(len(leading)) if leading[c] is not None]
    order = sorted(present, key=lambda c: leading[c] or 0.0)
    markers = ("o", "D", "s")
    for index, split in enumerate(splits):
        values = [recalls[split][c] for c in order]
        shown = [np.nan if value is None else 100 * value for value in values]
        filled = PALETTE[index] if split == splits[-1] else "none"
        ax.plot(
            range(len(order)), shown, markers[index % 3], color=PALETTE[index], markerfacecolor=filled,
            markersize=4.5, label=split, linestyle="none",
        )  # fmt: skip
    class_axis(ax, order)
    ax.set_ylabel("recall (%)")
    ax.set_xlabel("class, worst first")
    ax.grid(axis="y")
    if len(splits) > 1:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=len(splits))
    worst = ", ".join(f"{SIGNS[c].name} {100 * (leading[c] or 0.0):.1f} %" for c in order[:3])
    perfect = sum(leading[c] == 1 for c in order)
    ax.set_title(f"Recall per class; {perfect} of {len(order)} are perfect on {splits[-1]}")
    text = f"Recall per class on {splits[-1]}, sorted. Worst: {worst}. Perfect: {perfect} of {len(order)}."
    return describe(ax, text)
