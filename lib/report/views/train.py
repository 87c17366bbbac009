"""02_train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from lib.data import Split
from lib.errors import UserError
from lib.files import project_path
from lib.model import Checkpoint, leaf_layers, num_weights
from lib.report.figures import show
from lib.report.plots import plot_confident_errors
from lib.report.table import Banner, Cell, Table, Value
from lib.report.tables import sign_cell
from lib.report.words import duration, percent
from lib.training import Evaluation, Trained


def training_table(trained: Trained) -> Table:
    """What was trained, and how long it took."""
    macs = sum(layer.num_macs for layer in leaf_layers(trained.model))
    rows: list[list[Value]] = [
        ["recipe", trained.recipe],
        ["network", trained.architecture],
        ["weights", f"{num_weights(trained.model):,}"],
        ["multiply-accumulates per image", f"{macs / 1e6:,.1f} million"],
        ["epochs", str(trained.num_epochs)],
        ["training time", duration(trained.train_s)],
        ["seed", str(trained.seed)],
    ]
    return Table(["", "training"], rows, caption="What was trained")


def confident_errors(split: Split, evaluation: Evaluation, limit: int = 12) -> Banner | None:
    """The wrong predictions with the highest probability; says so where there is none."""
    wrong = evaluation.confident_errors(limit)
    if not len(wrong):
        return Banner(f"none of the {split.num_images:,} {split.name} images is read wrongly", "info")
    preds = evaluation.preds[wrong]
    show(plot_confident_errors(split.images[wrong], evaluation.labels[wrong], preds, evaluation.probs[wrong, preds]))
    return None


def predict_file(checkpoint: Checkpoint, path: str, limit: int = 5) -> Table | Banner:
    """The most probable classes of one image file, cropped to the sign.

    Raises:
        UserError: no such file, or not an image.
    """
    if not path:
        return Banner("give the path of an image file to see what the network reads in it", "info")
    file = project_path(path)
    try:
        with Image.open(file) as image:
            images = checkpoint.preprocessing.from_image(image)
    except FileNotFoundError:
        raise UserError(f"no file {file}; give an absolute path, or one relative to the project") from None
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} is not a readable image ({error}); give a JPEG, PNG or PPM file") from None
    with torch.inference_mode():
        probs = checkpoint.model(images).softmax(1)[0].numpy()
    rows: list[list[Value]] = [[sign_cell(int(c)), Cell(percent(float(probs[c])))] for c in np.argsort(-probs)[:limit]]
    return Table(["class", "probability"], rows, caption=f"What the network reads in {Path(path).name}")
