"""Fixed, class-balanced samples of a split: the same images in every job."""

from __future__ import annotations

import numpy as np

from lib.data import Split


def balanced_sample(split: Split, num_images: int) -> Split:
    """As many images of every class as possible, drawn once and for all; sorted as in the split.

    Classes take turns, so a class with few images gives all it has.

    Args:
        num_images: 0, or more than there are: the split as it is.
    """
    chosen = balanced_indices(split.labels, num_images)
    return split if len(chosen) == split.num_images else split.take(chosen)


def balanced_indices(labels: np.ndarray, num_images: int) -> np.ndarray:
    """Which images `balanced_sample` takes, from int64 labels (N,): int64, ascending."""
    if not 0 < num_images < len(labels):
        return np.arange(len(labels))
    order = np.random.default_rng(0).permutation(len(labels))
    labels = np.asarray(labels)[order]
    turn = np.empty(len(labels), np.int64)  # how many of its class were drawn before
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    chosen: np.ndarray = np.sort(order[np.argsort(turn, kind="stable")[:num_images]])
    return chosen
