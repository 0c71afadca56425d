"""Intervals: worked by hand, by identity, by refusal; each mutant named below dies here."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from posttrain.statistics import Interval, clustered_mean, clustered_proportion, paired_difference, wilson, win_rate

Z = 1.959963984540054  # the normal quantile at 0.975


def test_wilson_by_hand() -> None:
    # p = 8/10, z² = 3.841459: centre = (0.8 + 0.192073) / 1.384146 = 0.716740
    # half = 1.959964 / 1.384146 · √(0.016 + 0.009604) = 1.416010 · 0.160011 = 0.226577
    interval = wilson(8, 10)
    assert interval.estimate == 0.8
    assert interval.low == pytest.approx(0.490163, abs=2e-6)
    assert interval.high == pytest.approx(0.943317, abs=2e-6)


@given(st.integers(1, 2_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    ours, theirs = wilson(*counts), binomtest(*counts).proportion_ci(method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)
    assert 0 <= ours.low <= ours.estimate <= ours.high <= 1


def test_wilson_keeps_its_width_at_the_ends() -> None:
    # 0 of n: high = z² / (n + z²); 1,000 trials without a success still allow 0.38 %
    assert wilson(0, 1_000) == Interval(0.0, 0.0, pytest.approx(Z**2 / (1_000 + Z**2)))
    assert wilson(1_000, 1_000) == Interval(1.0, pytest.approx(1_000 / (1_000 + Z**2)), 1.0)


def test_more_confidence_is_wider() -> None:
    assert wilson(30, 100, confidence=0.99).low < wilson(30, 100).low < wilson(30, 100, confidence=0.5).low


def test_clustered_mean_by_hand() -> None:
    # problem means 1, 2, 6: mean 3, squared deviations 4 + 1 + 9 = 14, standard error √(14 / (3 · 2)) = 1.527525
    interval = clustered_mean([[0, 2], [2, 2], [5, 7]])
    assert interval.estimate == 3
    assert interval.low == pytest.approx(3 - Z * 1.5275252, abs=1e-6)
    assert interval.high == pytest.approx(3 + Z * 1.5275252, abs=1e-6)


def test_repeating_each_sample_changes_nothing() -> None:
    # a mutant that counts samples instead of problems narrows the interval by √3
    values = np.random.default_rng(0).normal(size=(50, 1))
    once, thrice = clustered_mean(values), clustered_mean(np.repeat(values, 3, axis=1))
    assert thrice.low == pytest.approx(once.low) and thrice.high == pytest.approx(once.high)
    right = np.array([[1.0]] * 30 + [[0.0]] * 20)
    assert clustered_proportion(np.repeat(right, 3, axis=1)) == clustered_proportion(right)


def test_clustered_proportion_by_hand() -> None:
    # 30 of 50 right, one sample each: SE² = 0.6 · 0.4 / 49, so n_eff = 49
    interval = clustered_proportion([1.0] * 30 + [0.0] * 20)
    by_hand = wilson(0.6 * 49, 49)
    assert interval.low == pytest.approx(by_hand.low) and interval.high == pytest.approx(by_hand.high)


def test_independent_samples_count_in_full_and_no_more() -> None:
    # each problem has one right and one wrong sample: SE = 0 and n_eff falls back to the 40 problems
    assert clustered_proportion([[0, 1]] * 40) == wilson(20, 40)
    # 39 such problems and one 1.0: SE² tiny, 0.25 / SE² far above the 80 samples, which are the limit
    nearly = clustered_proportion([[0, 1]] * 39 + [[1, 1]])
    assert nearly.low == pytest.approx(wilson(41, 80).low)


def test_a_perfect_model_is_not_certain() -> None:
    assert clustered_proportion(np.ones((100, 4))) == wilson(100, 100)
    assert clustered_proportion(np.full((100, 4), 0.1 + 0.2)).low < 0.29


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3), min_size=2, max_size=30))
def test_a_proportion_stays_within_its_bounds(values: list[list[float]]) -> None:
    interval = clustered_proportion(values)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.high - interval.low > 0.01


def test_win_rate_counts_a_tie_as_half() -> None:
    assert win_rate([1.0, 0.5, 0.0, 0.5]).estimate == 0.5
    assert win_rate([0.9] * 500 + [0.4] * 500).low > 0.5


def test_paired_difference_by_hand() -> None:
    # differences are 1, 1, 0, 0 (each 50 times): mean 0.5, standard error 0.5 / √200 = 0.035355
    a, b = np.tile([1.0, 2.0, 3.0, 4.0], 50), np.tile([0.0, 1.0, 3.0, 4.0], 50)
    interval = paired_difference(a, b)
    assert interval.estimate == 0.5
    # the bootstrap's own error with 5,000 draws is 0.001; an unpaired mutant is off by 0.2
    assert interval.low == pytest.approx(0.5 - Z * 0.035355, abs=0.004)
    assert interval.high == pytest.approx(0.5 + Z * 0.035355, abs=0.004)


def test_paired_difference_by_identity() -> None:
    draws = np.random.default_rng(1)
    a, b = draws.normal(size=(40, 3)), draws.normal(size=(40, 2))
    forward, backward = paired_difference(a, b), paired_difference(b, a)
    assert forward == paired_difference(a, b)
    assert forward != paired_difference(a, b, seed=1)
    assert (backward.low, backward.high) == pytest.approx((-forward.high, -forward.low))
    assert paired_difference(a, a) == Interval(0.0, 0.0, 0.0)
    shifted = paired_difference(a + 5, b)
    assert shifted.low == pytest.approx(forward.low + 5)


def test_an_odd_number_of_resamples_is_drawn_in_full() -> None:
    # 501 crosses the chunk of 500 by one
    values = np.arange(10.0)
    assert math.isfinite(paired_difference(values, values[::-1], resamples=501).low)
    one = paired_difference(values, np.zeros(10), resamples=1)
    assert one.low == one.high  # a mutant that always draws whole chunks has 500 means here


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(0, 0), "trials must be greater than 0, got 0"),
        (lambda: wilson(1, float("nan")), "trials must be greater than 0, got nan"),
        (lambda: wilson(float("nan"), 3), "successes must lie between 0 and trials (3), got nan"),
        (lambda: wilson(4, 3), "successes must lie between 0 and trials (3), got 4"),
        (lambda: wilson(1, 3, confidence=1), "confidence must lie between 0 and 1, got 1"),
        (lambda: clustered_mean([]), "values must hold at least one value, got none"),
        (
            lambda: clustered_mean([[1.0, 2.0]]),
            "values must hold at least two problems, got 1: one says nothing about the spread",
        ),
        (lambda: clustered_mean([1.0, float("nan")]), "values must be finite, got 1 of 2 that are not"),
        (lambda: clustered_mean([[[1.0]]]), "values must have the axes (problems,) or (problems, samples), got shape (1, 1, 1)"),
        (lambda: clustered_proportion([0.0, 1.5]), "values must lie between 0 and 1, got 0 to 1.5"),
        (lambda: win_rate([[1.0], [0.0]]), "wins must have one axis, one value a problem, got shape (2, 1)"),
        (lambda: win_rate([]), "wins must hold at least one value, got none"),
        (lambda: paired_difference([1.0, 2.0], [1.0, 2.0, 3.0]), "a and b must hold the same problems, got 2 and 3"),
        (lambda: paired_difference([1.0, 2.0], [1.0, 2.0], resamples=0), "resamples must be at least 1, got 0"),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        call()
    assert str(refusal.value) == message
