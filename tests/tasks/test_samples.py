"""Sampling: every question gets its responses, the same ones for the same seed."""

import json

import pytest
import torch

from models.load import load_model, load_tokenizer, prompt_text
from models.size import size_of
from posttrain.records import Question
from posttrain.sections import ModelSettings, SampleSettings
from tasks.records import read_rows
from tasks.samples import sample


def log(step, metrics):
    raise AssertionError("this stage has no curve")


def sampled(out, tiny_world, *, seed=0):
    out.mkdir()
    outcome = sample(
        out,
        log,
        data=tiny_world.data,
        start=tiny_world.base,
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=SampleSettings(per_prompt=3, batch_size=32),
        max_new_tokens=12,
        context=tiny_world.context,
        seed=seed,
    )
    return outcome, list(read_rows(out / "samples.jsonl"))


def test_every_question_gets_its_samples_in_order(tmp_path, tiny_world, world_records):
    outcome, rows = sampled(tmp_path / "out", tiny_world)
    assert [Question.model_validate(row["question"]) for row in rows] == world_records["questions"]
    assert all(len(row["responses"]) == 3 for row in rows)
    assert outcome.metrics["responses"] == 3 * len(rows)
    assert 1 <= outcome.metrics["response_tokens"] <= 12
    assert outcome.costs["generated_tokens"] == pytest.approx(outcome.metrics["response_tokens"] * 3 * len(rows))
    network = load_model(str(tiny_world.base / "model"), ModelSettings(), on=torch.device("cpu"))
    # each of the three samples reads its prompt
    reader = load_tokenizer(tiny_world.tokenizer)
    prompts = sum(len(reader(prompt_text(reader, question.prompt))["input_ids"]) for question in world_records["questions"])
    assert outcome.costs["forward_tokens"] == 3 * prompts + outcome.costs["generated_tokens"]
    assert outcome.costs["flops"] == 2 * size_of(network).weights * outcome.costs["forward_tokens"]


def test_the_same_seed_samples_the_same(tmp_path, tiny_world):
    assert sampled(tmp_path / "first", tiny_world)[1] == sampled(tmp_path / "again", tiny_world)[1]
    assert sampled(tmp_path / "other", tiny_world, seed=1)[1] != json.loads(json.dumps(sampled(tmp_path / "more", tiny_world)[1]))
