"""`make advise`: what it calls possible is what a pipeline takes, on datasets of every kind; its answer, file and refusals."""

import json
import shutil
from pathlib import Path

import pytest

from flows.advise import give_advice, situation_of
from flows.pipeline import check_settings
from flows.probe import Prober
from flows.situation import check_possible, of_method
from flows.training import check_roles, checked_reward
from flows.validation import Checked
from posttrain.advice.advise import advise
from posttrain.advice.barriers import IMPOSSIBLE, impossible
from posttrain.data.lengths import Lengths
from posttrain.errors import DataError, PosttrainError, RequestError
from posttrain.methods import METHODS
from posttrain.records import Demonstration, Preference, Question, Ranking, Rating
from posttrain.settings.config import merge
from tasks.data.dvc import DatasetVersion
from tasks.feedback.sources import dataset, simulated
from tasks.rewards.sources.table import reward_source
from tasks.workspace.jsonl import write_rows
from tasks.workspace.paths import Paths

ROOT = Path(__file__).resolve().parents[2]


def prompt(number):
    return f"How many apples are {number} apples?"


def demonstrations(count):
    return [Demonstration(id=f"d{n}", prompt=prompt(n), completion=f"{n} apples.", answer=str(n)) for n in range(count)]


def questions(count, *, answered):
    return [Question(id=f"q{n}", prompt=prompt(n), answers=(str(n),) if n < answered else ()) for n in range(count)]


def preferences(count):
    return [Preference(id=f"p{n}", prompt=prompt(n), chosen="yes", rejected="no", annotator=f"a{n % 2}") for n in range(count)]


ALONE = [Rating(id=f"r{n}", prompt=prompt(n), completion="yes", score=1.0) for n in range(4)]
PARTNERS = [*ALONE, *(Rating(id=f"s{n}", prompt=prompt(n), completion="no", score=0.0) for n in range(4))]
RANKED = [Ranking(id=f"k{n}", prompt=prompt(n), completions=("a", "b", "c"), ranks=(1, 2, 3)) for n in range(4)]
HELD_OUT = {"held_out": questions(5, answered=5)}
DATASETS = {
    "world-like": {**HELD_OUT, "demonstrations": demonstrations(4), "questions": questions(6, answered=6)},
    "questions only": {**HELD_OUT, "questions": questions(6, answered=6)},
    "chat": {**HELD_OUT, "demonstrations": demonstrations(4), "questions": questions(6, answered=0)},
    "partly answered": {**HELD_OUT, "demonstrations": demonstrations(4), "questions": questions(6, answered=3)},
    "preferences": {
        **HELD_OUT,
        "demonstrations": demonstrations(4),
        "questions": questions(6, answered=0),
        "preferences": preferences(6),
    },
    "ratings alone": {**HELD_OUT, "demonstrations": demonstrations(4), "questions": questions(6, answered=0), "ratings": ALONE},
    "ratings": {**HELD_OUT, "questions": questions(6, answered=0), "ratings": PARTNERS},
    "rankings": {**HELD_OUT, "demonstrations": demonstrations(4), "questions": questions(6, answered=0), "rankings": RANKED},
    "no questions": {**HELD_OUT, "demonstrations": demonstrations(4)},
    "one held out": {
        "held_out": questions(1, answered=1),
        "demonstrations": demonstrations(4),
        "questions": questions(6, answered=6),
    },
    "empty": {"held_out": [], "demonstrations": [], "questions": []},
}
SETTINGS = {
    "defaults": [],
    "labels of the dataset": ["labels.source=dataset"],
    "a judge labels": ["labels.source=judge"],
    "people without a file": ["labels.source=people"],
    "no such reward": ["ppo.reward=nonsense"],
    "a Python reward": ["ppo.reward=python:json:dumps"],
    "one question": ["evaluate.max_questions=1"],
    "long responses": ["ppo.max_new_tokens=600"],
    "no group": ["ppo.episodes=60", "ppo.mini_batch_size=60", "grpo.num_generations=8"],
    "no judge": ["judge.template=nowhere"],
}


@pytest.fixture
def paths(tmp_path):
    shutil.copytree(ROOT / "data" / "judges", tmp_path / "data" / "judges")
    (tmp_path / ".posttrain").mkdir()
    return Paths(tmp_path)


@pytest.fixture
def write(paths, tiny_world):
    def written(name):
        folder = paths.data / "mine"
        folder.mkdir(parents=True, exist_ok=True)
        for role, records in DATASETS[name].items():
            write_rows(folder / f"{role}.jsonl", (record.model_dump(mode="json") for record in records))
        version = DatasetVersion(name="mine", folder=folder, md5="0", files={})
        return Checked(
            version=version,
            folder=folder,
            tokenizer=tiny_world.tokenizer,
            context=tiny_world.context,
            lengths=Lengths("", {}, {}),
        )

    return written


def refusal_of_pipeline(config, paths, folder):
    """Return what a pipeline says before it trains anything, "" where it begins."""
    try:
        check_settings(config, paths)
        checked_reward(config, registered=lambda uri: Path(uri))
        check_roles(config, folder)
    except PosttrainError as error:
        return str(error)
    return ""


CASES = [*((name, "defaults") for name in DATASETS), *((name, how) for name in ("world-like", "preferences") for how in SETTINGS)]


@pytest.mark.parametrize(("name", "how"), CASES)
def test_advice_calls_impossible_what_a_pipeline_refuses(name, how, paths, write):
    data = write(name)
    config = merge({}, ["data.name=mine", *SETTINGS[how]])
    situation = situation_of(paths, config, data, print)
    for method in METHODS.values():
        refused = refusal_of_pipeline(of_method(config, method), paths, data.folder)
        barriers = [rule.name for rule in IMPOSSIBLE if rule.seen_by == "check" and rule.applies(method, situation)]
        assert bool(refused) == bool(barriers), (method.name, refused, barriers)
        if barriers == ["refused_settings"]:
            assert refused.rstrip(".") in impossible(method, situation), "what the pipeline says is what is told"


def test_what_a_stage_refuses_is_called_impossible_before(paths, write, tmp_path, tiny_world):
    """The rules that say so are checked against the stages themselves."""
    from models.load import load_tokenizer
    from tasks.training.rollouts import Asker

    config = merge({}, ["data.name=mine"])
    data = write("ratings alone")
    assert "ratings make no pair" in impossible(METHODS["dpo"], situation_of(paths, config, data, print))
    with pytest.raises(DataError, match="make no pair"):
        dataset.label(tmp_path, lambda *_: None, data=data.folder, settings=config.labels)
    (data.folder / "ratings.jsonl").unlink()

    found = situation_of(paths, config, data, print)
    assert "checks answers" in impossible(METHODS["reft"], found) and not impossible(METHODS["sft"], found)
    reward = reward_source("answer", partial_credit=0.0, registered=Path)
    reader = load_tokenizer(tiny_world.tokenizer)
    asked = questions(6, answered=0)
    with pytest.raises(DataError, match="PPO has nothing to ask"):
        Asker(asked, reader, reward, config.ppo, context=tiny_world.context)

    data = write("partly answered")
    assert "would be simulated from right answers, which 3 of 6" in impossible(
        METHODS["dpo"], situation_of(paths, config, data, print)
    )
    rows = [
        {"question": one.model_dump(mode="json"), "responses": [["1", True], ["2", True]]} for one in questions(6, answered=3)
    ]
    write_rows(tmp_path / "samples.jsonl", rows)
    with pytest.raises(DataError, match="has no answers, and simulated annotators"):
        simulated.label(tmp_path, lambda *_: None, samples=tmp_path, settings=config.labels, model_uri="m", seed=0)


@pytest.mark.parametrize(
    ("name", "how", "method"),
    [
        ("no questions", [], "reft"),
        ("questions only", [], "dpo"),
        ("chat", [], "self_training"),
        ("one held out", [], "sft"),
        ("chat", ["ppo.reward=nonsense"], "ppo"),
    ],
)
def test_a_comparison_refuses_in_the_words_of_advice_what_its_walk_would_refuse(name, how, method, paths, write):
    data = write(name)
    config = merge({}, ["data.name=mine", *how])
    said = impossible(METHODS[method], situation_of(paths, config, data, print))
    with pytest.raises(DataError) as told:
        check_possible(paths, config, data.version, ["few_shot"] * (name == "chat") + [method], print)
    assert str(told.value) == said and said.startswith(f"{METHODS[method].title} cannot run on mine: ")
    with pytest.raises(PosttrainError):
        Prober(paths, data.version, ledger=lambda: None).probe(of_method(config, METHODS[method]))


def test_a_comparison_refuses_before_it_trains_what_a_stage_would_refuse(paths, write):
    data, config = write("chat"), merge({}, ["data.name=mine"])
    with pytest.raises(DataError, match=r"^ReFT cannot run on mine: ppo.reward=answer checks answers"):
        check_possible(paths, config, data.version, ["sft", "reft"], print)
    check_possible(paths, config, data.version, ["sft", "few_shot"], print)
    check_possible(paths, config, write("world-like").version, [*METHODS], print)
    (data.folder / "questions.jsonl").write_text("no record\n")  # for the data gate to tell
    check_possible(paths, config, data.version, ["reft"], print)


def test_facts_of_a_dataset(paths, write):
    data = write("preferences")
    found = situation_of(paths, merge({}, ["data.name=mine"]), data, print)
    assert (found.demonstrations, found.questions, found.answered, found.held_out, found.held_out_answered) == (4, 6, 0, 5, 5)
    assert (found.pairs, found.labels, found.annotators, found.shared_pairs, found.alpha) == (6, 6, 2, 0, None)
    assert found.labels_by(METHODS["dpo"]) == "dataset" and found.labels_by(METHODS["rlaif"]) == "judge"
    assert found.base.is_tiny and found.base.weights > 100_000 and found.machine.memory > 2**28
    assert advise(found).first.method.name == "dpo"
    data = write("world-like")
    (data.folder / "preferences.jsonl").unlink()
    found = situation_of(paths, merge({}, ["data.name=mine"]), data, print)
    assert (found.answered, found.kinds) == (6, {"number": 6})
    assert found.near_duplicates == 0.0


def test_ratings_and_rankings_are_counted_as_the_pairs_that_they_make(paths, write):
    config = merge({}, ["data.name=mine"])
    found = situation_of(paths, config, write("rankings"), print)
    assert (found.rankings, found.labels) == (4, 12)  # three of each ranking
    (paths.data / "mine" / "rankings.jsonl").unlink()
    found = situation_of(paths, config, write("ratings"), print)
    assert (found.ratings, found.labels) == (8, 4)


def test_a_base_that_is_not_there_and_a_method_that_is_none(paths, write):
    data = write("world-like")
    with pytest.raises(RequestError) as told:
        situation_of(paths, merge({}, ["data.name=mine", "model.base=./nowhere"]), data, print)
    assert str(told.value) == (
        "model.base=./nowhere: there is no such directory. Give tiny, a Hugging Face directory or a hub id"
    )
    with pytest.raises(RequestError, match="there is no such directory"):  # before the data are looked at, which are not there
        give_advice(paths, merge({}, ["data.name=nowhere", "model.base=./nowhere"]), print)
    with pytest.raises(RequestError) as told:
        give_advice(paths, merge({}, ["data.name=mine"]), print, methods=["reff"])
    assert str(told.value) == f"there is no method reff; did you mean reft?; methods are {', '.join(METHODS)}"
    with pytest.raises(RequestError, match=r"OUT=nowhere/x\.json must be a file in a folder that is there"):
        give_advice(paths, merge({}, ["data.name=mine"]), print, out="nowhere/x.json")


@pytest.fixture
def checked(monkeypatch, write):
    """Leave out DVC and the gate, which tests of their own are about."""
    from contextlib import contextmanager

    @contextmanager
    def given(paths, config, say):
        yield write("world-like")

    monkeypatch.setattr("flows.advise.checked_dataset", given)


def test_the_answer_begins_with_the_recommendation_and_is_written_whole(paths, checked, capsys):
    told = give_advice(paths, merge({}, ["data.name=mine"]), lambda line: None)
    out = capsys.readouterr().out
    assert out.splitlines()[0] == told["recommendation"]
    assert told["recommendation"].startswith("On mine try ReFT first: 6 of 6 training questions have an answer")
    file = paths.reports / "advice" / "mine.json"
    assert json.loads(file.read_text()) == json.loads(json.dumps(told))
    assert (told["schema"], told["first"], told["order"][:3]) == ("posttrain.advice/1", "reft", ["few_shot", "sft", "reft"])
    assert {one["name"] for one in told["methods"]} == set(METHODS)
    assert "none has run here yet" in " ".join(out.split())
    assert "What would show an effect of 1, 2 or 5 points of accuracy" in out and not told["comparisons"]
    for line in out.splitlines():
        assert "{" not in line


def test_earlier_runs_and_comparisons_are_told(paths, checked, capsys):
    stages = [("sft", 3.0, "tiny"), ("ppo", 4.0, "tiny"), ("dpo", 9.0, "./other")]
    for name, _, base in stages:
        folder = paths.stages / name / "k"
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text(json.dumps({"settings": {"model.base": base}}))
    paths.reports.mkdir()
    rows = [{"name": name, "key": "k", "seconds": seconds} for name, seconds, _ in stages]
    report = {
        "dataset": "mine",
        "method": "reft",
        "created": "2026-01-01",
        "stages": rows,
        "metrics": {"cost/labels": 0, "cost/x": None},
    }
    (paths.reports / "1.json").write_text(json.dumps(report))
    (paths.reports / "2.json").write_text(json.dumps({**report, "dataset": "other", "created": "2027"}))
    (paths.reports / "3.json").write_text("half of")
    compared = {
        "schema": "posttrain.comparison/1",
        "id": "c",
        "created": "2026",
        "verdict": "ReFT is the best.",
        "command": "make compare",
    }
    for name, dataset_of, command in (("c", "mine", ""), ("d", "other", ""), ("e", "mine", "SET=model.base=./other")):
        folder = paths.reports / "compare" / name
        folder.mkdir(parents=True)
        methods = [{"runs": [{"command": command}]}]
        told = {**compared, "id": name, "dataset": {"name": dataset_of, "md5": "0"}, "methods": methods}
        (folder / "comparison.json").write_text(json.dumps(told))
    told = give_advice(
        paths, merge({}, ["data.name=mine"]), lambda line: None, methods=["reft", "dpo"], out=str(paths.root / "a.json")
    )
    out = capsys.readouterr().out
    costs = {one["name"]: one["cost"] for one in told["methods"]}
    assert (costs["reft"]["stages"]["ppo"], costs["reft"]["earlier"], costs["dpo"]["stages"]["dpo"]) == (
        4.0,
        {"labels": 0.0},
        None,
    )
    assert costs["reft"]["seconds"] is None, "its evaluation has not run"
    assert [one["id"] for one in told["comparisons"]] == ["c"] and told["comparisons"][0]["same_data"]
    assert "compared here, 2026: ReFT is the best." in out
    assert json.loads((paths.root / "a.json").read_text())["dataset"] == "mine" and not (paths.reports / "advice").exists()
