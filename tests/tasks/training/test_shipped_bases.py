"""Training on bases as people ship them: ends once and the right ones, nothing lost at the end, rows for every token."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from models.encoding import prompt_ids
from models.endings import end_ids
from models.load import load_tokenizer, prompt_text
from posttrain.feedback.labels import Label
from posttrain.records import Demonstration, Message, Question
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.feedback import SampleSettings
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings, TinySettings
from posttrain.settings.ppo import PPOSettings
from posttrain.settings.sft import SFTSettings
from tasks.base_model.tokenizer import make_tokenizer
from tasks.feedback import samples
from tasks.rewards.sources.table import reward_source
from tasks.training import dpo, kto, ppo, sft
from tasks.workspace.jsonl import read_rows, write_rows
from tests.models.shipped import LLAMA_2, llama_3, sentence_piece, ship, ship_with_ends

UNSAVABLE = {"temperature": 0.6, "top_p": 0.9}
SHORT = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-2, "warmup_ratio": 0.0}
CHAT = (Message(role="user", content="a b"),)
RECORDS = [("a b", "c d"), (CHAT, "e f"), ("g", "h"), (CHAT, "i")]


@pytest.fixture
def shown(monkeypatch):
    """The rows that a trainer is given, as it begins."""
    rows = []
    for trainer in (sft.SFTTrainer, dpo.EndsAsSampled, kto.EndsAsSampled):
        begun = trainer.train
        monkeypatch.setattr(trainer, "train", lambda self, begun=begun: (rows.append(list(self.train_dataset)), begun(self))[1])
    return rows


def world_of(folder, base, prompt_format="auto"):
    """Return a base's artifacts as the first stages write them, and what every training is told."""
    model = ModelSettings(base=str(base), context=96, prompt_format=prompt_format)
    (folder / "tokenizer").mkdir(parents=True)
    make_tokenizer(folder / "tokenizer", print, data=folder, dataset="mine", model=model, settings=TinySettings())
    start = folder / "start"
    start.mkdir()
    (start / "source.json").write_text(json.dumps({"base": str(base), "revision": None}))
    how = {"tokenizer": folder / "tokenizer" / "tokenizer", "model": model, "context": 96, "seed": 0}
    return SimpleNamespace(start=start, how=how, reader=load_tokenizer(how["tokenizer"]))


def saved_is_whole(model, reader):
    """It loads in plain transformers with a row a token, ends where ours ends, and can be saved again."""
    told = AutoModelForCausalLM.from_pretrained(model)
    assert told.get_input_embeddings().weight.shape[0] == max(reader.get_vocab().values()) + 1
    assert AutoTokenizer.from_pretrained(model).pad_token == reader.pad_token
    config = GenerationConfig.from_pretrained(model)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    assert tuple(ends) == end_ids(reader) and config.pad_token_id == reader.pad_token_id
    config.validate(strict=True)


def labels_in(folder):
    folder.mkdir()
    ended = [(True, False), (False, True), (None, None), (False, False)]
    labels = [
        Label(
            id=str(n), prompt=prompt, question=str(n), group=str(n), first=text, second=f"{text} j", preference=1.0,
            annotator="a", source="person", first_finished=first, second_finished=second,
        )
        for n, ((prompt, text), (first, second)) in enumerate(zip(RECORDS, ended, strict=True))
    ]  # fmt: skip
    write_rows(folder / "labels.jsonl", (label.model_dump(mode="json") for label in labels))
    return folder


KINDS = {
    "llama 3": (llama_3, "<|end|>", "<|eot_id|>"),
    "llama 2": (lambda: sentence_piece(template=LLAMA_2), "</s>", "</s>"),
    "eos added": (lambda: sentence_piece(eos=True, template=LLAMA_2), "</s>", "</s>"),
}


def end_of(world, kind, prompt, prompt_format):
    """The turn's end where the prompt goes through the template: a conversation always, plain text by `auto`."""
    _, eos, turn_end = KINDS[kind]
    return world.reader.convert_tokens_to_ids(turn_end if prompt is CHAT or prompt_format == "auto" else eos)


@pytest.mark.parametrize("prompt_format", ["auto", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_sft_teaches_the_right_end_once(tmp_path, shown, kind, prompt_format):
    make, eos, turn_end = KINDS[kind]
    world = world_of(tmp_path / "world", ship(tmp_path / "base", make(), **UNSAVABLE), prompt_format)
    data = tmp_path / "data"
    data.mkdir()
    records = [Demonstration(id=str(n), prompt=prompt, completion=text) for n, (prompt, text) in enumerate(RECORDS)]
    write_rows(data / "demonstrations.jsonl", (one.model_dump(mode="json") for one in records))
    out = tmp_path / "out"
    out.mkdir()
    sft.train(out, lambda *_: None, data=data, base=world.start, settings=SFTSettings(**SHORT), **world.how)
    ends = world.reader.convert_tokens_to_ids([eos, turn_end])
    for row, (prompt, text) in zip(shown[0], RECORDS, strict=True):
        learnt = [token for token in row["labels"] if token != -100]
        assert learnt[-1] == end_of(world, kind, prompt, prompt_format) and not {*learnt[:-1]} & {*ends}
        assert world.reader.decode(learnt[:-1]).strip() == text
        prompted = row["input_ids"][: len(row["input_ids"]) - len(learnt)]
        assert world.reader.eos_token_id not in prompted
        # what the model reads is what it read if prompt and response were one text, so no mark of a beginning is in between
        assert row["input_ids"][:-1] == prompt_ids(world.reader, [prompt_text(world.reader, prompt) + text])[0]
    saved_is_whole(out / "model", world.reader)


@pytest.mark.parametrize("prompt_format", ["auto", "plain"])
@pytest.mark.parametrize("kind", ["llama 3", "eos added"])
def test_preferences_teach_an_end_where_there_was_one(tmp_path, shown, kind, prompt_format):
    make, eos, turn_end = KINDS[kind]
    world = world_of(tmp_path / "world", ship(tmp_path / "base", make(), **UNSAVABLE), prompt_format)
    labels = labels_in(tmp_path / "labels")
    for name, train, settings in (("dpo", dpo.train, DPOSettings(**SHORT)), ("kto", kto.train, KTOSettings(**SHORT))):
        (tmp_path / name).mkdir()
        told = train(tmp_path / name, lambda *_: None, labels=labels, start=world.start, settings=settings, **world.how)
        assert told.metrics["cut_off"] == 4
        saved_is_whole(tmp_path / name / "model", world.reader)
    ends = world.reader.convert_tokens_to_ids([eos, turn_end])
    for row, (prompt, _), ended in zip(shown[0], RECORDS, [(1, 0), (0, 1), (1, 1), (0, 0)], strict=True):
        for side, has_ended in zip(("chosen_ids", "rejected_ids"), ended, strict=True):
            found = [token for token in row[side] if token in ends]
            assert found == [end_of(world, kind, prompt, prompt_format)] * has_ended and row[side][-1:] == (
                found or row[side][-1:]
            )
        assert world.reader.eos_token_id not in row["prompt_ids"]
    found = [sum(token in ends for token in row["completion_ids"]) for row in shown[1]]
    assert sorted(found) == [0] * 4 + [1] * 4
    assert sum(token in ends for row in shown[1] for token in row["KL_completion_ids"]) == 4


def test_samples_and_ppo_end_with_any_of_the_ends(tmp_path):
    """Nothing that ended with <|eot_id|> counts as cut off, and no end is in a text."""
    world = world_of(tmp_path / "world", ship_with_ends(tmp_path / "base"))
    data = tmp_path / "data"
    data.mkdir()
    questions = [Question(id=f"{a}{b}", prompt=f"{a}{b}", answers=("1",)) for a in "abcdef" for b in "gh"]
    write_rows(data / "questions.jsonl", (one.model_dump(mode="json") for one in questions))
    for name in ("sampled", "ppo"):
        (tmp_path / name).mkdir()
    sampling = SampleSettings(per_prompt=4, question_share=1.0)
    samples.sample(tmp_path / "sampled", print, data=data, start=world.start, settings=sampling, max_new_tokens=24, **world.how)
    given = [one for row in read_rows(tmp_path / "sampled" / "samples.jsonl") for one in row["responses"]]
    assert sum(finished for _, finished in given) > len(given) / 2
    small = {"updates": 1, "episodes": 8, "mini_batch_size": 4, "samples_every": 1}
    settings = PPOSettings(**small, max_new_tokens=24, min_finished=0.3, learning_rate=1e-2, reward="answer")
    told = ppo.train(
        tmp_path / "ppo",
        lambda *_: None,
        data=data,
        start=world.start,
        settings=settings,
        reward=reward_source("answer", partial_credit=0.0, registered=Path),
        checkpoints=tmp_path / "checkpoints",
        **world.how,
    )
    assert told.metrics["finished"] > 0.5
    texts = [text for text, _ in given] + [row["completion"] for row in read_rows(tmp_path / "ppo" / "samples.jsonl")]
    assert not any(mark in text for text in texts for mark in ("<|end|>", "<|eot_id|>", "<|reserved_special_token_0|>"))
    saved_is_whole(tmp_path / "ppo" / "model", world.reader)
    weights = AutoModelForCausalLM.from_pretrained(tmp_path / "ppo" / "model").state_dict()
    assert all(torch.isfinite(weight).all() for weight in weights.values())
