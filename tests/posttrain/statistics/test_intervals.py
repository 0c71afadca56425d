"""Intervals: worked by hand, by identity, by refusal; each mutant named below dies here."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binomtest

from posttrain.statistics.clusters import clustered_error
from posttrain.statistics.intervals import (
    Interval,
    clustered_mean,
    clustered_proportion,
    paired_difference,
    paired_gain,
    share_interval,
    wilson,
    win_rate,
)

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
    if counts[0] > min(3, counts[1] / 10):
        assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    if counts[1] - counts[0] > min(3, counts[1] / 10):
        assert ours.high == pytest.approx(theirs.high, abs=1e-12)
    assert 0 <= ours.low <= ours.estimate <= ours.high <= 1


def test_wilson_keeps_its_width_at_the_ends() -> None:
    # 0 of n: high = z² / (n + z²); 1,000 trials without a success still allow 0.38 %
    assert wilson(0, 1_000) == Interval(0.0, 0.0, pytest.approx(Z**2 / (1_000 + Z**2)))
    assert wilson(1_000, 1_000) == Interval(1.0, pytest.approx(1_000 / (1_000 + Z**2)), 1.0)


@given(st.floats(0.01, 5), st.floats(-16, -6))
@example(2.631518069153872, -12.898448)
def test_wilson_of_nearly_nothing_and_nearly_all_stays_within_its_bounds(trials: float, power: float) -> None:
    few = trials * 10**power
    for interval in (wilson(few, trials), wilson(trials - few, trials)):
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_one_success_is_as_rare_as_it_may_be() -> None:
    # P(a Poisson count ≥ 1) = 1 - e^-λ = 0.05 at λ = 0.051293; of 2: 1 - e^-λ (1 + λ) = 0.05 at λ = 0.355362
    assert wilson(1, 50).low == pytest.approx(0.051293 / 50, abs=1e-7)
    assert wilson(2, 50).low == pytest.approx(0.355362 / 50, abs=1e-7)
    assert wilson(49, 50).high == pytest.approx(1 - 0.051293 / 50, abs=1e-7)
    assert wilson(1, 50, confidence=0.5).low < wilson(1, 50, confidence=0.3).low


def test_more_confidence_is_wider() -> None:
    assert wilson(30, 100, confidence=0.99).low < wilson(30, 100).low < wilson(30, 100, confidence=0.5).low


def test_clustered_mean_by_hand() -> None:
    # problem means 1, 2, 6: mean 3, squared deviations 4 + 1 + 9 = 14, standard error √(14 / (3 · 2)) = 1.527525;
    # Student's quantile with 2 degrees is 4.302653
    interval = clustered_mean([[0, 2], [2, 2], [5, 7]])
    assert interval.estimate == 3
    assert interval.low == pytest.approx(3 - 4.302653 * 1.5275252, abs=1e-5)
    assert interval.high == pytest.approx(3 + 4.302653 * 1.5275252, abs=1e-5)
    assert clustered_error([[0, 2], [2, 2], [5, 7]]) == pytest.approx(1.5275252, abs=1e-6)


def test_clusters_of_different_size_by_hand() -> None:
    # p = 3/4; residuals summed by cluster: a 1/4 + 1/4 = 1/2, b -3/4, c 1/4; squares 1/4 + 9/16 + 1/16 = 7/8;
    # SE² = 3/2 · 7/8 / 4² = 21/256, SE = 0.286411; times 4.302653
    values, clusters = [1.0, 1.0, 0.0, 1.0], ["a", "a", "b", "c"]
    mean = clustered_mean(values, clusters)
    assert mean.estimate == 0.75
    assert mean.high - 0.75 == pytest.approx(1.232326, abs=1e-5) == 0.75 - mean.low
    assert clustered_proportion(values, clusters) == share_interval(0.75, error=math.sqrt(21 / 256), problems=3)
    assert clustered_proportion(values, list("adbc")).low > clustered_proportion(values, clusters).low, "four say more than three"


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3), min_size=2, max_size=12))
def test_clusters_of_one_size_are_problems_with_samples(values: list[list[float]]) -> None:
    flat, clusters = [hit for row in values for hit in row], [place for place, row in enumerate(values) for _ in row]
    for interval in (clustered_mean, clustered_proportion):
        one, same = interval(flat, clusters), interval(values)
        assert (one.estimate, one.low, one.high) == pytest.approx((same.estimate, same.low, same.high), abs=1e-6)


def test_repeating_each_sample_changes_nothing() -> None:
    # a mutant that counts samples instead of problems narrows the interval by √3
    values = np.random.default_rng(0).normal(size=(50, 1))
    once, thrice = clustered_mean(values), clustered_mean(np.repeat(values, 3, axis=1))
    assert thrice.low == pytest.approx(once.low) and thrice.high == pytest.approx(once.high)
    right = np.array([[1.0]] * 30 + [[0.0]] * 20)
    assert clustered_proportion(np.repeat(right, 3, axis=1)) == clustered_proportion(right)


def test_clustered_proportion_by_hand() -> None:
    # 30 of 50 right, one sample each: SE² = 0.24 / 49; V = (49 · 0.24 / 49 + 0.24 / 50) / 50, so that p (1 - p) / V = 50 / 1.02;
    # Student's quantile with 49 degrees is 2.009575, so that n_eff = 49.0196 · (1.959964 / 2.009575)² = 46.6292
    interval, by_hand = clustered_proportion([1.0] * 30 + [0.0] * 20), wilson(0.6 * 46.6292, 46.6292)
    assert interval.low == pytest.approx(by_hand.low, abs=1e-6) and interval.high == pytest.approx(by_hand.high, abs=1e-6)


def test_ties_count_as_more_than_one_trial_each() -> None:
    # 300 won, 100 lost, 600 tied: values vary by 0.09 about 0.6 where wins and losses alone would by 0.24; a mutant that
    # limits n_eff to the 1,000 comparisons has a half-width of 3.03 points in place of z √(0.09 / 999) = 1.86
    interval = win_rate([1.0] * 300 + [0.0] * 100 + [0.5] * 600)
    assert interval.estimate == 0.6
    assert (interval.high - interval.low) / 2 == pytest.approx(0.0186, abs=0.0001)


def test_problems_that_happen_to_be_alike_are_not_certain() -> None:
    # 40 problems with one right and one wrong sample: SE = 0; V = 2 · 0.25 / 40 / 41, t with 39 degrees 2.022691
    by_hand = wilson(*(share * 820 * (Z / 2.022691) ** 2 for share in (0.5, 1)))
    alike = clustered_proportion([[0, 1]] * 40)
    assert (alike.low, alike.high) == pytest.approx((by_hand.low, by_hand.high), abs=1e-6)
    # below ten problems' worth of differences (here 9.9, and 10.1) two problems are added, from there on one
    few, more = (share_interval(0.5, error=math.sqrt(worth * 0.25) / 100, problems=100) for worth in (9.9, 10.1))
    assert few.high - few.low > more.high - more.low


def test_a_perfect_model_is_not_certain() -> None:
    assert clustered_proportion(np.ones((100, 4))) == wilson(100, 100)
    assert clustered_proportion(np.zeros((100, 4))) == wilson(0, 100)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3), min_size=2, max_size=30))
def test_a_proportion_stays_within_its_bounds(values: list[list[float]]) -> None:
    interval = clustered_proportion(values)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.high - interval.low > 0.01 / len(values)


def test_win_rate_counts_a_tie_as_half() -> None:
    assert win_rate([1.0, 0.5, 0.0, 0.5]).estimate == 0.5
    assert win_rate([0.9] * 500 + [0.4] * 500).low > 0.5


def test_paired_difference_by_hand() -> None:
    # differences 1, 1, 0, 0: mean 0.5, standard error √(1 / 3 / 4) = 0.288675; Student's quantile with 3 degrees 3.182446
    interval = paired_difference([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 3.0, 4.0])
    assert interval.estimate == 0.5
    assert (interval.low, interval.high) == pytest.approx((0.5 - 0.918693, 0.5 + 0.918693), abs=1e-5)


@pytest.mark.parametrize("compared", [paired_difference, paired_gain])
def test_comparisons_by_identity(compared) -> None:
    draws = np.random.default_rng(1)
    a, b = draws.random(size=(40, 3)), draws.random(size=(40, 2))
    forward, backward = compared(a, b), compared(b, a)
    assert (backward.low, backward.high) == pytest.approx((-forward.high, -forward.low))
    assert forward.estimate == pytest.approx(a.mean() - b.mean())
    assert compared(a[::-1], b).low != forward.low, "which problem is compared with which is part of it"
    assert compared(a / 2 + 0.5, b / 2).estimate == pytest.approx(forward.estimate / 2 + 0.5)


def test_a_paired_gain_is_twice_a_win_rate_less_one() -> None:
    after, before = [1.0] * 90 + [0.0] * 10, [0.0] * 20 + [1.0] * 75 + [0.0] * 5
    gain, wins = paired_gain(after, before), win_rate([1.0] * 20 + [0.5] * 70 + [0.0] * 5 + [0.5] * 5)
    assert gain.estimate == pytest.approx(0.15)
    assert (gain.low, gain.high) == pytest.approx((2 * wins.low - 1, 2 * wins.high - 1))


def test_two_models_that_agree_on_everything_are_not_equal_for_certain() -> None:
    right = np.array([1.0] * 12 + [0.0] * 8)
    equal = paired_gain(right, right)
    # V = 2 · 0.25 / 20 / 21; t with 19 degrees 2.093024; Wilson's half-width z / (2 √(n + z²)), twice
    trials = 20 * 21 / 2 * (Z / 2.093024) ** 2
    assert equal == Interval(0.0, pytest.approx(-Z / math.sqrt(trials + Z**2)), pytest.approx(Z / math.sqrt(trials + Z**2)))
    assert paired_gain(np.ones(20), np.zeros(20)).high == 1


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
        (lambda: paired_gain([1.0, 0.0], [1.0, 0.0, 1.0]), "a and b must hold the same problems, got 2 and 3"),
        (lambda: paired_gain([1.0, 2.0], [1.0, 0.0]), "a must lie between 0 and 1, got 1 to 2"),
        (lambda: paired_gain([1.0, 0.0], [-0.5, 0.0]), "b must lie between 0 and 1, got -0.5 to 0"),
        (
            lambda: clustered_mean([1.0], ["a", "b"]),
            "every value needs its cluster, got values of shape (1,) and 2 clusters",
        ),
        (
            lambda: clustered_proportion([1.0, 0.0], ["a", "a"]),
            "values must hold at least two problems, got 1: one says nothing about the spread",
        ),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        call()
    assert str(refusal.value) == message
