"""Is it still the same network? A backend's logits against the reference's, on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lib.records.results import Parity

CHANCE = 2.326  # standard errors: a loss beyond the tolerance is a failure where chance explains less than 1 % of such


@dataclass(frozen=True)
class Tolerance:
    """How far a backend may be from the reference and still be the same network."""

    top1_drop: float  # largest loss of top-1, as a share
    sqnr_db: float  # least signal to error of the logits
    agreement: float  # least share of equal predictions


def mcnemar_p(num_gained: int, num_lost: int) -> float:
    """Exact two-sided McNemar test: how likely a split of the discordant images at least this uneven is if each was
    equally likely to fall either way (McNemar 1947; exact binomial form)."""
    discordant = num_gained + num_lost
    tail = sum(math.comb(discordant, count) for count in range(min(num_gained, num_lost) + 1))
    return min(1.0, float(Fraction(2 * tail, 2**discordant)))


def exceeds(num_gained: int, num_lost: int, num_images: int, allowed_drop: float, chance: float = 0.0) -> bool:
    """Whether more images were lost than allowed, by `chance` standard errors.

    The standard error of lost - gained is the root of their sum, as in McNemar's test: on few images, or with a network
    that hardly decides between two classes, a handful of answers falls either way.
    """
    return num_lost - num_gained - chance * math.sqrt(num_gained + num_lost) > allowed_drop * num_images


def compare_logits(logits: np.ndarray, reference: np.ndarray, labels: np.ndarray, allowed: Tolerance) -> Parity:
    """Compare float32 logits (N, 43) with those of the reference backend.

    SQNR is the power of the reference's logits over that of the difference, in decibels.

    Args:
        labels: int64 (N,).
    """
    error = np.abs(logits.astype(np.float64) - reference)
    noise, signal = float((error**2).sum()), float((reference.astype(np.float64) ** 2).sum())
    sqnr_db = 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else None
    agreement = float((logits.argmax(1) == reference.argmax(1)).mean())
    right, reference_right = logits.argmax(1) == labels, reference.argmax(1) == labels
    top1, reference_top1 = float(right.mean()), float(reference_right.mean())
    num_gained, num_lost = int((right & ~reference_right).sum()), int((reference_right & ~right).sum())
    reasons = []
    if exceeds(num_gained, num_lost, len(labels), allowed.top1_drop, CHANCE):
        reasons.append(f"top-1 {top1:.2%} against {reference_top1:.2%}, allowed drop {allowed.top1_drop:.2%}")
    if sqnr_db is not None and sqnr_db < allowed.sqnr_db:
        reasons.append(f"logits differ by {sqnr_db:.1f} dB of signal to error, {allowed.sqnr_db:.0f} dB are needed")
    if round((1 - agreement) * len(labels)) > max(1, int((1 - allowed.agreement) * len(labels))):
        reasons.append(f"{agreement:.2%} equal predictions, {allowed.agreement:.2%} are needed")
    return Parity(
        num_images=len(labels),
        error_max=float(error.max()),
        error_mae=float(error.mean()),
        sqnr_db=sqnr_db,
        agreement=agreement,
        top1=top1,
        reference_top1=reference_top1,
        num_gained=num_gained,
        num_lost=num_lost,
        mcnemar_p=mcnemar_p(num_gained, num_lost),
        top1_drop_allowed=allowed.top1_drop,
        passed=not reasons,
        reason="; ".join(reasons),
    )
