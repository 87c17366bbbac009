"""What a network answers where an image changes: little, as from one frame to the next, or much, or without a sign."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from lib.analysis.calibration import calibration_error, probabilities
from lib.data import Split
from lib.data.images import as_image
from lib.header import CheckpointMetadata
from lib.model import Checkpoint
from lib.records.schema import Accuracy, BehaviourTest, Confidence
from lib.signs import mirror_map
from lib.signs.renderer import render_background
from lib.training.evaluation import Evaluation, evaluate, fair_confidence, predict_logits

NUM_JUDGED = 500  # images that are changed, evenly chosen from a split
TURN_DEG = 5.0
LIGHT = 1.2
MOST_CHANGED = 0.02  # share of answers that turning or light may change
MOST_UNMIRRORED = 0.05  # share of mirrored images that may be read as something else than the mirrored answer
MOST_BLANK = 0.5  # probability of the answer for an image of one level
BLANK_LEVELS = (0, 128, 255)

Change = Callable[[np.ndarray], np.ndarray]  # uint8 (N, 3, H, W) -> the same


def background_confidence(checkpoint: Checkpoint, num_images: int = NUM_JUDGED) -> np.ndarray:
    """Probability of the answer for drawn backgrounds without a sign, float (N,)."""
    with torch.inference_mode():
        images = np.stack([render_background(seed) for seed in range(num_images)])
    confidence: np.ndarray = _probabilities(checkpoint, images).max(axis=1)
    return confidence


def judge_confidence(
    evaluation: Evaluation, split: Split, metadata: CheckpointMetadata, backgrounds: np.ndarray
) -> Confidence:
    """What temperature and threshold of a checkpoint are worth.

    Args:
        backgrounds: probability of the answers where there is no sign, float (N,).
    """
    right, fair = evaluation.preds == evaluation.labels, fair_confidence(evaluation, split)
    return Confidence(
        temperature=metadata.temperature,
        error_before=calibration_error(probabilities(evaluation.logits).max(axis=1), right),
        error=calibration_error(fair, right),
        least_confidence=metadata.least_confidence,
        answered=float((evaluation.confidence >= metadata.least_confidence).mean()),
        rejected=float((backgrounds < metadata.least_confidence).mean()),
        num_backgrounds=len(backgrounds),
    )


def sample(split: Split) -> Split:
    """About `NUM_JUDGED` images, evenly chosen."""
    return split.take(np.arange(0, split.num_images, max(1, split.num_images // NUM_JUDGED)))


def behavioural_tests(checkpoint: Checkpoint, split: Split) -> list[BehaviourTest]:
    """What should hold for any reader of signs (after Ribeiro et al. 2020, arXiv 2005.04118)."""
    images = np.asarray(sample(split).images)
    answers = _answers(checkpoint, images)

    def changed(*changes: Change) -> float:
        return max(float((_answers(checkpoint, change(images)) != answers).mean()) for change in changes)

    mirrored = np.array([-1 if other is None else other for other in mirror_map(checkpoint.metadata.classes)])[answers]
    can = mirrored >= 0
    flipped = _answers(checkpoint, np.ascontiguousarray(images[can][..., ::-1]))
    levels = np.array(BLANK_LEVELS, np.uint8).reshape(-1, 1, 1, 1)
    blank = np.broadcast_to(levels, (len(levels), *images.shape[1:]))
    return [
        BehaviourTest(
            f"turned by {TURN_DEG:g} degrees", changed(_turned(TURN_DEG), _turned(-TURN_DEG)), MOST_CHANGED
        ),
        BehaviourTest(
            f"{100 * (LIGHT - 1):.0f} % more or less light", changed(_lit(LIGHT), _lit(1 / LIGHT)), MOST_CHANGED
        ),
        BehaviourTest(
            "mirrored", float((flipped != mirrored[can]).mean()) if can.any() else 0.0, MOST_UNMIRRORED
        ),
        BehaviourTest("without anything on them", float(_probabilities(checkpoint, blank).max()), MOST_BLANK),
    ]  # fmt: skip


def corruptions(size: int) -> dict[str, Change]:
    """How images are spoilt, by name; lengths are in pixels of an image of 32 x 32.

    Args:
        size: of the images, pixels.
    """
    return {
        **{f"blur of {px:g} px": _each(_blurred(px * size / 32)) for px in (0.5, 1.0, 1.5)},
        **{f"noise of {100 * share:g} %": _noisy(share) for share in (0.05, 0.1, 0.2)},
        **{f"light x {factor:g}": _lit(factor) for factor in (0.5, 0.25, 0.1)},
        **{f"light x {factor:g}": _lit(factor) for factor in (1.5, 2.0, 3.0)},
        **{f"{100 * share:g} % covered": _covered(share) for share in (0.1, 0.2, 0.3)},
        **{f"JPEG quality {quality}": _each(_as_jpeg(quality)) for quality in (40, 20, 10)},
    }


def corruption_accuracy(checkpoint: Checkpoint, split: Split) -> dict[str, Accuracy]:
    """Accuracy of the same images as they are and under each corruption, by its name."""
    judged = sample(split)
    images = np.asarray(judged.images)
    changes: dict[str, Change] = {"as they are": lambda images: images, **corruptions(images.shape[-1])}
    return {name: evaluate(_logits(checkpoint, change(images)), judged).accuracy for name, change in changes.items()}


def _logits(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    return predict_logits(checkpoint.model, checkpoint.preprocessing, images)


def _answers(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    answers: np.ndarray = _logits(checkpoint, images).argmax(axis=1)
    return answers


def _probabilities(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    return probabilities(_logits(checkpoint, images), checkpoint.metadata.temperature)


def _as_bytes(levels: np.ndarray) -> np.ndarray:
    """float, 0..255 -> uint8."""
    rounded: np.ndarray = levels.clip(0, 255).round().astype(np.uint8)
    return rounded


def _turned(degrees: float) -> Change:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def change(images: np.ndarray) -> np.ndarray:
        matrix = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]]).expand(len(images), 2, 3)
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        turned = F.grid_sample(torch.from_numpy(images).float(), grid, padding_mode="border", align_corners=False)
        return _as_bytes(turned.numpy())

    return change


def _lit(factor: float) -> Change:
    return lambda images: _as_bytes(images * factor)


def _noisy(share: float) -> Change:
    def change(images: np.ndarray) -> np.ndarray:
        return _as_bytes(images + np.random.default_rng(0).normal(0, 255 * share, images.shape))

    return change


def _covered(share: float) -> Change:
    """A grey square of this share of the image, anywhere."""

    def change(images: np.ndarray) -> np.ndarray:
        covered, size = images.copy(), images.shape[-1]
        side = round(math.sqrt(share) * size)
        corners = np.random.default_rng(0).integers(0, size - side + 1, (len(images), 2))
        for image, (top, left) in zip(covered, corners, strict=True):
            image[:, top : top + side, left : left + side] = 128
        return covered

    return change


def _each(change: Callable[[Image.Image], Image.Image]) -> Change:
    def changed(images: np.ndarray) -> np.ndarray:
        pictures = [np.asarray(change(as_image(image))) for image in images]
        return np.stack(pictures).transpose(0, 3, 1, 2)

    return changed


def _blurred(sigma: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.filter(ImageFilter.GaussianBlur(sigma))


def _as_jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return change
