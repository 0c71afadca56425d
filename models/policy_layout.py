"""A policy in training as its processes hold it, and what is asked of it whole: to be sampled from, to be saved."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from models.load import device
from models.policy import PolicyAndCritic, reference_logprobs
from models.sharding import full, is_fsdp, load_full_optimiser_state, load_full_state, shard, whole
from posttrain.rl.layout import Layout, Replicated
from posttrain.settings.model import ModelSettings


class ReplicatedPolicy(Replicated):
    """A policy of which each process holds all weights.

    Args:
        network: policy and critic.
    """

    def __init__(self, network: PolicyAndCritic) -> None:
        self._network = network

    def reference(self, *, temperature: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Return what gives log-probabilities under the policy as it is now; see `models.policy.reference_logprobs`."""
        return reference_logprobs(self._network.policy, temperature=temperature)

    @contextmanager
    def policy(self) -> Iterator[Any]:
        """Yield the policy as it is now, which may be sampled from."""
        yield self._network.policy


class ShardedPolicy(Layout):
    """A policy and a critic of which each process holds a part of the weights, gradients and optimiser's state (FSDP2).

    What draws responses lays weights out by itself, and one process draws longer than the other. So the policy is gathered once
    an update, into a copy that is empty the rest of the time, and no process waits for another while it draws.

    Args:
        network: policy and critic, whole; it is sharded when training asks for it.
    """

    def __init__(self, network: PolicyAndCritic) -> None:
        self._network = network
        empty = {id(weight): nn.Parameter(weight.new_empty(0), requires_grad=False) for weight in network.policy.parameters()}
        self._copy: Any = copy.deepcopy(network.policy, empty).eval().to(device())

    def prepared(self, network: nn.Module, accelerator: Accelerator) -> nn.Module:
        """Return the network, sharded in place, with its forward in Accelerate's number format."""
        products = torch.bfloat16 if accelerator.mixed_precision == "bf16" else None
        called: nn.Module = accelerator.prepare_model(shard(network, products=products), evaluation_mode=True)
        return called

    def whole(self, figure: Tensor) -> Tensor:
        """Return the figure of all parts."""
        return whole(figure)

    def kept(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state with whole tensors, on the CPU of the first process alone."""
        return full(state)

    def load(self, network: nn.Module, optimiser: Optimizer, *, weights: Mapping[str, Tensor], steps: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, of which each process takes its part."""
        load_full_state(network, weights)
        load_full_optimiser_state(optimiser, steps)

    def reference(self, *, temperature: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Return what gives log-probabilities under the policy as it is now, however it is trained afterwards.

        With LoRA that is the network with its adapters off; else a frozen copy, sharded as well.
        """
        policy: Any = self._network.policy
        has_adapters = hasattr(policy, "disable_adapter")
        frozen = self._network
        if not has_adapters:
            frozen = PolicyAndCritic(copy.deepcopy(policy).requires_grad_(False))
            shard(frozen)

        @torch.no_grad()
        def logprobs(ids: Tensor, prompt_length: Tensor, response_length: Tensor) -> Tensor:
            # the whole network is called, since that gathers what is in no block
            how: dict[str, Any] = {"temperature": temperature, "want": frozenset({"logprob"})}
            with policy.disable_adapter() if has_adapters else nullcontext():
                return torch.as_tensor(frozen(ids, prompt_length, response_length, **how).logprob)

        return logprobs

    @contextmanager
    def policy(self) -> Iterator[Any]:
        """Yield a whole copy of the policy as it is now, which may be sampled from; every process must ask for it."""
        held = dict(self._network.policy.named_parameters())
        for name, weight in self._copy.named_parameters():
            weight.data = whole(held[name].detach())
        try:
            yield self._copy
        finally:
            for weight in self._copy.parameters():
                weight.data = weight.new_empty(0)


def laid_out(network: PolicyAndCritic, model: ModelSettings) -> ReplicatedPolicy | ShardedPolicy:
    """Return how the processes of this stage hold a network: by `model.sharding`, where there are several."""
    return ShardedPolicy(network) if is_fsdp(model) else ReplicatedPolicy(network)
