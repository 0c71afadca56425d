"""Checkpointed activations: the same gradients, and a cache where the policy samples."""

import pytest
import torch
from peft import get_peft_model

from models.checkpointing import let_checkpoint, with_cache
from models.lora import lora
from models.packed import is_packing
from models.policy import policy_and_critic
from models.sampler import sample
from posttrain.settings.model import ModelSettings
from tests.tiny_ppo import CONTEXT, EOS, PAD, QUESTIONS, llama

ON = ModelSettings(gradient_checkpointing="on")


def gradients(settings, rank=0):
    torch.manual_seed(0)

    def adapted(network):
        return get_peft_model(network, lora(ModelSettings(lora_rank=rank), task=None))

    network = policy_and_critic(llama(), critic="separate", adapters=adapted if rank else None)
    for part in (network.policy, network.critic):
        let_checkpoint(part, settings)
    assert is_packing(network.policy)
    runs = [0]
    layer = next(module for name, module in network.policy.named_modules() if name.endswith("layers.0.mlp"))
    layer.register_forward_pre_hook(lambda *_: runs.__setitem__(0, runs[0] + 1))
    ids = torch.tensor([[2, 3, 4, 5, 6, 7], [8, 9, 10, 11, PAD, PAD]])
    told = network(ids, torch.tensor([2, 2]), torch.tensor([4, 2]), temperature=1.0, want=frozenset({"logprob", "value"}))
    (told.logprob.sum() + (told.value - 1).square().sum()).backward()
    found = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    return found, runs[0]


@pytest.mark.parametrize("rank", [0, 2])
def test_gradients_of_policy_and_critic_are_the_same_and_the_forward_pass_runs_again(rank):
    kept, once = gradients(ModelSettings(), rank)
    again, twice = gradients(ON, rank)
    assert (once, twice) == (1, 2)
    assert kept.keys() == again.keys() and any(name.startswith("critic") for name in kept)
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, atol=0, rtol=0)


def test_a_policy_in_training_samples_with_its_cache():
    def drawn(policy):
        chance = torch.rand(len(QUESTIONS), 6, generator=torch.Generator().manual_seed(1))
        how = {"temperature": 1.0, "end_ids": (EOS,), "pad_id": PAD, "context": CONTEXT, "batch_size": 5}
        with with_cache(policy):
            return sample(policy, QUESTIONS, chance, **how).responses

    policy = llama().train()
    kept = drawn(policy)
    let_checkpoint(policy, ON)
    assert drawn(policy) == kept and policy.training
    with pytest.raises(ZeroDivisionError), with_cache(policy):
        assert not policy.training
        raise ZeroDivisionError
    assert policy.training
