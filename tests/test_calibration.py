"""How far confidence can be trusted, on answers whose numbers can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lib.analysis.calibration import (
    calibration_error,
    confidence_of_others,
    fit_temperature,
    fit_threshold,
    macro_f1,
    probabilities,
    reliability,
    risk_by_coverage,
)

CONFIDENCE = np.array([0.95, 0.95, 0.95, 0.95, 0.65, 0.65])
RIGHT = np.array([True, True, True, False, True, False])


def test_calibration_error_is_the_mean_gap_of_confidence_and_right_answers() -> None:
    bins = reliability(CONFIDENCE, RIGHT)
    assert [(each.num_images, each.right) for each in bins] == [(2, 0.5), (4, 0.75)]
    assert calibration_error(CONFIDENCE, RIGHT) == pytest.approx((4 * 0.20 + 2 * 0.15) / 6)
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0, "as sure as right, also at its end"
    twice = calibration_error(CONFIDENCE, RIGHT, np.array([2, 2, 2, 2, 0, 0]))
    assert twice == pytest.approx(0.2), "images count as often as they are drawn"


def test_risk_falls_where_unsure_answers_are_left_out() -> None:
    coverage, risk = risk_by_coverage(CONFIDENCE[::-1], RIGHT[::-1])
    assert coverage.tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert risk[3] == pytest.approx(1 / 4) and risk[-1] == pytest.approx(2 / 6)


def test_macro_f1_counts_each_class_alike_and_leaves_absent_ones_out() -> None:
    confusion = np.array([[90, 0, 0], [5, 5, 0], [0, 0, 0]])
    assert macro_f1(confusion) == pytest.approx((2 * 90 / 185 + 2 * 5 / 15) / 2)


def drawn(temperature: float, num_images: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits of ten classes, and labels drawn from their softmax at a temperature."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (num_images, 10)).astype(np.float32)
    ranks = probabilities(logits, temperature).cumsum(axis=1)
    return logits, (random.random((num_images, 1)) > ranks).sum(axis=1).clip(max=9)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_that_labels_were_drawn_at_is_found_again(temperature: float) -> None:
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.1)


def test_temperature_stays_finite_where_all_is_right_or_all_is_wrong() -> None:
    right = np.eye(10, dtype=np.float32)[np.arange(500) % 10]
    perfect = fit_temperature(right, np.arange(500) % 10)
    assert 0.05 < perfect < 0.2 and probabilities(right, perfect).max(axis=1)[0] == pytest.approx(1, abs=0.01)
    assert fit_temperature(right, (np.arange(500) + 1) % 10) == pytest.approx(20), "as flat as it may be"
    assert 0 < fit_temperature(np.zeros((5, 3), np.float32), np.zeros(5, int)) < np.inf


def test_each_half_of_the_tracks_is_judged_by_the_temperature_of_the_other() -> None:
    (cold, first), (warm, second) = drawn(0.5), drawn(4.0)
    tracks = np.repeat(np.arange(800), 10)
    logits, labels = np.empty((8000, 10), np.float32), np.empty(8000, int)
    logits[tracks % 2 == 0], labels[tracks % 2 == 0] = cold, first
    logits[tracks % 2 == 1], labels[tracks % 2 == 1] = warm, second
    found = confidence_of_others(logits, labels, tracks)
    expected = np.where(
        tracks % 2, probabilities(logits, fit_temperature(cold, first)).max(1),
        probabilities(logits, fit_temperature(warm, second)).max(1),
    )  # fmt: skip
    np.testing.assert_allclose(found, expected)


def test_threshold_leaves_the_stated_share_of_signs() -> None:
    confidence = np.random.default_rng(0).random(2000)
    answered = confidence >= fit_threshold(confidence)
    assert 0.99 <= answered.mean() <= 0.9905
