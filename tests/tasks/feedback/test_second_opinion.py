"""The stage `second_opinion`: simulated annotators or people on the pairs that a judge labelled."""

import json
from pathlib import Path

import pytest

from posttrain.errors import DataError
from posttrain.feedback.labels import Label
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.agreement import write_labels
from tasks.feedback.given import GivenLabels
from tasks.feedback.labels import read_labels
from tasks.feedback.second_opinion import give
from tasks.workspace.jsonl import write_rows


def log(step, metrics):
    raise AssertionError("this stage has no curve")


@pytest.fixture
def judged(tmp_path, world_records):
    """A judge's soft labels of a pair of samples a question: right of three in four, and of the last pair gold knows nothing."""
    questions = world_records["questions"][:24]
    rows, labels = [], []
    for number, question in enumerate(questions):
        texts = [f"Answer: {question.answers[0]}", f"So it is {number + 200}"]
        rows.append({"question": question.model_dump(mode="json"), "responses": [[text, True] for text in texts]})
        is_first, is_right = number % 2 == 0, number % 4 != 3
        first, second = texts if is_first else texts[::-1]
        labels.append(
            Label(
                id=f"judge-{number}",
                prompt=question.prompt,
                question=question.id,
                group=question.id,
                first=first,
                second=second,
                preference=0.8 if is_first == is_right else 0.2,
                annotator="base-1234",
                source="judge",
                at="2026-11-21T08:00:00+00:00",
                prompt_version="v",
                gold=None if question is questions[-1] else 0.5 if number == 0 else float(is_first),
            )
        )
    for folder in ("samples", "labels"):
        (tmp_path / folder).mkdir()
    write_rows(tmp_path / "samples" / "samples.jsonl", rows)
    write_labels(tmp_path / "labels", labels)
    return labels


def given(tmp_path, tiny_world, *, name="out", seed=0, people=None, **settings):
    out = tmp_path / name
    out.mkdir()
    outcome = give(
        out,
        log,
        labels=tmp_path / "labels",
        samples=tmp_path / "samples",
        data=tiny_world.data,
        people=people,
        settings=LabelSettings(**settings),
        model_uri="stage:sft/abc",
        seed=seed,
    )
    assert not outcome.costs, "nobody pays for what nothing is trained on"
    return dict(outcome.metrics), read_labels(out)


def test_annotators_without_noise_decide_as_gold_does_on_every_pair_that_it_decides(tmp_path, tiny_world, judged):
    told, others = given(tmp_path, tiny_world, flip_rate=0.0, annotators=3)
    known = [label for label in judged if label.gold in (0.0, 1.0)]
    assert [(one.first, one.second, one.preference) for one in others] == [(one.first, one.second, one.gold) for one in known]
    assert {one.annotator for one in others} == {"simulated-0", "simulated-1", "simulated-2"}
    assert {(one.source, one.at, one.prompt_version) for one in others} == {("simulated", "", "")}
    assert len({one.id for one in others}) == len(others) == told["labels"] == 22
    right = sum((one.preference > 0.5) == (one.gold > 0.5) for one in known)
    assert told["simulated_agreement"] == pytest.approx(right / 22)
    assert told["simulated_agreement_low"] < right / 22 < told["simulated_agreement_high"]


def test_annotators_flip_as_often_as_they_are_told(tmp_path, tiny_world, judged):
    gold = {label.question: label.gold for label in judged}
    _, others = given(tmp_path, tiny_world, flip_rate=0.4)
    flipped = sum(one.preference != gold[one.question] for one in others)
    assert 2 < flipped < 17
    assert given(tmp_path, tiny_world, name="again", flip_rate=0.4)[1] == others
    assert given(tmp_path, tiny_world, name="other", flip_rate=0.4, seed=1)[1] != others


def store_of(tmp_path, judged, *, count=24, wrong=0):
    """Return people's store: they agree with the judge but on the first `wrong` pairs, and saw each the other way round."""
    file = tmp_path / "people.jsonl"
    rows = []
    for number, label in enumerate(judged[:count]):
        told = label.model_dump(mode="json", exclude={"gold", "family", "kind", "prompt_version", "at"})
        agreed = 1 - round(label.preference)
        told |= {"first": label.second, "second": label.first, "annotator": "Ada", "source": "person"}
        rows.append(told | {"preference": 1 - agreed if number < wrong else agreed})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_people_are_heard_where_they_left_labels(tmp_path, tiny_world, judged):
    told, others = given(tmp_path, tiny_world, file=store_of(tmp_path, judged, wrong=6))
    assert {one.annotator for one in others} == {"Ada"} and told["labels"] == 24
    assert told["people_agreement"] == 0.75 and "simulated_agreement" not in told
    assert {one.first_model for one in others} == {"stage:sft/abc"}


def people_of(judged, *, count=24, wrong=0):
    """Return what people said of the dataset: of the first `count` pairs, and of another pair that the judge was not shown."""
    agreed = [float(round(label.preference)) for label in judged[:count]]
    labels = [
        label.model_copy(update={"id": f"people/{number}", "annotator": "Ada", "source": "person", "preference": preference})
        for number, (label, right) in enumerate(zip(judged, agreed, strict=False))
        for preference in [1 - right if number < wrong else right]
    ]
    other = judged[0].model_copy(update={"id": "people/other", "first": "never shown", "source": "person", "annotator": "Ben"})
    return GivenLabels((*labels, other), 0, "digest")


def test_people_who_labelled_pairs_of_the_dataset_are_heard_of_those_that_the_judge_labelled_too(tmp_path, tiny_world, judged):
    told, others = given(tmp_path, tiny_world, people=people_of(judged, wrong=6))
    assert {one.annotator for one in others} == {"Ada"} and told["labels"] == 24, "not Ben, whose pair the judge never saw"
    assert told["people_agreement"] == 0.75 and "simulated_agreement" not in told
    store = store_of(tmp_path, judged, wrong=12)
    told, _ = given(tmp_path, tiny_world, name="store", people=people_of(judged, wrong=6), file=store)
    assert told["people_agreement"] == 0.5, "a store that is named goes first"


@pytest.mark.parametrize("count", [0, 1])
def test_people_without_enough_common_pairs_leave_the_word_to_simulated_annotators(tmp_path, tiny_world, judged, count):
    told, others = given(tmp_path, tiny_world, people=people_of(judged, count=count))
    assert {one.source for one in others} == {"simulated"} and "simulated_agreement" in told


def test_where_gold_decides_nothing_people_alone_are_there(tmp_path, tiny_world, judged):
    write_labels(tmp_path / "labels", [label.model_copy(update={"gold": None}) for label in judged])
    told, others = given(tmp_path, tiny_world, people=people_of(judged, count=1))
    assert told == {"labels": 2} and {one.source for one in others} == {"person"}


def test_one_common_question_has_no_interval(tmp_path, tiny_world, judged):
    told, _ = given(tmp_path, tiny_world, file=store_of(tmp_path, judged, count=1))
    assert told == {"labels": 1}


def test_a_label_that_cannot_be_used_stops_the_stage(tmp_path, tiny_world, judged):
    file = store_of(tmp_path, judged)
    Path(file).write_text(Path(file).read_text() + '{"id": "x"}\n')
    with pytest.raises(DataError, match=r"1 of 25 labels cannot be used, so none was taken"):
        given(tmp_path, tiny_world, file=file)
