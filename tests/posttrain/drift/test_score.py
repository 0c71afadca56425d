"""The score of fresh answers: by hand, by what must not matter, and each rule at its bound."""

import json

import pytest

from posttrain.drift.score import Answers, answers_in, compare, says, score_record, too_few
from posttrain.records import Question
from posttrain.settings.monitor import MonitorSettings
from posttrain.statistics.independent import independent_difference
from posttrain.statistics.intervals import clustered_proportion


def answers(right, questions, *, together=1):
    """Return answers of which the first are right, in families of so many."""
    return Answers([place < right for place in range(questions)], [place // together for place in range(questions)])


def compared(fresh, gate, margin=0.02, level=0.05):
    return compare(fresh, gate, level=level, margin=margin)


def test_a_fall_by_hand():
    # 60 of 100 against 80 of 100: Wilson at 0.6 is [0.502, 0.691], at 0.8 [0.711, 0.867]; the variance of shares has one problem
    # added and t_99 = 1.984 in the place of 1.96, so both are wider by about 1 %
    # d = -0.2; √(0.091² + 0.089²) = 0.127 above, √(0.098² + 0.067²) = 0.119 below
    found = compared(answers(60, 100), answers(80, 100))
    assert found.difference.estimate == pytest.approx(-0.2)
    assert (found.difference.low, found.difference.high) == pytest.approx((-0.319, -0.073), abs=0.003)
    assert found.rule == "fallen" and found.is_alarm
    # 0.02 + 0.123 (1 + 0.8416 / 1.9600)
    half = (found.difference.high - found.difference.low) / 2
    assert half == pytest.approx(0.123, abs=0.002) and found.smallest_fall == pytest.approx(0.02 + half * 1.4294, abs=1e-5)


def test_the_interval_is_newcombes_of_clustered_shares():
    fresh, gate = answers(61, 90, together=3), answers(150, 200)
    sides = [clustered_proportion([float(one) for one in side.is_right], side.family, confidence=0.9) for side in (fresh, gate)]
    found = compared(fresh, gate, level=0.1)
    assert (found.fresh, found.gate) == tuple(sides) and found.difference == independent_difference(*sides)


@pytest.mark.parametrize(("offset", "rule"), [(1e-6, "lower"), (-1e-6, "fallen")])
def test_the_margin_is_the_bound_of_an_alarm(offset, rule):
    bound = -compared(answers(60, 100), answers(80, 100)).difference.high
    assert compared(answers(60, 100), answers(80, 100), margin=bound + offset).rule == rule


def test_what_is_as_good_or_better_holds():
    for right in (80, 79, 95):
        found = compared(answers(right, 100), answers(80, 100))
        assert found.rule == "holds" and not found.is_alarm
    # the upper bound of an equal score is above 0 by half the interval
    assert compared(answers(80, 100), answers(80, 100)).difference.high > 0.09


def test_answers_to_nearly_equal_questions_are_one_draw():
    alone, together = compared(answers(60, 100), answers(80, 100)), compared(answers(60, 100, together=5), answers(80, 100))
    # the spread of fresh answers rises by about √5
    assert together.difference.high - together.difference.estimate > 1.5 * (alone.difference.high - alone.difference.estimate)
    assert (alone.rule, together.rule) == ("fallen", "holds")
    assert answers(60, 100, together=5).families == 20


def test_more_questions_see_smaller_falls_and_never_one_within_the_margin():
    falls = [compared(answers(4 * size // 5, size), answers(800, 1_000)).smallest_fall for size in (50, 200, 500, 1_000)]
    assert falls == sorted(falls, reverse=True)
    # of docs/monitoring.md, by the normal approximation 0.107, 0.081 and 0.070
    assert falls[1:] == pytest.approx([0.107, 0.081, 0.070], abs=0.003)
    assert compared(answers(800, 1_000), answers(800, 1_000), margin=0.5).smallest_fall > 0.5


def test_where_nothing_can_fall_no_fall_is_promised():
    assert compared(answers(1, 20), answers(2, 20)).smallest_fall is None


def test_the_sentences():
    fallen = compared(answers(60, 100), answers(80, 100))
    low, high = (f"{100 * bound:.1f}" for bound in (fallen.difference.low, fallen.difference.high))
    figures = (
        f"version 7 answers 60.0 % of 100 fresh questions right, where it had 80.0 % of 1,000 held-out ones: -20.0 points "
        f"[{low}, {high}]"
    )

    def sentence(score, margin=0.02):
        return says(score, 100, 1_000, name="version 7", margin=margin)

    assert sentence(fallen) == f"The champion's score has fallen: {figures}, beyond the margin of 2.0"
    lower = compared(answers(60, 100), answers(80, 100), margin=0.15)
    assert sentence(lower, 0.15) == (
        f"The champion's score is lower, but not shown to be so by more than the margin of 15.0: {figures}"
    )
    holds = compared(answers(80, 100), answers(80, 100))
    assert sentence(holds).startswith("No fall of the champion's score is seen: version 7 answers 80.0 % of 100")
    assert ": +0.0 points [" in sentence(holds)
    # 7,999 of 10,000 against 800 of 1,000 is a hundredth of a point less
    assert ": +0.0 points [" in sentence(compared(answers(7_999, 10_000), answers(800, 1_000)))
    assert sentence(holds).endswith(f"; a fall of {100 * holds.smallest_fall:.1f} would be seen in 80 % of the cases")
    assert sentence(compared(answers(2, 20), answers(2, 20))).endswith("; no fall would be seen")


# --- rows of evaluations ----------------------------------------------------------------------------------------------


def row(number, is_right, prompt="", answers=("4",), **greedy):
    told = {"text": f"says {number}", "tokens": 3, "is_finished": True, "is_right": is_right}
    text = prompt or f"{number * 7919} times {number * 104729} is what?"
    return {"id": f"q{number}", "prompt": text, "answers": list(answers), "greedy": {**told, **greedy}}


def rows(right, questions):
    return [row(number, number < right) for number in range(questions)]


def record(fresh, gate, **how):
    families = {"fresh_families": None, "gate_families": None, **how}
    return score_record(fresh, gate, **families, name="version 7", settings=MonitorSettings(), near_duplicate=0.8)


def test_a_record_of_rows():
    unanswered = {**row(99, True, answers=()), "greedy": {"text": "x", "tokens": 1, "is_finished": False}}
    gate = [*rows(32, 40), unanswered]
    fresh = [*rows(10, 29), row(40, False, prompt="Who?", answers=("Ann", "Eve"), is_finished=False, tokens=9)]
    found = record(fresh, gate)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["rule"], found["is_alarm"], found["warnings"]) == ("fallen", True, [])
    assert found["fresh"]["questions"] == found["fresh"]["families"] == 30 and found["gate"]["questions"] == 40
    assert found["fresh"]["accuracy"]["estimate"] == pytest.approx(1 / 3) and found["gate"]["accuracy"]["estimate"] == 0.8
    assert (found["fresh"]["finished"], found["gate"]["finished"]) == (29 / 30, 1.0)
    assert found["difference"]["estimate"] == pytest.approx(1 / 3 - 0.8)
    # ten of the twenty that are wrong, in their order, each with its own answer
    assert [one["response"] for one in found["wrong"]] == [f"says {number}" for number in range(10, 20)]
    last = record(fresh[-1:] + fresh[:29], gate)["wrong"][0]
    assert last == {"prompt": "Who?", "answers": "Ann, Eve", "response": "says 40"}


def test_a_question_that_fills_the_context_is_told():
    full = [row(number, False, tokens=0, is_finished=False) for number in (50, 52)]
    found = record([*full, row(51, False, tokens=0), row(53, False, is_finished=False), *rows(10, 28)], rows(32, 40))
    assert found["warnings"] == ["2 of the fresh questions fill the model's context, so they have no answer, and count as wrong"]


def test_families_that_the_data_name_count_and_so_do_nearly_equal_prompts():
    long = " ".join(f"word{number}" for number in range(60))
    twins = [row(number, True, prompt=f"{long} {number}") for number in range(60, 63)]
    asked, found = answers_in([*twins, row(1, True), row(2, False), row(3, True, answers=())], None, 0.8)
    assert len(asked) == 5 and found.families == 3 and list(found.is_right) == [True, True, True, True, False]
    _, named = answers_in(rows(2, 4), ["a", "a", None, None], 0.8)
    assert named.families == 3 and named.family[0] == named.family[1]


def test_too_few_questions_are_told():
    def asked(count):
        return [
            Question.model_validate({part: row(number, True)[part] for part in ("id", "prompt", "answers")})
            for number in range(count)
        ]

    assert too_few("these", asked(20), 0.8) == ""
    assert too_few("these", asked(19) + asked(5), 0.8) == (
        "these are 24 with 19 different prompts, near-duplicates counted once, and 20 are needed"
    )
    assert too_few("these", [], 0.8).startswith("these are 0 with 0 different prompts")
