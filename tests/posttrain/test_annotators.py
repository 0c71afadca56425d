"""Simulated annotators: who is better, who is wrong how often, and which pairs are worth a label."""

from collections import Counter
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.annotators import Candidate, Quality, annotator_noise, gold_preference, informative_pairs, label

WORST_FIRST = [
    Quality(is_right=False, is_finished=False),
    Quality(is_right=False, is_finished=True),
    Quality(is_right=True, is_finished=False),
    Quality(is_right=True, is_finished=True),
]
QUALITY = st.sampled_from(WORST_FIRST)
CANDIDATES = st.lists(st.builds(Candidate, text=st.text("ab", max_size=3), quality=QUALITY), max_size=8)


def drawn(candidates, *, most=100, ties="drop", seed=0):
    return informative_pairs(candidates, most=most, ties=ties, random=Random(seed))


def test_right_before_wrong_and_only_then_finished_before_unfinished():
    for (i, first), (j, second) in product(enumerate(WORST_FIRST), repeat=2):
        assert gold_preference(first, second) == (1.0 if i > j else 0.0 if i < j else 0.5)


@given(QUALITY, QUALITY)
def test_turning_a_pair_round_turns_the_preference_round(first, second):
    assert gold_preference(first, second) + gold_preference(second, first) == 1.0


@given(CANDIDATES, st.sampled_from(["drop", "shorter"]), st.integers(0, 12), st.integers(0, 9))
def test_pairs_are_better_before_worse_distinct_and_no_more_than_asked_for(candidates, ties, most, seed):
    pairs = drawn(candidates, most=most, ties=ties, seed=seed)
    assert len(pairs) <= most
    assert len({frozenset((better.text, worse.text)) for better, worse in pairs}) == len(pairs)
    for better, worse in pairs:
        assert better.text != worse.text
        if better.quality == worse.quality:
            assert ties == "shorter" and len(better.text) < len(worse.text)
        else:
            assert better.quality > worse.quality


@given(CANDIDATES, st.sampled_from(["drop", "shorter"]), st.integers(0, 9))
def test_the_same_seed_draws_the_same_pairs(candidates, ties, seed):
    assert drawn(candidates, most=3, ties=ties, seed=seed) == drawn(candidates, most=3, ties=ties, seed=seed)


def test_all_informative_pairs_by_hand():
    good, bad, worse = Candidate("g", WORST_FIRST[3]), Candidate("bb", WORST_FIRST[1]), Candidate("w", WORST_FIRST[0])
    pairs = {(better.text, other.text) for better, other in drawn([bad, good, worse])}
    assert pairs == {("g", "bb"), ("g", "w"), ("bb", "w")}


def test_ties_are_dropped_or_decided_by_brevity():
    long, short = Candidate("long", WORST_FIRST[3]), Candidate("ab", WORST_FIRST[3])
    assert drawn([long, short]) == []
    assert drawn([long, short], ties="shorter") == [(short, long)]
    assert drawn([short, long], ties="shorter") == [(short, long)]
    assert drawn([short, Candidate("cd", WORST_FIRST[3])], ties="shorter") == []


def test_brevity_never_beats_quality():
    right, wrong = Candidate("a long right one", WORST_FIRST[3]), Candidate("no", WORST_FIRST[1])
    assert drawn([wrong, right], ties="shorter") == [(right, wrong)]


def test_texts_are_used_as_evenly_as_possible():
    """4 right × 4 wrong are 16 pairs; 4 of them can use each of the 8 texts exactly once, whatever the seed."""
    texts = [Candidate(f"right {n}", WORST_FIRST[3]) for n in range(4)] + [
        Candidate(f"wrong {n}", WORST_FIRST[1]) for n in range(4)
    ]
    for seed in range(20):
        used = Counter(one.text for pair in drawn(texts, most=4, seed=seed) for one in pair)
        assert set(used.values()) == {1} and len(used) == 8


def test_which_pairs_are_drawn_depends_on_the_seed():
    texts = [Candidate(f"{n}", WORST_FIRST[3 if n < 4 else 1]) for n in range(8)]
    assert len({tuple(drawn(texts, most=2, seed=seed)) for seed in range(20)}) > 5


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


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.4])
def test_labels_are_flipped_at_the_annotators_own_rate(rate):
    """4,000 labels: three standard errors of a share of 0.4 are 2.3 points."""
    pair = (Candidate("better", WORST_FIRST[3]), Candidate("worse", WORST_FIRST[1]))
    random = Random(3)
    choices = [label(pair, annotator=1, noise=(0.0, rate), random=random) for _ in range(4_000)]
    assert sum(choice.is_flipped for choice in choices) / 4_000 == pytest.approx(rate, abs=0.024)
    for choice in choices:
        assert (choice.chosen, choice.rejected) == (("worse", "better") if choice.is_flipped else ("better", "worse"))
        assert choice.annotator == "simulated-1"


def test_an_annotator_without_noise_never_flips():
    pair = (Candidate("better", WORST_FIRST[3]), Candidate("worse", WORST_FIRST[1]))
    random = Random(0)
    assert not any(label(pair, annotator=0, noise=(0.0,), random=random).is_flipped for _ in range(500))
