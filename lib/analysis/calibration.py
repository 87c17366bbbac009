"""How far the confidence of a network can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_BINS = 15  # of confidence, of equal width
MOST = 20.0  # by which a temperature may flatten or sharpen probabilities
NUM_STEPS = 50
ANSWERED = 0.99  # share of the signs that the threshold for "no sign" leaves


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax over the last axis of logits that are divided by the temperature."""
    scaled = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    powers = np.exp(scaled)
    shares: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which the probabilities of the right answers are most likely (Guo et al. 2017, arXiv
    1706.04599), by Newton's method on its inverse, in which the likelihood is concave.

    As in Platt scaling, one more image counts that is wrong: images that are all read right do not make the network
    infinitely sure.

    Args:
        logits: float (N, classes).
        labels: int (N,).

    Returns:
        Between 1 / `MOST` and `MOST`.
    """
    given = logits.astype(np.float64)
    wrong = 1 / (len(labels) + 2)
    aim = (1 - wrong) * given[np.arange(len(labels)), labels] + wrong * given.mean(axis=1)
    inverse = 1.0
    for _ in range(NUM_STEPS):
        shares = probabilities(given * inverse)
        mean = (shares * given).sum(axis=1)
        slope = (aim - mean).mean()
        curvature = ((shares * given**2).sum(axis=1) - mean**2).mean()
        step = inverse + slope / max(curvature, 1e-12)
        inverse = float(np.clip(step, max(inverse / 2, 1 / MOST), min(inverse * 2, MOST)))
    return 1 / inverse


def confidence_of_others(logits: np.ndarray, labels: np.ndarray, track_ids: np.ndarray) -> np.ndarray:
    """Probability of each answer at a temperature that was fitted on other tracks: each half of them is judged by what
    the other half gives. A temperature looks better on the images that it was fitted on.

    Args:
        logits: float (N, classes), of at least two tracks.
        labels, track_ids: int (N,).
    """
    half = np.unique(track_ids, return_inverse=True)[1] % 2
    confidence = np.empty(len(labels))
    for side in (0, 1):
        temperature = fit_temperature(logits[half != side], labels[half != side])
        confidence[half == side] = probabilities(logits[half == side], temperature).max(axis=1)
    return confidence


def fit_threshold(confidence: np.ndarray) -> float:
    """The confidence below which an answer is "no sign": it leaves `ANSWERED` of the signs that it is fitted on.

    Args:
        confidence: float (N,), of images of signs.
    """
    return float(np.quantile(confidence, 1 - ANSWERED, method="lower"))


@dataclass(frozen=True)
class Bin:
    """Images whose answers are about equally confident."""

    num_images: int
    confidence: float  # mean, 0..1
    right: float  # share that is read right


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Bins that have images, by confidence.

    Args:
        confidence: float (N,), probability of each answer.
        right: bool (N,).
    """
    bins = _bin_of(confidence)
    return [
        Bin(int(chosen.sum()), float(confidence[chosen].mean()), float(right[chosen].mean()))
        for number in np.unique(bins)
        for chosen in [bins == number]
    ]


def calibration_error(confidence: np.ndarray, right: np.ndarray, times: np.ndarray | None = None) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599): how far confidence is from the share of right
    answers, on average over images.

    Args:
        times: how often each image counts, int (N,); None = once.
    """
    times = np.ones(len(right)) if times is None else times
    gaps = np.bincount(_bin_of(confidence), weights=times * (confidence - right))
    return float(np.abs(gaps).sum() / times.sum())


def _bin_of(confidence: np.ndarray) -> np.ndarray:
    return np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)


def risk_by_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is wrong among the most confident answers, as ever more images are answered (Geifman and El-Yaniv 2017,
    arXiv 1705.08500).

    Returns:
        Share of the images that are answered, and share of these that is wrong, both (N,).
    """
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), np.cumsum(~right[order]) / answered


def macro_f1(confusion: np.ndarray) -> float:
    """Mean over classes of the harmonic mean of precision and recall; classes that neither occur nor are answered are
    left out.

    Args:
        confusion: int (classes, classes); rows = true class, columns = predicted.
    """
    right, total = np.diag(confusion), confusion.sum(0) + confusion.sum(1)
    return float((2 * right[total > 0] / total[total > 0]).mean())
