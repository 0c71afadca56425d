"""Simulated annotators: who is better, who is wrong how often, and what is said of equals."""

from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.feedback.annotators import Quality, annotator_noise, gold_preference, simulated_opinion

WORST_FIRST = [
    Quality(is_right=False, is_finished=False),
    Quality(is_right=False, is_finished=True),
    Quality(is_right=True, is_finished=False),
    Quality(is_right=True, is_finished=True),
]
QUALITY = st.sampled_from(WORST_FIRST)


def test_right_before_wrong_and_only_then_finished_before_unfinished():
    for (i, first), (j, second) in product(enumerate(WORST_FIRST), repeat=2):
        assert gold_preference(first, second) == (1.0 if i > j else 0.0 if i < j else 0.5)


@given(QUALITY, QUALITY)
def test_turning_a_pair_round_turns_the_preference_round(first, second):
    assert gold_preference(first, second) + gold_preference(second, first) == 1.0


@given(st.integers(1, 50), st.floats(0, 0.49), st.integers(0, 99))
def test_every_annotator_is_right_more_often_than_not(annotators, flip_rate, seed):
    noise = annotator_noise(annotators=annotators, flip_rate=flip_rate, seed=seed)
    assert len(noise) == annotators
    assert all(0.5 * flip_rate - 1e-9 <= rate <= min(0.5, 1.5 * flip_rate) + 1e-9 for rate in noise)
    assert noise == annotator_noise(annotators=annotators, flip_rate=flip_rate, seed=seed)


@pytest.mark.parametrize("flip_rate", [0.0, 0.05, 0.25, 0.45])
def test_the_mean_annotator_flips_as_often_as_set(flip_rate):
    """2,000 rates spread evenly over ± f/2 at most: one standard error is f / √12 / √2000 < 0.003."""
    noise = annotator_noise(annotators=2_000, flip_rate=flip_rate, seed=1)
    assert sum(noise) / 2_000 == pytest.approx(flip_rate, abs=0.009)


def test_annotators_differ_from_one_another():
    assert len(set(annotator_noise(annotators=5, flip_rate=0.25, seed=0))) == 5


def said(gold, *, noise=0.0, ties="equal", lengths=(4, 4), count=4_000, seed=3):
    random = Random(seed)
    return [simulated_opinion(gold, lengths=lengths, noise=noise, ties=ties, random=random) for _ in range(count)]


@pytest.mark.parametrize("gold", [0.0, 1.0])
@pytest.mark.parametrize("ties", ["equal", "forced", "shorter"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_what_gold_decides_is_turned_round_at_the_annotators_own_rate(gold, ties, rate):
    """4,000 labels: three standard errors of a share of 0.4 are 2.3 points. Lengths that speak for the other decide nothing."""
    told = said(gold, noise=rate, ties=ties, lengths=(9, 1) if gold else (1, 9))
    assert sum(one.is_flipped for one in told) / 4_000 == pytest.approx(rate, abs=0.024)
    assert all(one.preference == (1 - gold if one.is_flipped else gold) for one in told)


def test_annotators_say_that_equal_responses_are_equal_but_for_slips_to_either_side():
    assert {one.preference for one in said(0.5, lengths=(1, 9))} == {0.5}
    told = said(0.5, noise=0.3)
    slips = [one.preference for one in told if one.is_flipped]
    assert all((one.preference == 0.5) != one.is_flipped for one in told)
    assert len(slips) / 4_000 == pytest.approx(0.3, abs=0.022)
    assert sum(slips) / len(slips) == pytest.approx(0.5, abs=0.05)


def test_forced_annotators_toss_a_coin_between_equal_responses_whatever_their_length():
    told = said(0.5, ties="forced", noise=0.3, lengths=(1, 9))
    assert {one.preference for one in told} == {0.0, 1.0} and not any(one.is_flipped for one in told)
    assert sum(one.preference for one in told) / 4_000 == pytest.approx(0.5, abs=0.024)


def test_the_shorter_of_equal_responses_is_preferred_where_that_is_asked_for():
    assert {one.preference for one in said(0.5, ties="shorter", lengths=(3, 4))} == {1.0}
    assert {one.preference for one in said(0.5, ties="shorter", lengths=(4, 3))} == {0.0}
    noisy = said(0.5, ties="shorter", lengths=(3, 4), noise=0.2)
    assert sum(one.preference for one in noisy) / 4_000 == pytest.approx(0.8, abs=0.019)
    even = said(0.5, ties="shorter", lengths=(4, 4))
    assert sum(one.preference for one in even) / 4_000 == pytest.approx(0.5, abs=0.024)


def test_chance_is_drawn_alike_whatever_gold_says():
    """So that a label does not change because another pair's answer did."""
    ends = []
    for gold in (0.0, 0.5, 1.0):
        random = Random(1)
        for ties in ("equal", "forced", "shorter"):
            simulated_opinion(gold, lengths=(1, 1), noise=0.1, ties=ties, random=random)
        ends.append(random.random())
    assert len(set(ends)) == 1
