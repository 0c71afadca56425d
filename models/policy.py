"""The policy and its critic as one network, the reference, and sampling from the policy as it is being trained."""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from posttrain.logprobs import entropies, taken_logprobs
from posttrain.masks import is_predicting
from posttrain.network import TokenFigures
from posttrain.rollout import Sampled, drawn_tokens


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
    """A causal language model with a value of each response token beside it (`posttrain.network.Network`).

    Attributes:
        policy: the language model, with adapters where LoRA is used.
        critic: a network of its own that gives hidden states; None where the critic shares the policy's.
        value_head: last hidden state → value, float32.
    """

    def __init__(self, policy: nn.Module, critic: nn.Module | None, value_head: nn.Linear) -> None:
        super().__init__()
        self.policy = without_dropout(policy)
        self.critic = None if critic is None else without_dropout(critic)
        self.value_head = value_head

    def forward(
        self, ids: Tensor, prompt_length: Tensor, response_length: Tensor, *, temperature: float, want: frozenset[str]
    ) -> TokenFigures:
        """Return what is wanted of each response token, flat.

        Args:
            ids: (batch, time), int64, padded on the right; a causal model needs no mask then.
            prompt_length: (batch,), int64.
            response_length: (batch,), int64.
            temperature: logits are divided by it.
            want: of `logprob` (with the entropy beside it) and `value`; `entropy_gradient` where the entropy is in the loss.
        """
        where = is_predicting(prompt_length, response_length, time=ids.shape[1])
        logits = hidden = None
        if "logprob" in want or self.critic is None:
            logits, hidden = _logits(self.policy, ids, where)
        logprob = value = entropy = None
        if logits is not None and "logprob" in want:
            logprob, entropy = taken_logprobs(logits, ids[:, 1:][where[:, :-1]], temperature=temperature)
            if "entropy_gradient" in want:
                entropy = entropies(logits, temperature=temperature)
        if "value" in want:
            seen = self.critic(input_ids=ids, use_cache=False).last_hidden_state[where] if self.critic is not None else hidden
            value = self.value_head(torch.as_tensor(seen).to(self.value_head.weight.dtype)).squeeze(-1)
        return TokenFigures(logprob=logprob, value=value, entropy=entropy)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained weights of `policy`, and of `critic` with its head (the head alone where the trunk is shared)."""
        critic = [] if self.critic is None else list(self.critic.parameters())
        groups = {"policy": list(self.policy.parameters()), "critic": [*critic, *self.value_head.parameters()]}
        return {name: [weight for weight in weights if weight.requires_grad] for name, weights in groups.items()}


def _logits(policy: Any, ids: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (tokens, vocabulary) in float32, and hidden states (tokens, width), of the positions `where` alone.

    The output layer is handed those positions only: with a large vocabulary that is most of the memory and time. What the
    model does to its logits behind the layer (scaling, soft caps) works on single positions, so it still applies.
    """
    kept: list[Tensor] = []

    def select(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        kept.append(arguments[0][where])
        return (kept[0],)

    hook = policy.get_output_embeddings().register_forward_pre_hook(select)
    try:
        logits: Tensor = policy(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
    return logits.float(), kept[0]


def policy_and_critic(
    policy: PreTrainedModel,
    *,
    critic: Literal["separate", "shared"],
    critic_start: PreTrainedModel | None = None,
    adapters: Callable[[nn.Module], nn.Module] = lambda network: network,
) -> PolicyAndCritic:
    """Return the network that PPO trains.

    Args:
        policy: the model to start from.
        critic: see `PPOSettings.critic`.
        critic_start: a model with one score to start a separate critic from (its head's weights included); None: the policy,
            with a head of zeros.
        adapters: puts LoRA adapters into a network, where it is used.
    """
    width = policy.get_output_embeddings().in_features
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    trunk = None
    if critic == "separate":
        trunk = copy.deepcopy((critic_start or policy).base_model)
        if critic_start is not None:
            score = critic_start.score.weight
            head = nn.Linear(score.shape[1], 1)
            with torch.no_grad():
                head.weight.copy_(score.float())
                head.bias.zero_()
        trunk = adapters(trunk)
    return PolicyAndCritic(adapters(policy), trunk, head.to(policy.device)).train()


def reference_logprobs(policy: Any, *, temperature: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return what gives log-probabilities under the policy as it is now, however it is trained afterwards.

    With LoRA that is the policy with its adapters off, so that there is no second model in memory; else it is a frozen copy.
    """
    has_adapters = hasattr(policy, "disable_adapter")
    frozen = policy if has_adapters else copy.deepcopy(policy).requires_grad_(False)

    @torch.no_grad()
    def logprobs(ids: Tensor, prompt_length: Tensor, response_length: Tensor) -> Tensor:
        where = is_predicting(prompt_length, response_length, time=ids.shape[1])
        with frozen.disable_adapter() if has_adapters else nullcontext():
            logits, _ = _logits(frozen, ids, where)
        return taken_logprobs(logits, ids[:, 1:][where[:, :-1]], temperature=temperature)[0]

    return logprobs


@torch.no_grad()
def sample(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    chance: Tensor,
    *,
    temperature: float,
    eos_id: int,
    pad_id: int,
    context: int,
    batch_size: int,
) -> Sampled:
    """Draw a response to each prompt from the policy's own distribution: no top-k, no top-p, no penalties.

    A row's tokens depend on its own prompt and chances alone, up to rounding, whatever it is batched with. Rows that have
    ended leave the batch.

    Args:
        policy: a causal language model.
        prompts: token ids.
        chance: (prompts, longest), uniform in [0, 1): decides each token; its width is the longest response.
        temperature: logits are divided by it.
        eos_id: ends a response.
        pad_id: stands on the left of shorter prompts.
        context: tokens of prompt and response together, at most.
        batch_size: rows drawn together, at most.
    """
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    responses: list[list[int]] = [[] for _ in prompts]
    logprobs: list[Tensor] = [torch.zeros(0)] * len(prompts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        drawn = _sample_batch(
            policy,
            [prompts[row] for row in rows],
            chance[rows],
            temperature=temperature,
            eos_id=eos_id,
            pad_id=pad_id,
            context=context,
        )
        for row, (tokens, figures) in zip(rows, drawn, strict=True):
            responses[row], logprobs[row] = tokens, figures
    return Sampled(
        responses=responses, logprobs=logprobs, is_finished=[bool(tokens) and tokens[-1] == eos_id for tokens in responses]
    )


def _sample_batch(
    policy: Any, prompts: Sequence[Sequence[int]], chance: Tensor, *, temperature: float, eos_id: int, pad_id: int, context: int
) -> list[tuple[list[int], Tensor]]:
    device = policy.device
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    width = int(lengths.max())
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    is_token = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
    place = (is_token.cumsum(dim=1) - 1).clamp(min=0)
    room = torch.tensor([max(0, min(chance.shape[1], context - len(prompt))) for prompt in prompts], device=device)
    longest = int(room.max())
    chance = chance.to(device)
    tokens = torch.full((len(prompts), longest), pad_id, device=device)
    figures = torch.zeros(len(prompts), longest, device=device)
    count = torch.zeros(len(prompts), dtype=torch.int64, device=device)
    alive = (room > 0).nonzero().squeeze(1)
    cache = DynamicCache(config=policy.config.get_text_config())
    if len(alive) < len(prompts):
        ids, is_token, place = ids[alive], is_token[alive], place[alive]
    for time in range(longest):
        logits = policy(
            input_ids=ids,
            attention_mask=is_token,
            position_ids=place,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        drawn, logprob = drawn_tokens(logits, chance[alive, time], temperature=temperature)
        tokens[alive, time] = drawn
        figures[alive, time] = logprob
        count[alive] += 1
        goes_on = (drawn != eos_id) & (time + 1 < room[alive])
        kept = goes_on.nonzero().squeeze(1)
        if not len(kept):
            break
        place = place[:, -1:] + 1
        if len(kept) < len(alive):
            cache.batch_select_indices(kept)
            alive, drawn, is_token, place = alive[kept], drawn[kept], is_token[kept], place[kept]
        is_token = torch.cat([is_token, is_token.new_ones(len(alive), 1)], dim=1)
        ids = drawn[:, None]
    rows = zip(tokens.tolist(), count.tolist(), figures.cpu(), strict=True)
    return [(row[:length], told[:length].clone()) for row, length, told in rows]
