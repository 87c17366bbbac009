"""02_train."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image

from lib.data import IMAGE_SIZE, Split, resize_image
from lib.data.images import read_image
from lib.files import project_path
from lib.model import Checkpoint, leaf_layers, num_weights
from lib.report.figures import show
from lib.report.plots import plot_confident_errors
from lib.report.table import Banner, Cell, Stack, Table, Value
from lib.report.tables import accuracy_table, sign_cell, step_kernels_table
from lib.report.words import duration, percent
from lib.training.evaluation import Evaluation
from lib.training.loop import Trained

UNSURE = 0.5  # probability of the best class below which a reader is warned
SHOWN_PX = 96  # CSS pixels of an image that is shown


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
    macs = sum(layer.num_macs for layer in leaf_layers(trained.model, trained.preprocessing.image_shape))
    rows: list[list[Value]] = [
        ["recipe", trained.recipe],
        ["network", trained.architecture],
        ["weights", f"{num_weights(trained.model):,}"],
        ["multiply-accumulates per image", f"{macs / 1e6:,.1f} million"],
        ["epochs", str(trained.num_epochs)],
        ["precision", "bf16 (autocast)" if trained.precision == "bf16" else trained.precision],
        ["training time", Cell(duration(trained.train_s), f"estimated: {estimate}" if estimate else "")],
        ["seed", str(trained.seed)],
    ]
    return Table(["", "training"], rows, caption="What was trained")


def accuracy(evaluations: Mapping[str, Evaluation]) -> Table:
    """Accuracy by split; where images of a split are in an earlier one too, also without those."""
    found = {}
    note = ""
    for name, evaluation in evaluations.items():
        found[name] = evaluation.accuracy
        fewer = evaluation.without_duplicates
        if fewer is not None:
            found[f"{name}, without {evaluation.accuracy.num_images - fewer.num_images:,} duplicates"] = fewer
            note = "Duplicates are images that training or validation has too, pixel for pixel; 01_explore shows them."
    return accuracy_table(found, note)


def confident_errors(split: Split, evaluation: Evaluation, limit: int = 12) -> Banner | None:
    """The wrong predictions with the highest probability; says so where there is none."""
    wrong = evaluation.confident_errors(limit)
    if not len(wrong):
        return Banner(f"none of the {split.num_images:,} {split.name} images is read wrongly", "info")
    preds = evaluation.preds[wrong]
    show(plot_confident_errors(split.images[wrong], evaluation.labels[wrong], preds, evaluation.probs[wrong, preds]))
    return None


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
    best = np.argsort(-probs)[:limit]
    rows: list[list[Value]] = [[sign_cell(int(c)), _bar(float(probs[c])), percent(float(probs[c]))] for c in best]
    unsure = None
    if probs[best[0]] < UNSURE:
        unsure = Banner("The network is not sure. Crop closer to the sign; it knows the 43 classes of GTSRB alone.")
    read = Table(["class", "", "probability"], rows, caption=f"What the network reads in {file.name}")
    assumed = Banner(f"About your image: {'; '.join(notes)}.", "info") if notes else None
    return Stack(_given(photo), assumed, read, unsure)


def _given(photo: Image.Image) -> Table:
    """The image, and the 32 x 32 pixels that are left of it."""
    shown = photo.copy()
    shown.thumbnail((2 * SHOWN_PX, 2 * SHOWN_PX))
    small = np.ascontiguousarray(resize_image(photo).transpose(1, 2, 0))
    seen = np.asarray(Image.fromarray(small).resize((2 * SHOWN_PX, 2 * SHOWN_PX), Image.Resampling.NEAREST))
    row = [Cell("", image=np.asarray(shown)), Cell("", image=seen)]
    given = f"your image, {photo.width} x {photo.height}"
    return Table([given, f"what the network sees, {IMAGE_SIZE} x {IMAGE_SIZE}"], [row], row_head=False)


def _bar(share: float) -> str:
    """A share as a row of blocks, for the eye; the number stands beside it."""
    return "█" * round(20 * share) or "▏"
