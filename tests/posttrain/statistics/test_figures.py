"""Figures by name: intervals become three metrics, what is undefined none."""

import pytest

from posttrain.statistics.figures import flattened, mean
from posttrain.statistics.intervals import Interval


def test_an_interval_is_three_metrics_and_what_is_undefined_is_none():
    found = flattened({"share": Interval(0.5, 0.25, 0.75), "labels": 3.0, "gold": None})
    assert found == {"share": 0.5, "share_low": 0.25, "share_high": 0.75, "labels": 3.0}


def test_a_mean_by_hand_and_of_nothing():
    assert mean([1.0, 0.0, 0.5]) == 0.5
    with pytest.raises(ZeroDivisionError):
        mean([])
