"""A judge's words: the last verdict decides, or none; a letter that happens to stand there is no verdict."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.judges.words import LONGEST_REPLY, option_in

AB = (" A", " B")
TEN = tuple(f" {number}" for number in range(1, 11))
WORDS = (" right", " wrong")


def chosen(reply, options=AB):
    place = option_in(reply, options)
    return None if place is None else options[place].strip()


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        # an option and nothing else, however it is written
        ("A", "A"), (" A", "A"), ("a", "A"), ("A.", "A"), ("**A**", "A"), ('"A"', "A"), ("[[B]]", "B"), ("Response B", "B"),
        # with a reason behind it
        ("(A) since it is right", "A"), ("A, because it adds up", "A"), ("  a, I think", "A"), ("A\nB is wrong", "A"),
        # said in a sentence
        ("The better one is A", "A"), ("Verdict: B", "B"), ("**Verdict:** B", "B"), ("Final answer: [[A]]", "A"),
        ("The answer is B.", "B"), ("I would choose A, since B is wrong.", "A"), ("B is clearly better than A.", "B"),
        ("A wins", "A"), ("B is the winner", "B"), ("Answer A is better because it is more accurate than B", "A"),
        # the last one decides
        ("A is better. No, wait: B is better.", "B"), ("A or B? I think B", "B"), ("A: fine. B: poor. Better: A", "A"),
        ("1. First, Response B is better", "B"), ("<think>A is better</think>B", "B"),
        # worse is for the other one
        ("A is worse than B", "B"), ("Response B is weaker.", "A"),
    ],
)  # fmt: skip
def test_a_verdict_is_read_wherever_it_stands(reply, option):
    assert chosen(reply) == option


@pytest.mark.parametrize(
    "reply",
    [
        "", " ", "Apples", "Neither", "C", "ab", "5", "A good answer overall.", "A, B", "A and B", "A or B", "A/B", "A. B.",
        "A\nB",
        "Both A and B are good", "Response A is not better", "I don't think A is better", "The better answer is not A",
    ],
)  # fmt: skip
def test_a_hedge_a_negation_or_an_article_is_no_verdict(reply):
    assert chosen(reply) is None


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("10", "10"), ("1", "1"), ("10/10", "10"), ("7.", "7"), ("7 of 10", "7"), ("Rating: 8", "8"), ("8 out of 10", "8"),
        ("I'd give it a 7", "7"), ("I would rate this 7 out of 10.", "7"), ("The rating is 9.", "9"), ("**8**", "8"),
        ("7.5", None), ("11", None), ("0", None), ("Score: 7.5", None), ("Between 7 and 8", None),
        ("1. First, it is good. 2. Second", None), ("1. First, Response B is better", None),
    ],
)  # fmt: skip
def test_a_number_is_read_whole_and_a_lists_number_is_none(reply, score):
    assert chosen(reply, TEN) == score


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        ("right", "right"),
        ("Wrong.", "wrong"),
        ("The answer is right", "right"),
        ("It is not right", None),
        ("Verdict: wrong", "wrong"),
    ],
)
def test_words_are_options_too(reply, word):
    assert chosen(reply, WORDS) == word


def test_of_three_what_is_worse_names_no_better():
    assert chosen("A is worse", (" A", " B", " C")) is None


@given(st.text(alphabet=string.printable, max_size=30))
def test_no_reply_breaks_the_reader(reply):
    assert option_in(reply, AB) in (0, 1, None)


@pytest.mark.parametrize(
    "part", ["A is ", "I think ", "(", "A, ", "is better ", "[[", "1", "<think>", "better one ", "\n", "' ", "A is worse "]
)
def test_a_long_reply_is_read_from_its_end(part):
    """Only so much is looked at, whatever the pattern; a reader that went back and forth would not come to an end here."""
    long = part * (2_000_000 // len(part))
    option_in(long, AB)
    assert chosen(long + ". " * LONGEST_REPLY + "\nVerdict: B") == "B"
