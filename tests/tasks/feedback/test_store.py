"""A store that people filled: what a line may be, who may write it, and that one bad line stops everything."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posttrain.errors import DataError, RequestError
from posttrain.feedback.labels import Label
from tasks.feedback.store import read_store, store_files
from tests.tasks.feedback.people_stores import CHAT, QUESTIONS, RESPONSES, row, taken, world_of_people

ROOT = Path(__file__).parents[3]


@pytest.fixture
def world(tmp_path):
    return world_of_people(tmp_path)


def refused(world, lines, **how):
    with pytest.raises(DataError) as caught:
        taken(world, lines, **how)
    assert not list((world / "out").iterdir()), "nothing is written"
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(world / "people.jsonl"), "people.jsonl")


def test_good_lines_are_taken_whole(world):
    chat = row(1, question="q1", prompt=[{"role": "user", "content": "Say hello."}], first="Hello!", second="No.", preference=1)
    equal = row(2, second="vier", preference=0.5, first_model="models:/other/3", margin=0.0, prompt_version="v1", at=None)
    outcome, labels = taken(world, [row(0, annotator="Ben"), chat, equal], annotators=["Ada", "Ben"])
    assert [(label.id, label.question, label.preference, label.annotator) for label in labels] == [
        ("l0", "q0", 0.0, "Ben"),
        ("l1", "q1", 1.0, "Ada"),
        ("l2", "q0", 0.5, "Ada"),
    ]
    assert labels[0].at == "2026-03-31T09:15:00Z" and labels[1].prompt == CHAT
    assert [label.family for label in labels] == ["f0", None, "f0"]
    assert [(label.first_model, label.second_model) for label in labels] == [
        ("models:/m/1", "models:/m/1"),
        ("models:/m/1", "models:/m/1"),
        ("models:/other/3", "models:/m/1"),
    ]
    assert outcome.costs == {"labels": 3} and outcome.metrics["pairs"] == 3
    assert outcome.metrics["equal_share"] == pytest.approx(1 / 3)


def test_order_marks_and_blank_lines_do_no_harm(world):
    lines = b"\xef\xbb\xbf" + json.dumps(row(0)).encode() + b"\r\n\n  \n" + json.dumps(row(1)).encode()
    assert [label.id for label in taken(world, lines)[1]] == ["l0", "l1"]


FORM = "docs/feedback.md says what it may be"
NUMBER = "Write 1 where first is better, 0 where second is, 0.5 where they are equal"
SAMPLES = "Drop the line, or run with the settings and the seed under which it was labelled"
TIME = "Write it like 2026-03-31T09:15:00Z, or leave it out"
UTC = "at must be a time in UTC as ISO 8601 has it"
ADD = "which a label needs. Add it, or drop the line"
WHOLE = "Each line is one whole JSON object; drop a line that was cut off while it was written"

BAD_LINES = [
    (
        row(7, question="q9"),
        'question "q9" is not among the dataset\'s 3 questions. '
        "Correct its id, drop the line, or choose the dataset that was labelled (data.name)",
    ),
    (row(7, prompt="Which?"), "the prompt is not that of question q0. Correct the question's id or the prompt, or drop the line"),
    (row(7, first="six"), f'first is not among the 3 samples of question q0, got "six". {SAMPLES}'),
    (row(7, second="f" * 80), f'second is not among the 3 samples of question q0, got "{"f" * 58}…. {SAMPLES}'),
    (
        row(7, question="q2", prompt="Never sampled"),
        f'first is not among the 0 samples of question q2, got "five". {SAMPLES}',
    ),
    (row(7, second="five"), "first and second are the same text, so neither can be better. Drop the line"),
    (row(7, preference=1.5), f"preference must be a number from 0 to 1, got 1.5. {NUMBER}"),
    (row(7, preference=-1), f"preference must be a number from 0 to 1, got -1. {NUMBER}"),
    (row(7, preference="first"), f'preference must be a number from 0 to 1, got "first". {NUMBER}'),
    (row(7, preference=True), f"preference must be a number from 0 to 1, got true. {NUMBER}"),
    (row(7, preference=float("nan")), f"preference must be a number from 0 to 1, got NaN. {NUMBER}"),
    (row(7, preference=None), f"there is no field preference, {ADD}"),
    (row(7, annotator=None), f"there is no field annotator, {ADD}"),
    (row(7, annotater="Ada"), "a label has no field annotater; did you mean annotator? docs/feedback.md names its fields"),
    (row(7, annotator="  "), "annotator is empty. Say who chose: a name or a number will do"),
    (row(7, source="me"), f"source: input should be 'simulated', 'dataset', 'judge' or 'person', got \"me\". {FORM}"),
    (row(7, margin=-2), f"margin: input should be greater than or equal to 0, got -2. {FORM}"),
    (row(7, at="yesterday"), f'{UTC}, got "yesterday". {TIME}'),
    (row(7, at="2026-03-31T09:15:00+02:00"), f'{UTC}, got "2026-03-31T09:15:00+02:00". {TIME}'),
    (row(0), 'id "l0" was there before, in line 1. Give each label an id of its own'),
    ([1, 2], "a label is a JSON object, got [1, 2]. docs/feedback.md shows its form"),
]


@pytest.mark.parametrize(("line", "problem"), BAD_LINES)
def test_a_bad_line_is_told_with_its_number_and_what_to_do(world, line, problem):
    assert (
        refused(world, [row(0), line, row(1)])
        == f"people.jsonl: 1 of 3 labels cannot be used, so none was taken:\n  line 2: {problem}"
    )


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b'{"id": "l1", "prom', f"broken JSON (Unterminated string starting at). {WHOLE}"),
        (b"not JSON", f"broken JSON (Expecting value). {WHOLE}"),
        (b'{"id": "caf\xe9"}', "byte 12 is 0xe9, which is not UTF-8. Save the file as UTF-8"),
    ],
)
def test_a_line_that_is_no_json_is_told(world, raw, problem):
    lines = json.dumps(row(0)).encode() + b"\n" + raw + b"\n"
    assert refused(world, lines) == f"people.jsonl: 1 of 2 labels cannot be used, so none was taken:\n  line 2: {problem}"


def test_endless_nesting_is_told(world):
    assert "line 1: broken JSON (maximum recursion depth exceeded" in refused(world, b"[" * 100_000)


def test_half_a_surrogate_is_told_and_not_written(world):
    assert "line 1: broken JSON (" in refused(world, [row(0, first="\ud800")])


def test_the_first_bad_lines_are_told_and_all_are_counted(world):
    told = refused(world, [row(0), *(row(n, question="q9") for n in range(1, 13))]).splitlines()
    assert told[0] == "people.jsonl: 12 of 13 labels cannot be used, so none was taken:"
    assert [line.split(":")[0] for line in told[1:6]] == [f"  line {n}" for n in range(2, 7)]
    assert told[6:] == ["  and 7 more"]


def test_an_annotator_who_is_not_on_the_list_is_refused(world):
    assert refused(world, [row(0), row(1, annotator="Adaa")], annotators=["Ada", "Ben"]) == (
        "people.jsonl: 1 of 2 labels cannot be used, so none was taken:\n"
        '  line 2: annotator "Adaa" is not on the list; did you mean Ada? '
        "Correct the name, or add it to the .annotators.json beside the store"
    )


@pytest.mark.parametrize("names", [[], ["Ada", ""], ["Ada", 3], {"Ada": 1}, "Ada"])
def test_a_list_of_annotators_that_is_none_is_refused(world, names):
    told = refused(world, [row(0)], annotators=json.dumps(names))
    assert told == (
        f'people.jsonl.annotators.json must hold a JSON list of names, as ["Ada", "Ben"], got {json.dumps(names)}. '
        "Correct it, or remove it"
    )


def test_a_list_of_annotators_that_is_no_json_is_refused(world):
    assert refused(world, [row(0)], annotators="Ada, Ben").startswith("cannot read people.jsonl.annotators.json: Expecting value")


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_store_is_refused(world, content):
    assert refused(world, content) == (
        "people.jsonl holds no label. Label some pairs first, or choose another source (labels.source)"
    )


def test_a_store_that_is_not_there_is_refused(world):
    with pytest.raises(RequestError, match=r"gone\.jsonl: No such file or directory\. labels\.file names a store of labels"):
        read_store(world / "gone.jsonl", questions={}, responses=None)


def test_the_page_shows_the_form_and_names_every_field():
    page = (ROOT / "docs" / "feedback.md").read_text(encoding="utf-8")
    example = page.split("```json\n")[1].split("\n```")[0]
    assert Label.model_validate_json(example, strict=True).annotator == "Ada"
    table = page.split("## The store")[1].split("## Rankings")[0]
    named = {
        name for line in table.splitlines() if line.startswith("| `") for name in line.split("|")[1].strip(" `").split("`, `")
    }
    assert named == set(Label.model_fields)


def test_what_a_store_consists_of(world):
    store = world / "people.jsonl"
    assert store_files(store) == []
    taken(world, [row(0)], annotators=["Ada"])
    assert store_files(store) == [store, world / "people.jsonl.annotators.json"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.lists(
        st.one_of(
            st.just(json.dumps(row(0)).encode()),
            st.binary(max_size=40).filter(lambda raw: b"\n" not in raw),
            st.dictionaries(st.sampled_from([*row(0), "x"]), st.one_of(st.none(), st.text(max_size=5), st.floats())).map(
                lambda changes: json.dumps(row(1, **changes)).encode()
            ),
        ),
        max_size=4,
    )
)
def test_whatever_the_lines_they_are_all_taken_or_refused_in_one_message(world, lines):
    """No other exception, and no line that is neither told nor taken."""
    store = world / "people.jsonl"
    store.write_bytes(b"\n".join(lines))
    told = [line for line in lines if line.strip() and line != b"\xef\xbb\xbf"]
    questions = {question.id: question for question in QUESTIONS}
    try:
        labels = read_store(store, questions=questions, responses=RESPONSES)
    except DataError as error:
        assert str(store) in str(error)
    else:
        assert len(labels) == len(told)
