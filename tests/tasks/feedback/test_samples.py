"""Sampling: every question gets its responses, the same ones for the same seed."""

import json

import pytest
import torch

from models.load import load_model, load_tokenizer, prompt_text
from models.size import size_of
from posttrain.errors import DataError
from posttrain.feedback.labels import first_questions, sampled_questions
from posttrain.records import Question
from posttrain.settings.feedback import SampleSettings
from posttrain.settings.model import ModelSettings
from tasks.feedback.samples import sample
from tasks.workspace.jsonl import read_rows


def log(step, metrics):
    raise AssertionError("this stage has no curve")


def sampled(out, tiny_world, *, seed=0, share=1.0, batch_size=32, most=0):
    out.mkdir()
    outcome = sample(
        out,
        log,
        data=tiny_world.data,
        start=tiny_world.base,
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        settings=SampleSettings(per_prompt=3, batch_size=batch_size, question_share=share, max_questions=most),
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


def test_no_more_questions_are_sampled_than_asked_for(tmp_path, tiny_world, world_records):
    ids = [one.id for one in world_records["questions"]]
    asked = {
        most: [row["question"]["id"] for row in sampled(tmp_path / f"{most}", tiny_world, share=0.5, most=most)[1]]
        for most in (2, 5)
    }
    of_share = sampled_questions(ids, share=0.5, seed=0)
    assert len(asked[2]) == 2 and len(asked[5]) == 5 and set(asked[2]) < set(asked[5]) < set(of_share)
    assert asked[5] == [name for name in ids if name in set(asked[5])], "in the order of the data"
    assert first_questions(ids, most=0, seed=0) == first_questions(ids, most=99, seed=0) == ids
    assert len({tuple(first_questions(ids, most=5, seed=seed)) for seed in range(4)}) > 1, "the seed draws them"


def test_the_same_seed_samples_the_same(tmp_path, tiny_world):
    assert sampled(tmp_path / "first", tiny_world)[1] == sampled(tmp_path / "again", tiny_world)[1]
    assert sampled(tmp_path / "other", tiny_world, seed=1)[1] != json.loads(json.dumps(sampled(tmp_path / "more", tiny_world)[1]))


def test_only_a_share_of_the_questions_is_sampled_and_ppo_asks_the_others(tmp_path, tiny_world, world_records):
    _, rows = sampled(tmp_path / "out", tiny_world, share=0.5)
    ids = [row["question"]["id"] for row in rows]
    every = [one.id for one in world_records["questions"]]
    assert len(ids) == round(len(every) / 2) and ids == [one for one in every if one in ids]
    assert set(ids) == set(sampled_questions(every, share=0.5, seed=0))


def test_no_question_to_sample_for_is_refused(tmp_path, tiny_world):
    with pytest.raises(DataError, match=r"sample.question_share=0 leaves no training question to sample responses for"):
        sampled(tmp_path / "out", tiny_world, share=0.0)


def test_the_batch_size_decides_nothing(tmp_path, tiny_world):
    assert sampled(tmp_path / "few", tiny_world, batch_size=3)[1] == sampled(tmp_path / "more", tiny_world, batch_size=7)[1]
