"""How far confidence can be trusted, on answers whose numbers can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lib.analysis.calibration import calibration_error, macro_f1, reliability, risk_by_coverage

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
