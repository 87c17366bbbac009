"""Do the answers of a server drift from those to the validation images? And how many of them are still right?

Frames of one sign are alike, so whole sequences are drawn, never images. Nothing here needs a label of the window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.errors import UserError
from lib.records.network_outputs import Outputs
from lib.records.schema import ClassShare, Drift

ALPHA = 0.05  # of false alarms, over both tests together
NUM_DRAWS = 499
NUM_POINTS = 64  # at which distributions are compared: quantiles of all outputs
NUM_SHOWN = 5  # classes


def find_drift(validation: Outputs, window: Outputs, classes: Sequence[str], seed: int = 0) -> Drift:
    """Compare a window with the validation images of the release that answered.

    Two tests, by permutation of whole sequences. That is exact where those of window and validation are exchangeable.

    - answers: the mean over all classes and the confidence of the Kolmogorov-Smirnov distance between both
      distributions, each in units of its spread under permutation. It sees images that are harder to read.
    - mix: the squared distance between both mean probability vectors. It sees other signs.

    The smaller p-value is corrected for being the smaller of two by the same permutations (Westfall and Young 1993).
    The accuracy is that of Garg et al. 2022 (average thresholded confidence): the share of answers above the confidence
    that as many validation images exceed as are read right. Its interval resamples sequences on both sides.

    Sequences that the ends of the window have cut off are left out.

    Raises:
        UserError: the window is of a network with other classes.
    """
    if (found := window.log_probabilities.shape[1]) != len(classes):
        raise UserError(f"the window has {found} classes, and the release {len(classes)}; get that of its server")
    window = _whole(window, validation)
    rng = np.random.default_rng(seed)
    sides = [np.unique(side.sequences, return_inverse=True)[1] for side in (validation, window)]
    num_sequences = [int(side.max()) + 1 for side in sides]
    chosen = np.zeros((NUM_DRAWS + 1, sum(num_sequences)), np.float32)
    chosen[0, num_sequences[0] :] = 1  # the window; then sequences that could as well have been it
    for row in chosen[1:]:
        row[rng.permutation(len(row))[: num_sequences[1]]] = 1
    sequence = np.concatenate([sides[0], sides[1] + num_sequences[0]])
    logs = np.concatenate([validation.log_probabilities, window.log_probabilities]).astype(np.float32)
    p_values = np.stack([_p_values(_answers(logs, sequence, chosen)), _p_values(_mix(logs, sequence, chosen))])
    shares = [np.exp(side.log_probabilities.astype(np.float32)).mean(axis=0) for side in (validation, window)]
    moved = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:NUM_SHOWN]
    return Drift(
        num_images=len(window.labels),
        num_sequences=num_sequences[1],
        p_value=float(_p_values(-p_values.min(axis=0))[0]),
        p_answers=float(p_values[0, 0]),
        p_mix=float(p_values[1, 0]),
        shares=[ClassShare(classes[k], float(shares[0][k]), float(shares[1][k])) for k in moved],
        top1=float(validation.right.mean()),
        estimated_top1=float(_estimates(validation, window, *(np.ones((1, len(side))) for side in sides))[0]),
        interval=_interval(validation, window, sides, rng),
    )


def _whole(window: Outputs, validation: Outputs) -> Outputs:
    """A window without the sequences that it begins and ends with, if they are shorter than those of validation.

    They are cut off then, and the first frames of a track are harder than the last. A window of nothing else stays.
    """
    usual = float(np.median(np.unique(validation.sequences, return_counts=True)[1]))
    kept = np.ones(len(window.labels), bool)
    for end in window.sequences[[0, -1]]:
        if (cut := window.sequences == end).sum() < usual:
            kept &= ~cut
    return window.taken(kept) if kept.any() else window


def is_drift(drift: Drift) -> bool:
    """Whether a window differs by more than chance explains."""
    return drift.p_value <= ALPHA


def _p_values(distances: np.ndarray) -> np.ndarray:
    """Of each draw, (B,): the share of draws that are as far off or farther."""
    as_far = len(distances) - np.searchsorted(np.sort(distances), distances - 1e-9)
    return as_far / len(distances)


def _answers(logs: np.ndarray, sequence: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Distance of the outputs of the chosen sequences from those of the others, (B,)."""
    values = np.concatenate([logs, logs.max(axis=1, keepdims=True)], axis=1)
    points = np.quantile(values, (np.arange(NUM_POINTS) + 0.5) / NUM_POINTS, axis=0)
    shape = chosen.shape[1], NUM_POINTS + 1
    total = 0.0
    for column, at in zip(values.T, points.T, strict=True):
        place = sequence * shape[1] + np.searchsorted(at, column)
        counts = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape)
        below = np.cumsum(counts[:, :-1], axis=1, dtype=np.float32)  # images up to each point, (sequences, points)
        inside, outside = _means(below, sequence, chosen)
        distance = np.abs(inside - outside).max(axis=1)
        total = total + (distance - distance.mean()) / max(float(distance.std()), 1e-9)
    return np.asarray(total)


def _mix(logs: np.ndarray, sequence: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The same for the mean probabilities, (B,)."""
    sums = np.zeros((chosen.shape[1], logs.shape[1]), np.float32)
    np.add.at(sums, sequence, np.exp(logs))
    inside, outside = _means(sums, sequence, chosen)
    squared: np.ndarray = ((inside - outside) ** 2).sum(axis=1)
    return squared


def _means(sums: np.ndarray, sequence: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the images of the chosen sequences and of the others. Args: sums: (sequences, K), over each one's images."""
    num_images = chosen @ np.bincount(sequence, minlength=chosen.shape[1]).astype(np.float32)
    inside, total = chosen @ sums, sums.sum(axis=0)
    return inside / num_images[:, None], (total - inside) / (len(sequence) - num_images)[:, None]


def _estimates(
    validation: Outputs, window: Outputs, times_validation: np.ndarray, times_window: np.ndarray
) -> np.ndarray:
    """Top-1 of the window without labels, (B,). Args: times_*: how often each image counts, (B, N)."""
    confidence = validation.confidence
    order = np.argsort(confidence, kind="stable")
    counts = np.cumsum(times_validation[:, order], axis=1)
    wrong = times_validation @ ~validation.right
    thresholds = confidence[order][np.minimum((counts <= wrong[:, None]).sum(axis=1), len(order) - 1)]
    above = window.confidence >= thresholds[:, None]
    estimates: np.ndarray = (times_window * above).sum(axis=1) / times_window.sum(axis=1)
    return estimates


def _interval(
    validation: Outputs, window: Outputs, sides: Sequence[np.ndarray], rng: np.random.Generator
) -> tuple[float, float] | None:
    """95 %, percentile bootstrap over sequences; None where one side has a single one."""
    times = []
    for side in sides:
        count = int(side.max()) + 1
        if count < 2:
            return None
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=NUM_DRAWS)
        times.append(drawn[:, side].astype(np.float32))
    low, high = np.percentile(_estimates(validation, window, *times), (2.5, 97.5))
    return float(low), float(high)
