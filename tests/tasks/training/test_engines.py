"""Policies whose responses another engine draws: they learn, the same each time and on from a checkpoint, or are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from posttrain.errors import ContractError
from posttrain.settings.grpo import GRPOSettings
from posttrain.settings.model import ModelSettings
from posttrain.settings.ppo import PPOSettings
from posttrain.settings.rloo import RLOOSettings
from tasks.rewards.sources.table import reward_source
from tasks.training import grpo, ppo, rloo
from tests.tasks.training.test_adapters import own_state  # noqa: F401 - each test has its own

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"updates": 2, "episodes": 8, "mini_batch_size": 8, "max_new_tokens": 16, "min_finished": 0.0, "epochs": 1}
OWN = {"grpo": {"grpo": GRPOSettings(num_generations=4)}, "rloo": {"rloo": RLOOSettings(num_generations=4)}}


@pytest.fixture
def trained(tiny_world, tmp_path):
    """Train a policy for two updates; return its weights and the curve."""

    def train(trainer=ppo, *, lora_rank=0, dtype="float32", log=None, kept="kept", **changes):
        out = tmp_path / f"out {len(list(tmp_path.iterdir()))}"
        out.mkdir()
        curve = []
        trainer.train(
            out,
            log or (lambda step, figures: curve.append(dict(figures))),
            tokenizer=tiny_world.tokenizer,
            model=ModelSettings(context=tiny_world.context, lora_rank=lora_rank, dtype=dtype),
            context=tiny_world.context,
            seed=1,
            data=tiny_world.data,
            start=tiny_world.base,
            settings=PPOSettings(**{**SMALL, "learning_rate": 1e-3, "engine": "bfloat16", **changes}),
            reward=reward_source("answer", partial_credit=0.5, registered=Path),
            checkpoints=out / kept if kept == "kept" else tmp_path / kept,
            **OWN.get(trainer.__name__.rpartition(".")[2], {}),
        )
        return load_file(out / "model" / "model.safetensors"), curve

    return train


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("trainer", [ppo, grpo, rloo])
def test_a_policy_learns_from_what_its_copy_drew(trained, tiny_world, trainer, lora_rank):
    weights, curve = trained(trainer, lora_rank=lora_rank)
    for figures in curve:
        assert 1e-5 < figures["ppo/sampler_mismatch"] < 0.1
        assert 0 < abs(figures["ppo/sampler_correction"] - 1) < 0.1
        assert figures["ppo/sampler_capped"] == 0
    before = load_file(tiny_world.base / "model" / "model.safetensors")
    assert max(float((value - before[name]).abs().max()) for name, value in weights.items() if name in before) > 1e-4
    again, _ = trained(trainer, lora_rank=lora_rank)
    assert all(torch.equal(value, again[name]) for name, value in weights.items())
    exact, _ = trained(trainer, lora_rank=lora_rank, engine="transformers")
    assert not all(torch.equal(value, exact[name]) for name, value in weights.items())


def test_weights_count_in_what_is_learnt(trained):
    """Capped at 1, every weight above 1 is cut, so another policy comes out."""
    free, _ = trained(updates=1)
    capped, curve = trained(updates=1, sampler_correction_cap=1.0)
    assert 0.2 < curve[0]["ppo/sampler_capped"] < 0.9 and curve[0]["ppo/sampler_correction"] < 1
    assert not all(torch.equal(value, capped[name]) for name, value in free.items())


def test_without_a_correction_it_is_refused(trained):
    with pytest.raises(ContractError, match=r"ppo\.engine=bfloat16 is another distribution than the policy. Correct for it"):
        trained(sampler_correction=False)
    _, curve = trained(sampler_correction=False, ratio_tolerance=0.1)
    assert "ppo/sampler_correction" not in curve[0] and curve[0]["ppo/sampler_mismatch"] > 1e-5


def test_a_policy_in_bfloat16_has_such_a_copy_too(trained):
    _, curve = trained(dtype="bfloat16")
    assert 0 < curve[0]["ppo/sampler_mismatch"] < 0.1 and "ppo/sampler_correction" in curve[0]


def test_it_goes_on_from_a_checkpoint(trained):
    class CutOffError(Exception):
        pass

    def cut(step, figures):
        if step == 2:
            raise CutOffError

    every = {"updates": 3, "checkpoint_every": 1}
    with pytest.raises(CutOffError):
        trained(log=cut, kept="shared", **every)
    on, _ = trained(kept="shared", **every)
    whole, _ = trained(**every)
    assert all(torch.equal(value, on[name]) for name, value in whole.items())
