"""Labels of people: as many as are paid for, with what the samples say of them."""

import pytest

from posttrain.errors import DataError, RequestError
from posttrain.feedback.conversions import labels_on
from posttrain.feedback.labels import Label
from posttrain.records import Question
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.given import GivenLabels
from tasks.feedback.labels import read_labels
from tasks.feedback.sources import people
from tests.tasks.feedback.people_stores import row, taken, world_of_people


@pytest.fixture
def world(tmp_path):
    return world_of_people(tmp_path)


def test_a_budget_takes_the_first(world):
    outcome, labels = taken(world, [row(0), row(1), row(2)], budget=2)
    assert [label.id for label in labels] == ["l0", "l1"] and outcome.costs == {"labels": 2}


def test_without_samples_any_response_will_do_and_its_writer_is_not_known(world):
    _, (label,) = taken(world, [row(0, first="something else")], samples=False)
    assert (label.first, label.first_model, label.second_model) == ("something else", "", "")


def test_both_ways_by_one_person_is_told_and_kept(world):
    outcome, labels = taken(world, [row(0), row(1, preference=1.0), row(2, annotator="Ben")])
    assert outcome.metrics["contradictions"] == 1 and len(labels) == 3


def given(world, labels, *, passed_over=0, budget=0):
    outcome = people.label_given(
        world / "out",
        lambda *_: None,
        people=GivenLabels(tuple(labels), passed_over, "digest"),
        data=world / "data",
        settings=LabelSettings(budget=budget),
    )
    return outcome, read_labels(world / "out")


def test_labels_of_the_dataset_go_under_the_question_that_asks_their_prompt_now(world):
    named = [
        Label.model_validate(row(0, seconds=3.0, family="old")),
        Label.model_validate(row(1, question="gone", annotator="Ben", seconds=1.5)),
        Label.model_validate(row(2, prompt="of a question that is gone", question="q2")),
    ]
    outcome, labels = given(world, named, passed_over=2)
    assert [(one.id, one.question, one.family) for one in labels] == [("l0", "q0", "f0"), ("l1", "q0", "f0")]
    assert outcome.metrics["passed_over"] == 3 and outcome.costs == {"labels": 2}
    assert outcome.metrics["annotator_seconds"] == 4.5 and outcome.metrics["annotators"] == 2
    outcome, labels = given(world, named, budget=1)
    assert [one.id for one in labels] == ["l0"] and outcome.metrics["passed_over"] == 1


def test_of_several_questions_with_one_prompt_the_named_one_is_taken():
    questions = [Question(id=name, prompt="What?") for name in ("a", "b")]
    names = [one.question for one in labels_on([Label.model_validate(row(0, question=name)) for name in ("b", "c")], questions)]
    assert names == ["b", "a"]


def test_seconds_that_nobody_told_are_not_added_up(world):
    outcome, _ = given(world, [Label.model_validate(row(0))])
    assert "annotator_seconds" not in outcome.metrics
    outcome, _ = given(world, [Label.model_validate(row(0, seconds=0.0)), Label.model_validate(row(1, annotator="Ben"))])
    assert outcome.metrics["annotator_seconds"] == 0.0


def test_a_gate_that_leaves_no_labelled_question_is_told(world):
    with pytest.raises(DataError) as caught:
        given(world, [Label.model_validate(row(0, prompt="put aside"))])
    assert str(caught.value) == (
        "the data gate put aside every question that people labelled (1 labels), so nothing is left to learn from. Correct those "
        'rows (make validate), or let others label: SET="labels.source=simulated"'
    )


def test_a_store_that_is_not_named_is_refused(world):
    with pytest.raises(RequestError) as caught:
        people.label(world / "out", lambda *_: None, samples=None, data=world / "data", settings=LabelSettings(), model_uri="")
    assert str(caught.value) == 'labels.source=people needs the store of labels: SET="labels.source=people labels.file=…"'
