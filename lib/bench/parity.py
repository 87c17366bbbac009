"""Is it still the same network? A backend's logits against the reference's, on the same images."""

from __future__ import annotations

import math

import numpy as np

from lib.records.results import Parity


def compare_logits(logits: np.ndarray, reference: np.ndarray, labels: np.ndarray, top1_drop_allowed: float) -> Parity:
    """Compare float32 logits (N, 43) with those of the reference backend.

    SQNR is the power of the reference's logits over that of the difference, in decibels.

    Args:
        labels: int64 (N,).
        top1_drop_allowed: largest loss of top-1, as a share, that still counts as right.
    """
    error = np.abs(logits.astype(np.float64) - reference)
    noise, signal = float((error**2).sum()), float((reference.astype(np.float64) ** 2).sum())
    top1, reference_top1 = (float((side.argmax(1) == labels).mean()) for side in (logits, reference))
    num_lost = round((reference_top1 - top1) * len(labels))
    passed = num_lost <= max(1, int(top1_drop_allowed * len(labels)))  # one image: less no split can show
    return Parity(
        num_images=len(labels),
        error_max=float(error.max()),
        error_mae=float(error.mean()),
        sqnr_db=10 * math.log10(signal / noise) if noise > 0 and signal > 0 else None,
        agreement=float((logits.argmax(1) == reference.argmax(1)).mean()),
        top1=top1,
        reference_top1=reference_top1,
        top1_drop_allowed=top1_drop_allowed,
        passed=passed,
        reason="" if passed else f"top-1 {top1:.2%} against {reference_top1:.2%}, allowed drop {top1_drop_allowed:.2%}",
    )
