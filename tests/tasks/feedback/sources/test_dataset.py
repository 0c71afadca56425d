"""Labels of the dataset: preferences, rankings and ratings as they were imported (HH transcripts too)."""

import json
from pathlib import Path

import pytest

from posttrain.errors import DataError
from posttrain.feedback.labels import as_preferences, in_fixed_order
from posttrain.records import Message, Preference, Question, Ranking, Rating
from posttrain.settings.data import ValidationSettings
from posttrain.settings.feedback import LabelSettings
from tasks.data.importing import import_file
from tasks.data.stages import split_dataset
from tasks.feedback.labels import read_labels
from tasks.feedback.sources import dataset
from tasks.validation.gate import pass_gate
from tasks.workspace.jsonl import write_rows
from tests.tasks.feedback.sources.test_simulated import better, log, worse

SUITES = Path(__file__).parents[4] / "data" / "expectations"


def imported(tmp_path, *, budget=0, **roles):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir(exist_ok=True), out.mkdir(exist_ok=True)
    for role, records in roles.items():
        write_rows(data / f"{role}.jsonl", (record.model_dump(mode="json") for record in records))
    outcome = dataset.label(out, log, data=data, settings=LabelSettings(budget=budget))
    return outcome, read_labels(out)


@pytest.mark.parametrize(("budget", "count"), [(0, 5), (3, 3), (9, 5)])
def test_a_datasets_own_preferences_are_taken_as_they_are(tmp_path, budget, count):
    pairs = [Preference(id=str(n), prompt="p", chosen=f"c{n}", rejected="r", annotator="ann", margin=2.0) for n in range(5)]
    outcome, labels = imported(tmp_path, budget=budget, preferences=pairs)
    back = [each.model_copy(update={"id": each.id.removeprefix("preferences/")}) for each in as_preferences(labels)]
    assert back == pairs[:count]
    assert outcome.metrics["pairs"] == count and outcome.costs == {"labels": count}
    assert "flipped_share" not in outcome.metrics, "nobody knows"


def test_preferences_rankings_and_ratings_all_become_labels(tmp_path):
    outcome, labels = imported(
        tmp_path,
        questions=[Question(id="q1", prompt="p", family="fam")],
        preferences=[Preference(id="1", prompt="p", chosen="a", rejected="b", annotator="Ada")],
        rankings=[Ranking(id="1", prompt="p", completions=("a", "b", "c"), ranks=(2, 1, 3), annotator="Ben")],
        ratings=[
            Rating(id="1", prompt="p", completion="a", score=1, annotator="Cyd"),
            Rating(id="2", prompt="p", completion="b", score=0, annotator="Cyd"),
            Rating(id="3", prompt="bare", completion="b", score=0, annotator="Cyd"),
        ],
    )
    assert [label.id for label in labels] == ["preferences/1", "rankings/1/0", "rankings/1/1", "rankings/1/2", "ratings/1/0"]
    assert {label.question for label in labels} == {"q1"}
    assert outcome.costs == {"labels": 5} and outcome.metrics["unpaired_ratings"] == 1
    # a against b: Ada and Cyd say a, Ben says b
    assert outcome.metrics["shared_pairs"] == 1 and outcome.metrics["agreement"] == pytest.approx(1 / 3)
    told = json.loads((tmp_path / "out" / "agreement.json").read_text())["annotators"]
    assert told["Ben"]["dissent_rate"]["estimate"] == 1.0 and told["Ada"]["against_others"] == 0


def test_people_who_contradict_themselves_are_counted(tmp_path):
    pairs = [
        Preference(id="1", prompt="p", chosen="a", rejected="b", annotator="Ada"),
        Preference(id="2", prompt="p", chosen="b", rejected="a", annotator="Ada"),
        Preference(id="3", prompt="q", chosen="x", rejected="y", annotator="Ada"),
        Preference(id="4", prompt="q", chosen="y", rejected="z", annotator="Ada"),
        Preference(id="5", prompt="q", chosen="z", rejected="x", annotator="Ada"),
    ]
    outcome, _ = imported(tmp_path, preferences=pairs)
    assert outcome.metrics["contradictions"] == 1 and outcome.metrics["cycles"] == 1


def test_a_dataset_without_feedback_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        imported(tmp_path, questions=[Question(id="1", prompt="p")])
    assert str(caught.value) == (
        "the dataset has no preferences, ratings or rankings, which labels.source=dataset takes labels from. "
        "Import data that have them: make import FORMAT=… FILE=… NAME=…"
    )


def test_ratings_that_make_no_pair_are_refused(tmp_path):
    thumbs = [Rating(id=str(n), prompt=f"p{n}", completion="a", score=1) for n in range(3)]
    with pytest.raises(DataError) as caught:
        imported(tmp_path, ratings=thumbs)
    assert str(caught.value) == (
        "the dataset's 3 ratings make no pair: no annotator rated two different completions of one prompt. "
        "Import preferences or rankings, or ratings of several completions a prompt"
    )
    assert not list((tmp_path / "out").iterdir())


def test_transcripts_in_the_form_of_anthropics_hh_become_labels(paths, no_dvc, tmp_path, tiny_world):
    """Imported, split and validated as the pipeline does it; a third of the prompts come with a second pair."""
    fruits = ["apples", "pears", "plums", "figs", "dates", "limes", "grapes", "melons", "cherries", "quinces", "olives", "mangos"]
    rows = []
    for number, fruit in enumerate(fruits):
        shared = (
            f"\n\nHuman: May I ask about {fruit}?\n\nAssistant: Please do.\n\nHuman: Where do {fruit} grow best?\n\nAssistant:"
        )
        rows.append({"chosen": f"{shared} In the sun.", "rejected": f"{shared} No idea about {fruit}."})
        if number % 3 == 0:
            rows.append({"chosen": f"{shared} In the sun.", "rejected": f"{shared} Nowhere."})
    (paths.root / "hh.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_file(paths, format="hh", file="hh.jsonl", name="mine")
    split_dataset(paths, "mine")
    checked, out = tmp_path / "checked", tmp_path / "labels"
    checked.mkdir(), out.mkdir()
    pass_gate(
        checked,
        log,
        data=paths.data / "mine",
        dataset="mine",
        tokenizer=tiny_world.tokenizer,
        context=512,
        settings=ValidationSettings(),
        expectations=SUITES,
        findings=tmp_path / "findings" / "mine",
    )
    outcome = dataset.label(out, log, data=checked, settings=LabelSettings())
    labels = read_labels(out)
    questions = {
        question.prompt: question.id
        for question in map(Question.model_validate_json, (checked / "questions.jsonl").read_text().splitlines())
    }
    assert len(labels) == outcome.metrics["pairs"] == len((checked / "preferences.jsonl").read_text().splitlines()) >= 12
    assert len({label.question for label in labels}) == len(questions) < len(labels)
    for label in labels:
        assert label.prompt[:2] == (
            Message(role="user", content=label.prompt[0].content),
            Message(role="assistant", content="Please do."),
        )
        assert label.question == questions[label.prompt], "the question that PPO would ask"
        assert better(label) == "In the sun." and (label.first, label.second) == in_fixed_order(label.first, label.second)
    assert sorted(pair.rejected for pair in as_preferences(labels)) == sorted(worse(label) for label in labels)
