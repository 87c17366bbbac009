"""How far the confidence of a network can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_BINS = 15  # of confidence, of equal width


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
