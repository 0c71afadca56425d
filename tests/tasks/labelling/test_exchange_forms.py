"""Forms of other tools: what is written is read back as it was, and reads as their own code writes it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from posttrain.errors import DataError
from posttrain.feedback.labels import Label
from posttrain.records import Message, Question
from tasks.labelling.exchange.argilla import user_of
from tasks.labelling.exchange.check import Questions, checked
from tasks.labelling.exchange.interface import Bad, Draft, Passed
from tasks.labelling.exchange.table import FORMS

ROOT = Path(__file__).parents[3]
TALK = (Message(role="system", content="Be kind."), Message(role="user", content="Hello?"))
QUESTIONS = [
    Question(id="q-1", family="sums", prompt="What is 2 + 2?", answers=("4",)),
    Question(id="q-2", prompt=TALK),
    Question(id="q-3", prompt="Which is it?"),
    Question(id="q-4", prompt="Which is it?"),
]


def label(number, **fields):
    """A label of person number 1, 2 … whose fields are as full as they can be."""
    told = {
        "id": f"label-{number}",
        "family": "sums",
        "prompt": "What is 2 + 2?",
        "question": "q-1",
        "group": f"group-{number}",
        "first": "It is 4.",
        "second": "It is\n5. \u2028 «é» 😀",
        "preference": 1.0,
        "margin": 0.25,
        "annotator": f"Ada {number}",
        "source": "person",
        "at": "2026-11-29T18:05:01Z",
        "prompt_version": "abc",
        "first_model": "models:/m/1",
        "second_model": "models:/m/2",
        "first_finished": True,
        "second_finished": False,
        "gold": 0.5,
        "seconds": 12.25,
        "selection": "uncertain",
    }
    return Label(**(told | fields))


LABELS = [
    label(1),
    label(2, preference=0.0, annotator="ben@example.org"),
    label(3, preference=0.5, annotator="Ada 1"),  # the same pair, another time
    label(4, first="It is\n5. \u2028 «é» 😀", second="It is 4.", preference=0.0, first_finished=False, second_finished=None),
    label(5, preference=0.7, annotator="Zoë"),
    Label(
        id="bare",
        prompt=TALK,
        question="q-2",
        group="bare",
        first="Hi",
        second="",
        preference=1,
        annotator="7",
        source="person",
    ),
]


def read(form, text, *, there=(), annotators=None):
    found = FORMS[form].read(text)
    known = {one.id: one for one in there}
    return checked(found, shown="labels.json", questions=Questions(QUESTIONS), there=known, annotators=annotators)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_back_as_it_was(form):
    got = read(form, FORMS[form].write(LABELS))
    assert sorted(got.new, key=lambda one: one.id) == sorted(LABELS, key=lambda one: one.id)
    assert (got.known, list(got.notes)) == (0, [])


@pytest.mark.parametrize("form", FORMS)
def test_what_is_there_already_is_not_counted_twice(form):
    got = read(form, FORMS[form].write(LABELS), there=LABELS[:4])
    assert {one.id for one in got.new} == {"label-5", "bare"} and got.known == 4


@pytest.mark.parametrize("form", FORMS)
def test_equal_labels_give_equal_bytes(form):
    assert FORMS[form].write(LABELS) == FORMS[form].write([one.model_copy() for one in LABELS])


@pytest.mark.parametrize("form", [name for name in FORMS if name != "jsonl"])
def test_one_pair_is_one_task_however_many_label_it(form):
    assert len(json.loads(FORMS[form].write(LABELS))) == 3  # labels 1, 2, 3 and 5; 4, the other way round; the conversation


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("changed", ["preference", "id"])
def test_a_label_that_somebody_changed_is_refused_where_its_id_is_there(form, changed):
    there = [one.model_copy(update={"preference": 1 - one.preference}) for one in LABELS if one.id == "label-2"]
    if changed == "id":
        there = [LABELS[0].model_copy(update={"id": "label-2", "annotator": "Eve"})]
    with pytest.raises(DataError, match=r'id "label-2" is there already with other content \(in the dataset\): '):
        read(form, FORMS[form].write(LABELS), there=there)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"question": "q-9"}, 'question "q-9" is not among the dataset\'s 4 questions. '),
        ({"question": "q-3"}, "the prompt is not that of question q-3. "),
        ({"second": "It is 4."}, "first and second are the same text, so neither can be better. Drop the line"),
        ({"annotator": "Adam"}, 'annotator "Adam" is not on the list; did you mean Ada? Correct the name, '),
    ],
)
def test_one_bad_label_refuses_all_and_is_told_with_its_place(form, fields, problem):
    good, bad = label(1, annotator="Ada"), label(2, annotator="Ada").model_copy(update=fields)
    with pytest.raises(DataError) as caught:
        read(form, FORMS[form].write([good, bad]), annotators=["Ada"])
    head, line = str(caught.value).split("\n")
    assert head == "labels.json: 1 of 2 labels cannot be used, so none was taken:"
    place = {"jsonl": "line 2", "label-studio": "task 2, annotation 1", "mlflow": "trace 2, assessment 1"}
    expected = place.get(form, "record 2, response 1")
    if "annotator" in fields:  # the same pair
        expected = {
            "label-studio": "task 1, annotation 2",
            "mlflow": "trace 1, assessment 2",
            "argilla": "record 1, response 2",
        }.get(form, expected)
    assert line.startswith(f"  {expected}: {problem}")


@pytest.mark.parametrize("form", [name for name in FORMS if name != "jsonl"])
@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "the file is empty; "), ("[]", "the file holds an empty list; "), ("{", "the file is no JSON ("), ("[" * 99999, "")],
)
def test_a_file_that_is_none_is_refused(form, text, problem):
    with pytest.raises(DataError) as caught:
        list(FORMS[form].read(text))
    assert str(caught.value).startswith(problem or "the file ")


@pytest.mark.parametrize("form", [name for name in FORMS if name != "jsonl"])
@pytest.mark.parametrize("row", [1, None, "x", [], {}, {"data": 1}, {"info": 1, "data": 2}, {"fields": {}, "responses": 3}])
def test_rows_of_any_shape_are_told_and_never_break(form, row):
    assert all(isinstance(one, Bad) for one in FORMS[form].read(json.dumps([row])))


# --- jsonl --------------------------------------------------------------------------------------------------------------


def test_plain_preferences_are_labels_without_a_known_order():
    row = {"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5", "annotator": "Ada", "chosen_finished": True}
    turned = {**row, "chosen": "5", "rejected": "4"}
    text = "\n".join(map(json.dumps, [row, turned, row]))
    one, other = read("jsonl", text).new
    assert {(one.first, one.preference), (other.first, other.preference)} in ({("4", 1.0), ("4", 0.0)}, {("5", 0.0), ("5", 1.0)})
    assert (one.question, one.family, one.annotator, one.source) == ("q-1", "sums", "Ada", "person")
    side = "first" if one.first == "4" else "second"
    assert getattr(one, f"{side}_finished") is True
    assert read("jsonl", text, there=[one, other]).new == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"prompt": "Which is it?"}, '2 questions of the dataset have the prompt "Which is it?". Name one by question'),
        ({"prompt": "Who?"}, 'no question of the dataset has the prompt "Who?". Name one by question'),
        ({"chosen": ["4"]}, 'chosen and rejected must be texts, got ["4"] and "5". '),
        ({"rejected": None}, 'chosen and rejected must be texts, got "4" and null. '),
        ({"rejected": "4"}, "first and second are the same text"),
        ({"anotator": "Ada"}, "a preference has no field anotator; did you mean annotator?"),
        ({"score": 1}, "a preference has no field score. Its fields are annotator, at, chosen, "),
        ({"annotator": None}, "there is no field annotator, which a label needs. "),
        ({"annotator": " "}, "annotator is empty. Say who chose"),
        ({"margin": -1}, "margin: input should be greater than or equal to 0, got -1"),
    ],
)
def test_a_bad_plain_preference_is_told(change, problem):
    row = {"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5", "annotator": "Ada"} | change
    with pytest.raises(DataError) as caught:
        read("jsonl", json.dumps(row))
    assert str(caught.value).split("\n")[1].startswith(f"  line 1: {problem}")


def test_labels_of_a_judge_are_not_peoples():
    with pytest.raises(DataError, match="source must be person, got judge"):
        read("jsonl", FORMS["jsonl"].write([label(1, source="judge")]))


def test_one_id_for_two_labels_of_a_file_is_refused():
    with pytest.raises(DataError, match=r'line 3: id "label-1" is there already with other content \(in line 1\): annotator'):
        read("jsonl", FORMS["jsonl"].write([label(1), label(2), label(1, annotator="Eve")]))


@pytest.mark.parametrize("line", ["{", "[" * 99999, "3", '{"id": "\\ud800"}', '{"chosen": "a"}', '{"preference": NaN}', "\x00"])
def test_a_line_of_any_kind_is_told_and_never_breaks(line):
    with pytest.raises(DataError, match=r"1 of 2 labels cannot be used, so none was taken:\n  line 2: "):
        read("jsonl", FORMS["jsonl"].write([label(1)]) + line)


# --- Label Studio -------------------------------------------------------------------------------------------------------


def labelled(**annotation):
    """A task as Label Studio exports it, of which somebody labelled the only annotation there."""
    data = {"prompt": "What is 2 + 2?", "question": "q-1", "first": "4", "second": "5", "first_model": "models:/m/1"}
    told = {
        "id": 1001,
        "completed_by": {"id": 4, "email": "ada@example.org", "first_name": "Ada", "last_name": "L"},
        "was_cancelled": False,
        "created_at": "2026-11-29T18:05:01.513742Z",
        "lead_time": 9.5,
        "result": [{"id": "x", "type": "pairwise", "from_name": "pw", "to_name": "pw", "value": {"selected": "right"}}],
    }
    return json.dumps([{"id": 1, "data": data, "annotations": [told | annotation], "predictions": []}])


def test_an_annotation_of_label_studio_is_a_label():
    (one,) = read("label-studio", labelled()).new
    assert (one.preference, one.annotator, one.seconds, one.id) == (0.0, "ada@example.org", 9.5, "label-studio-1001")
    assert (one.first, one.second, one.first_model, one.family) == ("4", "5", "models:/m/1", "sums")
    assert one.at == "2026-11-29T18:05:01.513742Z"


@pytest.mark.parametrize(
    ("completed_by", "annotator"),
    [
        (4, "4"),
        ({"id": 4, "first_name": "Ada", "last_name": "L"}, "Ada L"),
        ({"id": 4}, "4"),
        ({"username": "ada", "id": 4}, "ada"),
    ],
)
def test_who_completed_it_is_the_annotator(completed_by, annotator):
    assert read("label-studio", labelled(completed_by=completed_by)).new[0].annotator == annotator


def test_without_a_choice_and_equal_are_a_tie_and_the_first_is_noted():
    got = read("label-studio", labelled(result=[]))
    assert got.new[0].preference == 0.5 and list(got.notes) == ["1 place without a choice, which is taken as equal"]
    equal = [{"type": "choices", "from_name": "equal", "to_name": "prompt", "value": {"choices": ["equal"]}}]
    got = read("label-studio", labelled(result=equal))
    assert got.new[0].preference == 0.5 and not got.notes


def test_what_was_skipped_is_no_label():
    row, skipped = json.loads(labelled())[0], json.loads(labelled(was_cancelled=True))[0]
    row["predictions"] = [{"result": []}]
    got = read("label-studio", json.dumps([row, skipped, {**row, "annotations": []}]))
    assert len(got.new) == 1
    assert list(got.notes) == [
        "1 place passed over: not labelled yet",
        "2 places passed over: predictions of a model",
        "1 place passed over: skipped by its annotator",
    ]
    with pytest.raises(DataError, match=r"labels.json holds no label \(1 place passed over: skipped by its annotator\)"):
        read("label-studio", json.dumps([skipped]))


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ([{"type": "pairwise", "value": {"selected": "up"}}], 'selected must be left or right, got "up"'),
        ([{"type": "choices", "value": {"choices": ["bad"]}}], 'choices must be ["equal"], got ["bad"]'),
        (
            [{"type": "choices", "value": {"choices": ["equal"]}}, {"type": "pairwise", "value": {"selected": "left"}}],
            "it says equal and first at once",
        ),
        ([3], "each region of result is an object"),
    ],
)
def test_a_bad_region_is_told(result, problem):
    with pytest.raises(DataError) as caught:
        read("label-studio", labelled(result=result))
    assert f"task 1, annotation 1: {problem}" in str(caught.value)


def test_the_short_export_is_refused_by_its_name():
    with pytest.raises(DataError, match=r"JSON-MIN, which does not say what was shown\. Export as JSON"):
        read("label-studio", json.dumps([{"annotation_id": 3, "pw": "left"}]))


def test_a_person_is_named_to_label_studio_by_address_alone():
    written = json.loads(FORMS["label-studio"].write(LABELS[:2]))[0]["annotations"]
    assert [one.get("completed_by") for one in written] == [None, {"email": "ben@example.org"}]
    assert [one["result"][0]["value"] for one in written] == [{"selected": "left"}, {"selected": "right"}]
    assert [one["lead_time"] for one in written] == [12.25, 12.25]


# --- Argilla ------------------------------------------------------------------------------------------------------------


def record(value, **more):
    told = {
        "id": "r-1",
        "fields": {"prompt": "What is 2 + 2?", "first": "4", "second": "5"},
        "metadata": {"question": "q-1"},
        "suggestions": {},
        "responses": {"preference": [{"value": value, "user_id": user_of("Ada")}]},
    }
    return told | more


@pytest.mark.parametrize(
    ("value", "preference"),
    [
        ("first", 1.0),
        ("second", 0.0),
        ("equal", 0.5),
        (["second", "first"], 0.0),
        ([{"value": "first", "rank": 1}, {"value": "second", "rank": 1}], 0.5),
        ([{"value": "first", "rank": 2}, {"value": "second", "rank": 1}], 0.0),
    ],
)
def test_a_response_of_argilla_is_a_label(value, preference):
    (one,) = read("argilla", json.dumps([record(value)])).new
    assert (one.preference, one.annotator, one.first, one.second) == (preference, user_of("Ada"), "4", "5")


def test_a_ranking_of_three_is_three_labels_of_one_group():
    fields = {"prompt": "What is 2 + 2?", "a": "4", "b": "5", "c": "6"}
    ranked = [{"value": "c", "rank": 1}, {"value": "a", "rank": 2}, {"value": "b", "rank": 2}]
    got = read("argilla", json.dumps([record(ranked, fields=fields)])).new
    assert [(one.first, one.second, one.preference) for one in got] == [("4", "5", 0.5), ("4", "6", 0.0), ("5", "6", 0.0)]
    assert len({one.group for one in got}) == 1 and len({one.id for one in got}) == 3


def test_a_flattened_record_reads_as_the_nested_one():
    flat = {"id": "r-1", "prompt": "What is 2 + 2?", "first": "4", "second": "5", "question": "q-1", "labels": None}
    flat["preference.responses"] = ["second", "first", "first"]
    flat["preference.responses.users"] = [user_of("Ada"), user_of("Ben"), user_of("Cy")]
    flat["preference.responses.status"] = ["submitted", "draft", "discarded"]
    got = read("argilla", json.dumps([flat]))
    assert got.new == read("argilla", json.dumps([record("second")])).new
    assert list(got.notes) == [
        "1 place passed over: a response that is discarded",
        "1 place passed over: a response that is draft",
    ]


@pytest.mark.parametrize("value", ["third", 3, None, ["first"], ["first", "first"], [{"value": "first", "rank": True}, "second"]])
def test_a_bad_response_is_told(value):
    (found,) = FORMS["argilla"].read(json.dumps([record(value)]))
    assert isinstance(found, Bad) and found.where == "record 1, response 1"


# --- MLflow -------------------------------------------------------------------------------------------------------------


def test_traces_are_mlflows_own_form():
    from mlflow.entities import Trace

    for told in json.loads(FORMS["mlflow"].write(LABELS)):
        trace = Trace.from_dict(told)
        assert json.loads(json.dumps(trace.to_dict())) == told
        assert json.loads(trace.data.response).keys() == {"first", "second"}
        assert [one.value for one in trace.info.assessments] == [one["feedback"]["value"] for one in told["info"]["assessments"]]
    again = json.dumps([Trace.from_dict(told).to_dict() for told in json.loads(FORMS["mlflow"].write(LABELS))])
    assert sorted(read("mlflow", again).new, key=lambda one: one.id) == sorted(LABELS, key=lambda one: one.id)


def test_writing_and_reading_import_no_mlflow():
    """A second of imports, for a form that is text."""
    code = "import sys; from tasks.labelling.exchange.table import FORMS; print(sorted({'mlflow', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"assessment_name": "other"}, Passed("trace 1, assessment 1", 'no feedback called "preference"')),
        ({"source": {"source_type": "LLM_JUDGE", "source_id": "gpt"}}, Passed("trace 1, assessment 1", "not by a person")),
        ({"valid": False}, Passed("trace 1, assessment 1", "replaced by a later one")),
        (
            {"feedback": {"value": 1.0}},
            Bad("trace 1, assessment 1", "the value must be one of first, second, equal, got 1.0. Correct or drop it"),
        ),
    ],
)
def test_assessments_that_are_no_labels(change, expected):
    (told,) = json.loads(FORMS["mlflow"].write([label(1)]))
    told["info"]["assessments"][0] |= change
    assert list(FORMS["mlflow"].read(json.dumps([told]))) == [expected]


def test_feedback_that_somebody_gave_in_mlflow_is_a_label():
    (told,) = json.loads(FORMS["mlflow"].write([label(1)]))
    del told["info"]["assessments"][0]["metadata"]
    told["info"]["assessments"][0] |= {"assessment_id": "a-7", "feedback": {"value": "second"}}
    (one,) = read("mlflow", json.dumps(told)).new
    assert (one.id, one.annotator, one.preference, one.at) == ("mlflow-a-7", "Ada 1", 0.0, "2026-11-29T18:05:01Z")
    assert (one.gold, one.first_model, one.seconds, one.selection) == (0.5, "models:/m/1", None, "")


def test_drafts_say_where_they_stand():
    found = list(FORMS["jsonl"].read("\n" + FORMS["jsonl"].write([label(1)])))
    assert [(type(one), one.where) for one in found] == [(Draft, "line 2")]


def test_parts_of_another_kind_are_told():
    (task,), (trace,), (told,) = (json.loads(FORMS[form].write([label(1)])) for form in ("label-studio", "mlflow", "argilla"))
    task["annotations"][0]["result"][0]["value"]["selected"] = []
    assert "selected must be left or right, got []" in next(FORMS["label-studio"].read(json.dumps([task]))).problem
    trace["info"]["assessments"] = None
    assert next(FORMS["mlflow"].read(json.dumps([trace]))) == Passed("trace 1", "not labelled yet")
    told["responses"]["preference"] = True
    assert isinstance(next(FORMS["argilla"].read(json.dumps([told]))), Bad)
