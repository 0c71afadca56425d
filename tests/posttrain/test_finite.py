"""Numbers of others: a whole number of any size is a number that Python's own test raises for."""

import math

import pytest

from posttrain.errors import ContractError
from posttrain.finite import is_finite, shown_value
from posttrain.graders import Sample, build_grader
from posttrain.rl.rewards import rewarded


@pytest.mark.parametrize(
    ("value", "finite"),
    [(0, True), (-1.5, True), (10**308, True), (10**400, False), (-(10**4000), False), (math.inf, False), (math.nan, False)],
)
def test_what_is_no_float_is_not_finite(value, finite):
    assert is_finite(value) is finite


def test_a_value_is_shown_within_its_length_however_large_it_is():
    assert shown_value(3) == "3" and shown_value("a\n") == "'a\\n'"
    assert shown_value(10**5000) == "a int too large to show"
    assert shown_value("x" * 100) == "'" + "x" * 58 + "…"


def test_a_reward_too_large_for_a_float_is_refused_in_a_sentence():
    with pytest.raises(ContractError, match=r"must be a finite number, got a int too large to show for record q1"):
        rewarded(lambda prompts, completions, records: [10**5000], "the reward", ["p"], ["c"], [{"id": "q1"}])


def test_a_graders_number_of_400_digits_is_no_score_and_no_traceback():
    grader = build_grader(
        {"type": "python", "name": "big", "source": "def grade(sample, item):\n    return 10 ** 399", "on_error": "zero"}
    )
    (found,) = grader.grade([Sample("x", {"id": "1", "answers": ("7",)})])
    assert found.score == 0.0 and "no finite number" in found.reason
