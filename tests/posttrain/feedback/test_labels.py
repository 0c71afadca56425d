"""Labels: one pair whatever the order shown, pairs from rankings and ratings without loss, splits that tear nothing apart."""

import json
from collections import Counter
from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from posttrain.errors import DataError
from posttrain.feedback.conversions import UNNAMED, label_of_preference, labels_of_ranking, labels_of_ratings, question_names
from posttrain.feedback.labels import (
    Label,
    as_preferences,
    as_verdicts,
    by_pair,
    drawn_evenly,
    in_fixed_order,
    is_equal,
    sampled_questions,
    split_questions,
)
from posttrain.records import Message, Preference, Question, Ranking, Rating

NAMES = {"p": "q1"}
TEXTS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=2, max_size=6, unique=True)


def label(first="x", second="y", preference=1.0, *, id="1", prompt="p", annotator="ann", **more):
    return Label(
        id=id,
        prompt=prompt,
        question="q1",
        group="q1",
        first=first,
        second=second,
        preference=preference,
        annotator=annotator,
        source="person",
        **more,
    )


def turned(one):
    """Return the label that says the same with its responses shown the other way round."""
    gold = None if one.gold is None else 1 - one.gold
    shown = {"first": one.second, "second": one.first, "preference": 1 - one.preference, "gold": gold}
    return one.model_copy(update=shown | {"first_finished": one.second_finished, "second_finished": one.first_finished})


def towards(text, labels):
    """Return, by the other text, the probability that `text` is better."""
    told = {}
    for one in labels:
        if text in (one.first, one.second):
            told[one.second if one.first == text else one.first] = one.preference if one.first == text else 1 - one.preference
    return told


# --- the form -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preference", [-0.001, 1.001, float("nan"), float("inf")])
def test_a_preference_is_a_probability(preference):
    with pytest.raises(ValidationError, match="preference"):
        label(preference=preference)


@pytest.mark.parametrize("margin", [-0.1, float("inf"), float("nan")])
def test_a_margin_is_finite_and_not_negative(margin):
    with pytest.raises(ValidationError, match="margin"):
        label(margin=margin)


def test_a_label_survives_its_file():
    chat = (Message(role="user", content="Hi"), Message(role="assistant", content="Yes?"), Message(role="user", content="é"))
    one = label(prompt=chat, margin=0.5, gold=0.0, at="2026-03-31T09:15:00Z")
    assert Label.model_validate_json(json.dumps(one.model_dump(mode="json"), ensure_ascii=False)) == one


# --- one pair, whatever the order ---------------------------------------------------------------------------------------


def test_labels_of_one_pair_come_together_whatever_the_order_shown():
    told = by_pair([label("x", "y", 0.9), label("y", "x", 0.2), label("x", "z", 1.0), label("x", "y", 1.0, prompt="other")])
    assert sorted(len(given) for given in told.values()) == [1, 1, 2]
    (both,) = (given for given in told.values() if len(given) == 2)
    assert both[0][1] == pytest.approx(both[1][1] + (0.1 if both[0][1] > 0.5 else -0.1))  # 0.9 for x, and 1 - 0.2 for x


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("efgh"), st.floats(0, 1)), max_size=20), st.data())
def test_turning_labels_round_changes_no_preference(given_labels, data):
    labels = [label(first, second, preference) for first, second, preference in given_labels]
    shown = [turned(one) if data.draw(st.booleans()) else one for one in labels]
    before, after = by_pair(labels), by_pair(shown)
    assert before.keys() == after.keys()
    for pair in before:
        assert [p for _, p in before[pair]] == pytest.approx([p for _, p in after[pair]], abs=1e-12)


@given(st.text(), st.text())
def test_the_fixed_order_does_not_depend_on_the_order_given(a, b):
    assert in_fixed_order(a, b) == in_fixed_order(b, a)
    assert sorted(in_fixed_order(a, b)) == sorted((a, b))


def test_the_fixed_order_has_nothing_to_do_with_length():
    """Of 1,000 pairs about half have the longer text first; 450 to 550 is more than three standard errors."""
    longer = sum(len(in_fixed_order(f"{n}", f"{n} and more")[0]) > 5 for n in range(1_000))
    assert 450 < longer < 550


def test_equal_is_half_but_for_rounding():
    assert is_equal((0.7 + (1 - 0.7)) / 2) and is_equal((0.1 + 0.2 + 1.2) / 3)
    assert not is_equal(0.5 + 1e-6)


def test_labels_become_preferences_by_their_mean():
    pairs = as_preferences(
        [
            label("x", "y", 0.9, id="a"),
            label("y", "x", 0.3, id="b", annotator="other"),  # 0.9 and 0.7 for x
            label("v", "w", 0.25, id="c", family="f"),
            label("s", "t", 1.0, id="d"),
            label("t", "s", 1.0, id="e"),  # even: left out
            label("s", "u", 0.5, id="g"),  # even: left out
        ]
    )
    assert pairs == [
        Preference(id="a", prompt="p", chosen="x", rejected="y"),
        Preference(id="c", family="f", prompt="p", chosen="w", rejected="v", annotator="ann"),
    ]


def test_a_preferences_margin_is_the_labels_mean_towards_the_chosen():
    one, other = label("x", "y", 1.0, margin=3.0), label("y", "x", 1.0, margin=1.0)
    assert as_preferences([one, one, other])[0].margin == pytest.approx(5 / 3)  # (3 + 3 - 1) / 3
    assert as_preferences([one, one, label("x", "y", 1.0)])[0].margin is None, "one of them is not known"
    assert as_preferences([label("x", "y", 0.9, margin=0.0)])[0].margin is None, "a margin is positive"


def kinds(labels):
    return {each.response: each.is_desirable for each in as_verdicts(labels)}


def test_verdicts_by_hand():
    """x wins twice and loses once, y loses twice, z wins and loses, v and w are even; a pair labelled twice counts once."""
    labels = [label("x", "y", 1.0), label("y", "x", 0.2), label("z", "y", 1.0), label("x", "z", 1.0), label("u", "x", 1.0)]
    assert kinds([*labels, label("v", "w", 0.5)]) == {"x": True, "y": False, "u": True}
    assert kinds([label("x", "y", 1.0), label("x", "y", 0.4), label("x", "y", 0.4)]) == {"x": True, "y": False}, "its mean is 0.6"
    assert kinds([label("x", "y", 1.0), label("y", "z", 1.0), label("z", "x", 1.0)]) == {}, "in a circle, each wins once"


def test_a_response_to_another_prompt_is_another_response():
    told = as_verdicts([label("x", "y", 1.0), label("x", "y", 0.0, prompt="other")])
    assert {(each.prompt, each.response, each.is_desirable) for each in told} == {
        ("p", "x", True),
        ("p", "y", False),
        ("other", "x", False),
        ("other", "y", True),
    }


@pytest.mark.parametrize(("told", "finished"), [(True, True), (None, True), (False, False)])
def test_a_verdict_knows_whether_its_response_was_cut_off(told, finished):
    given = as_verdicts([label("x", "y", 1.0, first_finished=told, second_finished=not finished)])
    assert {each.response: each.finished for each in given} == {"x": finished, "y": not finished}


@given(TEXTS, st.randoms(use_true_random=False))
def test_whoever_wins_somebody_loses(texts, random):
    labels = [label(a, b, random.choice([0.0, 0.5, 1.0]), id=f"{a}{b}") for a, b in combinations(texts, 2)]
    told = kinds(labels)
    assert kinds([turned(one) for one in reversed(labels)]) == told
    assert len(set(told.values())) != 1 and told.keys() <= set(texts)


@given(TEXTS, st.randoms(use_true_random=False))
def test_preferences_do_not_depend_on_the_order_shown(texts, random):
    labels = [label(a, b, random.choice([0.0, 0.25, 0.5, 1.0])) for a, b in combinations(texts, 2) for _ in range(2)]
    told = {(pair.prompt, pair.chosen, pair.rejected) for pair in as_preferences(labels)}
    assert told == {(pair.prompt, pair.chosen, pair.rejected) for pair in as_preferences([turned(one) for one in labels])}
    assert len(told) <= len(by_pair(labels))


# --- pairs and splits ---------------------------------------------------------------------------------------------------


def test_members_are_used_as_evenly_as_possible():
    """8 texts have 28 pairs; 4 of them can use each text exactly once, whatever the seed, and 8 of them each twice."""
    for seed in range(20):
        for most, uses in ((4, {1}), (8, {2})):
            drawn = drawn_evenly(combinations("abcdefgh", 2), most=most, random=Random(seed))
            assert set(Counter(one for pair in drawn for one in pair).values()) == uses


@given(st.lists(st.integers(0, 200), max_size=80), st.floats(0.01, 0.99), st.integers(0, 9))
def test_a_split_gives_each_question_to_one_side(numbers, share, seed):
    ids = [f"q{number}" for number in numbers]
    learnt, measured = split_questions(ids, share=share, seed=seed)
    assert set(learnt) | set(measured) == set(ids) and not set(learnt) & set(measured)
    assert len(learnt) + len(measured) == len(set(ids))
    if len(set(ids)) > 1:
        assert learnt and measured
        assert abs(len(learnt) - share * len(set(ids))) <= 1
    shuffled = split_questions(reversed(ids), share=share, seed=seed)
    assert (set(learnt), set(measured)) == (set(shuffled[0]), set(shuffled[1])), "the order of the labels decides nothing"


def test_a_split_depends_on_its_seed_and_grows_with_its_share():
    ids = [f"q{number}" for number in range(100)]
    assert split_questions(ids, share=0.6, seed=0) != split_questions(ids, share=0.6, seed=1)
    assert set(split_questions(ids, share=0.3, seed=0)[0]) < set(split_questions(ids, share=0.6, seed=0)[0])
    assert [len(side) for side in split_questions(ids, share=0.6, seed=0)] == [60, 40]
    assert split_questions(ids, share=0.6, seed=0) == split_questions([*ids, *ids], share=0.6, seed=0)


# --- feedback of other forms --------------------------------------------------------------------------------------------


def test_a_prompts_labels_go_under_its_question_its_family_or_a_digest():
    feedback = [
        Preference(id="1", prompt="known", chosen="a", rejected="b", family="f"),
        Preference(id="2", prompt="of a family", chosen="a", rejected="b"),
        Rating(id="3", prompt="of a family", completion="a", score=1, family="g"),
        Preference(id="4", prompt="bare", chosen="a", rejected="b"),
        Preference(id="5", prompt="bare", chosen="a", rejected="c"),
        Preference(id="6", prompt=(Message(role="user", content="bare"),), chosen="a", rejected="c"),
    ]
    names = question_names(feedback, [Question(id="q7", prompt="known"), Question(id="q8", prompt="known")])
    assert names["known"] == "q7" and names["of a family"] == "g"
    assert names["bare"].startswith("prompt-") and len(names) == 4
    assert names[feedback[-1].prompt] != names["bare"]
    assert names == question_names(feedback, [Question(id="q7", prompt="known")])


@pytest.mark.parametrize(("chosen", "rejected"), [("x", "y"), ("y", "x")])
def test_a_preference_is_a_label_in_an_order_of_its_own(chosen, rejected):
    record = Preference(id="7", family="f", prompt="p", chosen=chosen, rejected=rejected, annotator="Ada", margin=2.0)
    one = label_of_preference(record, questions=NAMES)
    assert (one.first, one.second) == in_fixed_order("x", "y")
    assert one.preference == (1.0 if one.first == chosen else 0.0)
    assert (one.question, one.family, one.annotator, one.margin, one.source, one.gold) == ("q1", "f", "Ada", 2.0, "dataset", None)
    assert label_of_preference(record.model_copy(update={"annotator": None}), questions=NAMES).annotator == UNNAMED
    assert as_preferences([one])[0].model_copy(update={"id": "7"}) == record


def ranking(completions, ranks, **more):
    return Ranking(id="r", prompt="p", completions=completions, ranks=ranks, **more)


def test_a_ranking_of_four_gives_six_pairs_in_one_group():
    """Ranks 2, 1, 2, 4: b beats all, a and c are equal, d loses to all."""
    labels = labels_of_ranking(ranking(("a", "b", "c", "d"), (2, 1, 2, 4), annotator="Ada", family="f"), questions=NAMES)
    assert len(labels) == len({one.id for one in labels}) == 6
    assert {one.group for one in labels} == {"rankings/r"} and {one.question for one in labels} == {"q1"}
    assert towards("b", labels) == {"a": 1, "c": 1, "d": 1}
    assert towards("a", labels) == {"b": 0, "c": 0.5, "d": 1}
    assert towards("d", labels) == {"a": 0, "b": 0, "c": 0}
    assert {(one.annotator, one.family, one.source) for one in labels} == {("Ada", "f", "dataset")}


@given(TEXTS, st.randoms(use_true_random=False))
def test_a_rankings_pairs_are_all_there_and_agree_with_the_ranks(texts, random):
    ranks = {text: random.randint(1, len(texts)) for text in texts}
    labels = labels_of_ranking(ranking(tuple(texts), tuple(ranks.values())), questions=NAMES)
    assert len(labels) == len(texts) * (len(texts) - 1) // 2
    for one in labels:
        better = ranks[one.second] - ranks[one.first]  # a lower rank is better
        assert one.preference == (0.5 if better == 0 else float(better > 0))


def test_a_completion_ranked_twice_alike_counts_once():
    assert len(labels_of_ranking(ranking(("a", "b", "a"), (1, 2, 1)), questions=NAMES)) == 1


def test_a_ranking_that_contradicts_itself_or_compares_nothing_is_refused():
    with pytest.raises(DataError) as caught:
        labels_of_ranking(ranking(("a", "b", "a"), (1, 2, 3)), questions=NAMES)
    assert str(caught.value) == "ranking r gives one completion the ranks 1 and 3. Give equal texts one rank, or drop the line"
    with pytest.raises(DataError) as caught:
        labels_of_ranking(ranking(("a", "a"), (1, 1)), questions=NAMES)
    assert str(caught.value) == "ranking r must rank two different completions at least, got 1. Drop the line"


def rating(completion, score, *, id="1", annotator="Ada", prompt="p", **more):
    return Rating(id=id, prompt=prompt, completion=completion, score=score, annotator=annotator, **more)


def test_ratings_are_paired_by_prompt_and_annotator_on_their_own_scales():
    """Ada: a has 4 of 1…5 (0.75), b 0.5 of 0…1, c 50 of 0…100 (0.5). Ben rated one thing only, and so did Ada elsewhere."""
    ratings = [
        rating("a", 4, id="1", low=1, high=5),
        rating("b", 0.5, id="2"),
        rating("c", 50, id="3", high=100),
        rating("a", 1, id="4", annotator="Ben"),
        rating("a", 1, id="5", prompt="elsewhere"),
    ]
    labels, alone = labels_of_ratings(ratings, questions={"p": "q1", "elsewhere": "q2"})
    assert towards("a", labels) == {"b": 1, "c": 1} and towards("b", labels) == {"a": 0, "c": 0.5}
    assert sorted(one.margin for one in labels) == pytest.approx([0, 0.25, 0.25])
    assert {one.annotator for one in labels} == {"Ada"} and len({one.group for one in labels}) == 1
    assert [record.id for record in alone] == ["4", "5"]


def test_thumbs_without_a_name_are_one_annotators():
    labels, alone = labels_of_ratings([rating("a", 1, annotator=None), rating("b", 0, annotator=None)], questions=NAMES)
    assert towards("a", labels) == {"b": 1} and labels[0].annotator == UNNAMED and not alone


def test_a_completion_rated_twice_counts_with_its_mean():
    labels, alone = labels_of_ratings([rating("a", 0), rating("a", 1), rating("b", 0.4)], questions=NAMES)
    assert towards("a", labels) == {"b": 1} and labels[0].margin == pytest.approx(0.1) and not alone
    assert len(labels_of_ratings([rating("a", 0), rating("a", 1)], questions=NAMES)[1]) == 2


@given(st.lists(st.tuples(st.sampled_from("ab"), st.text("xy", max_size=2), st.sampled_from([0, 0.3, 1])), max_size=12))
def test_no_rating_is_lost(given_ratings):
    ratings = [rating(text, score, id=str(n), annotator=who) for n, (who, text, score) in enumerate(given_ratings)]
    labels, alone = labels_of_ratings(ratings, questions=NAMES)
    paired = {(one.annotator, text) for one in labels for text in (one.first, one.second)}
    assert all((record in alone) != ((record.annotator, record.completion) in paired) for record in ratings)
    assert len({one.id for one in labels}) == len(labels)


def test_a_scale_without_width_is_refused():
    with pytest.raises(DataError) as caught:
        labels_of_ratings([rating("a", 1, low=1, high=1, id="r9"), rating("b", 1, low=1, high=1)], questions=NAMES)
    assert str(caught.value) == "rating r9: high must be greater than low, got 1 to 1. Correct or drop the line"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_questions_are_kept_for_labels_by_share_and_seed_whatever_their_order(share):
    ids = [f"q{number}" for number in range(200)]
    chosen = sampled_questions(ids, share=share, seed=3)
    assert len(chosen) == round(200 * share) == len(set(chosen))
    assert set(chosen) == set(sampled_questions(ids[::-1], share=share, seed=3))
    if 0 < share < 1:
        assert set(chosen) != set(sampled_questions(ids, share=share, seed=4))


def test_whether_a_response_ended_travels_from_preference_to_label_and_back():
    for chosen, rejected in (("a", "b"), ("b", "a")):
        record = Preference(id="7", prompt="p", chosen=chosen, rejected=rejected, chosen_finished=False, rejected_finished=True)
        told = label_of_preference(record, questions={"p": "q"})
        assert {told.first: told.first_finished, told.second: told.second_finished} == {chosen: False, rejected: True}
        (back,) = as_preferences([told])
        assert (back.chosen, back.chosen_finished, back.rejected_finished) == (chosen, False, True)
        (other_way,) = as_preferences([turned(told)])
        assert (other_way.chosen_finished, other_way.rejected_finished) == (False, True)
