"""The answer grader: any supported way of writing a number is found and equals itself, and any other number is wrong."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posttrain.graders.answer import as_number, extract_answer, grade, normalised

HUNDREDTHS = st.integers(-10_000_000, 10_000_000)


def grouped(hundredths):
    whole, rest = divmod(abs(hundredths), 100)
    return f"{'-' * (hundredths < 0)}{whole:,}" + (f".{rest:02}" if rest else "")


def plain(hundredths):
    return grouped(hundredths).replace(",", "")


STYLES = {
    "plain": plain,
    "thousands": grouped,
    "two decimals": lambda number: f"{'-' * (number < 0)}{abs(number) // 100:,}.{abs(number) % 100:02}",
    "dollars": lambda number: f"{'-' * (number < 0)}${grouped(abs(number))}",
    "dollars first": lambda number: f"{grouped(number)} dollars",
    "per cent": lambda number: f"{plain(number)}%",
    "fraction": lambda number: f"{number}/100",
    "spaced fraction": lambda number: f"{number} / 100",
    "plus": lambda number: f"{'+' * (number >= 0)}{plain(number)}",
}
ENDINGS = {
    "answer": "First 7 and 8. Answer: {}",
    "answer with a stop": "First 7 and 8. Answer: {}.",
    "the answer is": "First 7 and 8. The answer is {}",
    "gsm8k": "First 7 and 8.\n#### {}",
    "boxed": "First 7 and 8: \\boxed{{{}}} as was to be shown",
    "equals": "First 7 and 8, ANSWER = {}",
    "more lines": "Answer: {}\nThat took me 5 minutes",
    "words after": "Answer: {} in all",
    "last number": "First 7 and 8, so {}",
    "last number and words": "First 7 and 8, so it is {} then.",
    "corrected": "Answer: 3\nNo. Answer: {}",
}


@given(HUNDREDTHS, HUNDREDTHS, st.sampled_from(sorted(STYLES)), st.sampled_from(sorted(STYLES)), st.sampled_from(sorted(ENDINGS)))
@example(0, 1, "plain", "thousands", "answer")
@example(100_000, 1, "thousands", "plain", "last number")
def test_a_number_equals_itself_in_any_style_and_no_other(number, other, style, answer_style, ending):
    completion = ENDINGS[ending].format(STYLES[style](number))
    assert grade(completion, [STYLES[answer_style](number)]).is_right
    if other != number:
        assert not grade(completion, [STYLES[answer_style](other)]).is_right


@given(HUNDREDTHS, st.sampled_from(sorted(STYLES)))
def test_a_style_stands_for_its_value(number, style):
    assert as_number(STYLES[style](number)) == Fraction(number, 100)


@given(HUNDREDTHS, st.sampled_from(sorted(ENDINGS)))
def test_one_more_or_less_is_wrong(number, ending):
    completion = ENDINGS[ending].format(plain(number))
    assert not grade(completion, [plain(number + 1)]).is_right
    assert not grade(completion, [plain(-number - 1)]).is_right


@pytest.mark.parametrize(
    ("completion", "extracted"),
    [
        ("12 + 5 = 17; 17 - 3 = 14. Answer: 14", "14"),
        ("12 + 5 = 17; 17 - 3 = 14. So 14", "14"),
        ("Answer: 14; Answer: 15", "15"),
        ("Answer:14", "14"),
        ("Answer: Paris.", "Paris"),
        ("#### 1,234", "1,234"),
        ("\\boxed{x} = 3", "x"),
        ("I cannot tell.", None),
        ("", None),
        ("v1.2.3", None),
        ("17-3", "3"),
        ("it is .5", ".5"),
        ("1,2,3", "3"),
        ("Answer:\n 14", "14"),
        ("x" * 30_000 + " Answer: 3", "3"),
        ("Answer: 3" + " " * 30_000, None),
    ],
)
def test_what_is_extracted(completion, extracted):
    assert extract_answer(completion) == extracted


@pytest.mark.parametrize(
    ("text", "number"),
    [("1/2", Fraction(1, 2)), ("$1,234.50 or so", Fraction(2469, 2)), ("-3", -3), ("1/0", None), ("apples", None), ("", None)],
)
def test_numbers_by_hand(text, number):
    assert as_number(text) == number


def test_a_number_of_absurd_length_is_no_number_and_costs_no_time():
    assert as_number("9" * 401) is None
    assert as_number("9" * 400) == 10**400 - 1
    assert not grade("Answer: " + "9" * 19_000, ["9"]).is_right


def test_text_is_compared_without_case_spaces_and_punctuation_around_it():
    assert normalised('  "The  Nile." ') == "the nile"
    assert grade("Answer: the NILE", ["The Nile."]).is_right
    assert not grade("Answer: the Nile delta", ["The Nile"]).is_right


def test_any_of_several_answers_is_right():
    verdict = grade("Answer: 0.5", ["2", "1/2"])
    assert verdict.is_right
    assert (verdict.extracted, verdict.compared_with) == ("0.5", ("2", "1/2"))


def test_a_completion_without_an_answer_is_wrong_not_an_error():
    verdict = grade("I cannot tell.", ["3"])
    assert (verdict.is_right, verdict.extracted) == (False, None)


def test_without_answers_nothing_can_be_graded():
    with pytest.raises(ValueError, match=r"^a completion cannot be graded without answers$"):
        grade("Answer: 3", [])


@given(st.text(max_size=60), st.text(max_size=20))
def test_no_text_breaks_the_grader(completion, answer):
    assert grade(completion, [answer]).is_right in (True, False)


@given(st.text(st.characters(categories=("L",)), min_size=1, max_size=10))
def test_a_word_equals_itself(word):
    assert grade(f"Answer: {word}", [word]).is_right


@pytest.mark.parametrize(
    ("completion", "answer", "is_right"),
    [
        pytest.param("Answer: 12:30", "12:45", False),
        pytest.param("Answer: 3 February", "3 March", False),
        pytest.param("Answer: 5e3", "5", False),
        pytest.param("Answer: \N{MINUS SIGN}3", "-3", True),
        pytest.param("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", True),
        pytest.param("Answer: **14**", "14", True),
        pytest.param("To answer the question: 2 + 3 = 5", "5", True),
        ("Answer: 14 apples", "14", True),
        ("Answer: 14", "14 apples", True),
        ("Answer: 12:30", "12:30", True),
    ],
)
def test_numbers_within_text(completion, answer, is_right):
    assert grade(completion, [answer]).is_right == is_right
