"""The page of 02_train, section by section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from PIL import Image

from lib.data import Split, resize_image
from lib.data.images import read_image
from lib.files import project_path
from lib.model import Checkpoint, leaf_layers, num_weights
from lib.records.schema import Accuracy, Epoch, StepKernels
from lib.report.figures import (
    NEUTRAL,
    PALETTE,
    describe,
    figure_of,
    fixed_ticks,
    new_axes,
    new_panels,
    show,
    styled,
    text_colour,
)
from lib.report.pictures import as_picture, class_axes, class_axis, picture_axes, put_artwork, put_picture, sign_cell
from lib.report.table import Banner, Cell, Stack, Table, Value
from lib.report.words import duration, percent, percent_interval
from lib.signs import CLASS_NAMES
from lib.training.evaluation import Evaluation
from lib.training.loop import Trained

UNSURE = 0.5  # probability of the best class below which a reader is warned
SHOWN_PX = 96  # CSS pixels of an image that is shown
DIRECTIONS = {
    "forward_training": "forward",
    "backward_data": "backward, for the inputs",
    "backward_weights": "backward, for the weights",
}
TRAIN_COLOUR, VAL_COLOUR = PALETTE[1], PALETTE[0]


def training(trained: Trained) -> Stack:
    """What was trained, how long it took, and which kernels a step ran."""
    doubt = trained.kernels.investigate
    return Stack(
        Banner(f"To investigate: {doubt}.") if doubt else None,
        _training_table(trained),
        step_kernels_table(trained.kernels),
    )


def _training_table(trained: Trained) -> Table:
    estimate = f"{duration(trained.estimate.seconds)} after its first steps" if trained.estimate else ""
    macs = sum(layer.num_macs for layer in leaf_layers(trained.model, trained.metadata.preprocessing.image_shape))
    rows: list[list[Value]] = [
        ["recipe", trained.metadata.recipe],
        ["network", trained.metadata.architecture],
        ["weights", f"{num_weights(trained.model):,}"],
        ["multiply-accumulates per image", f"{macs / 1e6:,.1f} million"],
        ["epochs", str(trained.metadata.num_epochs)],
        ["precision", "bf16 (autocast)" if trained.precision == "bf16" else trained.precision],
        ["training time", Cell(duration(trained.train_s), f"estimated: {estimate}" if estimate else "")],
        ["seed", str(trained.metadata.seed)],
    ]
    return Table(["", "training"], rows, caption="What was trained")


def step_kernels_table(kernels: StepKernels) -> Table:
    """Which implementations oneDNN ran in one training step, by direction."""
    rows: list[list[Value]] = [
        [DIRECTIONS.get(direction, direction), kernel.removeprefix("onednn "), times]
        for direction, found in kernels.found.items()
        for kernel, times in sorted(found.items(), key=lambda item: -item[1])
    ]
    columns = ["direction", "kernel of oneDNN", "times"]
    note = "As oneDNN reports them. What PyTorch computes itself, such as batch norm, is not among them."
    return Table(columns, rows, caption="What one training step ran", note=note, compact=True)


def _log_ticks(low: float, high: float) -> list[float]:
    """At least three round numbers on a logarithmic axis, however short it is."""
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [step * 10.0**power for power in range(-5, 4) for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    return ticks


@styled
def plot_learning_curve(history: Sequence[Epoch]) -> Axes:
    """Loss, error (100 % - top-1) and learning rate over the epochs; returns the first of the three panels."""
    loss, error, rate = new_panels(3, 2.7)
    epochs = [line.epoch for line in history]
    marker = "o" if len(history) < 30 else ""
    for panel, key, least in ((loss, "loss", 1e-4), (error, "top1", 1e-2)):
        for side, colour, style in (("train", TRAIN_COLOUR, "--"), ("val", VAL_COLOUR, "-")):
            values = np.array([getattr(line, f"{side}_{key}") for line in history])
            shown = 100 * (1 - values) if key == "top1" else values
            shown = np.maximum(shown, least)  # no error at all still has a place on a log axis
            panel.plot(epochs, shown, style, color=colour, label=side, marker=marker, markersize=3)
        panel.set_yscale("log")
        fixed_ticks(panel.yaxis, _log_ticks(*panel.get_ylim()))
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
    rank = "the best of all epochs" if last is best else f"{100 * best.val_top1:.2f} % in epoch {best.epoch} at best"
    return describe(
        loss,
        f"Learning curve over {len(history)} epochs. Validation top-1 ends at {100 * last.val_top1:.2f} % (loss "
        f"{last.val_loss:.3f}); best {100 * best.val_top1:.2f} % in epoch {best.epoch}. Training top-1 on augmented "
        f"images ends at {100 * last.train_top1:.2f} %.",
        f"Validation top-1 ends at {100 * last.val_top1:.2f} %, {rank}.",
    )


def accuracy(evaluations: Mapping[str, Evaluation], classes: Sequence[str] = CLASS_NAMES) -> Table:
    """Accuracy by split; where images of a split are in an earlier one too, also without those."""
    found = {}
    note = ""
    for name, evaluation in evaluations.items():
        found[name] = evaluation.accuracy
        fewer = evaluation.without_duplicates
        if fewer is not None:
            found[f"{name}, without {evaluation.accuracy.num_images - fewer.num_images:,} duplicates"] = fewer
            note = "Duplicates are images that training or validation has too, pixel for pixel; 01_explore shows them."
    return accuracy_table(found, note, classes)


def accuracy_table(accuracy: Mapping[str, Accuracy], note: str = "", classes: Sequence[str] = CLASS_NAMES) -> Table:
    """Top-1 by split with its interval, and the class that is recognised worst.

    Args:
        note: more to say under the table.
    """
    rows: list[list[Value]] = [
        [
            split,
            Cell(percent(found.top1), percent_interval(found.top1_interval)),
            found.num_images,
            found.num_tracks,
            Cell(sign_cell(found.worst_class, classes).text, percent(found.worst_class_recall, 1)),
        ]
        for split, found in accuracy.items()
    ]
    interval = "Interval: 95 % bootstrap over tracks, since the frames of one sign are right or wrong together."
    columns = ["split", "top-1", "images", "tracks", "worst class (recall)"]
    return Table(columns, rows, caption="Accuracy", note=f"{interval} {note}".strip())


@styled
def plot_per_class_recall(recalls: Mapping[str, Sequence[float | None]], classes: Sequence[str] = CLASS_NAMES) -> Axes:
    """Recall of every class, sorted by the last split given; `recalls`: split -> recall by class id."""
    ax = new_axes(3.1)
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
    class_axis(ax, order, classes)
    ax.set_ylabel("recall (%)")
    ax.set_xlabel("class, worst first")
    ax.grid(axis="y")
    if len(splits) > 1:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=len(splits))
    worst = ", ".join(f"{classes[c]} {100 * (leading[c] or 0.0):.1f} %" for c in order[:3])
    perfect = sum(leading[c] == 1 for c in order)
    ax.set_title(f"Recall per class; {perfect} of {len(order)} are perfect on {splits[-1]}")
    says = f"Worst: {worst}. Perfect: {perfect} of {len(order)}."
    return describe(ax, f"Recall per class on {splits[-1]}, sorted. {says}", says)


@styled
def plot_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str] = CLASS_NAMES) -> Axes:
    """Counts of (true, predicted) on a logarithmic colour scale, so that single errors are seen beside thousands."""
    counts = np.asarray(confusion)
    ax = new_axes(7.6, 8.6)
    shown = np.ma.masked_equal(counts, 0)
    picture = ax.imshow(shown, norm=LogNorm(1, max(2, counts.max())), cmap="viridis_r", interpolation="nearest")
    class_axes(ax, classes)
    ax.set_xticks(np.arange(len(classes)) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(classes)) - 0.5, minor=True)
    ax.grid(which="minor", color="#eceff2", linewidth=0.5)
    ax.tick_params(which="minor", length=0)
    ax.set_xlabel("Predicted class")
    ax.set_ylabel("True class")
    ax.spines[:].set_visible(False)
    bar = figure_of(ax).colorbar(picture, ax=ax, label="images (log scale; white: none)", shrink=0.6, pad=0.015)
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    wrong = counts - np.diag(np.diag(counts))
    for true, predicted in np.argwhere(wrong):
        count = int(wrong[true, predicted])
        colour = text_colour(picture.to_rgba(np.array([count]))[0])
        ax.text(predicted, true, str(count), ha="center", va="center", fontsize=5.5, color=colour)
    total, num_wrong = int(counts.sum()), int(wrong.sum())
    says = "No image was confused."
    if num_wrong:
        true, predicted = divmod(int(wrong.argmax()), len(counts))
        says = f"The most frequent error: {classes[true]} taken for {classes[predicted]}, {wrong.max()} images."
    ax.set_title(f"{num_wrong:,} of {total:,} images are wrong")
    text = f"Confusion matrix of {total:,} images in {len(counts)} classes; {num_wrong:,} are off the diagonal."
    return describe(ax, f"{text} {says}", says)


def confused_pairs_table(
    confusion: Sequence[Sequence[int]], classes: Sequence[str] = CLASS_NAMES, limit: int = 10
) -> Table:
    """The pairs of classes that are most often taken for each other, by number of images."""
    counts = np.asarray(confusion)
    totals = counts.sum(1)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    rows: list[list[Value]] = []
    for flat in order:
        true, predicted = divmod(int(flat), counts.shape[1])
        if wrong[true, predicted] == 0:
            break
        share = percent(wrong[true, predicted] / totals[true], 1)
        rows.append([sign_cell(true, classes), sign_cell(predicted, classes), int(wrong[true, predicted]), share])
    columns = ["True class", "Predicted class", "images", "share of the true class"]
    note = "" if rows else "No image was confused."
    return Table(columns, rows, caption="Most confused pairs", note=note)


def confident_errors(
    split: Split, evaluation: Evaluation, classes: Sequence[str] = CLASS_NAMES, limit: int = 12
) -> Banner | None:
    """The wrong predictions with the highest probability; says so where there is none."""
    wrong = evaluation.confident_errors(limit)
    if not len(wrong):
        return Banner(f"none of the {split.num_images:,} {split.name} images is read wrongly", "info")
    labels, preds = evaluation.labels[wrong], evaluation.preds[wrong]
    show(plot_confident_errors(split.images[wrong], labels, preds, evaluation.probs[wrong, preds], classes))
    return None


@styled
def plot_confident_errors(
    images: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    preds: Sequence[int] | np.ndarray,
    probs: Sequence[float] | np.ndarray,
    classes: Sequence[str] = CLASS_NAMES,
    columns: int = 6,
) -> Axes:
    """Wrong predictions: the image, the artwork of the true and of the predicted class, the probability.

    Args:
        images: uint8 (N, 3, H, W), the most confident error first.
        probs: probability of the predicted class, 0..1, (N,).
    """
    num_images = len(images)
    rows = -(-num_images // columns)
    pitch_x, pitch_y = 2.45, 1.5
    ax = new_axes(max(1.0, 9.4 / (columns * pitch_x) * rows * pitch_y))
    for position in range(num_images):
        x, y = (position % columns) * pitch_x, (position // columns) * pitch_y
        true, predicted = int(labels[position]), int(preds[position])
        put_picture(ax, as_picture(images[position]), x, y)
        put_artwork(ax, classes[true], (x + 1.33, y + 0.27), 29)
        put_artwork(ax, classes[predicted], (x + 1.33, y + 0.78), 29)
        ax.text(x + 1.63, y + 0.27, f"true\n{true}", va="center", fontsize=6.8)
        ax.text(x + 1.63, y + 0.78, f"taken for\n{predicted}", va="center", fontsize=6.8, color=PALETTE[1])
        ax.text(x, y + 1.05, f"p = {100 * float(probs[position]):.1f} %", va="top", fontsize=6.8)
    picture_axes(ax, columns * pitch_x, rows * pitch_y)
    listed = "; ".join(
        f"{classes[int(labels[i])]} taken for {classes[int(preds[i])]} at {100 * float(probs[i]):.0f} %"
        for i in range(min(num_images, 6))
    )
    return describe(ax, f"The {num_images} most confident errors. First: {listed}.")


def predict_file(checkpoint: Checkpoint, path: str, limit: int = 5) -> Table | Banner | Stack:
    """The most probable classes of one image file, cropped to the sign, beside the image and what the network sees.

    Args:
        path: absolute, or relative to the project; quotes around it are taken off.

    Raises:
        UserError: as `read_image`.
    """
    path = path.strip().strip("\"'")
    if not path:
        return Banner("give the path of an image file to see what the network reads in it", "info")
    file = project_path(path)
    photo, notes = read_image(file)
    with torch.inference_mode():
        probs = checkpoint.model(torch.from_numpy(checkpoint.preprocessing.from_image(photo))).softmax(1)[0].numpy()
    best, classes = np.argsort(-probs)[:limit], checkpoint.metadata.classes
    rows: list[list[Value]] = [
        [sign_cell(int(c), classes), _bar(float(probs[c])), percent(float(probs[c]))] for c in best
    ]
    unsure = None
    if probs[best[0]] < UNSURE:
        known = f"it knows only its {len(classes)} classes"
        unsure = Banner(f"The network is not sure. Crop closer to the sign; {known}.")
    read = Table(["class", "", "probability"], rows, caption=f"What the network reads in {file.name}")
    assumed = Banner(f"About your image: {'; '.join(notes)}.", "info") if notes else None
    return Stack(_given(photo, checkpoint.preprocessing.image_size), assumed, read, unsure)


def _given(photo: Image.Image, size: int) -> Table:
    """The image, and the pixels that are left of it, `size` a side."""
    shown = photo.copy()
    shown.thumbnail((2 * SHOWN_PX, 2 * SHOWN_PX))
    small = np.ascontiguousarray(resize_image(photo, size).transpose(1, 2, 0))
    seen = np.asarray(Image.fromarray(small).resize((2 * SHOWN_PX, 2 * SHOWN_PX), Image.Resampling.NEAREST))
    row = [Cell("", image=np.asarray(shown)), Cell("", image=seen)]
    given = f"your image, {photo.width} x {photo.height}"
    return Table([given, f"what the network sees, {size} x {size}"], [row], row_head=False)


def _bar(share: float) -> str:
    """A share as a row of blocks, for the eye; the number is beside it."""
    return "█" * round(20 * share) or "▏"
