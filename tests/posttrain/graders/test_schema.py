"""Settings as JSON: every wrong one dies when the grader is built, with its name, value and rule."""

import json

import pytest

from posttrain.errors import RequestError
from posttrain.graders import Sample, build_grader
from posttrain.graders.schema import SPECS, read_spec

TYPES = "answer, program, string_check, text_similarity, format, score_model, label_model, python, multi"
MODEL = {"type": "score_model", "model": "m", "input": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "answr",
            "there is no grader answr; did you mean answer? built in are answer, program; these need settings in a JSON file: "
            "string_check, text_similarity, format, score_model, label_model, python, multi",
        ),
        (
            "multi",
            "there is no grader multi; built in are answer, program; these need settings in a JSON file: "
            "string_check, text_similarity, format, score_model, label_model, python, multi",
        ),
        ({}, f"grader has no type; types are {TYPES}"),
        ({"type": "answr"}, f"there is no grader of type answr; did you mean answer? types are {TYPES}"),
        ({"type": 3}, f"there is no grader of type 3; types are {TYPES}"),
        (
            {"type": "answer", "tolerence": 1},
            "there is no setting grader.tolerence; did you mean tolerance? settings are name, input, reference, kind, tolerance, "
            "percent, partial_credit, latex, latex_seconds, type, marker, programs",
        ),
        (
            {"type": "answer", "tolerance": {"absolut": 1}},
            "there is no setting grader.tolerance.absolut; did you mean absolute? settings are absolute, relative",
        ),
        ({"type": "answer", "tolerance": -1}, "grader.tolerance.absolute must be at least 0, got -1"),
        ({"type": "answer", "tolerance": {"relative": -0.5}}, "grader.tolerance.relative must be at least 0, got -0.5"),
        ({"type": "answer", "tolerance": "0.1"}, 'grader.tolerance must be an object, got "0.1"'),
        ({"type": "answer", "partial_credit": 1}, "grader.partial_credit.wrong must be less than 1, got 1"),
        ({"type": "answer", "partial_credit": -0.1}, "grader.partial_credit.wrong must be at least 0, got -0.1"),
        (
            {"type": "answer", "partial_credit": {"wrong": 0.1, "applies_to": "some"}},
            "grader.partial_credit.applies_to must be one of 'numeric' or 'all', got \"some\"",
        ),
        ({"type": "answer", "latex": "yes"}, 'grader.latex must be true or false, got "yes"'),
        ({"type": "answer", "marker": "maybe"}, "grader.marker must be one of 'optional' or 'required', got \"maybe\""),
        ({"type": "answer", "reference": 3}, "grader.reference must be a list, got 3"),
        (
            {"type": "string_check"},
            "grader.input is missing\ngrader.reference is missing\ngrader.operation is missing",
        ),
        ({"type": "format", "max_characters": 1.5}, "grader.max_characters must be a whole number, got 1.5"),
        ({"type": "format", "contains": "x"}, 'grader.contains must be a list, got "x"'),
        ({"type": "format", "contains": ["x", 3]}, "grader.contains[1] must be text, got 3"),
        ({"type": "program", "limits": {"seconds": 0}}, "grader.limits.seconds must be greater than 0, got 0"),
        ({"type": "program", "limits": {"memory_mb": 4096}}, "grader.limits.memory_mb must be at most 2048, got 4096"),
        ({"type": "program", "limits": 3}, "grader.limits must be an object, got 3"),
        (
            {"type": "program", "limits": {"second": 3}},
            "there is no setting grader.limits.second; did you mean seconds? settings are seconds, memory_mb, output_characters, "
            "recursion",
        ),
        ({**MODEL, "range": [1, 1]}, "grader: range must rise, got [1.0, 1.0]"),
        ({**MODEL, "range": [1]}, "grader.range must have at least 2 element(s), got [1]"),
        ({**MODEL, "input": []}, "grader.input must have at least 1 element(s), got []"),
        (
            {**MODEL, "input": [{"role": "usr", "content": "x"}]},
            "grader.input[0].role must be one of 'system', 'developer', 'user' or 'assistant', got \"usr\"",
        ),
        ({**MODEL, "input": [{"role": "user"}]}, "grader.input[0].content is missing"),
        (
            {"type": "label_model", "model": "m", "input": MODEL["input"], "labels": ["a"], "passing_labels": ["b"]},
            "grader: passing_labels has b, which is none of labels (a)",
        ),
        ({"type": "multi", "graders": [], "calculate_output": "a"}, "grader.graders must be an object, got []"),
        (
            {"type": "multi", "graders": {"a": {"type": "answer", "kind": 1}}, "calculate_output": "a"},
            "grader.graders.a.kind must be one of 'auto', 'number', 'choice' or 'text', got 1",
        ),
        (
            {"type": "multi", "graders": {"a": {"type": "anser"}}, "calculate_output": "a"},
            f"there is no grader of type anser; did you mean answer? types are {TYPES}",
        ),
    ],
)
def test_refusals(spec, message):
    with pytest.raises(RequestError) as refused:
        build_grader(spec)
    assert str(refused.value) == message


def test_a_setting_that_is_no_json_is_refused():
    with pytest.raises(RequestError, match=r"^grader is no JSON: "):
        build_grader({"type": "answer", "reference": object()})


@pytest.mark.parametrize("name", SPECS)
def test_every_type_says_what_it_is(name):
    assert SPECS[name].__doc__


def test_openai_examples_are_read_as_they_are():
    similarity = {
        "type": "text_similarity",
        "name": "name_grader",
        "input": "{{sample.output_json.name}}",
        "reference": "{{item.name}}",
        "evaluation_metric": "fuzzy_match",
        "pass_threshold": 0.9,
    }
    check = {
        "type": "string_check",
        "name": "email_grader",
        "input": "{{sample.output_json.email}}",
        "reference": "{{item.email}}",
        "operation": "eq",
    }
    multi = {"type": "multi", "graders": {"name": similarity, "email": check}, "calculate_output": "(name + email) / 2"}
    record = {"name": "John Doe", "email": "john@example.org"}
    outputs = [{"name": "John Doe", "email": "john@example.org"}, {"name": "Jon Doe", "email": "x"}]
    right, wrong = build_grader(multi).grade([Sample(json.dumps(output), record) for output in outputs])
    assert right.score == 1.0
    assert wrong.score == pytest.approx((14 / 15) / 2)  # 7 of 8 characters: 2 · 7 / 15


def test_defaults_are_written_once():
    spec = read_spec({"type": "program"}, where="grader")
    assert (spec.tolerance.absolute, spec.tolerance.relative, spec.partial_credit.wrong) == (1e-6, 1e-12, 0.0)
    assert (spec.limits.seconds, spec.limits.memory_mb, spec.function) == (1.0, 64, "solution")
    plain = read_spec({"type": "answer"}, where="grader")
    assert (plain.tolerance.absolute, plain.partial_credit.applies_to, plain.percent) == (0.0, "numeric", "unit")
