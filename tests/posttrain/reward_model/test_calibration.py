"""Reliability by hand, as a partition, and what is refused."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.reward_model.calibration import Bin, expected_calibration_error, reliability

CHOICES = st.lists(st.tuples(st.floats(0.5, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=50)


def test_by_hand():
    # two bins over [0.5, 1]: 0.55 and 0.65 (one right of two), 0.75 (its lower bound is its own) and 1.0 (both right)
    first, second = reliability([0.55, 0.65, 0.75, 1.0], [1, 0, 1, 1], bins=2, lowest=0.5)
    assert first == Bin(low=0.5, high=0.75, count=2, confidence=pytest.approx(0.6), accuracy=0.5)
    assert second == Bin(low=0.75, high=1.0, count=2, confidence=0.875, accuracy=1.0)
    # 2/4 · |0.5 - 0.6| + 2/4 · |1 - 0.875|
    error = expected_calibration_error([first, second])
    assert error == pytest.approx(0.05 + 0.0625, abs=1e-12)
    # neither the mean of the signed distances nor one over bins of unequal weight
    assert error != pytest.approx(abs(-0.05 + 0.0625), abs=1e-3)
    assert expected_calibration_error([first, Bin(0.75, 1.0, 6, 0.875, 1.0)]) == pytest.approx((2 * 0.1 + 6 * 0.125) / 8)


def test_bins_without_choices_are_left_out():
    assert [(point.low, point.count) for point in reliability([0.1, 0.95], [0, 1], bins=10)] == [(0.1, 1), (0.9, 1)]


@given(CHOICES, st.integers(1, 20))
def test_every_choice_is_in_one_bin_and_the_means_are_kept(choices, bins):
    confidence, right = zip(*choices, strict=True)
    points = reliability(confidence, right, bins=bins, lowest=0.5)
    assert sum(point.count for point in points) == len(choices)
    assert sum(point.count * point.confidence for point in points) == pytest.approx(sum(confidence))
    assert sum(point.count * point.accuracy for point in points) == pytest.approx(sum(right))
    assert all(point.low - 1e-9 <= point.confidence <= point.high + 1e-9 for point in points)
    # the error of the whole is at least the distance of the overall means, and at most 1
    assert abs(np.mean(confidence) - np.mean(right)) - 1e-9 <= expected_calibration_error(points) <= 1


def test_one_who_is_always_sure_and_right_half_of_the_time_is_half_off():
    assert expected_calibration_error(reliability([1.0] * 10, [0, 1] * 5, lowest=0.5)) == 0.5


@pytest.mark.parametrize(
    ("confidence", "right", "said"),
    [
        ([], [], "confidence and is_right must have one axis of equal length, got (0,) and (0,)"),
        ([0.5, 0.6], [1], "confidence and is_right must have one axis of equal length, got (2,) and (1,)"),
        ([0.4], [1], "confidence must lie between 0.5 and 1, got 0.4 to 0.4"),
        ([float("nan")], [1], "confidence must lie between 0.5 and 1, got nan to nan"),
        ([0.6], [2], "is_right must lie between 0 and 1, got 2 to 2"),
    ],
)
def test_what_is_refused(confidence, right, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        reliability(confidence, right, lowest=0.5)


def test_an_error_needs_a_bin():
    with pytest.raises(ValueError, match=r"^points must hold at least one bin, got none$"):
        expected_calibration_error([])
