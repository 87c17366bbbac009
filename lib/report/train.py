"""The page of 02_train, section by section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from PIL import Image

from lib.analysis.calibration import calibration_error, macro_f1, probabilities, reliability, risk_by_coverage
from lib.data import Split, resize_image
from lib.data.images import read_image
from lib.files import project_path
from lib.model import Checkpoint, leaf_layers, num_weights
from lib.records.schema import Accuracy, Epoch, SeedsAccuracy, StepKernels, TrackResult
from lib.report.figures import (
    NEUTRAL,
    PALETTE,
    describe,
    figure_of,
    fixed_ticks,
    new_axes,
    new_panels,
    png,
    show,
    styled,
    text_colour,
)
from lib.report.pictures import as_picture, class_axes, class_axis, put_artwork, sheet, sign_cell, track_strips
from lib.report.table import Banner, Cell, Stack, Table, Value
from lib.report.words import duration, percent, percent_interval, points
from lib.signs import CLASS_NAMES
from lib.training.evaluation import Evaluation, fair_confidence, track_results
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
    estimate = f"estimated: {duration(trained.estimate.seconds)} after its first steps" if trained.estimate else ""
    resumed = f"the first {trained.num_resumed} by an earlier start" if trained.num_resumed else ""
    macs = sum(layer.num_macs for layer in leaf_layers(trained.model, trained.metadata.preprocessing.image_shape))
    rows: list[list[Value]] = [
        ["recipe", trained.metadata.recipe],
        ["network", trained.metadata.architecture],
        ["weights", f"{num_weights(trained.model):,}"],
        ["multiply-accumulates per image", f"{macs / 1e6:,.1f} million"],
        ["epochs", Cell(str(trained.metadata.num_epochs), resumed)],
        ["precision", "bf16 (autocast)" if trained.precision == "bf16" else trained.precision],
        ["device", trained.device],
        ["training time", Cell(duration(trained.train_s), estimate)],
        ["seed", str(trained.metadata.seed)],
    ]
    if trained.num_drawn:
        rows.append(["drawn images", f"{trained.num_drawn:,} in each epoch, beside the real ones"])
    table = Table(["", "training"], rows, caption="What was trained")
    doubt = Banner(f"To investigate: {trained.kernels.investigate}.") if trained.kernels.investigate else None
    return Stack(doubt, table, step_kernels_table(trained.kernels) if trained.kernels.found else None)


def step_kernels_table(kernels: StepKernels) -> Table:
    """Which implementations oneDNN ran in one training step, by direction."""
    rows = [
        {
            "direction": DIRECTIONS.get(direction, direction),
            "kernel of oneDNN": kernel.removeprefix("onednn "),
            "times": times,
        }
        for direction, found in kernels.found.items()
        for kernel, times in sorted(found.items(), key=lambda item: -item[1])
    ]
    note = "As oneDNN reports them. What PyTorch computes itself, such as batch norm, is not among them."
    return Table.of(rows, caption="What one training step ran", note=note, compact=True)


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
        if (fewer := evaluation.without_duplicates) is not None:
            found[f"{name}, without duplicates ({evaluation.accuracy.num_images - fewer.num_images:,})"] = fewer
            note = "Duplicates are images that training or validation has too, pixel for pixel; 01_explore shows them."
    scores = ", ".join(f"{percent(macro_f1(np.array(e.confusion)))} on {name}" for name, e in evaluations.items())
    return accuracy_table(found, f"Macro-F1, in which each class counts alike: {scores}. {note}".strip(), classes)


def accuracy_table(accuracy: Mapping[str, Accuracy], note: str = "", classes: Sequence[str] = CLASS_NAMES) -> Table:
    """Top-1 by split with its interval, and the class that is recognised worst.

    Args:
        note: more to say under the table.
    """
    rows = [
        {
            "split": split,
            "top-1": Cell(percent(found.top1), percent_interval(found.top1_interval)),
            "images": found.num_images,
            "tracks": found.num_tracks,
            "worst class (recall)": Cell(
                f"{found.worst_class} {classes[found.worst_class]}", percent(found.worst_class_recall, 1)
            ),
        }
        for split, found in accuracy.items()
    ]
    interval = "Interval: 95 % bootstrap over tracks, since the frames of one sign are right or wrong together."
    return Table.of(rows, caption="Accuracy", note=f"{interval} {note}".strip())


def seeds_table(by_seed: Mapping[str, SeedsAccuracy]) -> Table | Banner:
    """Top-1 of several networks by split, or how to get them."""
    if not by_seed:
        return Banner(
            "One network was trained. -p seeds 5 trains five and shows how much of its top-1 is luck.", "info"
        )
    rows = [
        {
            "split": split,
            "mean top-1": Cell(percent(float(np.mean(tops))), percent_interval(found.interval)),
            "standard deviation": points(float(np.std(tops, ddof=1))),
            **{f"seed {seed}": percent(top1) for seed, top1 in found.top1.items()},
        }
        for split, found in by_seed.items()
        for tops in [list(found.top1.values())]
    ]
    note = (
        "All on the same images. The checkpoint is the network of the first seed, not the best one. Interval: 95 % "
        "bootstrap that resamples seeds and tracks."
    )
    return Table.of(rows, caption="Accuracy of several seeds", note=note)


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
def plot_confidence(evaluation: Evaluation, split: Split) -> Axes:
    """Left: share of right answers by confidence. Right: what is wrong if only the most confident are answered."""
    trust, risk = new_panels(2, 3.2)
    right = evaluation.preds == evaluation.labels
    confidence, bare = fair_confidence(evaluation, split), probabilities(evaluation.logits).max(axis=1)
    trust.plot([0, 100], [0, 100], color=NEUTRAL, linewidth=1, label="as sure as right")
    for values, colour, name in (
        (bare, TRAIN_COLOUR, "bare softmax"),
        (confidence, VAL_COLOUR, "with the temperature"),
    ):
        bins = reliability(values, right)
        shares = [100 * each.confidence for each in bins], [100 * each.right for each in bins]
        trust.plot(*shares, "o-", color=colour, label=name)
    trust.set_xlabel("confidence of the answers (%)")
    trust.set_ylabel("right (%)")
    trust.legend(loc="upper left")
    coverage, wrong = risk_by_coverage(evaluation.confidence, right)
    risk.plot(100 * coverage, 100 * wrong, color=VAL_COLOUR)
    risk.set_xlabel("images that are answered, the surest first (%)")
    risk.set_ylabel("wrong among these (%)")
    for panel in (trust, risk):
        panel.set_xlim(0, 100)
        panel.set_ylim(bottom=0)
        panel.grid()
    nine_in_ten = wrong[max(0, round(0.9 * len(wrong)) - 1)]
    says = (
        f"Confidence misses the share of right answers by {100 * calibration_error(confidence, right):.1f} points "
        f"(expected calibration error); by {100 * calibration_error(bare, right):.1f} without the temperature, "
        f"{evaluation.temperature:.2f}. If the network answered only "
        f"the 90 % of which it is surest, {100 * nine_in_ten:.2f} % of these would be wrong instead of "
        f"{100 * wrong[-1]:.2f} %."
    )
    return describe(trust, f"Reliability, and risk by coverage. {says}", says)


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
    wrong = counts - np.diag(np.diag(counts))
    pairs = [divmod(int(flat), counts.shape[1]) for flat in np.argsort(-wrong, axis=None, kind="stable")[:limit]]
    rows = [
        {
            "True class": sign_cell(true, classes),
            "Predicted class": sign_cell(predicted, classes),
            "images": int(wrong[true, predicted]),
            "share of the true class": percent(wrong[true, predicted] / counts[true].sum(), 1),
        }
        for true, predicted in pairs
        if wrong[true, predicted]
    ]
    return Table.of(rows, caption="Most confused pairs", note="" if rows else "No image was confused.")


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
) -> Axes:
    """Wrong predictions: the image, the artwork of the true and of the predicted class, the probability.

    Args:
        images: uint8 (N, 3, H, W), the most confident error first.
        probs: probability of the predicted class, 0..1, (N,).
    """
    texts = [f"p = {100 * float(prob):.1f} %" for prob in probs]
    ax = _errors_sheet(images, [*zip(labels, preds, strict=True)], texts, classes)
    listed = "; ".join(
        f"{classes[true]} taken for {classes[predicted]} at {100 * float(prob):.0f} %"
        for true, predicted, prob in [*zip(labels, preds, probs, strict=True)][:6]
    )
    return describe(ax, f"The {len(images)} most confident errors. First: {listed}.")


def _errors_sheet(
    images: np.ndarray, pairs: Sequence[tuple[int, int]], texts: Sequence[str], classes: Sequence[str]
) -> Axes:
    """Images, each beside the artwork of its true and of its predicted class, above its text."""
    columns, right, down = 6, 2.45, 1.5
    ax = sheet([*images], texts, columns, (right, down))
    for position, (true, predicted) in enumerate(pairs):
        x, y = position % columns * right, position // columns * down
        put_artwork(ax, classes[true], (x + 1.33, y + 0.27), 29)
        put_artwork(ax, classes[predicted], (x + 1.33, y + 0.78), 29)
        ax.text(x + 1.63, y + 0.27, f"true\n{true}", va="center", fontsize=6.8)
        ax.text(x + 1.63, y + 0.78, f"taken for\n{predicted}", va="center", fontsize=6.8, color=PALETTE[1])
    return ax


@styled
def worst_pairs_png(images: np.ndarray, confusions: Sequence[tuple[int, int, int, int]]) -> bytes:
    """The most frequent confusions as a picture, with one image of each.

    Args:
        images: uint8 (N, 3, H, W).
        confusions: true class, predicted class, number of images, and the row of one of them.
    """
    pairs = [(true, predicted) for true, predicted, *_ in confusions]
    texts = [f"{number} images" for _, _, number, _ in confusions]
    return png(figure_of(_errors_sheet(images[[row for *_, row in confusions]], pairs, texts, CLASS_NAMES)))


def misread_tracks(
    split: Split, evaluation: Evaluation, classes: Sequence[str] = CLASS_NAMES, limit: int = 6
) -> Banner | None:
    """The tracks with the most wrong answers, as strips of frames; says so where there is none."""
    wrong = [track for track in track_results(evaluation, split) if track.mistaken_for is not None]
    if not wrong:
        return Banner(f"none of the {split.num_tracks:,} {split.name} tracks has a misread frame", "info")
    worst = sorted(wrong, key=lambda track: track.num_right - track.num_images)[:limit]
    show(plot_tracks(split, worst, len(wrong), classes))
    return None


@styled
def plot_tracks(split: Split, tracks: Sequence[TrackResult], num_wrong: int, classes: Sequence[str]) -> Axes:
    """Frames of each track, with the sign that it is and the one that it is taken for.

    Args:
        num_wrong: tracks with a misread frame, of which these are the worst.
    """
    says = f"{num_wrong} of {split.num_tracks} tracks have a misread frame; these have the most."
    return track_strips([split], tracks, classes, says)


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
        logits = checkpoint.model(torch.from_numpy(checkpoint.preprocessing.from_image(photo)))[0].numpy()
    probs = probabilities(logits, checkpoint.metadata.temperature)
    best, classes = np.argsort(-probs)[:limit], checkpoint.metadata.classes
    rows = [
        {
            "class": sign_cell(int(c), classes),
            "": "█" * round(20 * probs[c]) or "▏",
            "probability": percent(float(probs[c])),
        }
        for c in best
    ]
    read = Table.of(rows, caption=f"What the network reads in {file.name}")
    unsure = f"The network is not sure. Crop closer to the sign; it knows only its {len(classes)} classes."
    if probs[best[0]] < checkpoint.metadata.least_confidence:
        least = percent(checkpoint.metadata.least_confidence)
        unsure = f"The network takes this for no sign: it is surer of nearly all signs, by {least} at least."
    return Stack(
        _given(photo, checkpoint.preprocessing.image_size),
        Banner(f"About your image: {'; '.join(notes)}.", "info") if notes else None,
        read,
        Banner(unsure) if probs[best[0]] < UNSURE else None,
    )


def _given(photo: Image.Image, size: int) -> Table:
    """The image, and the pixels that are left of it, `size` a side."""
    shown = photo.copy()
    shown.thumbnail((2 * SHOWN_PX, 2 * SHOWN_PX))
    small = Image.fromarray(as_picture(resize_image(photo, size)))
    seen = small.resize((2 * SHOWN_PX, 2 * SHOWN_PX), Image.Resampling.NEAREST)
    images = {f"your image, {photo.width} x {photo.height}": shown, f"what the network sees, {size} x {size}": seen}
    return Table.of([{title: Cell("", image=np.asarray(image)) for title, image in images.items()}], row_head=False)
