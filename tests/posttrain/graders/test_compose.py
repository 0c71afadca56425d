"""`multi`: the formula's arithmetic, what may not stand in it, and how grades are put together."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.errors import RequestError
from posttrain.graders import Sample, build_grader
from posttrain.graders.compose import Formula

SCORES = {"a": 0.5, "b": 2.0}


def formula(text):
    return Formula(text, names=tuple(SCORES), where="grader.calculate_output")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 0.5),
        ("a + b * 2", 4.5),
        ("(a + b) * 2", 5.0),
        ("a - b - 1", -2.5),
        ("b / a / 2", 2.0),
        ("b ^ 3", 8.0),
        ("b ^ 3 ^ 2", 512.0),  # from the right: 2^9
        ("-b ^ 2", -4.0),
        ("1 + b ^ 2", 5.0),  # a power binds more tightly than a sum
        ("b ** 2", 4.0),
        ("+a", 0.5),
        ("min(a, b, 1)", 0.5),
        ("max(a, b)", 2.0),
        ("abs(-b)", 2.0),
        ("floor(b / 1.5)", 1.0),
        ("ceil(b / 1.5)", 2.0),
        ("exp(0)", 1.0),
        ("sqrt(b * 2)", 2.0),
        ("log(exp(1))", 1.0),
        ("2e-1", 0.2),
        (" a ", 0.5),
    ],
)
def test_values_by_hand(text, value):
    assert formula(text)(SCORES) == pytest.approx(value, abs=1e-12)


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_a_weighted_mean(a, b):
    assert formula("0.25 * a + 0.75 * b")({"a": a, "b": b}) == 0.25 * a + 0.75 * b


MAY_HOLD = "It may hold numbers, a, b, + - * / ^ and min, max, abs, floor, ceil, exp, sqrt, log"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a + aa", "there is no grader aa; did you mean a? the graders are a, b"),
        ("a + zebra", "there is no grader zebra; the graders are a, b"),
        ("a.real", f"'a.real' may not stand in a formula. {MAY_HOLD}"),
        ("__import__('os')", f"\"__import__('os')\" may not stand in a formula. {MAY_HOLD}"),
        ("eval('1')", f"\"eval('1')\" may not stand in a formula. {MAY_HOLD}"),
        ("a if b else 1", f"'a if b else 1' may not stand in a formula. {MAY_HOLD}"),
        ("a % b", f"'a % b' may not stand in a formula. {MAY_HOLD}"),
        ("'x'", f"\"'x'\" may not stand in a formula. {MAY_HOLD}"),
        ("True", f"'True' may not stand in a formula. {MAY_HOLD}"),
        ("min(*a)", f"'*a' may not stand in a formula. {MAY_HOLD}"),
        ("[a][0]", f"'[a][0]' may not stand in a formula. {MAY_HOLD}"),
        ("(lambda: a)()", f"'(lambda: a)()' may not stand in a formula. {MAY_HOLD}"),
        ("sqrt(a, b)", "sqrt takes one argument, got 2"),
        ("min()", "min takes arguments, got 0"),
    ],
)
def test_what_is_no_arithmetic_is_refused(text, message):
    with pytest.raises(RequestError) as refused:
        formula(text)
    assert str(refused.value) == f"grader.calculate_output: {message}"


@pytest.mark.parametrize("name", ["abs", "floor", "ceil", "exp", "sqrt", "log"])
def test_a_function_of_one_number_takes_no_two(name):
    with pytest.raises(RequestError, match=rf"^grader\.calculate_output: {name} takes one argument, got 2$"):
        formula(f"{name}(a, b)")


@pytest.mark.parametrize("text", ["", "a +", "a b", "a; b", "(" * 500, "a = b"])
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(RequestError) as refused:
        formula(text)
    assert str(refused.value) == f"grader.calculate_output is no formula: {text!r}. {MAY_HOLD}"


def test_a_formula_of_absurd_length_is_refused():
    with pytest.raises(RequestError, match=r"^grader\.calculate_output must have at most 1000 characters, got 2001$"):
        formula("a" + "+a" * 1_000)


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("1 / (a - 0.5)", "float division by zero"),
        ("log(a - 0.5)", "math domain error"),
        ("sqrt(0 - a)", "math domain error"),
        ("exp(1000 * b)", "math range error"),
        ("9 ^ 9 ^ 9", "math range error"),
        ("1e308 * 10 * a", "it is inf"),
    ],
)
def test_a_formula_without_a_value_breaks_and_scores_nothing(text, trouble):
    with pytest.raises(RequestError) as refused:
        formula(text)(SCORES)
    assert str(refused.value) == (
        f"grader.calculate_output: {text} has no finite value at a=0.5, b=2 ({trouble}). "
        "Keep it finite, with max(…, 0.001) for example"
    )


SPEC = {
    "type": "multi",
    "graders": {
        "answer": {"type": "answer", "partial_credit": 0.1},
        "form": {"type": "format", "max_characters": 20},
    },
    "calculate_output": "0.8 * answer + 0.2 * form",
}


def test_grades_are_combined_and_their_parts_kept():
    samples = [Sample(text, {"answers": ["14"]}) for text in ("Answer: 14", "Answer: 15", "Answer: 14" + " " * 20, "dunno")]
    right, wrong, long, none = build_grader(SPEC).grade(samples)
    assert (right.score, right.is_right, right.parts) == (1.0, True, {"answer": 1.0, "form": 1.0})
    assert (right.extracted, right.compared_with) == ("14", ("14",))
    assert wrong.score == pytest.approx(0.8 * 0.1 + 0.2)
    assert (wrong.is_right, wrong.is_partial) == (False, True)
    assert long.score == pytest.approx(0.8) and not long.is_right and not long.is_partial
    assert none.score == pytest.approx(0.2) and none.errors == ("sample_parse_error",)
    assert right.reason == "answer: the same number; form: passes max_characters"


def test_the_threshold_says_what_counts_as_right():
    (found,) = build_grader({**SPEC, "pass_threshold": 0.7}).grade([Sample("Answer: 14" + " " * 20, {"answers": ["14"]})])
    assert found.is_right and math.isclose(found.score, 0.8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"graders": {}},
            "grader.graders must be named by letters, digits and underscores, and none a function's name, got none",
        ),
        (
            {"graders": {"a b": {"type": "answer"}}},
            "grader.graders must be named by letters, digits and underscores, and none a function's name, got 'a b'",
        ),
        (
            {"graders": {"min": {"type": "answer"}}},
            "grader.graders must be named by letters, digits and underscores, and none a function's name, got 'min'",
        ),
        ({"calculate_output": "answer"}, "grader.calculate_output does not use form: use it, or drop the grader"),
        (
            {"graders": {"answer": {"type": "multi"}}},
            "grader.graders.answer is itself of type multi: write one formula over all graders instead",
        ),
        ({"graders": {"answer": {"type": "answer", "kind": "words"}}}, None),
    ],
)
def test_refusals(change, message):
    with pytest.raises(RequestError) as refused:
        build_grader({**SPEC, **change})
    expected = "grader.graders.answer.kind must be one of 'auto', 'number', 'choice' or 'text', got \"words\""
    assert str(refused.value) == (message or expected)
