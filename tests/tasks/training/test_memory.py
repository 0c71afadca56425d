"""Where memory runs short, training goes on with fewer rows at a time, and arrives where it would have arrived."""

from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForSequenceClassification, LlamaModel

from models import reward_training
from models.decoder import LARGE
from models.policy import PolicyAndCritic
from models.reward_training import Group, train_reward_network
from posttrain.errors import RequestError
from posttrain.ops.device_rows import Found, finding
from posttrain.settings.dpo import DPOSettings
from posttrain.settings.kto import KTOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.reward_model import RewardModelSettings
from posttrain.settings.sft import SFTSettings
from tasks.feedback.agreement import write_labels
from tasks.training import dpo, heap, kto, reward_model, sft
from tasks.workspace.jsonl import write_rows
from tests.tasks.training.test_reward_model import SETTINGS, labelled
from tests.tiny_ppo import llama, run


@contextmanager
def short_above(monkeypatch, most, *, after=0):
    """Let a Llama's forward pass lack memory above so many rows, `after` passes on; yields how many rows each had."""
    forward, seen = LlamaModel.forward, []

    def limited(self, input_ids=None, **how):
        seen.append(len(input_ids))
        if len(input_ids) > most and len(seen) > after:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, input_ids=input_ids, **how)

    with monkeypatch.context() as patch:
        patch.setattr(LlamaModel, "forward", limited)
        yield seen


def _lack(gradient):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: 9 bytes")


def close(some, other):
    """Hold two sets of weights to each other within rounding, and see that the tolerance can fail."""
    assert some.keys() == other.keys()
    for name, weight in some.items():
        torch.testing.assert_close(weight, other[name], atol=2e-5, rtol=1e-3)


def trained(train, world, out, lines, **how):
    """Return the weights that a stage writes, its outcome, and the steps of its curve."""
    steps = []
    with finding(Found(tell=lambda what, rows: lines.append((what, rows)))):
        outcome = train(
            out, lambda step, figures: steps.append(step), tokenizer=world.tokenizer, context=world.context, seed=3, **how
        )
    return load_file(out / "model" / "model.safetensors"), outcome, steps


@pytest.fixture
def labels(tmp_path, world_records):
    """Labels of pairs of unequal length, of which the second response was cut off now and then."""
    rows = []
    for number, question in enumerate(world_records["questions"][:13]):
        rows.append(
            {
                "question": question.id,
                "id": f"l{number}",
                "group": f"g{number}",
                "kind": "label",
                "source": "person",
                "prompt": question.model_dump(mode="json")["prompt"],
                "first": "so it is " + "1 " * (1 + number % 5),
                "second": "no " * (1 + number % 3),
                "preference": float(number % 4 != 0),
                "annotator": "a",
                "second_finished": number % 2 == 0,
            }
        )
    (tmp_path / "labels").mkdir()
    write_rows(tmp_path / "labels" / "labels.jsonl", rows)
    return tmp_path / "labels"


def test_sft_begins_again_with_fewer_rows_and_learns_the_same(tiny_world, tmp_path, monkeypatch):
    how = {"data": tiny_world.data, "base": tiny_world.base, "model": ModelSettings()}
    settings = SFTSettings(epochs=1.5, batch_size=8, learning_rate=3e-3)
    whole, before, steps = trained(sft.train, tiny_world, tmp_path / "whole", [], settings=settings, **how)
    lines = []
    with short_above(monkeypatch, 3, after=1) as seen:  # the first step is made, told, and made again
        found, after, again = trained(sft.train, tiny_world, tmp_path / "parts", lines, settings=settings, **how)
    close(found, whole)
    assert lines == [("training", 4), ("training", 2)] and max(seen) == 8 and seen[-1] == 2
    assert again == steps == list(range(1, 7)), "a step is told once"
    assert after.metrics == pytest.approx(before.metrics, rel=1e-3)
    assert after.costs["trained_tokens"] == before.costs["trained_tokens"]


def test_dpo_learns_the_same_however_a_batch_is_parted(tiny_world, labels, tmp_path, monkeypatch):
    how = {"labels": labels, "start": tiny_world.base, "model": ModelSettings()}
    settings = DPOSettings(epochs=2, batch_size=8, learning_rate=1e-3, nll_weight=1.0)
    whole, before, _ = trained(dpo.train, tiny_world, tmp_path / "whole", [], settings=settings, **how)
    lines = []
    with short_above(monkeypatch, 4):  # a pair is two rows
        found, after, _ = trained(dpo.train, tiny_world, tmp_path / "parts", lines, settings=settings, **how)
    close(found, whole)
    assert lines == [("training", 4), ("training", 2)]
    assert before.metrics["pairs"] % 8, "the last batch is not a full one"
    assert after.metrics["loss"] == pytest.approx(before.metrics["loss"], rel=1e-3)


def test_kto_whose_device_batch_decides_is_not_parted(tiny_world, labels, tmp_path, monkeypatch):
    how = {"labels": labels, "start": tiny_world.base, "model": ModelSettings(), "settings": KTOSettings(epochs=1, batch_size=8)}
    with short_above(monkeypatch, 4), pytest.raises(RequestError, match=r"Lower kto\.device_batch_size$"):
        trained(kto.train, tiny_world, tmp_path / "out", [], **how)


def test_ppo_reads_and_learns_with_fewer_rows(monkeypatch):
    whole = run()
    lines, forward = [], PolicyAndCritic.forward

    def limited(self, ids, *args, **how):
        if len(ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, ids, *args, **how)

    monkeypatch.setattr(PolicyAndCritic, "forward", limited)
    with finding(Found(tell=lambda what, rows: lines.append((what, rows)))):
        parts = run()
    assert lines == [("reading responses", 4), ("reading responses", 2), ("training", 4), ("training", 2)]
    close(parts.weights, whole.weights)
    assert parts.metric("value_loss") == pytest.approx(whole.metric("value_loss"), rel=1e-3, abs=1e-5)


def test_gradients_of_a_step_that_broke_off_are_forgotten(monkeypatch):
    """Memory runs short in the backward pass of a step's second part, when the first one's gradients are there."""
    whole = run(device_batch_size=4)
    lines, forward, passes = [], PolicyAndCritic.forward, []

    def limited(self, ids, *args, **how):
        told = forward(self, ids, *args, **how)
        if told.logprob is not None and told.logprob.requires_grad:
            passes.append(len(ids))
            if len(passes) == 2:
                told.logprob.register_hook(_lack)
        return told

    monkeypatch.setattr(PolicyAndCritic, "forward", limited)
    with finding(Found(tell=lambda what, rows: lines.append((what, rows)))):
        parts = run(device_batch_size=4)
    assert lines == [("training", 2)] and passes[:6] == [4, 4, 2, 2, 2, 2]
    close(parts.weights, whole.weights)


def test_a_reward_model_repeats_the_step_with_fewer_rows(monkeypatch):
    groups = [Group(responses=[[2, 3, 4 + n % 3], [2, 3, 9, 7 + n % 2]], pairs=[(0, 1, float(n % 2), 0.0)]) for n in range(6)]
    settings = RewardModelSettings(epochs=2, batch_size=6, device_batch_size=12)

    def learnt():
        network = llama(kind=LlamaForSequenceClassification, num_labels=1)
        told = list(train_reward_network(network, groups, settings, seed=0))
        return dict(network.named_parameters()), [step.loss for step in told], [step.accuracy for step in told]

    whole = learnt()
    scores, calls = reward_training.token_scores, []

    def limited(network, groups):
        calls.append(sum(map(len, groups)))
        if calls[-1] > 4 or len(calls) == 4:  # in a second part too, when the first one's gradients are there
            raise MemoryError
        return scores(network, groups)

    monkeypatch.setattr(reward_training, "token_scores", limited)
    lines = []
    with finding(Found(tell=lambda what, rows: lines.append((what, rows)))):
        parts = learnt()
    assert lines == [("training", 6), ("training", 3), ("training", 1)] and calls[:5] == [12, 6, 2, 2, 2]
    close(parts[0], whole[0])
    assert parts[1] == pytest.approx(whole[1]) and parts[2] == pytest.approx(whole[2])


@pytest.mark.parametrize(("large", "times"), [(10_000, 6), (LARGE, 0)])
def test_a_large_network_gives_freed_memory_back_behind_each_part_of_a_batch(tiny_world, tmp_path, monkeypatch, large, times):
    given_back = []
    monkeypatch.setattr(heap, "LARGE", large)
    monkeypatch.setattr(heap, "return_freed", lambda: given_back.append(1))
    settings = SFTSettings(max_steps=2, batch_size=6, device_batch_size=2)
    how = {"tokenizer": tiny_world.tokenizer, "model": ModelSettings(context=tiny_world.context), "context": tiny_world.context}
    sft.train(tmp_path, lambda *_: None, data=tiny_world.data, base=tiny_world.base, settings=settings, seed=0, **how)
    assert len(given_back) == times


@pytest.mark.parametrize("large", [10_000, LARGE])
def test_a_large_reward_model_gives_freed_memory_back_behind_each_step(tiny_world, world_records, tmp_path, monkeypatch, large):
    given_back, steps = [], []
    monkeypatch.setattr(heap, "LARGE", large)
    monkeypatch.setattr(heap, "return_freed", lambda: given_back.append(1))
    (tmp_path / "labels").mkdir()
    write_labels(tmp_path / "labels", labelled(world_records))
    reward_model.train(
        tmp_path,
        lambda step, figures: steps.append(step),
        labels=tmp_path / "labels",
        data=tiny_world.data,
        start=tiny_world.base,
        settings=SETTINGS.model_copy(update={"max_steps": 3, "ensemble": 1, "min_accuracy": 0.0}),
        findings=tmp_path / "findings",
        tokenizer=tiny_world.tokenizer,
        model=ModelSettings(context=tiny_world.context),
        context=tiny_world.context,
        seed=0,
    )
    assert len(given_back) == (len(steps) if large == 10_000 else 0) and len(steps) == 3
