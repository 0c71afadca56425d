"""What judges are asked, how their answers are read, and what a pair's label becomes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.judges.opinions import (
    Opinion,
    Position,
    Usage,
    beats,
    both_orders,
    expected,
    from_counts,
    from_logprobs,
    from_positions,
    inquiry,
    is_flip,
    rescaled,
    shown,
    softmax,
    win_in_both_orders,
)
from posttrain.judges.templates import Template
from posttrain.records import Message

AB = (" A", " B")
TEN = tuple(f" {number}" for number in range(1, 11))
shares = st.floats(0.0, 1.0)


def opinion_of(*tokens_and_tops, options=AB):
    return from_positions([Position(token, top) for token, top in tokens_and_tops], options)


# --- probabilities of options --------------------------------------------------------------------------------------------


def test_shares_are_the_options_probabilities_among_themselves():
    """p(A) = 0.3, p(B) = 0.1: of 0.4 in all A has 3/4."""
    opinion = from_logprobs([math.log(0.3), math.log(0.1)])
    assert opinion.shares == pytest.approx((0.75, 0.25), abs=1e-12) and opinion.mass == pytest.approx(0.4, abs=1e-12)
    assert opinion.counted == 0
    # -(3/4 ln 3/4 + 1/4 ln 1/4) = 0.2158 + 0.3466
    assert opinion.entropy == pytest.approx(0.5623, abs=1e-4)


def test_softmax_holds_where_probabilities_underflow():
    assert softmax([-2000.0, -2000.0 - math.log(3)]) == pytest.approx((0.75, 0.25), abs=1e-9)


@given(st.lists(st.floats(-50, 0), min_size=2, max_size=10), st.floats(-500, 500))
def test_a_constant_changes_no_share(logprobs, constant):
    moved = softmax([logprob + constant for logprob in logprobs])
    assert moved == pytest.approx(softmax(logprobs), abs=1e-9) and sum(moved) == pytest.approx(1)


def test_a_certain_opinion_has_no_entropy():
    assert Opinion(shares=(1.0, 0.0)).entropy == 0 == Opinion(shares=None).entropy


# --- both orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forward", "backward", "win"),
    [(0.9, 0.4, 1.0), (0.51, 0.49, 1.0), (0.1, 0.6, 0.0), (0.9, 0.8, 0.5), (0.2, 0.1, 0.5), (0.5, 0.5, 0.5), (0.9, 0.5, 0.75)],
)
def test_a_win_is_one_in_both_orders(forward, backward, win):
    """What stands first is preferred with the first number, then, the pair turned round, with the second."""
    assert win_in_both_orders(forward, backward) == win
    assert win_in_both_orders(backward, forward) == 1 - win, "what one wins the other loses"


def test_both_orders_are_averaged():
    """Shown first it gets 0.9; shown second the other place gets 0.6, so it gets 0.4: (0.9 + 0.4) / 2."""
    assert both_orders(0.9, 0.6) == pytest.approx(0.65, abs=1e-12)


@given(shares, shares)
def test_swapping_a_pair_turns_its_label_over_and_nothing_else(forward, backward):
    assert both_orders(forward, backward) + both_orders(backward, forward) == pytest.approx(1, abs=1e-12)
    assert is_flip(forward, backward) == is_flip(backward, forward)


@given(shares)
def test_a_judge_that_looks_at_the_place_alone_says_nothing(place):
    assert both_orders(place, place) == pytest.approx(0.5, abs=1e-12)
    assert is_flip(place, place) == ((place - 0.5) ** 2 > 0)


@pytest.mark.parametrize(
    ("forward", "backward", "flips"),
    [(0.9, 0.1, False), (0.9, 0.6, True), (0.4, 0.3, True), (0.5, 0.9, False), (0.5, 0.5, False)],
)
def test_a_flip_is_when_the_same_place_wins_twice(forward, backward, flips):
    assert is_flip(forward, backward) is flips


# --- scores ---------------------------------------------------------------------------------------------------------------


def test_a_score_is_the_expected_value_rescaled():
    """Half 10 and half 4: 7; (2 · 7 - 11) / 9 = 1/3."""
    assert expected([0.5, 0.5], [10.0, 4.0]) == 7.0
    assert rescaled(7.0) == pytest.approx(1 / 3, abs=1e-12)
    assert (rescaled(1), rescaled(5.5), rescaled(10)) == (-1.0, 0.0, 1.0)


def test_the_better_of_two_scored_responses():
    """Two words, right and wrong: p(first right, second wrong) + half of both alike = 0.8·0.7 + (0.8·0.3 + 0.2·0.7) / 2."""
    assert beats([0.8, 0.2], [0.3, 0.7], [10.0, 1.0]) == pytest.approx(0.56 + 0.19, abs=1e-12)
    # of three scores: 0.5·1 (10 over 5) + 0.5·0.5 (5 and 5)
    assert beats([0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [10.0, 5.0, 1.0]) == pytest.approx(0.75, abs=1e-12)


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=2, max_size=10))
def test_comparing_scores_has_no_order(weights):
    first, second = (softmax([math.log(pair[side]) for pair in weights]) for side in (0, 1))
    scores = [float(number) for number in range(1, len(weights) + 1)]
    assert beats(first, second, scores) + beats(second, first, scores) == pytest.approx(1, abs=1e-9)
    assert beats(first, first, scores) == pytest.approx(0.5, abs=1e-9)


# --- answers in words ------------------------------------------------------------------------------------------------------


def test_answers_are_counted_where_probabilities_are_not_told():
    opinion = from_counts(["A", "B", " a.", "Hm"], AB)
    assert opinion.shares == pytest.approx((2 / 3, 1 / 3)) and opinion.mass == 0.75 and opinion.counted == 4


def test_answers_that_are_no_options_are_unreadable():
    assert from_counts(["Hm", "Well"], AB) == Opinion(shares=None, mass=0.0, counted=2)


# --- a server's likeliest tokens -------------------------------------------------------------------------------------------


def test_an_options_spellings_are_added_up():
    """ "A" 0.3, " A" 0.1, "a" 0.1 against "B" 0.25: 0.5 to 0.25, and 0.25 is something else."""
    top = {"A": math.log(0.3), " A": math.log(0.1), "a": math.log(0.1), "B": math.log(0.25), "I": math.log(0.25)}
    opinion = opinion_of(("A", top))
    assert opinion.shares == pytest.approx((2 / 3, 1 / 3)) and opinion.mass == pytest.approx(0.75)


def test_no_option_among_the_likeliest_is_unreadable():
    assert opinion_of(("I", {"I": -0.1, "The": -3.0})).shares is None


def test_ten_is_told_from_one_along_the_reply_that_was_written():
    """ "1" has 0.6, and behind it "0" 0.75: 10 has 0.45, 1 what ends there, 0.15; "8" has 0.4."""
    first = ("1", {"1": math.log(0.6), "8": math.log(0.4)})
    second = ("0", {"0": math.log(0.75), "<end>": math.log(0.25)})
    opinion = opinion_of(first, second, options=TEN)
    assert opinion.shares[9] == pytest.approx(0.45) and opinion.shares[7] == pytest.approx(0.4)
    assert opinion.shares[0] == pytest.approx(0.15)


def test_where_the_reply_went_elsewhere_one_is_one():
    opinion = opinion_of(("8", {"8": math.log(0.9), "1": math.log(0.1)}), (".", {".": 0.0}), options=TEN)
    assert opinion.shares[7] == pytest.approx(0.9) and opinion.shares[0] == pytest.approx(0.1)


def test_an_option_of_several_tokens_is_read_along_the_reply():
    opinion = opinion_of(
        (" wr", {" wr": math.log(0.8), " right": math.log(0.2)}), ("ong", {"ong": 0.0}), options=(" right", " wrong")
    )
    assert opinion.shares == pytest.approx((0.2, 0.8))


@given(
    st.lists(
        st.tuples(st.text(max_size=4), st.dictionaries(st.text(max_size=4), st.floats(-30, 0), max_size=6)),
        min_size=1,
        max_size=4,
    )
)
def test_no_tokens_break_the_reader(positions):
    opinion = opinion_of(*positions, options=TEN)
    assert opinion.shares is None or sum(opinion.shares) == pytest.approx(1)
    assert 0 <= opinion.mass <= 1


# --- what is asked ---------------------------------------------------------------------------------------------------------


def a_form(**changed):
    told = {
        "name": "pairwise", "system": "Be fair.", "question": "{prompt}\nA: {first}\nB: {second}\n", "think": "Why?",
        "ending": "Better:", "options": {" A": 1.0, " B": 0.0}, "is_chat": False,
    }  # fmt: skip
    return Template(**(told | changed))


def test_texts_stand_in_their_places_braces_and_all():
    asked = inquiry(a_form(), reasoning=False, prompt="{first}?", first="{x}", second="}{")
    assert asked.question == "{first}?\nA: {x}\nB: }{\n" and asked.ending == "Better:" and asked.options == (" A", " B")
    assert asked.think == "" and inquiry(a_form(), reasoning=True, prompt="", first="", second="").think == "Why?"


def test_a_conversation_is_shown_as_a_transcript():
    messages = (
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Yes?"),
        Message(role="user", content="2 + 2?"),
    )
    assert shown(messages) == "Human: Hi\n\nAssistant: Yes?\n\nHuman: 2 + 2?"
    assert shown("How many?\n") == "How many?"


def test_every_part_of_a_form_is_in_its_digest():
    changes = {"system": "x", "question": "x", "think": "x", "ending": "x", "options": {" A": 0.0, " B": 1.0}, "is_chat": True}
    digests = {a_form(**{name: value}).digest for name, value in changes.items()} | {a_form().digest}
    assert len(digests) == len(changes) + 1 and a_form().digest == a_form().digest


def test_tokens_have_a_price():
    """2 M tokens read at 3 and 1 M written at 10 a million: 16."""
    usage = Usage(asked=1, prompt_tokens=1_500_000).plus(
        Usage(asked=1, cached=3, prompt_tokens=500_000, completion_tokens=1_000_000)
    )
    assert usage == Usage(asked=2, cached=3, prompt_tokens=2_000_000, completion_tokens=1_000_000)
    assert usage.price(prompt=3.0, completion=10.0) == 16.0
