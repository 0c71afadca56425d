"""Parity by hand: equal answers, other words, other marks; and what is said of them."""

import json

import pytest

from posttrain.evaluation.parity import parity


def row(number, greedy, *sampled, answers=("4",)):
    def one(text):
        return {"text": text, **({"is_right": text == "4"} if answers else {})}

    return {"id": f"q{number}", "answers": list(answers), "greedy": one(greedy), "sampled": [one(text) for text in sampled]}


def test_the_same_answers_are_exact():
    rows = [row(number, "4", "4", "5") for number in range(20)]
    found = parity(rows, rows)
    assert found.is_exact and not found.is_different
    assert found.same_greedy.estimate == found.same_sampled == 1.0
    # all of 20 pairs agree: no difference, but an interval around it (paired_gain)
    assert found.accuracy.estimate == 0 and found.accuracy.low < 0 < found.accuracy.high
    assert found.says().startswith(
        "it answers all 20 held-out questions to the letter as the evaluated model did; accuracy +0.0 "
    )
    assert json.loads(json.dumps(found.as_record(), allow_nan=False))["is_exact"] is True


def test_other_words_that_are_as_right_are_no_other_model():
    ours = [row(number, "4" if number != 3 else "5") for number in range(20)]
    found = parity(ours, [row(number, "4") for number in range(20)])
    assert not found.is_exact and not found.is_different
    assert found.same_greedy.estimate == 0.95  # 19 of 20
    assert found.accuracy.estimate == pytest.approx(-0.05)
    assert found.accuracy_sampled is None and found.same_sampled is None
    assert found.says().startswith("95.0 % [") and "accuracy -5.0 points [" in found.says()


def test_a_worse_model_is_told():
    ours = [row(number, "5", "5") for number in range(40)]
    found = parity(ours, [row(number, "4", "4") for number in range(40)])
    assert found.is_different and found.accuracy.high < 0 and found.accuracy_sampled.estimate == -1
    assert found.says().endswith(": it is another model than the one that was evaluated")


def test_samples_that_alone_differ_are_no_exact_parity():
    ours = [row(number, "4", "4", "5") for number in range(10)]
    found = parity(ours, [row(number, "4", "4", "4") for number in range(10)])
    assert found.same_greedy.estimate == 1 and found.same_sampled == 0.5
    assert not found.is_exact
    assert found.accuracy.estimate == 0 and found.accuracy_sampled.estimate == pytest.approx(-0.5)


def test_questions_without_answers_have_no_accuracy():
    ours = [row(number, str(number % 2), answers=()) for number in range(10)]
    found = parity(ours, [row(number, "0", answers=()) for number in range(10)])
    assert found.accuracy is None and found.same_greedy.estimate == 0.5
    assert found.says().endswith("none of the questions has an answer, so nobody can tell which are right")


def test_other_questions_do_not_compare():
    with pytest.raises(ValueError, match="the same questions in the same order"):
        parity([row(1, "4"), row(2, "4")], [row(2, "4"), row(1, "4")])
