"""Weights of two runs compared, and settings under which an update is far from the last one."""

import torch

from models.policy import policy_and_critic, reference_logprobs
from tests.tiny_ppo import llama


def close(one, other, atol=1e-6):
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def moved(one, other):
    return max((weight - other[name]).abs().max().item() for name, weight in one.items())


FAR = 9
"""Seed of a reference that is not the policy, as it is after the first update."""


def far(**settings):
    return reference_logprobs(llama(seed=FAR), temperature=settings.get("temperature", 1.0))


def valued(critic):
    """Return the network with values that are not 0, as after the first update: with zeros, γ and λ could be exchanged."""
    network = policy_and_critic(llama(), critic=critic)
    with torch.no_grad():
        network.value_head.weight.copy_(torch.linspace(-0.5, 0.5, 16)[None])
    return network
