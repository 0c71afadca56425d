"""The policy and its critic, where there is one, as one network, and the reference."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from models.packed import Packing, called_packed, is_packing, let_pack
from posttrain.ops.logprobs import entropies, taken_logprobs
from posttrain.ops.masks import is_predicting
from posttrain.rl.network import TokenFigures


def without_dropout(network: nn.Module) -> nn.Module:
    """Return the network with every dropout at 0: sampling and training must see the same function."""
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    return network


class PolicyAndCritic(nn.Module):
    """A causal language model, mostly with a value of each response token beside it (`posttrain.rl.network.Network`).

    Attributes:
        policy: the language model, with adapters where LoRA is used.
        critic: a network of its own that gives hidden states; None where the critic shares the policy's, or there is none.
        value_head: last hidden state → value, float32; None where there is no critic.
    """

    def __init__(self, policy: nn.Module, critic: nn.Module | None = None, value_head: nn.Linear | None = None) -> None:
        super().__init__()
        self.policy = without_dropout(policy)
        self.critic = None if critic is None else without_dropout(critic)
        self.value_head = value_head
        for network in (self.policy, self.critic):
            if network is not None:
                let_pack(network)

    def forward(
        self, ids: Tensor, prompt_length: Tensor, response_length: Tensor, *, temperature: float, want: frozenset[str]
    ) -> TokenFigures:
        """Return what is wanted of each response token, flat.

        Args:
            ids: (batch, time), int64, padded on the right.
            prompt_length: (batch,), int64.
            response_length: (batch,), int64.
            temperature: logits are divided by it.
            want: of `logprob` (with the entropy beside it) and `value`; `entropy_gradient` where the entropy is in the loss.

        Raises:
            ValueError: a value is wanted, and there is no critic.
        """
        if "value" in want and self.value_head is None:
            raise ValueError("a value is wanted of a network without a critic")
        batch = _Batch.of(ids, prompt_length, response_length)
        logits = hidden = None
        if "logprob" in want or self.critic is None:
            logits, hidden = _logits(self.policy, batch)
        logprob = value = entropy = None
        if logits is not None and "logprob" in want:
            logprob, entropy = taken_logprobs(logits, batch.taken, temperature=temperature)
            if "entropy_gradient" in want:
                entropy = entropies(logits, temperature=temperature)
        if "value" in want and self.value_head is not None:
            seen = hidden if self.critic is None else batch.told_by(self.critic).last_hidden_state[batch.where(self.critic)]
            # a sum of one: a view, as squeezing gives, would lose what FSDP2 hangs on a network's output
            value = self.value_head(torch.as_tensor(seen).to(self.value_head.weight.dtype)).sum(dim=-1)
        return TokenFigures(logprob=logprob, value=value, entropy=entropy)

    @torch.no_grad()
    def rescale_values(self, gain: float, offset: float) -> None:
        """Let every value be `gain` times what it was, plus `offset`."""
        assert self.value_head is not None, "there is no critic"
        self.value_head.weight.mul_(gain)
        self.value_head.bias.mul_(gain).add_(offset)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained weights of `policy`, and of `critic` with its head (the head alone where the trunk is shared)."""
        groups = {"policy": list(self.policy.parameters())}
        if self.value_head is not None:
            critic = [] if self.critic is None else list(self.critic.parameters())
            groups["critic"] = [*critic, *self.value_head.parameters()]
        return {name: [weight for weight in weights if weight.requires_grad] for name, weights in groups.items()}


@dataclass(frozen=True)
class _Batch:
    """Sequences as a network takes them: packed where it can, else padded on the right, where a causal model needs no mask.

    Attributes:
        ids: (batch, time), without each longest sequence's last token, which nothing is asked of.
        lengths: (batch,), of the sequences without their last tokens.
        predicting: (batch, time), bool, the positions that predict a response token.
        taken: (tokens,), the response tokens.
    """

    ids: Tensor
    lengths: Tensor
    predicting: Tensor
    taken: Tensor

    @classmethod
    def of(cls, ids: Tensor, prompt_length: Tensor, response_length: Tensor) -> "_Batch":
        predicting = is_predicting(prompt_length, response_length, time=ids.shape[1])[:, :-1]
        return cls(
            ids=ids[:, :-1], lengths=prompt_length + response_length - 1, predicting=predicting, taken=ids[:, 1:][predicting]
        )

    @cached_property
    def is_token(self) -> Tensor:
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]

    @cached_property
    def packing(self) -> Packing:
        return Packing.of(self.lengths)

    @cached_property
    def packed_predicting(self) -> Tensor:
        return self.predicting[self.is_token][None]

    def told_by(self, network: Any) -> Any:
        """Return the network's output."""
        if is_packing(network):
            return called_packed(network, self.ids[self.is_token][None], self.packing)
        return network(input_ids=self.ids, use_cache=False)

    def where(self, network: Any) -> Tensor:
        """Return which positions of its output predict a response token, bool."""
        return self.packed_predicting if is_packing(network) else self.predicting


def _logits(policy: Any, batch: _Batch) -> tuple[Tensor, Tensor]:
    """Return logits (tokens, vocabulary) in float32, and hidden states (tokens, width), where a response token is predicted.

    The output layer is handed those positions only: with a large vocabulary that is most of the memory and time. What the
    model does to its logits behind the layer (scaling, soft caps) works on single positions, so it still applies.
    """
    kept: list[Tensor] = []
    where = batch.where(policy)

    def select(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        kept.append(arguments[0][where])
        return (kept[0],)

    hook = policy.get_output_embeddings().register_forward_pre_hook(select)
    try:
        logits: Tensor = batch.told_by(policy).logits
    finally:
        hook.remove()
    return logits.float(), kept[0]


def policy_and_critic(
    policy: PreTrainedModel,
    *,
    critic: Literal["separate", "shared", "none"],
    critic_start: PreTrainedModel | None = None,
    critic_centre: float = 0.0,
    adapters: Callable[[nn.Module], nn.Module] | None = None,
) -> PolicyAndCritic:
    """Return the network that PPO trains.

    Args:
        policy: the model to start from.
        critic: see `PPOSettings.critic`; `none` for estimators that have no use for one.
        critic_start: a model with one score to start a separate critic from (its head's weights included); None: the policy,
            with a head of zeros.
        critic_centre: taken off the score of `critic_start`, as it is taken off the reward.
        adapters: puts LoRA adapters into a network and freezes the rest; None where all weights are trained. A separate critic
            that starts from the policy has adapters of its own then, and the policy's frozen weights.
    """
    adapt = adapters or (lambda network: network)
    if critic == "none":
        return PolicyAndCritic(adapt(policy)).train()
    width = policy.get_output_embeddings().in_features
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    trunk = None
    if critic == "separate":
        is_sharing = adapters is not None and critic_start is None
        kept = {id(weight): weight for weight in policy.parameters()} if is_sharing else {}
        trunk = copy.deepcopy((critic_start or policy).base_model, kept)
        if critic_start is not None:
            score = critic_start.score.weight
            head = nn.Linear(score.shape[1], 1)
            with torch.no_grad():
                head.weight.copy_(score.float())
                head.bias.fill_(-critic_centre)
        trunk = adapt(trunk)
    return PolicyAndCritic(adapt(policy), trunk, head.to(policy.device)).train()


def reference_logprobs(policy: Any, *, temperature: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return what gives log-probabilities under the policy as it is now, however it is trained afterwards.

    With LoRA that is the policy with its adapters off, so that there is no second model in memory; else it is a frozen copy.
    """
    has_adapters = hasattr(policy, "disable_adapter")
    frozen = policy if has_adapters else copy.deepcopy(policy).requires_grad_(False)

    @torch.no_grad()
    def logprobs(ids: Tensor, prompt_length: Tensor, response_length: Tensor) -> Tensor:
        batch = _Batch.of(ids, prompt_length, response_length)
        with frozen.disable_adapter() if has_adapters else nullcontext():
            logits, _ = _logits(frozen, batch)
        return taken_logprobs(logits, batch.taken, temperature=temperature)[0]

    return logprobs
