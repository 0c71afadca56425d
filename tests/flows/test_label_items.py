"""What a new batch is drawn with: rules and what they need, what is refused before training, items of made-up samples."""

import json
from types import SimpleNamespace

import pytest

from flows import label_items as subject
from flows.label_items import Earlier, Made, Prepared, draw_batch, prepare
from posttrain.errors import DataError, RequestError
from posttrain.feedback.labels import Label
from posttrain.labelling.selections import SELECTIONS
from posttrain.settings.config import merge
from tasks.data.dvc import DatasetVersion
from tasks.labelling.candidates import texts_of
from tasks.workspace.artifacts import Artifact, Outcome, make
from tasks.workspace.paths import Paths

TEXTS = tuple(f"Answer: {number}" for number in range(4))
"""Of each question; the first is right."""


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


def run_with(paths, name, *, members=0, created="2026-01-01", key="a"):
    """Leave the report of a run, with a reward model of some members or without one."""
    stages = []
    if members:
        made, _ = make(paths, "reward_model", key * 64, lambda out, log: Outcome({"members": members}), settings={}, inputs={})
        stages = [{"name": "reward_model", "key": made.key}]
    told = {"pipeline_id": name, "method": "rlhf", "dataset": "world", "created": created, "stages": stages}
    paths.reports.mkdir(exist_ok=True)
    (paths.reports / f"{name}.json").write_text(json.dumps(told))


# --- before anything is trained ---------------------------------------------------------------------------------------


def prepared(paths, *settings):
    return prepare(paths, merge({}, settings))


def test_random_needs_nothing(paths):
    found, notes = prepared(paths)
    assert found.rule.name == "random" and found.reward_model is None and not found.is_judged and notes == []
    assert found.config.labels.source == "auto"


def test_the_reward_model_is_that_of_the_newest_run_that_has_one(paths):
    run_with(paths, "one", members=1, created="2026-01-01", key="a")
    run_with(paths, "two", members=1, created="2026-01-02", key="b")
    run_with(paths, "three", created="2026-01-03")
    found, _ = prepared(paths, "labelling.selection=uncertain")
    assert found.reward_model.key == "b" * 64


def test_rules_without_what_they_need_are_refused(paths):
    with pytest.raises(RequestError) as refused:
        prepared(paths, "labelling.selection=uncertain")
    assert str(refused.value) == (
        "labelling.selection=uncertain asks the reward model of the last labels, and no run of world here has one. Make one: "
        "make pipeline METHOD=rlhf DATA=world; or draw at random: labelling.selection=random"
    )
    run_with(paths, "one", members=1)
    with pytest.raises(RequestError) as refused:
        prepared(paths, "labelling.selection=spread")
    assert str(refused.value) == (
        "labelling.selection=spread asks a reward model of several members, and that of the last run of world has one. Train "
        'several: make pipeline METHOD=rlhf DATA=world SET="reward_model.ensemble=3"'
    )
    run_with(paths, "two", members=3, created="2026-01-02", key="b")
    assert prepared(paths, "labelling.selection=spread")[0].reward_model.metrics["members"] == 3


def test_a_judge_is_asked_as_a_pipeline_would_ask_it(paths, monkeypatch):
    checked = []
    monkeypatch.setattr(subject, "check", lambda config, paths: checked.append(config) or ["a note of the judge"])
    run_with(paths, "one", members=1)
    found, notes = prepared(paths, "labelling.selection=disagreement")
    assert found.is_judged and notes == ["a note of the judge"]
    assert checked[0] is found.config and found.config.labels.source == "judge"
    found, _ = prepared(paths, "labelling.show_judge=true")
    assert found.is_judged and found.rule.name == "random"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ("labelling.kind=rating", "labelling.selection=disagreement"),
            "labelling.selection=disagreement can choose a pair, and ",
        ),
        (
            ("labelling.kind=ranking", "labelling.show_judge=true"),
            "labelling.show_judge shows what a judge says of a pair, and labelling.kind is ranking",
        ),
        (("labelling.show_judge=true", "judge.template=nowhere"), "judge.template=nowhere: there is no such template"),
    ],
)
def test_what_cannot_be_is_refused(paths, settings, sentence):
    with pytest.raises(RequestError) as refused:
        prepared(paths, *settings)
    assert str(refused.value).startswith(sentence)


# --- items ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(paths, monkeypatch):
    """Samples of twenty questions without any model; returns the stages' artifacts."""
    folder = paths.root / "samples"
    folder.mkdir(parents=True)
    rows = [
        {
            "question": {"id": f"q{number}", "kind": "question", "prompt": f"{number}?", "answers": ["0"]},
            "responses": [[text, True] for text in TEXTS],
        }
        for number in range(20)
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = Artifact("sample", "s" * 64, str(folder), 1.0, {}, {}, "digest")
    start = Artifact("sft", "f" * 64, str(paths.root), 1.0, {}, {}, "digest")
    monkeypatch.setattr(subject, "make_samples", lambda run, data: Made(samples, start, start))
    return Made(samples, start, start)


def drawn(paths, *settings, earlier=None, rule="random", is_judged=False, **more):
    config = merge({}, ["labelling.repeat_share=0", *settings])
    data = DatasetVersion("world", paths.data / "world", "m" * 32, {}, ())
    asked = Prepared(config, SELECTIONS[rule], is_judged=is_judged, **more)
    return draw_batch(paths, asked, data, earlier or Earlier(), lambda line: None)


def asked_in(batch):
    return {texts_of(item.question, (each.text for each in item.responses)) for item in batch.items}


def label(question, first, second, preference, source):
    told = {"prompt": f"{question[1:]}?", "question": question, "group": question, "first": first, "second": second}
    return Label(id=f"{question}/{first}/{second}", preference=preference, annotator="a", source=source, **told)


def test_a_batch_has_its_size_its_checks_and_its_repetitions(paths, made):
    batch = drawn(paths, "labelling.batch=40", "labelling.known_share=0.1", "labelling.repeat_share=0.2")
    assert len(batch.items) == 40 and batch.model == "stage:sft/" + "f" * 64
    chosen = [item.selection for item in batch.items if not item.repeats]
    assert chosen.count("known") == 4 and sum(bool(item.repeats) for item in batch.items) == 8
    assert all((item.known is not None) == (item.selection == "known") for item in batch.items)
    assert len(asked_in(batch)) == 32, "no check asks what is asked anyway"
    assert (
        batch.items == drawn(paths, "labelling.batch=40", "labelling.known_share=0.1", "labelling.repeat_share=0.2").items
        and batch.verdicts == {}
    )


def test_a_second_batch_asks_other_pairs(paths, made):
    first = drawn(paths, "labelling.batch=30", "labelling.known_share=0")
    answered = Earlier(batches=1, answered=asked_in(first))
    second = drawn(paths, "labelling.batch=30", "labelling.known_share=0", earlier=answered)
    assert len(second.items) == 30 and not asked_in(first) & asked_in(second)
    waiting = Earlier(batches=1, waiting=asked_in(first))
    assert asked_in(drawn(paths, "labelling.batch=30", "labelling.known_share=0", earlier=waiting)) == asked_in(second)
    said = Earlier(batches=1, labels=[label("q0", one, other, 1.0, "person") for one in TEXTS for other in TEXTS if one != other])
    assert not any(item.question == "q0" for item in drawn(paths, earlier=said).items)


def test_nothing_left_to_ask_is_refused(paths, made):
    settings = ("labelling.batch=1000", "labelling.known_share=0", "labels.pairs_per_prompt=6")
    every = asked_in(drawn(paths, *settings))
    with pytest.raises(DataError, match="people were asked about all 120 candidates that these samples give"):
        drawn(paths, *settings, earlier=Earlier(batches=1, answered=every))


def test_rankings_and_ratings_have_no_checks(paths, made):
    ranked = drawn(paths, "labelling.kind=ranking", "labelling.responses=3", "labelling.batch=10")
    assert {len(item.responses) for item in ranked.items} == {3} and {item.selection for item in ranked.items} == {"random"}
    rated = drawn(paths, "labelling.kind=rating", "labelling.responses=3", "labelling.batch=12")
    assert {len(item.responses) for item in rated.items} == {1} and len(rated.items) == 12


def test_a_rule_is_given_what_the_reward_model_says(paths, made, monkeypatch):
    """The model is sure of every pair but those of the right answer: these are chosen, but for the random share."""
    model = SimpleNamespace(path=paths.root)

    def scores(folder, candidates, *, batch_size):
        assert folder == paths.root / "model"
        return [((0.0, 0.0),) if TEXTS[0] in {each.text for each in one.responses} else ((9.0, 0.0),) for one in candidates]

    monkeypatch.setattr(subject, "reward_scores", scores)
    settings = ("labelling.batch=20", "labelling.known_share=0", "labelling.random_share=0.2", "labels.pairs_per_prompt=6")
    batch = drawn(paths, *settings, rule="uncertain", reward_model=model)
    chosen = [item for item in batch.items if item.selection == "uncertain"]
    assert len(chosen) == 16 and sum(item.selection == "random" for item in batch.items) == 4
    assert all(TEXTS[0] in {each.text for each in item.responses} for item in chosen)


def test_a_judge_is_held_against_people_and_its_pairs_are_asked_again(paths, made, monkeypatch):
    """The judge says 0.9 of the pair as it is drawn; people said the opposite of those of one question, and agree elsewhere."""
    config = merge({}, ["labels.source=judge"])
    pairs = subject.draw_candidates(
        subject.Pool(made.samples.path, "", config.seed), kind="pair", responses=2, settings=config.labels
    )
    both = [(one.question, *(each.text for each in one.responses)) for one in pairs]
    monkeypatch.setattr(subject, "make_labels", lambda *given: made.samples)
    monkeypatch.setattr(subject, "read_labels", lambda folder: [label(*each, 0.9, "judge") for each in both])
    people = [label(*each, 0.0 if each[0] == "q7" else 1.0, "person") for each in both]
    monkeypatch.setattr(subject, "reward_scores", lambda folder, candidates, *, batch_size: [((0.0, 0.0),)] * len(candidates))
    settings = ("labelling.batch=4", "labelling.known_share=0", "labelling.random_share=0", "labels.source=judge")
    model = SimpleNamespace(path=paths.root)
    how = {"rule": "disagreement", "is_judged": True, "reward_model": model}
    batch = drawn(paths, *settings, "labelling.show_judge=true", earlier=Earlier(batches=3, labels=people), **how)
    assert {item.question for item in batch.items} == {"q7"} and {item.selection for item in batch.items} == {"disagreement"}
    assert set(batch.verdicts.values()) == {0.9} and set(batch.verdicts) == {item.id for item in batch.items}
    assert drawn(paths, *settings, earlier=Earlier(labels=people), **how).verdicts == {}, "shown only where that is asked for"
