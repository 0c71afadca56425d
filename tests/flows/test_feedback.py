"""RLHF, RLAIF and labels of every source, as a user asks for them, in a smaller world."""

import hashlib
import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from posttrain.feedback.labels import Label
from tasks.data.labels_file import add_labels
from tasks.workspace.paths import Paths
from tests.flows.houses import new_house, ran, report, run
from tests.tasks.judge_servers import completion, faulty

pytestmark = pytest.mark.slow

LENIENT = ("judge.max_flips=1", "judge.min_conviction=0", "judge.max_unreadable=1")
TOPICS = ("bread", "rain", "trains", "stones", "music", "maps", "wool", "glass", "salt", "boats", "clocks", "honey")
WISHES = ("What do you know of {}?", "Tell me about {}.", "Why do people like {}?", "Where does one find {}?", "Is {} old?")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house whose base has read reviews, and in which the direct judge has run once."""
    folder = new_house(tmp_path_factory.mktemp("house"))
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("review_share: 0.0", "review_share: 0.2"))
    run(folder, "pipeline", "method=drlaif", *LENIENT)
    return folder


def stages(house: Path) -> list[str]:
    return [stage["name"] for stage in report(house)["stages"]]


def test_a_judge_scores_rollouts_directly(house: Path) -> None:
    told = report(house)
    assert stages(house) == [
        *("tokenizer", "validate", "base", "sft", "evaluate-sft", "evaluate-base"),
        *("judge", "ppo", "evaluate-drlaif", "audit"),
    ]
    assert list(told["models"]) == ["base", "sft", "drlaif"]
    assert any("rewarded by the AI judge (base)" in note for note in told["notes"])
    (told_of,) = (note for note in told["notes"] if "the judge is the base after 5 steps on simulated reviews" in note)
    assert "say the opposite in 10 % of the cases (judge.slip_share)" in told_of and "misread" not in told_of
    assert "that it is better or worse than simulated annotators is no result" in told_of
    folder = next((house / ".posttrain" / "stages" / "ppo").glob("*/curves.jsonl"))
    first = json.loads(folder.read_text().splitlines()[0])
    assert -1 <= first["ppo/reward"] <= 1 and 1 <= first["ppo/judge_score"] <= 10
    assert "ppo/gold" in first


def test_dpo_learns_from_a_judge_as_it_does_from_people(house: Path) -> None:
    asked = ("method=dpo", "labels.source=judge", "judge.mode=pairwise", *LENIENT)
    run(house, "pipeline", *asked)
    assert ran(house) == ["sample", "label", "second_opinion", "self_preference", "dpo", "evaluate-dpo"], (
        "the judge is the one of the direct run"
    )
    told = report(house)
    assert 0 < told["audit"]["second_opinion"]["simulated_agreement"] < 1
    assert 0 <= told["audit"]["self_preference"]["own"] <= 1
    assert told["metrics"]["cost/labels"] == told["audit"]["labels"]["labels"], "only the judge's are learnt from"
    assert told["audit"]["source"] == "judge" and 0 <= told["audit"]["labels"]["flip_share"] <= 1
    assert any("the opinion of a language model (base)" in note for note in told["notes"])
    folder = next((house / ".posttrain" / "stages" / "label").glob("*/labels.jsonl"))
    labels = [json.loads(line) for line in folder.read_text().splitlines()]
    assert {label["source"] for label in labels} == {"judge"}
    assert any(0 < label["preference"] < 1 and label["preference"] != 0.5 for label in labels), "soft labels"
    run(house, "pipeline", *asked, "judge.timeout=5", "judge.price_prompt=2")
    assert ran(house) == [], "patience and prices change no label"


def test_a_reward_model_that_knows_nothing_is_not_handed_to_ppo(house: Path) -> None:
    told = run(house, "pipeline", "method=rlhf", "labels.flip_rate=0.49", "labels.annotators=1", code=3)
    assert "contract: " in told and "reward model" in told
    assert not list((house / ".posttrain" / "stages").glob("reward_model/*/stage.json"))
    kept = house / ".posttrain" / "reward_model" / "world"
    assert f"Figures, pairs and picture: {kept}" in told
    names = {path.name for path in kept.iterdir()}
    client = MlflowClient(tracking_uri=f"sqlite:///{house}/mlflow/store/mlflow.db")
    everywhere = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(everywhere, "tags.posttrain.method = 'rlhf' and attributes.status = 'FAILED'")
    (failed,) = (one for one in found if "mlflow.parentRunId" not in one.data.tags)
    logged = {Path(one.path).name for one in client.list_artifacts(failed.info.run_id, "reward_model")}
    assert logged == {"quality.json", "reliability.png"} < names


def opinion(body: dict[str, Any], number: int) -> Any:
    """Answer as a server does whose judge likes some texts more than others, for whatever reason."""
    digest = hashlib.sha256(body["messages"][-1]["content"].encode()).digest()
    shares = [1 + digest[place] for place in range(10)]
    told = {str(score): math.log(share / sum(shares)) for score, share in enumerate(shares, 1)}
    return 200, completion(max(told, key=told.__getitem__), logprobs=told)


def test_a_server_that_dies_in_the_middle_is_asked_only_for_the_rest_by_the_same_command(house: Path) -> None:
    troubles = {3: (429, "", {"Retry-After": "0"}), 5: (500, "out of order"), 7: "half", 9: "drop", 11: "nonsense", 13: "slow"}
    with faulty(lambda body, number: troubles.get(number) or (opinion(body, number) if number < 40 else (503, "gone"))) as server:
        asked = (
            *("pipeline", "method=dpo", "labels.source=judge", "judge.backend=openai", "judge.model=m", "judge.retries=2"),
            *(f"judge.base_url={server.url}", "judge.template=constitution", "judge.timeout=3", "judge.concurrency=1", *LENIENT),
            "judge.own_questions=0",
        )
        told = run(house, *asked, code=2)
        sentence = (
            f"judge.base_url={server.url}: the judge m did not answer, asked 3 times (judge.retries=2); the last time: 503 gone"
        )
        assert sentence in told and "the same command asks only for the rest" in told
        answered = {json.dumps(request, sort_keys=True) for request in server.requests[:40]}
        server.requests.clear()
        server._behave = opinion
        run(house, *asked)
        assert ran(house) == ["label", "second_opinion", "dpo", "evaluate-dpo"]
        rest = [json.dumps(request, sort_keys=True) for request in server.requests]
        assert rest and len(set(rest)) == len(rest) and not answered & set(rest)
        key = next(stage["key"] for stage in report(house)["stages"] if stage["name"] == "label")
        summary = json.loads((house / ".posttrain" / "stages" / "label" / key / "judge.json").read_text())
        assert summary["usage"]["asked"] == len(rest) and summary["usage"]["cached"] == len(answered)
        server.requests.clear()
        run(house, *asked)
        assert not server.requests and ran(house) == []
    told = run(house, *asked)
    assert ran(house) == [] and "the server does not answer" in told and "Answers of m are kept, so the run goes on" in told


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("method=rlaif", "judge.backend=openai", "judge.model=m", "judge.base_url=http://127.0.0.1:1/v1"),
            "judge.base_url=http://127.0.0.1:1/v1: the judge's server does not answer, asked 3 times before anything trains",
        ),
        (("method=rlaif", "judge.template=nowhere"), "judge.template=nowhere: there is no such template"),
        (("method=rlaif", "judge.backend=openai"), "judge.model=base is a model here, and judge.backend=openai asks a server"),
        (("method=rlaif", "labels.source=simulated"), "method rlaif learns from a judge, and labels.source=simulated is none"),
        (("method=rlaif", "judge.model=./nowhere"), "judge.model=./nowhere: there is no such directory. Give base, a Hugging"),
        (("method=dpo", "labels.source=people"), "labels.source=people needs the store of labels"),
        (("method=dpo", "labels.source=people", "labels.file=none.jsonl"), "cannot read none.jsonl: No such file or directory"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(house: Path, words: tuple[str, ...], sentence: str) -> None:
    before = sorted((house / ".posttrain" / "stages").glob("*/*/stage.json"))
    assert sentence in run(house, "pipeline", *words, code=2)
    assert sorted((house / ".posttrain" / "stages").glob("*/*/stage.json")) == before


def test_labels_that_people_wrote_into_a_store_are_learnt_from_and_bad_lines_are_told(house: Path) -> None:
    if "sample" not in {path.name for path in (house / ".posttrain" / "stages").iterdir()}:
        run(house, "pipeline", "method=dpo")
    samples = next((house / ".posttrain" / "stages" / "sample").glob("*/samples.jsonl"))
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    store = house / "people.jsonl"
    labels = []
    for number, row in enumerate(rows):
        first, second = list(dict.fromkeys(text for text, _ in row["responses"]))[:2]
        question = row["question"]
        labels.append(
            {
                "id": f"label-{number}",
                "prompt": question["prompt"],
                "question": question["id"],
                "group": question["id"],
                "first": first,
                "second": second,
                "preference": float(len(first) < len(second)),
                "annotator": "Ada",
                "source": "person",
                "at": "2026-11-21T08:00:00Z",
            }
        )
    store.write_text("".join(json.dumps(label) + "\n" for label in labels))
    run(house, "pipeline", "method=dpo", "labels.source=people", "labels.file=people.jsonl")
    assert ran(house) == ["label", "dpo", "evaluate-dpo"]
    assert report(house)["audit"]["source"] == "people"
    assert report(house)["metrics"]["cost/labels"] == len(labels)
    run(house, "pipeline", "method=dpo", "labels.source=judge", "labels.file=people.jsonl", "judge.mode=pairwise", *LENIENT)
    assert "second_opinion" in ran(house)
    told = report(house)["audit"]
    assert told["source"] == "judge" and 0 < told["second_opinion"]["people_agreement"] < 1
    labels[3]["question"] = "questions-none"
    labels[5]["preference"] = 2
    store.write_text("".join(json.dumps(label) + "\n" for label in labels))
    told = run(house, "pipeline", "method=dpo", "labels.source=people", "labels.file=people.jsonl", code=2)
    assert f"people.jsonl: 2 of {len(labels)} labels cannot be used, so none was taken" in told
    assert "line 4:" in told and "line 6:" in told


def test_what_people_said_of_the_dataset_is_learnt_from_and_nobody_is_simulated(house: Path) -> None:
    """Each answer that people prefer thanks, each other one is rude: a network this small learns it."""
    lines = (house / "data" / "world" / "questions.jsonl").read_text().splitlines()
    questions = [json.loads(line) for line in lines][:26]
    labels = [
        Label(
            id=f"people/{number}/{topic}/{who}",
            prompt=question["prompt"],
            question=question["id"],
            group=question["id"],
            first=f" Thank you for asking of {topic}." if number % 2 else f" Go away with {topic}.",
            second=f" Go away with {topic}." if number % 2 else f" Thank you for asking of {topic}.",
            preference=float(number % 2 == (number > 2 or who == "Ada")),
            annotator=who,
            source="person",
            seconds=2.0,
            selection="random",
        )
        for number, question in enumerate(questions)
        for topic in TOPICS[:2]
        for who in ("Ada", "Ben")[: 1 + (number < 8)]
    ]
    version = add_labels(Paths(house), "world", labels)
    try:
        out = run(house, "data")
        assert f"  labels                 {version.labels}" in out and version.md5 in out
        run(house, "pipeline", "method=sft")
        assert ran(house) == [], "what reads no labels is as it was"
        run(house, "pipeline", "method=dpo")
        assert ran(house) == ["label", "dpo", "evaluate-dpo"] and "sample" not in stages(house)
        told = report(house)
        assert told["audit"]["source"] == "people" and told["metrics"]["cost/labels"] == len(labels)
        (note,) = (note for note in told["notes"] if note.startswith("labels of people: "))
        assert note.startswith(f"labels of people: {len(labels)} by 2 annotators; two of them agree on 62.5% [")
        assert note.endswith(f"they took {2 * len(labels)} seconds") and "Krippendorff's α" in note
        assert not any("simulated annotators" in one for one in told["notes"])
        assert told["audit"]["labels"]["alpha_low"] < told["audit"]["labels"]["alpha"] < told["audit"]["labels"]["alpha_high"]
        assert told["data_md5"] == version.md5

        run(
            house,
            "pipeline",
            "method=rlhf",
            "ppo.min_finished=0",
            "reward_model.epochs=20",
            "reward_model.max_length_correlation=1",
        )
        assert ran(house) == ["reward_model", "ppo", "evaluate-rlhf", "audit"]
        of = {stage["name"]: house / ".posttrain" / "stages" / stage["name"] / stage["key"] for stage in report(house)["stages"]}
        learnt = set(json.loads((of["reward_model"] / "trained_on.json").read_text()))
        prompts = {question["prompt"] for question in questions if question["id"] in learnt}
        asked = {json.loads(row)["prompt"] for row in (of["ppo"] / "samples.jsonl").read_text().splitlines()}
        assert asked and prompts and not any(prompt in text for prompt in prompts for text in asked)
    finally:
        for end in ("", ".dvc"):
            (house / "data" / "world" / f"labels.jsonl{end}").unlink()


def topic_of(prompt: str) -> str:
    """Return which of the questions a prompt asks, in whatever form it is written."""
    (found,) = {wish.format(topic) for topic in TOPICS for wish in WISHES if wish.format(topic) in prompt}
    return found


def test_transcripts_of_anthropics_form_train_a_reward_model_and_ppo_asks_what_it_has_not_seen(house: Path) -> None:
    """Each preferred answer thanks, each other one is rude, whichever is longer: a network this small learns it."""
    rows = []
    for number, (topic, wish) in enumerate(product(TOPICS, WISHES)):
        asked, more = f"\n\nHuman: {wish.format(topic)}\n\nAssistant:", f" {topic} is {topic}, that is all."
        polite, rude = " Thank you for asking.", " Go away with that."
        longer = number % 2 == 0
        rows.append({"chosen": asked + polite + more * longer, "rejected": asked + rude + more * (not longer)})
    (house / "hh.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(house, "import", "format=hh", "file=hh.jsonl", "name=hh")
    out = run(house, "pipeline", "method=rlhf", "data.name=hh", "ppo.min_finished=0", "reward_model.epochs=20")
    told = report(house)
    names = ["label", "reward_model", "ppo"]
    assert [name for name in stages(house) if name in ("sample", *names)] == names
    assert told["audit"]["source"] == "dataset"
    figures = told["audit"]["reward_model"]
    assert figures["accuracy"] > 0.8 and figures["accuracy_low"] > 0.5
    assert "accuracy against labels (%)" in out
    keys = {stage["name"]: stage["key"] for stage in told["stages"]}
    learnt = house / ".posttrain" / "stages" / "reward_model" / keys["reward_model"] / "trained_on.json"
    learnt_ids = set(json.loads(learnt.read_text()))
    lines = (house / "data" / "hh" / "questions.jsonl").read_text().splitlines()
    questions = {row["id"]: row["prompt"] for row in map(json.loads, lines)}
    assert learnt_ids < questions.keys(), "some questions were kept for PPO"
    rows = (house / ".posttrain" / "stages" / "ppo" / keys["ppo"] / "samples.jsonl").read_text().splitlines()
    asked = {topic_of(json.loads(row)["prompt"]) for row in rows}
    assert asked and not asked & {topic_of(json.dumps(questions[name])) for name in learnt_ids}

    client = MlflowClient(tracking_uri=f"sqlite:///{house}/mlflow/store/mlflow.db")
    assert str(client.get_model_version_by_alias("posttrain-hh-reward", "challenger").version) == "1"
    out = run(
        house,
        *("pipeline", "method=ppo", "data.name=hh", "ppo.reward=model:models:/posttrain-hh-reward@challenger"),
        "ppo.min_finished=0",
    )
    assert "not found" not in out and not (house / "mlflow.db").exists()
