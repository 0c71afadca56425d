"""Labels of people: as many as are paid for, with what the samples say of them."""

import pytest

from posttrain.errors import RequestError
from posttrain.settings.feedback import LabelSettings
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


def test_a_store_that_is_not_named_is_refused(world):
    with pytest.raises(RequestError) as caught:
        people.label(world / "out", lambda *_: None, samples=None, data=world / "data", settings=LabelSettings(), model_uri="")
    assert str(caught.value) == 'labels.source=people needs the store of labels: SET="labels.source=people labels.file=…"'
