"""Lengths of completions and prompts, and the limit that follows from them: by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.data.lengths import WITHOUT_REFERENCES, Lengths, at_most

COUNTS = st.dictionaries(st.integers(1, 400), st.integers(1, 30), min_size=1, max_size=20)


def test_the_smallest_number_that_a_share_does_not_exceed():
    # of 20 rows 19 have 10 tokens, one has 90: 95 % are 19 rows
    counts = {90: 1, 10: 19}
    assert (at_most(counts, 0.95), at_most(counts, 0.96), at_most(counts, 0.5), at_most({}, 0.95)) == (10, 90, 10, 0)


@given(COUNTS, st.floats(0.01, 1.0))
def test_it_is_that_of_the_sorted_rows(counts, share):
    rows = sorted(tokens for tokens, many in counts.items() for _ in range(many))
    found = at_most(counts, share)
    assert sum(tokens <= found for tokens in rows) >= share * len(rows)
    assert sum(tokens < found for tokens in rows) < share * len(rows)


def test_auto_is_the_long_references_and_a_quarter_more_in_steps_of_eight():
    # 95 % have 74 tokens at most; 1.25 × 74 = 92.5, and the next multiple of 8 is 96
    assert Lengths("demonstrations", {74: 95, 300: 5}, {30: 10}).limit(512) == 96
    # 1.25 × 64 = 80 is a multiple already
    assert Lengths("demonstrations", {64: 1}, {}).limit(512) == 80


def test_the_context_ends_it_beside_long_prompts_but_not_beside_the_longest():
    lengths = Lengths("demonstrations", {80: 1}, {100: 95, 500: 5})
    assert lengths.wanted == 104 and lengths.limit(512) == 104
    assert lengths.limit(150) == 50
    assert lengths.limit(50) == 1, "the gate says that the prompts leave no room"
    assert Lengths("demonstrations", {80: 1}, {}).limit(50) == 49, "less than the context in any case"


def test_without_references_there_is_a_stated_default():
    assert Lengths("", {}, {10: 1}).limit(4_096) == WITHOUT_REFERENCES == 256
    assert Lengths("", {}, {10: 1}).limit(100) == 90


@given(COUNTS, COUNTS, st.integers(2, 2_000))
def test_a_limit_is_within_the_context(references, prompts, context):
    limit = Lengths("demonstrations", references, prompts).limit(context)
    assert 1 <= limit < context


def test_demonstrations_come_before_feedback_and_what_is_held_out_last():
    held_out = {"completions": {"7": 1}, "prompts": {"5": 2}}
    pairs = {"completions": {"9": 3}, "prompts": {"50": 3}}
    asked = {"completions": {}, "prompts": {"5": 1, "6": 1}}
    shown = {"completions": {"8": 2}, "prompts": {"40": 2}}
    roles = {"held_out": held_out, "preferences": pairs, "questions": asked, "demonstrations": shown}
    assert Lengths.of_roles(roles) == Lengths("demonstrations", {8: 2}, {5: 3, 6: 1})
    del roles["demonstrations"]
    assert Lengths.of_roles(roles) == Lengths("preferences", {9: 3}, {5: 3, 6: 1})
    del roles["preferences"]
    assert Lengths.of_roles(roles) == Lengths("held_out", {7: 1}, {5: 3, 6: 1})
    assert Lengths.of_roles({"questions": asked}) == Lengths("", {}, {5: 1, 6: 1})
    assert Lengths.of_roles({}) == Lengths("", {}, {})


def test_what_does_not_fit_is_counted():
    lengths = Lengths("demonstrations", {10: 3, 11: 2, 40: 1}, {})
    assert (lengths.rows, lengths.beyond(9), lengths.beyond(10), lengths.beyond(40)) == (6, 6, 3, 0)


def test_figures_are_logged_where_there_are_any():
    assert Lengths("demonstrations", {10: 3, 40: 1}, {5: 4}).figures() == {
        "references": 4.0,
        "reference_tokens_50": 10.0,
        "reference_tokens_95": 40.0,
        "reference_tokens_max": 40.0,
        "prompt_tokens_95": 5.0,
        "prompt_tokens_max": 5.0,
    }
    assert Lengths("", {}, {}).figures() == {"references": 0.0}


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_one_row_is_every_share(share):
    assert at_most({12: 1}, share) == 12
