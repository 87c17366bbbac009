"""Is it still the same network? A backend's logits against the reference's, on the same images."""

from __future__ import annotations

import math

import numpy as np

from lib.analysis.statistics import signal_to_error_db, track_bootstrap
from lib.backends import Backend
from lib.backends.interface import TOLERANCES, Tolerance
from lib.model import CheckpointMetadata
from lib.records.schema import Parity, ParityOutcome


def tolerance(backend: type[Backend], network: CheckpointMetadata) -> Tolerance:
    """What is allowed to a backend that runs a network."""
    usual = backend.tolerance or TOLERANCES[backend.precision]
    if network.profile == "smoke":  # hardly trained: a small error changes many of its answers
        return Tolerance(top1_drop=0.05, sqnr_db=usual.sqnr_db, agreement=0.9)
    if network.random_weights:
        # Its classes lie so close that any error changes the arg max, and rounding to 8 bits can grow from layer to
        # layer beyond the signal: 0 dB in `mobilenet_v3_small`.
        sqnr_db = -math.inf if backend.precision == "int8" else min(10.0, usual.sqnr_db)
        return Tolerance(top1_drop=1.0, sqnr_db=sqnr_db, agreement=0.0)
    return usual


def agreement(logits: np.ndarray, reference: np.ndarray) -> float:
    """Share of images with the same predicted class."""
    return float((logits.argmax(1) == reference.argmax(1)).mean())


def compare_logits(
    logits: np.ndarray, reference: np.ndarray, labels: np.ndarray, track_ids: np.ndarray, allowed: Tolerance
) -> Parity:
    """Compare float32 logits (N, classes) with those of the reference backend.

    Args:
        labels: int64 (N,).
        track_ids: int64 (N,), which images show one physical sign.
    """
    logits, reference = logits.astype(np.float64), reference.astype(np.float64)
    error = np.abs(logits - reference)
    right, reference_right = logits.argmax(1) == labels, reference.argmax(1) == labels
    lost = reference_right.astype(int) - right  # 1 where only the reference is right, -1 where only the backend is
    parity = Parity(
        num_images=len(labels),
        num_tracks=len(np.unique(track_ids)),
        error_max=float(error.max()),
        error_mae=float(error.mean()),
        sqnr_db=signal_to_error_db(logits, reference),
        agreement=agreement(logits, reference),
        top1=float(right.mean()),
        reference_top1=float(reference_right.mean()),
        num_gained=int((lost < 0).sum()),
        num_lost=int((lost > 0).sum()),
        top1_drop_interval=track_bootstrap(lost, track_ids),
        top1_drop_allowed=allowed.top1_drop,
        outcome="passed",
    )
    parity.outcome, parity.reason = _judge(parity, allowed)
    return parity


def _judge(parity: Parity, allowed: Tolerance) -> tuple[ParityOutcome, str]:
    """The outcome, and why it is not `passed`.

    A loss of top-1 beyond the tolerance fails where the whole interval lies beyond it; else these images cannot decide.
    """
    failed = []
    if parity.sqnr_db is not None and parity.sqnr_db < allowed.sqnr_db:
        failed.append(
            f"logits differ by {parity.sqnr_db:.1f} dB of signal to error, {allowed.sqnr_db:.0f} dB are needed"
        )
    num_different = round((1 - parity.agreement) * parity.num_images)
    if not _is_within(num_different, 1 - allowed.agreement, parity.num_images):
        failed.append(f"{parity.agreement:.2%} equal predictions, {allowed.agreement:.2%} are needed")
    loss = ""
    if not _is_within(parity.num_lost - parity.num_gained, allowed.top1_drop, parity.num_images):
        interval = parity.top1_drop_interval
        words = "" if interval is None else f" [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
        loss = f"{100 * parity.top1_drop:.2f}{words} points of top-1 lost, {100 * allowed.top1_drop:.2f} are allowed"
        if interval is not None and interval[0] > allowed.top1_drop:
            failed.append(loss)
    if failed:
        return "failed", "; ".join(failed)
    return ("inconclusive", loss) if loss else ("passed", "")


def _is_within(num_different: int, share: float, num_images: int) -> bool:
    """Whether no more images differ than a share of all. A single one decides nothing, however few there are."""
    return num_different <= max(1, math.floor(share * num_images + 1e-9))
