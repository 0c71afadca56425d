"""Tokenizer and base: made here, or taken from a directory."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.load import load_tokenizer
from posttrain.errors import DataError, RequestError
from posttrain.records import Demonstration, Message, Question, Text
from posttrain.settings.model import ModelSettings, PretrainSettings, TinySettings
from tasks.base_model import pretrain as subject
from tasks.base_model.corpus import corpus
from tasks.base_model.identity import base_digest
from tasks.base_model.pretrain import make_base
from tasks.base_model.tokenizer import make_tokenizer
from tasks.workspace.jsonl import write_rows
from tasks.workspace.weights import source_of

NETWORK = TinySettings(layers=1, width=16, heads=2, vocabulary=300)
MODEL = ModelSettings(context=128)


def silent(step, metrics):
    """Take no notice."""


def folder(path):
    path.mkdir()
    return path


def wrote(path, **roles):
    folder(path)
    for role, records in roles.items():
        write_rows(path / f"{role}.jsonl", (record.model_dump(mode="json") for record in records))
    return path


def tokenizer_of(out, *, data, dataset="world", model=MODEL):
    return make_tokenizer(folder(out), silent, data=data, dataset=dataset, model=model, settings=NETWORK)


def base_of(out, tiny_world, *, model=MODEL, seed=0, log=silent, steps=3):
    return make_base(
        folder(out),
        log,
        data=tiny_world.data,
        tokenizer=tiny_world.tokenizer,
        model=model,
        tiny_settings=NETWORK,
        settings=PretrainSettings(steps=steps, batch_tokens=512, learning_rate=1e-2),
        seed=seed,
    )


# --- what the base reads ----------------------------------------------------------------------------------------------


def test_the_corpus_is_read_where_there_is_one(tmp_path):
    data = wrote(
        tmp_path / "d", corpus=[Text(id="1", text="one"), Text(id="2", text="two")], questions=[Question(id="1", prompt="p")]
    )
    assert corpus(data) == ["one", "two"]


def test_else_the_training_records_are_it_and_never_the_held_out_ones(tmp_path):
    data = wrote(
        tmp_path / "d",
        demonstrations=[Demonstration(id="1", prompt="What?", completion="That.")],
        questions=[Question(id="1", prompt=(Message(role="user", content="Who?"),))],
        held_out=[Question(id="1", prompt="Secret?")],
    )
    assert corpus(data) == ["What?\nThat.", "\n\nHuman: Who?\n\nAssistant:"]


def test_no_text_at_all_is_refused(tmp_path):
    data = wrote(tmp_path / "d", held_out=[Question(id="1", prompt="Secret?")])
    with pytest.raises(DataError) as caught:
        corpus(data)
    assert str(caught.value) == (f'{data}: there is no text to make the tiny base from; name a model instead: SET="model.base=…"')


# --- tokenizer --------------------------------------------------------------------------------------------------------


def test_the_world_has_words_and_every_other_dataset_bytes(tmp_path, tiny_world):
    world = tokenizer_of(tmp_path / "world", data=tiny_world.data)
    other = tokenizer_of(tmp_path / "other", data=tiny_world.data, dataset="stories")
    assert world.metrics["context"] == other.metrics["context"] == 128
    assert world.metrics["vocabulary"] < 100 < other.metrics["vocabulary"] <= 300
    words, pieces = (load_tokenizer(tmp_path / name / "tokenizer") for name in ("world", "other"))
    assert words.unk_token_id in words("naïve")["input_ids"]
    assert pieces.decode(pieces("naïve ☃")["input_ids"]) == "naïve ☃"


def test_the_world_knows_the_line_end_between_prompt_and_completion(tmp_path):
    """Even where no document has one."""
    data = wrote(tmp_path / "d", corpus=[Text(id="1", text="1 + 2 = 3.")])
    tokenizer_of(tmp_path / "out", data=data)
    reader = load_tokenizer(tmp_path / "out" / "tokenizer")
    assert reader.unk_token_id not in reader("1 + 2\n")["input_ids"]


def test_a_models_own_tokenizer_is_taken_with_its_context(tmp_path, tiny_world):
    model = ModelSettings(base=str(tiny_world.base / "model"), context=512)
    outcome = tokenizer_of(tmp_path / "out", data=tmp_path, model=model)
    assert outcome.metrics == {"context": 128, "chat": 0.0}
    text = "Tom has 12 apples."
    assert load_tokenizer(tmp_path / "out" / "tokenizer")(text) == load_tokenizer(tiny_world.tokenizer)(text)


def test_a_tokenizer_that_cannot_be_loaded_is_a_wrong_request(tmp_path):
    with pytest.raises(RequestError, match="its tokenizer cannot be loaded"):
        tokenizer_of(tmp_path / "out", data=tmp_path, model=ModelSettings(base=str(tmp_path)))


# --- base -------------------------------------------------------------------------------------------------------------


def test_a_base_is_a_directory_that_plain_transformers_loads(tmp_path, tiny_world):
    points = []
    outcome = base_of(tmp_path / "out", tiny_world, steps=40, log=lambda step, figures: points.append((step, figures)))
    made = tmp_path / "out" / "model"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in made.iterdir()}
    assert not list(made.glob("*.bin"))
    weights = sum(weight.numel() for name, weight in load_file(made / "model.safetensors").items() if name != "lm_head.weight")
    assert outcome.metrics["parameters"] == weights
    assert [step for step, _ in points] == [20, 40]
    assert outcome.metrics["loss"] == points[-1][1]["loss"] < points[0][1]["loss"]
    assert outcome.costs["trained_tokens"] > 40 * 200
    assert source_of(tmp_path / "out") == (str(made), None)


def test_every_document_ends_in_eos_and_fits_the_context(tmp_path, tiny_world, monkeypatch):
    seen = []

    def pretrain(network, documents, settings, *, seed, pad):
        seen.extend(documents)
        return iter(())

    monkeypatch.setattr(subject.tiny, "pretrain", pretrain)
    base_of(tmp_path / "out", tiny_world, model=ModelSettings(context=40))
    reader = load_tokenizer(tiny_world.tokenizer)
    texts = corpus(tiny_world.data)
    assert len(seen) == len(texts)
    assert all(ids[-1] == reader.eos_token_id and ids.count(reader.eos_token_id) == 1 and len(ids) <= 40 for ids in seen)
    assert max(map(len, seen)) == 40
    short = [number for number, ids in enumerate(seen) if len(ids) < 40]
    assert short and all(reader.decode(seen[number][:-1]) == texts[number] for number in short)


def test_the_same_seed_makes_the_same_base_bit_for_bit_and_another_does_not(tmp_path, tiny_world):
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        base_of(tmp_path / name, tiny_world, seed=seed)
    first, again, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("first", "again", "other"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_named_base_is_tried_and_only_named(tmp_path, tiny_world, hub, monkeypatch):
    tried = []
    monkeypatch.setattr("tasks.base_model.pretrain.load_model", lambda source, *_, revision, **__: (source, revision))
    monkeypatch.setattr("tasks.base_model.pretrain.check_network", lambda network, *_, named: tried.append((network, named)))
    outcome = base_of(tmp_path / "out", tiny_world, model=ModelSettings(base="some/model", revision="v1"))
    assert outcome.costs == {} and [path.name for path in (tmp_path / "out").iterdir()] == ["source.json"]
    assert json.loads((tmp_path / "out" / "source.json").read_text()) == {
        "base": "some/model",
        "revision": "v1",
        "digest": "some/model@commit 1 of v1",
    }
    assert source_of(tmp_path / "out") == ("some/model", "v1")
    assert tried == [(("some/model", "v1"), "model.base=some/model")]


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("models.load.hub_commit", lambda base, *, revision, **_: f"commit 1 of {revision}")


# --- what identifies a base -------------------------------------------------------------------------------------------


def test_a_hub_id_is_identified_by_its_commit(monkeypatch, hub):
    told = [base_digest(ModelSettings(base=base, revision=revision)) for base in ("a/b", "a/c") for revision in (None, "v1")]
    assert len(set(told)) == 4
    monkeypatch.setattr("models.load.hub_commit", lambda base, *, revision, **_: "commit 2")
    assert base_digest(ModelSettings(base="a/b")) not in told


def test_a_directory_called_tiny_is_not_the_tiny_base(tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    before = base_digest(ModelSettings())
    monkeypatch.chdir(tmp_path)
    assert base_digest(ModelSettings()) == before


def test_the_bytes_identify_a_directory_wherever_it_lies(tmp_path, tiny_world):
    one, two = (Path(shutil.copytree(tiny_world.base / "model", tmp_path / name)) for name in ("one", "two"))
    before = base_digest(ModelSettings(base=str(one)))
    assert base_digest(ModelSettings(base=str(two))) == before
    weights = bytearray((two / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (two / "model.safetensors").write_bytes(weights)
    assert base_digest(ModelSettings(base=str(two))) != before
    (one / "config.json").rename(one / "other.json")
    assert base_digest(ModelSettings(base=str(one))) != before
