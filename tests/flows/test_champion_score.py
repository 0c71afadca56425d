"""The champion's score on a real store: what it is asked, how, and why there is none. Its answers are not those of a network."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.champion_score import as_measured, score_champion
from posttrain.data.near_duplicates import normalised
from posttrain.digests import text_number
from posttrain.drift.questions import Labels
from posttrain.errors import StorageError
from posttrain.promotion.moves import CHAMPION
from posttrain.records import Demonstration, Question
from posttrain.settings.config import Config, merge
from posttrain.settings.evaluation import TrackingSettings
from tasks.promotion.evaluations import Evaluation
from tasks.tracking.ledger import Ledger
from tasks.workspace.artifacts import Outcome
from tasks.workspace.jsonl import PROBLEMS, read_records, write_rows
from tasks.workspace.paths import Paths
from tests.tasks.promotion.versions import NAME, answered, pipeline


@pytest.fixture
def ledger(empty_store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(empty_store, tmp_path / "repo")
    return Ledger.open(Paths(tmp_path / "repo"), TrackingSettings())


@pytest.fixture
def asked(monkeypatch):
    """A champion that has every third answer right; what it was asked, call by call."""
    calls = []

    def evaluate_version(out, log, *, data, part, **how):
        records = list(read_records(data / "held_out.jsonl", Question))
        calls.append(SimpleNamespace(records=records, **how))
        rows = []
        for place, one in enumerate(records):
            greedy = {"text": str(place), "tokens": 2, "is_finished": True, "is_right": place % 3 == 0}
            rows.append({"id": one.id, "prompt": one.prompt, "answers": list(one.answers), "greedy": greedy, "sampled": []})
        write_rows(out / PROBLEMS, rows)
        return Outcome()

    monkeypatch.setattr("flows.run.import_module", lambda name: SimpleNamespace(evaluate_version=evaluate_version))
    return calls


def fresh(count, prefix="new"):
    return [Question(id=f"{prefix}{number}", prompt=f"{prefix} {number}?", answers=("4",)) for number in range(count)]


def scored(ledger, records, *words, known=(), said=None):
    labels, config = Labels(), merge({}, ["data.name=world", *words])
    list(labels.watched(records))
    numbers = {text_number(normalised(text)) for text in known}
    how = {"labels": labels, "read": lambda: iter(records), "known": numbers}
    return score_champion(ledger.paths, config, ledger, **how, say=(said if said is not None else []).append)


def champion(ledger, tmp_path, right=36):
    model = pipeline(ledger, tmp_path, 1.0, answered(right))
    ledger.client.set_registered_model_alias(NAME, CHAMPION, model.version)
    return model


def test_the_champion_is_asked_as_it_was_measured_and_its_score_has_fallen(ledger, tmp_path, asked):
    model = champion(ledger, tmp_path)
    records = [*fresh(60), Question(id="x", prompt="What?"), Demonstration(id="d", prompt="Hi", completion="Yes", answer="4")]
    words = ("evaluate.max_new_tokens=7", "evaluate.batch_size=3", "seed=5")
    found, why = scored(ledger, records, *words, known=("New 0", "new 1?"))
    assert why == "" and json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["model"], found["version"], found["pipeline_id"], found["data_md5"]) == (NAME, "1", "p-d", "d" * 32)
    # 61 rows have an answer, of which the dataset has two; 20 of 59 are right, where it had 36 of 40
    assert (found["answered"], found["known"], found["fresh"]["questions"], found["gate"]["questions"]) == (61, 2, 59, 40)
    assert found["fresh"]["accuracy"]["estimate"] == pytest.approx(20 / 59)
    assert found["gate"]["accuracy"]["estimate"] == pytest.approx(36 / 40)
    assert (found["rule"], found["is_alarm"]) == ("fallen", True)
    assert found["says"].startswith("The champion's score has fallen: version 1 answers 33.9 % of 59 fresh questions right")
    (call,) = asked
    assert {one.id for one in call.records} == {"d", *(f"new{number}" for number in range(2, 60))}
    # 40 tokens as in its evaluation, and not the 7 of the settings
    assert (call.settings.max_new_tokens, call.settings.samples, call.settings.batch_size) == (40, 1, 3)
    assert call.version == Path(model.path) and call.seed == 5

    # the same questions are not answered twice; others are
    again, _ = scored(ledger, records[::-1], *words, known=("New 0", "new 1?"))
    assert again["fresh"] == found["fresh"] and len(asked) == 1
    few, _ = scored(ledger, records, *words, "monitor.score_questions=25", "monitor.score_margin=0.9")
    assert (few["fresh"]["questions"], few["rule"], few["known"], len(asked)) == (25, "lower", 0, 2)
    assert {one.id for one in asked[1].records} != {f"new{number}" for number in range(25)}, "they are drawn at random"


def test_without_a_champion_or_its_figures_there_is_no_score(ledger, tmp_path, asked):
    none = f"{NAME} has no champion. Make one: make promote VERSION=… DATA=world WHY=…"
    assert scored(ledger, fresh(30)) == (None, none)
    pipeline(ledger, tmp_path, 2.0, answered(8))
    assert scored(ledger, fresh(30)) == (None, none), "a challenger alone"
    ledger.client.set_registered_model_alias(NAME, CHAMPION, "1")
    assert scored(ledger, fresh(19)) == (
        None,
        "the questions with an answer that the dataset does not have are 19 with 19 different prompts, near-duplicates counted "
        "once, and 20 are needed",
    )
    source = ledger.client.get_model_version(NAME, "1").source
    with ledger.as_default_store():
        version = ledger.client.create_model_version(NAME, source, tags={"posttrain.method": "dpo"}).version
    ledger.client.set_registered_model_alias(NAME, CHAMPION, version)
    found, why = scored(ledger, fresh(30))
    assert found is None and why.startswith(f"version {version} of {NAME} has no evaluation on held-out questions")
    few = pipeline(ledger, tmp_path, 3.0, answered(8, questions=19))
    ledger.client.set_registered_model_alias(NAME, CHAMPION, few.version)
    assert scored(ledger, fresh(30))[1] == (
        f"the held-out questions with an answer that version {few.version} was measured on are 19 with 19 different prompts, "
        "near-duplicates counted once, and 20 are needed"
    )
    assert asked == []


def test_where_no_score_is_wanted_or_can_be_no_champion_is_looked_for():
    def nothing(records, *words):
        return scored(SimpleNamespace(paths=None), records, *words)

    assert nothing(fresh(30), "monitor.score_questions=0") == (None, "monitor.score_questions is 0")
    assert nothing([Question(id="x", prompt="What?")]) == (None, "the file has no answers")
    assert nothing([Demonstration(id="d", prompt="Hi", completion="Yes")])[1].startswith("the file has 1 rows with completions")


def test_a_champion_whose_files_are_damaged_is_an_error(ledger, tmp_path, asked):
    model = champion(ledger, tmp_path)
    (Path(model.path) / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(StorageError, match=f"models:/{NAME}/1 is lost: the files in .* are not those that were registered"):
        scored(ledger, fresh(30))
    assert asked == []


def test_what_an_evaluation_does_not_tell_the_settings_do():
    config = merge({}, ["evaluate.max_new_tokens=9", "model.context=77", "model.dtype=bfloat16"])
    found = as_measured(Evaluation(name="version 1", rows=[]), config)
    assert (found["settings"].max_new_tokens, found["context"], found["model"].dtype) == (9, 77, "bfloat16")
    kept = {"evaluate.max_new_tokens": "40", "context": "128", "model.dtype": "float32"}
    found = as_measured(Evaluation(name="version 1", rows=[], settings=kept), Config())
    assert (found["settings"].max_new_tokens, found["context"], found["model"].dtype) == (40, 128, "float32")


def test_without_a_limit_of_its_own_and_with_auto_a_champion_has_the_default():
    found = as_measured(Evaluation(name="version 1", rows=[]), merge({}, ["evaluate.max_new_tokens=auto"]))
    assert found["settings"].max_new_tokens == 256
    kept = {"evaluate.max_new_tokens": "40"}
    found = as_measured(Evaluation(name="version 1", rows=[], settings=kept), merge({}, ["evaluate.max_new_tokens=auto"]))
    assert found["settings"].max_new_tokens == 40
