"""Accuracy of logits on a split. The benchmark's parity check calls the same functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from lib.analysis.calibration import confidence_of_others, probabilities
from lib.analysis.statistics import track_bootstrap
from lib.data import Data, Split, audit_splits
from lib.data.audit import mean_brightness
from lib.data.preprocessing import Preprocessing
from lib.model import Checkpoint
from lib.records.schema import Accuracy, TrackResult

SIZES = (32, 48, 80)  # pixels of the original image, between slices
LEVELS = (32, 64, 128)  # mean pixel value, 0..255, between slices


def predict_logits(
    model: nn.Module, preprocessing: Preprocessing, images: np.ndarray, batch_size: int = 256
) -> np.ndarray:
    """uint8 (N, 3, H, W) -> float32 logits (N, classes). The model is left in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    logits = []
    with torch.inference_mode():
        for start in range(0, max(1, len(images)), batch_size):
            batch = torch.from_numpy(preprocessing.normalize(images[start : start + batch_size]))
            logits.append(model(batch.to(device)).float().cpu().numpy())  # float(): bf16 under the caller's autocast
    return np.concatenate(logits)


@dataclass(frozen=True)
class Evaluation:
    """What logits say about one split."""

    labels: np.ndarray  # int64 (N,)
    preds: np.ndarray  # int64 (N,)
    logits: np.ndarray  # float32 (N, classes)
    accuracy: Accuracy
    per_class_recall: list[float | None]  # None for a class without images
    confusion: list[list[int]]  # rows = true class, columns = predicted
    without_duplicates: Accuracy | None = None  # without the images that an earlier split has too; None without any
    temperature: float = 1.0  # of the probabilities

    @cached_property
    def probs(self) -> np.ndarray:
        """float32 (N, classes)."""
        return probabilities(self.logits, self.temperature)

    @property
    def confidence(self) -> np.ndarray:
        """float32 (N,), probability of each answer."""
        return np.asarray(self.probs.max(axis=1))

    def confident_errors(self, limit: int) -> np.ndarray:
        """Indices of wrong predictions, the most confident first."""
        wrong = np.flatnonzero(self.preds != self.labels)
        confidence = self.probs[wrong, self.preds[wrong]]
        return wrong[np.argsort(-confidence, kind="stable")][:limit]


def evaluate(logits: np.ndarray, split: Split, temperature: float = 1.0) -> Evaluation:
    """Accuracy, recall per class and confusion of float32 logits (N, classes) for the N images of a split.

    Args:
        temperature: of the probabilities; the answers do not depend on it.

    Raises:
        ValueError: the number of logits is not the number of images, or the split is empty.
    """
    labels = np.asarray(split.labels)
    if len(logits) != len(labels) or not len(labels):
        raise ValueError(f"{len(logits)} rows of logits for {len(labels)} images of split {split.name!r}")
    preds = logits.argmax(1)
    num_classes = logits.shape[1]
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, preds), 1)
    num_images = confusion.sum(1)
    recall = [float(confusion[c, c] / num_images[c]) if num_images[c] else None for c in range(num_classes)]
    worst_recall, worst_class = min((value, c) for c, value in enumerate(recall) if value is not None)
    correct = preds == labels
    return Evaluation(
        labels=labels,
        preds=preds,
        logits=logits,
        accuracy=Accuracy(
            top1=float(correct.mean()),
            top1_interval=track_bootstrap(correct, np.asarray(split.track_ids)) if split.has_tracks else None,
            num_images=len(labels),
            num_tracks=split.num_tracks if split.has_tracks else None,
            worst_class=worst_class,
            worst_class_recall=worst_recall,
        ),
        per_class_recall=recall,
        confusion=confusion.tolist(),
        temperature=temperature,
    )


def fair_confidence(evaluation: Evaluation, split: Split) -> np.ndarray:
    """float (N,), probability of each answer at a temperature that these images did not fit."""
    if split.name != "val":
        return evaluation.confidence
    return confidence_of_others(evaluation.logits, evaluation.labels, split.track_ids)


def slices(evaluation: Evaluation, split: Split) -> dict[str, Accuracy]:
    """Accuracy of images that are about equally large or bright; only slices that have images."""
    found = {}
    for name, unit, values, edges in (
        ("larger side", " px", np.asarray(split.sizes).max(axis=1), SIZES),
        ("mean level", "", mean_brightness(split.images), LEVELS),
    ):
        names = [f"below {edges[0]}", *(f"{low} to {high}" for low, high in pairwise(edges)), f"{edges[-1]} and more"]
        place = np.digitize(values, edges)
        for index in np.unique(place):
            rows = place == index
            found[f"{name} {names[index]}{unit}"] = evaluate(evaluation.logits[rows], split.take(rows)).accuracy
    return found


def track_results(evaluation: Evaluation, split: Split) -> list[TrackResult]:
    """How each track of a split was read, in the order of their ids."""
    results = []
    for track_id in np.unique(split.track_ids):
        rows = np.flatnonzero(split.track_ids == track_id)
        wrong = evaluation.preds[rows][evaluation.preds[rows] != evaluation.labels[rows]]
        results.append(
            TrackResult(
                name=split.track_name(rows[0]),
                label=int(evaluation.labels[rows[0]]),
                num_images=len(rows),
                num_right=len(rows) - len(wrong),
                mistaken_for=int(np.bincount(wrong).argmax()) if len(wrong) else None,
            )
        )
    return results


def evaluate_splits(checkpoint: Checkpoint, data: Data) -> dict[str, Evaluation]:
    """Evaluate a checkpoint on val, and on test where there is one; also without what an earlier split has too."""
    audit = audit_splits(data)
    evaluations = {}
    for split in (data.val, data.test):
        if split is not None:
            logits = predict_logits(checkpoint.model, checkpoint.preprocessing, split.images)
            found, seen = evaluate(logits, split, checkpoint.metadata.temperature), audit.seen_earlier(split.name)
            if seen.any() and not seen.all():
                found = replace(found, without_duplicates=evaluate(logits[~seen], split.take(~seen)).accuracy)
            evaluations[split.name] = found
    return evaluations
