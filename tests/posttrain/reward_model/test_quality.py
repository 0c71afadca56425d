"""A reward model's figures by hand, whichever response stands first, and every promise refused with its text."""

from dataclasses import replace
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.errors import ContractError, DataError
from posttrain.reward_model.calibration import Bin
from posttrain.reward_model.quality import Quality, ScoredPair, check, check_enough, measured
from posttrain.settings.reward_model import RewardModelSettings
from posttrain.statistics.intervals import Interval, clustered_proportion

SETTINGS = RewardModelSettings(min_share_of_agreement=0.5, max_calibration_error=0.1, max_length_correlation=0.6)


def pair(question, difference, preference, *, gold=None, lengths=(5, 5), kinds=(), texts=("first", "second")):
    return ScoredPair(
        question=question,
        first=texts[0],
        second=texts[1],
        first_score=difference,
        second_score=0.0,
        first_tokens=lengths[0],
        second_tokens=lengths[1],
        preference=preference,
        gold=gold,
        kinds=kinds,
    )


def swapped(one):
    return replace(
        one,
        first=one.second,
        second=one.first,
        first_score=one.second_score,
        second_score=one.first_score,
        first_tokens=one.second_tokens,
        second_tokens=one.first_tokens,
        preference=1 - one.preference,
        gold=None if one.gold is None else 1 - one.gold,
    )


def test_by_hand():
    told = measured(
        [
            pair("a", 2.0, 1.0, gold=1.0, kinds=("same length",)),  # right by both
            pair("a", -1.0, 0.8, gold=0.0, kinds=("soft",)),  # wrong by its label, right by gold
            pair("b", -3.0, 0.0, gold=0.0, kinds=("same length",)),  # right by both
            pair("b", 0.0, 1.0, gold=1.0, kinds=("same length",)),  # equal scores: half by both
            pair("c", 1.0, 0.5, gold=1.0),  # names no better response: of no question that counts
        ]
    )
    assert (told.labels, told.questions) == (4, 2)
    assert told.accuracy.estimate == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert told.accuracy_gold.estimate == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert told.kinds == {"same length": (pytest.approx(2.5 / 3), 3), "soft": (0.0, 1)}
    assert told.figures()["accuracy_same_length"] == pytest.approx(2.5 / 3)
    assert told.figures()["labels_soft"] == 1.0


def test_calibration_by_hand():
    # σ(log 3) = 0.75 for both; one of the labels agrees, so the error is 0.25
    told = measured([pair("a", log(3), 1.0), pair("b", -log(3), 1.0)])
    assert told.ece == pytest.approx(0.25, abs=1e-9)
    # soft labels of 3/4 are what a difference of log 3 says
    assert measured([pair("a", log(3), 0.75), pair("b", -log(3), 0.25)]).ece == pytest.approx(0.0, abs=1e-9)


def test_the_length_correlation_is_within_questions():
    # b's responses are all longer and all score higher, but within each question the longer one scores lower
    a = replace(pair("a", -1.0, 1.0, lengths=(9, 5)), second_score=0.0)
    b = replace(pair("b", 0.0, 1.0, lengths=(29, 25)), first_score=9.0, second_score=10.0)
    assert measured([a, b]).length_correlation == pytest.approx(-1.0)
    assert measured([pair("a", 1.0, 1.0), pair("b", 1.0, 1.0)]).length_correlation is None
    assert "length_correlation" not in measured([pair("a", 1.0, 1.0), pair("b", 1.0, 1.0)]).figures()


def test_a_response_in_several_pairs_counts_once_for_spread_and_length():
    three = [
        replace(pair("a", 1.0, 1.0, texts=("x", "y")), second_score=-1.0),
        replace(pair("a", 1.0, 1.0, texts=("x", "z")), second_score=-1.0),
        replace(pair("b", 1.0, 1.0, texts=("x", "y")), second_score=1.0),
    ]
    # scores 1, -1, -1 and 1, 1: mean 0.2, variance (0.64 + 1.44 + 1.44 + 0.64 + 0.64) / 5
    assert measured(three).deviation == pytest.approx(0.96**0.5)


def test_with_equally_many_labels_a_question_the_interval_is_that_of_clustered_proportion():
    hits = [[1, 1, 1], [0, 0, 0], [1, 1, 1], [1, 1, 0]]
    pairs = [pair(str(number), 1.0 if hit else -1.0, 1.0) for number, row in enumerate(hits) for hit in row]
    assert measured(pairs).accuracy.as_dict() == pytest.approx(clustered_proportion(hits).as_dict())


def test_labels_of_one_question_that_agree_count_as_one():
    alone = [pair(str(number), 1.0 if number % 4 else -1.0, 1.0) for number in range(40)]
    thrice = measured([each for each in alone for _ in range(3)]).accuracy
    once = measured(alone).accuracy
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-9)


PAIRS = st.lists(
    st.builds(
        pair,
        st.sampled_from("abcd"),
        st.floats(-5, 5),
        st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
        gold=st.sampled_from([0.0, 1.0]),
        lengths=st.tuples(st.integers(1, 9), st.integers(1, 9)),
        texts=st.permutations(["x", "y", "z"]).map(lambda texts: tuple(texts[:2])),
    ),
    max_size=12,
)


@given(PAIRS, st.lists(st.booleans(), min_size=14, max_size=14))
def test_which_response_stands_first_changes_nothing(pairs, chosen):
    pairs = [pair("a", 1.0, 1.0), pair("b", -1.0, 1.0, gold=1.0), *pairs]
    turned = [swapped(one) if is_turned else one for one, is_turned in zip(pairs, chosen, strict=False)]
    assert measured(turned).figures() == pytest.approx(measured(pairs).figures(), abs=1e-6)


def test_pairs_that_gold_calls_equal_are_not_counted_against_it():
    told = measured([pair("a", 1.0, 1.0, gold=1.0), pair("b", 1.0, 1.0, gold=1.0), pair("b", 1.0, 1.0, gold=0.5)])
    assert told.accuracy_gold.estimate == 1.0


def test_gold_of_one_question_has_no_interval():
    told = measured([pair("a", 1.0, 1.0, gold=1.0), pair("b", 1.0, 1.0)])
    assert told.accuracy_gold is None
    assert "accuracy_gold" not in told.figures()


@pytest.mark.parametrize("pairs", [[], [pair("a", 1.0, 1.0)], [pair("a", 1.0, 1.0), pair("b", 1.0, 0.5)]])
def test_one_question_is_too_few(pairs):
    questions = {one.question for one in pairs if one.preference != 0.5}
    said = (
        "a reward model is measured on labels of questions that it has not learnt from, those that name a better response: "
        f"here are {len(questions)} such questions, and an interval needs 2. Label more prompts, or lower "
        "reward_model.train_share"
    )
    for refuse in (lambda: measured(pairs), lambda: check_enough(questions)):
        with pytest.raises(DataError) as error:
            refuse()
        assert str(error.value) == said


# --- the contract -------------------------------------------------------------------------------------------------------


def quality(accuracy=(0.8, 0.75, 0.85), *, ece=0.05, length_correlation=0.2):
    return Quality(
        labels=400,
        questions=100,
        accuracy=Interval(*accuracy),
        accuracy_gold=None,
        ece=ece,
        points=[Bin(0.5, 1.0, 1, 0.75, 0.75)],
        length_correlation=length_correlation,
        deviation=1.0,
    )


OPENING = "the reward model may not lead PPO, as 400 held-out labels of 100 questions show: "
ENDING = (
    ". Get more labels (labels.pairs_per_prompt, sample.per_prompt) or better ones (agreement.json says whose), "
    "train longer or shorter (reward_model.epochs), or allow it with the settings named"
)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (quality((0.53, 0.5, 0.56)), "accuracy 0.530 [0.500, 0.560], whose interval must lie above chance, 0.5"),
        (
            quality((0.64, 0.6, 0.68)),
            "accuracy 0.640 [0.600, 0.680], which must be at least 0.650: the response that an annotator names the better is "
            "named by another with a chance of 0.800, and of what that is beyond chance "
            "reward_model.min_share_of_agreement=0.5 is asked for",
        ),
        (quality(ece=0.11), "calibration error 0.110, at most 0.1 (reward_model.max_calibration_error)"),
        (
            quality(length_correlation=-0.7),
            "correlation of score and length -0.700, at most 0.6 either way (reward_model.max_length_correlation)",
        ),
        (
            quality((0.5, 0.4, 0.6), ece=0.3, length_correlation=0.65),
            "accuracy 0.500 [0.400, 0.600], whose interval must lie above chance, 0.5; calibration error 0.300, at most 0.1 "
            "(reward_model.max_calibration_error); correlation of score and length +0.650, at most 0.6 either way "
            "(reward_model.max_length_correlation)",
        ),
    ],
)
def test_a_broken_promise_is_refused_with_its_figures(bad, said):
    with pytest.raises(ContractError) as error:
        check(bad, seconded=0.8, settings=SETTINGS)
    assert str(error.value) == OPENING + said + ENDING
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("good", "seconded"),
    [
        (quality(), 0.8),
        (quality((0.65, 0.6, 0.7)), 0.8),
        (quality((0.53, 0.501, 0.56)), None),
        (quality(ece=0.1, length_correlation=None), 0.8),
        (quality(length_correlation=0.6), 0.8),
    ],
)
def test_what_keeps_its_promises_goes_on(good, seconded):
    check(good, seconded=seconded, settings=SETTINGS)
