"""Graders that ask a model: what it is asked, and what is made of every kind of reply."""

import math

import pytest

from posttrain.errors import RequestError
from posttrain.graders import Sample, build_grader
from posttrain.graders.model import ModelCall

SCORE = {
    "type": "score_model",
    "model": "judge-1",
    "input": [
        {"role": "system", "content": "Score it."},
        {"role": "user", "content": "Reference: {{item.answer}}. Answer: {{sample.output_text}}"},
    ],
    "range": [0, 10],
    "pass_threshold": 7,
    "sampling_params": {"temperature": 0},
}
LABEL = {
    "type": "label_model",
    "model": "judge-1",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
    "labels": ["good", "fair", "bad"],
    "passing_labels": ["good", "fair"],
}
SAMPLES = [Sample(text, {"answer": "14"}) for text in ("a", "b", "c")]


def test_all_completions_are_asked_at_once():
    asked = []

    def judge(calls):
        asked.append(list(calls))
        return [5.0, 8, 12.5]

    low, right, cut = build_grader(SCORE, score_model=judge).grade(SAMPLES)
    (calls,) = asked
    assert calls[0] == ModelCall(
        "judge-1", (("system", "Score it."), ("user", "Reference: 14. Answer: a")), (), {"temperature": 0}
    )
    assert (low.score, low.is_right, low.reason) == (5.0, False, "the model's score is 5, right from 7")
    assert (right.score, right.is_right) == (8.0, True)
    assert (cut.score, cut.is_right) == (10.0, True)


def test_without_a_threshold_only_the_top_of_the_range_is_right():
    spec = {name: value for name, value in SCORE.items() if name != "pass_threshold"}
    nearly, full, below = build_grader(spec, score_model=lambda calls: [9.99, 10, -3]).grade(SAMPLES)
    assert (nearly.is_right, full.is_right, below.score) == (False, True, 0.0)


def test_labels():
    good, fair, bad = build_grader(LABEL, score_model=lambda calls: ["good", "fair", "bad"]).grade(SAMPLES)
    assert [grade.score for grade in (good, fair, bad)] == [1.0, 1.0, 0.0]
    assert (bad.reason, bad.compared_with) == ("the label is bad", ("good", "fair"))


@pytest.mark.parametrize("spec", [SCORE, LABEL])
def test_a_reply_that_could_not_be_read_is_flagged(spec):
    (found,) = build_grader(spec, score_model=lambda calls: [None]).grade(SAMPLES[:1])
    assert (found.score, found.is_right, found.errors) == (0.0, False, ("model_grader_parse_error",))


def test_a_range_without_0_scores_an_unreadable_reply_at_its_end():
    spec = {**SCORE, "range": [1, 5], "pass_threshold": 3}
    (found,) = build_grader(spec, score_model=lambda calls: [None]).grade(SAMPLES[:1])
    assert found.score == 1.0


def test_a_completion_that_cannot_be_asked_about_is_not():
    spec = {**SCORE, "input": [{"role": "user", "content": "{{sample.output_json.x}}"}]}
    samples = [Sample("no JSON", {}), Sample('{"x": "y"}', {})]
    first, second = build_grader(spec, score_model=lambda calls: [8.0] * len(calls)).grade(samples)
    assert (first.score, first.errors) == (0.0, ("sample_parse_error",))
    assert (second.score, second.extracted) == (8.0, "y")


@pytest.mark.parametrize(
    ("spec", "replies", "message"),
    [
        (SCORE, [1.0, 2.0], "grader: score_model must give one reply a call, got 2 for 3"),
        (SCORE, [1.0, math.nan, 2.0], "grader: score_model must give a finite number or None, got nan"),
        (SCORE, [1.0, math.inf, 2.0], "grader: score_model must give a finite number or None, got inf"),
        (SCORE, ["7", 1, 1], "grader: score_model must give a finite number or None, got '7'"),
        (SCORE, [True, 1, 1], "grader: score_model must give a finite number or None, got True"),
        (
            LABEL,
            ["goood", "bad", "bad"],
            "grader: score_model must give a label or None, got 'goood'; did you mean good? labels are good, fair, bad",
        ),
        (LABEL, [1.0, "bad", "bad"], "grader: score_model must give a label or None, got 1.0; labels are good, fair, bad"),
    ],
)
def test_a_model_that_breaks_its_promise_is_refused(spec, replies, message):
    with pytest.raises(RequestError) as refused:
        build_grader(spec, score_model=lambda calls: replies).grade(SAMPLES)
    assert str(refused.value) == message


def test_a_model_that_raises_is_not_silenced():
    def judge(calls):
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        build_grader(SCORE, score_model=judge).grade(SAMPLES)


@pytest.mark.parametrize("spec", [SCORE, LABEL])
def test_without_a_model_it_is_refused(spec):
    with pytest.raises(RequestError) as refused:
        build_grader({"type": "multi", "graders": {"judge": spec}, "calculate_output": "judge"})
    assert str(refused.value) == (
        "grader.graders.judge asks the model judge-1, and there is none here: hand a function over as score_model, "
        "or use a grader that needs no model"
    )
