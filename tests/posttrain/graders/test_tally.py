"""Counting grades: intervals, agreement and Cohen's kappa by hand."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posttrain.graders import Grade
from posttrain.graders.tally import Tally
from posttrain.statistics.intervals import clustered_mean, clustered_proportion, wilson


def tally(scores, labels=None):
    counted = Tally()
    for score, label in zip(scores, labels or [None] * len(scores), strict=True):
        counted.add(Grade(score, score == 1, is_partial=0 < score < 1, extracted="x"), label)
    return counted


def table(right_right, right_wrong, wrong_right, wrong_wrong):
    """Labels first, verdicts second."""
    counted = Tally()
    for label, verdict, times in (
        (True, True, right_right),
        (True, False, right_wrong),
        (False, True, wrong_right),
        (False, False, wrong_wrong),
    ):
        for _ in range(times):
            counted.add(Grade(float(verdict), verdict), label)
    return counted


def test_kappa_by_hand():
    # 50 lines: 20 and 15 agree, 5 + 10 do not: p_o = 0.7; right by labels 25/50, by grades 30/50: p_e = 0.5·0.6 + 0.5·0.4 = 0.5
    counted = table(20, 5, 10, 15)
    assert (counted.labelled, counted.agreeing) == (50, 35)
    assert counted.kappa() == pytest.approx(0.4, abs=1e-12)


@pytest.mark.parametrize(
    ("cells", "kappa"), [((5, 0, 0, 5), 1.0), ((0, 5, 5, 0), -1.0), ((5, 5, 5, 5), 0.0), ((1, 1, 0, 8), None)]
)
def test_kappa_at_its_corners(cells, kappa):
    # the last: p_o = 0.9, labels 0.2, grades 0.1: p_e = 0.02 + 0.72 = 0.74, (0.9 − 0.74) / 0.26
    assert table(*cells).kappa() == pytest.approx(0.16 / 0.26 if kappa is None else kappa, abs=1e-12)


@pytest.mark.parametrize("cells", [(5, 0, 0, 0), (0, 0, 0, 5), (0, 0, 0, 0)])
def test_kappa_is_undefined_where_both_say_one_thing_throughout(cells):
    assert table(*cells).kappa() is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_kappa_does_not_change_when_grader_and_labels_change_places(pairs):
    cells = [sum(pair == cell for pair in pairs) for cell in ((True, True), (True, False), (False, True), (False, False))]
    turned = [cells[0], cells[2], cells[1], cells[3]]
    assert table(*cells).kappa() == table(*turned).kappa()


def test_the_mean_of_rights_and_wrongs_is_a_share():
    assert tally([1.0, 0.0, 1.0, 1.0]).mean_score() == wilson(3, 4)
    assert tally([1.0] * 20).mean_score() == wilson(20, 20)
    assert tally([1.0]).mean_score() == wilson(1, 1)


def test_the_mean_of_other_scores_by_hand():
    # mean 3.5, deviations ±0.1: s² = 4 · 0.01 / 3, s/√4 = 0.1/√3; Student's quantile with 3 degrees is 3.182446
    interval = tally([3.4, 3.6, 3.4, 3.6]).mean_score()
    assert interval.estimate == pytest.approx(3.5)
    assert interval.high - 3.5 == pytest.approx(3.182446 * 0.1 / math.sqrt(3), rel=1e-5)
    # two scores: s² = 2 · 0.01 / 1, s/√2 = 0.1; with 1 degree 12.706205
    assert tally([3.4, 3.6]).mean_score().high == pytest.approx(3.5 + 1.2706205, abs=1e-6)
    assert tally([0.4]).mean_score() is None


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
def test_the_running_mean_is_the_mean(scores):
    interval = tally([*scores, 7.5]).mean_score()
    expected = clustered_mean([*scores, 7.5])
    assert interval.estimate == pytest.approx(expected.estimate, abs=1e-9)
    assert interval.low == pytest.approx(expected.low, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
@example([0.1, 0.1, 0.1])  # the mean is rounded to another side of where Poisson's bound begins
def test_scores_between_0_and_1_have_the_interval_of_a_share(scores):
    interval = tally(scores).mean_score()
    if any(0 < score < 1 for score in scores):
        expected = clustered_proportion(scores)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= interval.low <= interval.estimate + 1e-12 and interval.estimate <= interval.high + 1e-12 <= 1 + 2e-12


def test_counts():
    counted = Tally()
    counted.add(Grade(1.0, True, extracted="14"))
    counted.add(Grade(0.1, False, is_partial=True, extracted="15"), label=True)
    counted.add(Grade(0.0, False, errors=("sample_parse_error",)), label=False)
    assert (counted.count, counted.right, counted.partial, counted.unextracted) == (3, 1, 1, 1)
    assert (counted.labelled, counted.agreeing, dict(counted.errors)) == (2, 1, {"sample_parse_error": 1})
    assert counted.share(1) == wilson(1, 3)
    with pytest.raises(ValueError, match="trials must be greater than 0"):
        Tally().share(0)
