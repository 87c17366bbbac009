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
NUM_BACKGROUNDS = 300
TURN_DEG = 5.0
LIGHT = 1.2
MOST_CHANGED = 0.02  # share of answers that turning or light may change
MOST_UNMIRRORED = 0.05  # share of mirrored images that may be read as something else than the mirrored answer
MOST_BLANK = 0.5  # probability of the answer for an image of one level
BLANK_LEVELS = (0, 128, 255)


def background_confidence(checkpoint: Checkpoint, num_images: int = NUM_BACKGROUNDS) -> np.ndarray:
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
    """At most `NUM_JUDGED` images, evenly chosen."""
    return split.take(np.linspace(0, split.num_images - 1, min(NUM_JUDGED, split.num_images)).round().astype(int))


def behavioural_tests(checkpoint: Checkpoint, split: Split) -> list[BehaviourTest]:
    """What should hold for any reader of signs (after Ribeiro et al. 2020, arXiv 2005.04118)."""
    images = np.asarray(sample(split).images)
    answers = _probabilities(checkpoint, images).argmax(axis=1)

    def changed(*versions: np.ndarray) -> float:
        found = [_probabilities(checkpoint, version).argmax(axis=1) for version in versions]
        return max(float((each != answers).mean()) for each in found)

    mirrored = np.array([-1 if other is None else other for other in mirror_map(checkpoint.metadata.classes)])[answers]
    flipped = _probabilities(checkpoint, np.ascontiguousarray(images[..., ::-1])).argmax(axis=1)
    unlike = (flipped != mirrored)[mirrored >= 0]
    blank = np.stack([np.full(images.shape[1:], level, np.uint8) for level in BLANK_LEVELS])
    turn, light = f"turned by {TURN_DEG:g} degrees", f"{100 * (LIGHT - 1):.0f} % more or less light"
    return [
        BehaviourTest(turn, changed(_turned(images, TURN_DEG), _turned(images, -TURN_DEG)), MOST_CHANGED),
        BehaviourTest(light, changed(_lit(images, LIGHT), _lit(images, 1 / LIGHT)), MOST_CHANGED),
        BehaviourTest("mirrored", float(unlike.mean()) if len(unlike) else 0.0, MOST_UNMIRRORED),
        BehaviourTest("without anything on them", float(_probabilities(checkpoint, blank).max()), MOST_BLANK),
    ]


def corruption_accuracy(checkpoint: Checkpoint, split: Split) -> dict[str, Accuracy]:
    """Accuracy of the same images as they are and under each of the `CORRUPTIONS`, by its name."""
    judged = sample(split)
    images = np.asarray(judged.images)
    versions = {"as they are": images, **{name: change(images) for name, change in CORRUPTIONS.items()}}
    model, preprocessing = checkpoint.model, checkpoint.preprocessing
    return {
        name: evaluate(predict_logits(model, preprocessing, each), judged).accuracy for name, each in versions.items()
    }


def _probabilities(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    logits = predict_logits(checkpoint.model, checkpoint.preprocessing, images)
    return probabilities(logits, checkpoint.metadata.temperature)


def _as_bytes(levels: np.ndarray) -> np.ndarray:
    """float, 0..255 -> uint8."""
    rounded: np.ndarray = levels.clip(0, 255).round().astype(np.uint8)
    return rounded


def _turned(images: np.ndarray, degrees: float) -> np.ndarray:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]]).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    given = torch.from_numpy(images).float()
    return _as_bytes(F.grid_sample(given, grid, padding_mode="border", align_corners=False).numpy())


def _lit(images: np.ndarray, factor: float) -> np.ndarray:
    return _as_bytes(images * float(factor))  # by a whole number, bytes would overflow


def _noisy(images: np.ndarray, percent: float) -> np.ndarray:
    return _as_bytes(images + np.random.default_rng(0).normal(0, 2.55 * percent, images.shape))


def _covered(images: np.ndarray, percent: float) -> np.ndarray:
    """By a grey square of this share of the image, anywhere."""
    covered, size = images.copy(), images.shape[-1]
    side = round(math.sqrt(percent / 100) * size)
    corners = np.random.default_rng(0).integers(0, size - side + 1, (len(images), 2))
    for image, (top, left) in zip(covered, corners, strict=True):
        image[:, top : top + side, left : left + side] = 128
    return covered


def _blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    blur = ImageFilter.GaussianBlur(sigma * images.shape[-1] / 32)
    return np.stack([np.asarray(as_image(image).filter(blur)).transpose(2, 0, 1) for image in images])


def _as_jpeg(images: np.ndarray, quality: float) -> np.ndarray:
    files = [io.BytesIO() for _ in images]
    for image, file in zip(images, files, strict=True):
        as_image(image).save(file, "JPEG", quality=int(quality))
    return np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])


def _with(change: Callable[[np.ndarray, float], np.ndarray], strength: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: change(images, strength)


_KINDS: tuple[tuple[str, Callable[[np.ndarray, float], np.ndarray], tuple[float, ...]], ...] = (
    ("blur of {:g} px", _blurred, (0.5, 1, 1.5)),  # deviation, in images of 32 pixels
    ("noise of {:g} %", _noisy, (5, 10, 20)),
    ("light x {:g}", _lit, (0.5, 0.25, 0.1)),
    ("light x {:g}", _lit, (1.5, 2, 3)),
    ("{:g} % covered", _covered, (10, 20, 30)),
    ("JPEG quality {:g}", _as_jpeg, (40, 20, 10)),
)
# How images are spoilt, by name: uint8 (N, 3, H, W) -> the same.
CORRUPTIONS = {
    name.format(strength): _with(change, strength) for name, change, strengths in _KINDS for strength in strengths
}
