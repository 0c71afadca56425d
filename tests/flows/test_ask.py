"""Models are named, asked and talked with: a small version, the stages of a run, on a real store."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from flows import ask as subject
from flows.ask import ask, chat
from flows.named_models import default_names, named_model
from flows.use_requests import AskRequest, ask_request
from models.generate import generate
from models.load import load_model, load_tokenizer, prompt_text
from posttrain.errors import RequestError, StorageError
from posttrain.promotion.moves import CHAMPION
from posttrain.records import Question
from posttrain.settings.config import Config, merge
from posttrain.settings.evaluation import TrackingSettings
from posttrain.settings.model import ModelSettings
from tasks.asking.answer import Loaded
from tasks.tracking.ledger import Ledger
from tasks.workspace.jsonl import PROBLEMS, read_records, read_rows
from tasks.workspace.paths import Paths
from tests.flows.real_versions import SEED, real_version, report_of
from tests.tasks.promotion.versions import NAME

CONTEXT = 128


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def fresh(empty_store, tmp_path):
    shutil.copytree(empty_store, tmp_path / "repo")
    return Ledger.open(Paths(tmp_path / "repo"), TrackingSettings())


@pytest.fixture(scope="module")
def house(tmp_path_factory, tiny_world):
    """A champion, and the stages of a run. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        ledger = Ledger.open(Paths(tmp_path_factory.mktemp("house") / "repo"), TrackingSettings())
        real_version(ledger, tiny_world.base / "model", tiny_world.data, context=CONTEXT)
    ledger.client.set_registered_model_alias(NAME, CHAMPION, "1")
    report_of(ledger, tiny_world, context=CONTEXT)
    return ledger.paths


def question(tiny_world):
    return next(iter(read_records(tiny_world.data / "held_out.jsonl", Question)))


def request(*names, **how):
    return AskRequest(**{"names": names, "temperature": 0.0, "is_limit_given": False, **how})


def test_a_version_answers_as_it_was_evaluated(house, tiny_world, capsys):
    evaluated = next(read_rows(next(house.stages.glob(f"evaluate-dpo/*/{PROBLEMS}"))))
    one = question(tiny_world)
    assert one.id == evaluated["id"]

    ask(house, Config(), request("1", prompt=one.prompt), print)
    out = capsys.readouterr().out
    title, *text, figures, _, known = out.splitlines()
    assert title == f"--- version 1 of {NAME}"
    assert "\n".join(text) == evaluated["greedy"]["text"].rstrip("\n")
    mark = "right" if evaluated["greedy"]["is_right"] else "wrong"
    assert figures.startswith(f"({evaluated['greedy']['tokens']} tokens in ") and figures.endswith(f", {mark})")
    assert known == f"a held-out question of world; its answer: {', '.join(one.answers)}"

    # drawn with the seed of the evaluation, it is the first sample of it
    found = Loaded.of(named_model(house, Config(), "1", print)).answer(one.prompt, temperature=1.0, seed=SEED, name=one.id)
    assert found.text == evaluated["sampled"][0]["text"]


def test_models_stand_side_by_side_and_a_strange_question_is_not_marked(house, tiny_world, capsys):
    ask(house, Config(), request("base", "sft", "champion", prompt="Who are you?"), print)
    out = capsys.readouterr().out
    titles = [line for line in out.splitlines() if line.startswith("---")]
    assert titles == ["--- base, stage bbbbbbbb", "--- sft, stage ssssssss", f"--- version 1 of {NAME}, champion"]
    assert "right" not in out and "wrong" not in out and "held-out" not in out


def test_a_file_of_prompts_is_answered_by_each_model(house, tiny_world, tmp_path, capsys):
    known = question(tiny_world)
    file = tmp_path / "prompts.jsonl"
    rows = [{"id": "a", "kind": "question", "prompt": known.prompt}, {"id": "b", "kind": "question", "prompt": "Who are you?"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ask(house, Config(), request("base", "sft", file=str(file)), print)
    out = capsys.readouterr().out
    assert out.count("--- base, stage bbbbbbbb\n") == out.count("--- sft, stage ssssssss\n") == 2
    assert f"=== 1: {known.prompt}" in out and "=== 2: Who are you?" in out
    assert out.count("; 0 of 1 that are held-out questions right") + out.count("; 1 of 1 that are held-out questions right") == 2


def test_what_is_asked_where_nothing_is_named(fresh, tiny_world, tmp_path):
    with pytest.raises(RequestError, match="there is no model of world: no pipeline has run here"):
        default_names(fresh.paths, Config())
    report_of(fresh, tiny_world, context=CONTEXT)
    assert default_names(fresh.paths, Config()) == ["base", "dpo"]
    real_version(fresh, tiny_world.base / "model", tiny_world.data, context=CONTEXT)
    assert default_names(fresh.paths, Config()) == ["base", "dpo"], "a challenger alone does not serve"
    fresh.client.set_registered_model_alias(NAME, CHAMPION, "1")
    assert default_names(fresh.paths, Config()) == [CHAMPION]


def test_a_stage_is_that_of_the_last_run_that_has_it(fresh, tiny_world):
    report_of(fresh, tiny_world, context=CONTEXT)
    later = {"pipeline_id": "later", "method": "ppo", "dataset": "world", "created": "2027", "stages": []}
    (fresh.paths.reports / "later.json").write_text(json.dumps(later))
    (fresh.paths.reports / "latest.json").write_text("{}")
    said = []
    found = named_model(fresh.paths, Config(), "sft", said.append)
    assert (found.context, found.max_new_tokens) == (CONTEXT, Config().evaluate.max_new_tokens)
    assert said == ["note: sft is of the run 20260101-000000-dpo-aaaa, the last one of world that has it"]
    limited = named_model(fresh.paths, merge({}, ["evaluate.max_new_tokens=7"]), "sft", said.append, is_limit_given=True)
    assert limited.max_new_tokens == 7
    with pytest.raises(RequestError, match="no run of world here has a model grpo, or its stage is gone"):
        named_model(fresh.paths, Config(), "grpo", said.append)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("champoin", "there is no model champoin; did you mean champion?"),
        ("nothing-like-it", "there is no model nothing-like-it; it can be a version (3, champion, challenger, previous)"),
        ("tiny", "tiny is made by a run: ask the base of the last one, MODELS=base"),
        ("./nowhere", "model=./nowhere: there is no such directory"),
        ("nowhere.gguf", "model.base=nowhere.gguf: there is no such file"),
        ("2", f"there is no models:/{NAME}/2; {NAME} has the versions 1"),
        ("previous", f"there is no models:/{NAME}@previous"),
    ],
)
def test_what_is_no_model_is_refused(house, name, told):
    with pytest.raises(RequestError) as refused:
        named_model(house, Config(), name, print)
    assert str(refused.value).startswith(told)


def test_a_damaged_version_is_refused(fresh, tiny_world):
    real_version(fresh, tiny_world.base / "model", tiny_world.data, context=CONTEXT)
    source = fresh.client.get_model_version_download_uri(NAME, "1")
    (Path(source) / "config.json").write_text("{}")
    with pytest.raises(StorageError, match="is lost"):
        named_model(fresh.paths, Config(), "1", print)


def test_a_directory_answers(house, tiny_world):
    found = named_model(house, Config(), str(tiny_world.base / "model"), print)
    assert found.context <= Config().model.context
    assert Loaded.of(found).answer("Who?", temperature=0.0, seed=0, name="x").tokens > 0


def test_a_prompt_without_room_is_refused(house, tiny_world, capsys):
    with pytest.raises(RequestError, match=r"the prompt has [\d,]+ tokens and the context 128 \(model.context\), which leaves"):
        ask(house, Config(), request("base", prompt="one two " * 100), print)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "ask needs PROMPT or FILE, one of them"),
        ({"prompt": " "}, "ask needs PROMPT or FILE, one of them"),
        ({"prompt": "x", "file": "y"}, "ask needs PROMPT or FILE, one of them"),
        ({"prompt": "x", "format": "records"}, "FORMAT and MAP say how FILE is read, and there is no FILE"),
        ({"prompt": "x", "temperature": "hot"}, "TEMPERATURE must be a number of at least 0"),
        ({"prompt": "x", "temperature": "-1"}, "TEMPERATURE must be a number of at least 0"),
        ({"prompt": "x", "temperature": "inf"}, "TEMPERATURE must be a number of at least 0"),
    ],
)
def test_words_that_contradict_are_refused(given, told):
    with pytest.raises(RequestError) as refused:
        ask_request(given, [])
    assert str(refused.value).startswith(told)


def test_what_words_ask_for():
    found = ask_request(
        {"prompt": "x", "models": "base, sft base", "version": "3", "temperature": "0.5"}, ["evaluate.max_new_tokens=9"]
    )
    assert (found.names, found.temperature, found.is_limit_given) == (["base", "sft", "3"], 0.5, True)
    with pytest.raises(RequestError, match="chat is with one model, got MODEL=base sft"):
        ask_request({"model": "base sft"}, [], verb="chat")


def test_a_prompt_comes_from_standard_input(house, tiny_world, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who are you?\n"))
    ask(house, Config(), request("base", prompt="-"), print)
    assert "--- base" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(RequestError, match="the prompt is empty"):
        ask(house, Config(), request("base", prompt="-"), print)


def says(monkeypatch, *lines):
    waiting = iter(lines)

    def heard(prompt=""):
        line = next(waiting, EOFError)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", heard)


def test_a_conversation_keeps_its_turns(house, tiny_world, capsys, monkeypatch):
    seen = []
    real = Loaded.answer

    def answer(self, prompt, **how):
        seen.append(prompt)
        return real(self, prompt, **how)

    monkeypatch.setattr(Loaded, "answer", answer)
    says(monkeypatch, "Hello", "", "And you?", "/quit", "never")
    chat(house, merge({}, ["evaluate.max_new_tokens=8"]), request("sft", is_limit_given=True), print)
    assert [message.role for message in seen[1]] == ["user", "assistant", "user"]
    assert (seen[1][0].content, seen[1][2].content) == ("Hello", "And you?")
    # greedy: the very response that the model gives to the template's text
    reader = load_tokenizer(tiny_world.tokenizer)
    network = load_model(tiny_world.base / "model", ModelSettings(), on="cpu")
    how = {"samples": 1, "temperature": 0.0, "max_new_tokens": 8, "context": CONTEXT, "batch_size": 1, "seed": 0}
    ((expected,),) = generate(network, reader, [prompt_text(reader, seen[0])], **how)
    assert seen[1][1].content == expected.text
    assert expected.text.strip() in capsys.readouterr().out


def test_a_conversation_ends_with_its_input_and_with_ctrl_c(house, tiny_world, capsys, monkeypatch):
    says(monkeypatch, "Hello")
    chat(house, Config(), request("sft"), print)
    says(monkeypatch, "Hello", KeyboardInterrupt)
    chat(house, Config(), request("sft"), print)


def test_turns_that_no_longer_fit_are_told(house, tiny_world, capsys, monkeypatch):
    said = []
    says(monkeypatch, "one two " * 20, "three " * 70, "four " * 500, "Hello")
    config = merge({}, ["evaluate.max_new_tokens=8"])
    chat(house, config, request("sft", is_limit_given=True), said.append)
    assert any(line == "note: the oldest 2 turns no longer fit into the context of 128 tokens and were left out" for line in said)
    assert any(line.startswith("request: sft, stage ssssssss: the prompt has ") for line in said), "told, and the talk goes on"
    assert subject.QUIT[0] == "/quit"
