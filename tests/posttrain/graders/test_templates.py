"""Templates: what a slot stands for, and the sentence for each slot that stands for nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.errors import RequestError
from posttrain.graders import Sample, build_grader
from posttrain.graders.templates import Template, Unreadable

RECORD = {"answer": 51.5, "name": "Tom", "deep": {"list": ["a", {"b": "c"}]}, "a-b": "dash", "two words": 2}
SAMPLE = Sample('{"x": {"y": [1, "two"]}}', RECORD)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{{item.name}}", "Tom"),
        ("{{ item.name }} and {{item.name}}", "Tom and Tom"),
        ("{{item.answer}}", "51.5"),
        ("{{item.deep.list[0]}}", "a"),
        ("{{item.deep.list[1].b}}", "c"),
        ("{{item.deep}}", '{"list": ["a", {"b": "c"}]}'),
        ("{{item.a-b}}", "dash"),
        ('{{item["two words"]}}', "2"),
        ("{{sample.output_text}}", '{"x": {"y": [1, "two"]}}'),
        ("{{sample.output_json.x.y[1]}}", "two"),
        ("{{sample.output_json.x.y[0]}}", "1"),
        ("{{sample.choices[0].message.content}}", '{"x": {"y": [1, "two"]}}'),
        ("{single} braces", "{single} braces"),
    ],
)
def test_rendering(text, rendered):
    assert Template(text, where="grader.input").render(SAMPLE) == rendered


@given(st.text(max_size=50), st.text(max_size=50))
def test_what_a_completion_holds_is_never_read_as_a_template(before, completion):
    template = Template(before.replace("{", "(") + "{{sample.output_text}}", where="grader.input")
    said = completion + "{{item.name}}"
    assert template.render(Sample(said, RECORD)) == before.replace("{", "(") + said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{name}}", "grader.input: {{name}} is no field: write {{item.name}} or {{sample.output_text}}"),
        ("{{items.name}}", "grader.input: {{items.name}} is no field: write {{item.name}} or {{sample.output_text}}"),
        ("{{}}", "grader.input: {{}} is no field: write {{item.name}} or {{sample.output_text}}"),
        (
            "{{item.__class__.x()}}",
            "grader.input: {{item.__class__.x()}} is no field: write {{item.name}} or {{sample.output_text}}",
        ),
        (
            "{{sample.output_txt}}",
            "grader.input: a sample has no field output_txt; did you mean output_text? "
            "its fields are output_text, output_json, choices",
        ),
        (
            "{{sample.output_audio}}",
            "grader.input: a sample has no field output_audio; did you mean output_json? "
            "its fields are output_text, output_json, choices",
        ),
    ],
)
def test_a_wrong_slot_is_refused_when_the_grader_is_built(text, message):
    spec = {"type": "string_check", "input": text, "reference": "b", "operation": "eq"}
    with pytest.raises(RequestError) as refused:
        build_grader(spec)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{{item.nam}}",
            "grader.input: there is no field item.nam; did you mean name? the fields are answer, name, deep, a-b, two words",
        ),
        ("{{item.deep.lost}}", "grader.input: there is no field item.deep.lost; did you mean list? the fields are list"),
        ("{{item.deep.list[2]}}", "grader.input: there is no item.deep.list[2], item.deep.list is 2 elements"),
        ("{{item.name.first}}", "grader.input: there is no item.name['first'], item.name is of type str"),
        (
            "{{item.__class__}}",
            "grader.input: there is no field item.__class__; the fields are answer, name, deep, a-b, two words",
        ),
    ],
)
def test_a_field_that_a_record_lacks_is_refused(text, message):
    with pytest.raises(RequestError) as refused:
        Template(text, where="grader.input").render(SAMPLE)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    "completion", ["no JSON", "[" * 100_000, '{"x": 1}', "", "9" * 10_000, '"' + "x" * 2_000_000 + '"', "null"]
)
def test_a_completion_without_the_field_is_its_own_fault(completion):
    template = Template("{{sample.output_json.x.y[0]}}", where="grader.input")
    with pytest.raises(Unreadable):
        template.render(Sample(completion, RECORD))
    spec = {"type": "string_check", "input": "{{sample.output_json.x.y[0]}}", "reference": "b", "operation": "eq"}
    (found,) = build_grader(spec).grade([Sample(completion, RECORD)])
    assert (found.score, found.is_right, found.errors) == (0.0, False, ("sample_parse_error",))


def test_input_and_reference_of_an_answer_grader_are_templates():
    spec = {"type": "answer", "input": "{{sample.output_json.result}}", "reference": "{{item.solutions}}"}
    grader = build_grader(spec)
    record = {"solutions": [51.0, "1/2"]}
    grades = grader.grade([Sample(text, record) for text in ('{"result": "0.5"}', '{"result": 51}', '{"result": 2}', "51")])
    assert [grade.is_right for grade in grades] == [True, True, False, False]
    assert grades[0].compared_with == ("51", "1/2")
    assert grades[3].errors == ("sample_parse_error",)
    with pytest.raises(RequestError, match=r"^grader\.reference is an empty list for a record"):
        grader.grade([Sample('{"result": 1}', {"solutions": []})])
