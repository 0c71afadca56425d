"""The answer grader: any supported way of writing a number is found and equals itself, and any other number is wrong."""

import json
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posttrain.errors import DataError
from posttrain.graders import Sample
from posttrain.graders.answer import AnswerGrader, Rules, as_number, extract_answer, grade, normalised

HUNDREDTHS = st.integers(-10_000_000, 10_000_000)


def grouped(hundredths):
    whole, rest = divmod(abs(hundredths), 100)
    return f"{'-' * (hundredths < 0)}{whole:,}" + (f".{rest:02}" if rest else "")


def plain(hundredths):
    return grouped(hundredths).replace(",", "")


def mixed(hundredths):
    whole, rest = divmod(abs(hundredths), 100)
    return f"{'-' * (hundredths < 0)}" + (f"{whole} {rest}/100" if rest and whole else f"{abs(hundredths)}/100")


def european(hundredths):
    """Points between thousands only where a decimal comma shows what they are."""
    text = grouped(hundredths)
    return text.replace(",", "_").replace(".", ",").replace("_", "." if "." in text else " ")


STYLES = {
    "plain": plain,
    "thousands": grouped,
    "thousands by space": lambda number: grouped(number).replace(",", " "),
    "thousands by apostrophe": lambda number: grouped(number).replace(",", "'"),
    "european": european,
    "two decimals": lambda number: f"{'-' * (number < 0)}{abs(number) // 100:,}.{abs(number) % 100:02}",
    "minus sign": lambda number: plain(number).replace("-", "\N{MINUS SIGN}"),
    "dollars": lambda number: f"{'-' * (number < 0)}${grouped(abs(number))}",
    "dollars first": lambda number: f"{grouped(number)} dollars",
    "latex dollars": lambda number: f"\\${plain(number)}" if number >= 0 else f"-\\${plain(-number)}",
    "per cent": lambda number: f"{plain(number)}%",
    "latex per cent": lambda number: f"{plain(number)}\\%",
    "fraction": lambda number: f"{number}/100",
    "spaced fraction": lambda number: f"{number} / 100",
    "mixed number": mixed,
    "latex fraction": lambda number: f"{'-' * (number < 0)}\\frac{{{abs(number)}}}{{100}}",
    "mathematics": lambda number: f"${plain(number)}$",
    "scientific": lambda number: f"{number}e-2",
    "times ten to the": lambda number: f"{number} × 10^{{-2}}",
    "latex times ten to the": lambda number: f"{number} \\times 10^{{-2}}",
    "plus": lambda number: f"{'+' * (number >= 0)}{plain(number)}",
}
DOLLARS = {"dollars", "dollars first", "latex dollars"}
PER_CENT = {"per cent", "latex per cent"}
ENDINGS = {
    "answer": "First 7 and 8. Answer: {}",
    "answer with a stop": "First 7 and 8. Answer: {}.",
    "the answer is": "First 7 and 8. The answer is {}",
    "gsm8k": "First 7 and 8.\n#### {}",
    "boxed": "First 7 and 8: \\boxed{{{}}} as was to be shown",
    "equals": "First 7 and 8, ANSWER = {}",
    "more lines": "Answer: {}\nThat took me 5 minutes",
    "words after": "Answer: {} in all",
    "corrected": "Answer: 3\nNo. Answer: {}",
    "equation": "Answer: x = {}",
    "bold": "**Answer:** {}",
    "bold word": "**Answer**: {}",
    "tag": "<think>7</think><answer>{}</answer>",
}
UNMARKED = ("First 7 and 8, so {}", "First 7 and 8, so it is {} then.")
IN_RUNNING_TEXT = (
    "plain",
    "thousands",
    "two decimals",
    "dollars",
    "per cent",
    "fraction",
    "spaced fraction",
    "scientific",
    "plus",
)


@given(HUNDREDTHS, HUNDREDTHS, st.sampled_from(sorted(STYLES)), st.sampled_from(sorted(STYLES)), st.sampled_from(sorted(ENDINGS)))
@example(0, 1, "plain", "thousands", "answer")
@example(100_000, 1, "thousands", "plain", "equation")
@example(123, 124, "european", "mixed number", "tag")
def test_a_number_equals_itself_in_any_style_and_no_other(number, other, style, answer_style, ending):
    completion = ENDINGS[ending].format(STYLES[style](number))
    has_one_unit = not ({style, answer_style} & DOLLARS and {style, answer_style} & PER_CENT)
    assert grade(completion, [STYLES[answer_style](number)]).is_right == has_one_unit
    if other != number:
        assert not grade(completion, [STYLES[answer_style](other)]).is_right


@given(HUNDREDTHS, st.sampled_from(sorted(STYLES)))
def test_a_style_stands_for_its_value(number, style):
    assert as_number(STYLES[style](number)) == Fraction(number, 100)


@given(HUNDREDTHS, st.sampled_from(IN_RUNNING_TEXT), st.sampled_from(UNMARKED))
def test_the_last_number_is_the_answer_where_nothing_marks_one(number, style, ending):
    verdict = grade(ending.format(STYLES[style](number)), [plain(number)])
    assert verdict.is_right, verdict
    assert not grade(ending.format(STYLES[style](number)), [plain(number + 1)]).is_right


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
        ("17-3", "17-3"),
        ("it is .5", ".5"),
        ("1,2,3", "1,2,3"),
        ("Answer:\n 14", "14"),
        ("x" * 30_000 + " Answer: 3", "3"),
        ("Answer: 3" + " " * 30_000, "3"),
        ("Answer: 3" + " " * 100_000, None),
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
        ("Answer: 5 or 6", "5", False),
        ("Answer: 5, 6, 7, 8", "7", False),
        ("Answer: 5, 6, 7, 8", "5", False),
        ("Answer: 2 + 3 = 5", "5", True),
        ("Answer: x = 5", "y = 5", False),
        ("Answer: x = 5", "x = 5", True),
        ("The answer is therefore 5 apples", "5", True),
        ("The answer is 5 of 6", "5", False),
        ("Answer: 5 km", "5 kilometers", True),
        ("Answer: 5 km", "5 m", False),
        ("Answer: 5 km", "5000 m", False),
        ("Answer: $5", "5 euros", False),
        ("Answer: 50%", "0.5", False),
        ("Answer: 14. That took me 5 minutes", "14", True),
        ("Answer: 14 (12 and 2)", "14", False),
        ("Answer: 14", "12 + 2 = 14\n#### 14", True),
        ("Answer: 14", "so \\boxed{14}", True),
        ("Answer: 15", "12 + 2 = 14\n#### 14", False),
        ("\\boxed{\\text{Paris}}", "paris", True),
        ("Answer: Paris, France", "Paris", False),
        ("Answer: $1,000,000$", "10^6", True),
        ("Answer: 5 million dollars", "$5,000,000", True),
        ("Answer: +", "-", False),
        ("Answer: \\sqrt{4}", "4", False),
        ("Answer: x^2", "2", False),
        ("Answer: 2\\pi", "2", False),
        ("Answer: 2x", "2", False),
        ("Answer: 2x", "2x", True),
        ("Answer: 2 m", "2", True),
        ("Answer: not 5", "5", False),
        ("Answer: it isn't 5", "5", False),
        ("Answer: about 5", "5", True),
        ("Answer: ≈ 5", "5", True),
        ("Answer: ?", "!", False),
    ],
)
def test_numbers_within_text(completion, answer, is_right):
    assert grade(completion, [answer]).is_right == is_right


# --- multiple choice --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "is_right"),
    [
        ("The answer is (B)", True),
        ("Answer: B", True),
        ("Answer: b)", True),
        ("Answer: **B**", True),
        ("Answer: (B) 12 apples", True),
        ("Answer: B. 12 apples", True),
        ("Answer: option B", True),
        ("\\boxed{B}", True),
        ("\\boxed{\\text{B}}", True),
        ("A is too small, C is too large. So I choose (B).", True),
        ("so it must be B", True),
        ("Answer: A", False),
        ("Answer: A or B", False),
        ("Answer: Berlin", False),
        ("I guess so.", False),
        ("(A) (B) (C)", False),
        ("There are 12 apples", False),
    ],
)
@pytest.mark.parametrize("answer", ["B", "(B)", "B."])
def test_choices(completion, is_right, answer):
    assert grade(completion, [answer]).is_right == is_right


def test_a_capital_letter_in_a_text_answer_is_no_choice():
    assert grade("Answer: A cat", ["A cat"]).is_right
    assert not grade("Answer: A cat", ["A dog"]).is_right


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "given_answer", "answer", "is_right"),
    [
        (Rules(absolute=Fraction(1, 100)), "0.33", "1/3", True),
        (Rules(absolute=Fraction(1, 1000)), "0.33", "1/3", False),
        (Rules(absolute=Fraction(1)), "15", "14", True),
        (Rules(absolute=Fraction(1)), "15.01", "14", False),
        (Rules(relative=Fraction(1, 100)), "101", "100", True),  # |101 − 100| = 0.01 · 100
        (Rules(relative=Fraction(1, 100)), "100", "101", True),  # 1 ≤ 1.01
        (Rules(relative=Fraction(1, 100)), "101.01", "100", False),
        (Rules(relative=Fraction(1, 100)), "-99", "-100", True),
        (Rules(percent="fraction"), "50%", "0.5", True),
        (Rules(percent="fraction"), "50%", "50", False),
        (Rules(percent="fraction"), "50%", "50 per cent", True),
        (Rules(kind="text"), "14", "14.0", False),
        (Rules(kind="text"), "14", "14", True),
    ],
)
def test_rules(rules, given_answer, answer, is_right):
    assert grade(f"Answer: {given_answer}", [answer], rules=rules).is_right == is_right


def test_a_marker_may_be_required():
    assert grade("so 14", ["14"]).is_right
    verdict = grade("so 14", ["14"], rules=Rules(needs_marker=True))
    assert (verdict.is_right, verdict.extracted, verdict.reason) == (False, None, "no answer found")


def test_reasons():
    assert grade("Answer: 14", ["14.0"]).reason == "the same number"
    assert grade("Answer: Paris", ["paris"]).reason == "the same text"
    assert grade("Answer: (B)", ["B"]).reason == "the same choice"
    assert grade("Answer: 15", ["13", "14"]).reason == "'15' is not 13 nor 14"
    assert grade("dunno", ["14"]).errors == ("sample_parse_error",)


def test_mathematics_is_asked_only_where_plain_reading_fails():
    asked = []

    def same(answer, given_answer):
        asked.append((answer, given_answer))
        return given_answer == "\\sqrt{4}", ""

    assert grade("Answer: \\sqrt{4}", ["2"], same_mathematics=same).reason == "the same mathematics"
    assert not grade("Answer: \\sqrt{5}", ["2"], same_mathematics=same).is_right
    assert not grade("Answer: 3", ["2"], same_mathematics=same).is_right
    assert grade("Answer: \\frac{4}{2}", ["2"], same_mathematics=same).is_right
    assert not grade("Answer: \\frac{5}{2}", ["2"], same_mathematics=same).is_right
    assert asked == [("2", "\\sqrt{4}"), ("2", "\\sqrt{5}")]


# --- the grader -------------------------------------------------------------------------------------------------------


def one(completion, record, **settings):
    (found,) = AnswerGrader(**settings).grade([Sample(completion, record)])
    return found


@pytest.mark.parametrize(
    ("completion", "answer", "partial_for", "score"),
    [
        ("Answer: 14", "14", "numeric", 1.0),
        ("Answer: 15", "14", "numeric", 0.1),
        ("dunno", "14", "numeric", 0.0),
        ("Answer: many", "14", "numeric", 0.0),
        ("Answer: A", "B", "numeric", 0.0),
        ("Answer: A", "B", "all", 0.1),
        ("Answer: many", "14", "all", 0.1),
        ("dunno", "14", "all", 0.0),
        ("Answer: Rome", "Paris", "numeric", 0.0),
    ],
)
def test_partial_credit_is_for_numbers_unless_told_otherwise(completion, answer, partial_for, score):
    found = one(completion, {"answers": [answer]}, partial_credit=0.1, partial_for=partial_for)
    assert found.score == score
    assert found.is_partial == (score == 0.1)
    assert found.is_right == (score == 1)


def test_without_a_policy_a_wrong_answer_earns_nothing():
    found = one("Answer: 15", {"answers": ["14"]})
    assert (found.score, found.is_partial, found.is_right) == (0.0, False, False)


@pytest.mark.parametrize(
    "record",
    [
        {"answers": ["14"]},
        {"answers": ("14", "15")},
        {"answer": "14"},
        {"answer": 14},
        {"answer": 14.0},
        {"reference_answer": 14},
    ],
)
def test_where_answers_come_from(record):
    assert one("Answer: 14", record).is_right


@pytest.mark.parametrize("record", [{"id": "q7", "prompt": "?"}, {"id": "q7", "prompt": "?", "answers": []}])
def test_a_record_without_answers_is_refused(record):
    with pytest.raises(DataError, match=r"^record 'q7' has no answer to grade against: it needs one of answers, answer, "):
        one("Answer: 14", record)


def test_a_grade_is_a_row_of_plain_json():
    found = one("Answer: " + "x" * 500, {"answers": ["14"]})
    assert json.loads(json.dumps(found.as_row())) == found.as_row()
    assert len(found.as_row()["extracted"]) == 200
    assert found.as_row() | {"extracted": "", "reason": ""} == {
        "score": 0.0,
        "is_right": False,
        "is_partial": False,
        "extracted": "",
        "compared_with": ["14"],
        "reason": "",
        "parts": {},
        "errors": [],
    }
