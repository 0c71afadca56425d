"""Sampling of networks whose memory is more than keys and values: a recurrent state, or none that outlives a forward pass."""

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from models.positions import logits_at
from posttrain.rl.rollout import drawn_tokens


def has_key_value_cache(network: Any) -> bool:
    """Return whether keys and values are all that a network remembers of earlier tokens, and it takes them from outside.

    Rows can leave such a cache, and padding on the left is masked in it. Recurrent states (Mamba, Jamba, RecurrentGemma) and
    convolutions (LFM2) run over padding, and their caches do not let rows go.
    """
    whole = network.get_base_model() if hasattr(network, "get_base_model") else network
    if getattr(whole, "_is_stateful", False) or "past_key_values" not in inspect.signature(whole.forward).parameters:
        return False
    layers = DynamicCache(config=whole.config.get_text_config()).layers
    return not any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)


def sample_uncached(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    chance: Tensor,
    *,
    temperature: float,
    end_ids: Collection[int],
    pad_id: int,
    context: int,
    hear: Callable[[list[int]], None] | None = None,
) -> list[tuple[list[int], Tensor]]:
    """Draw a response to each prompt, reading the whole sequence again for every token, as training reads it.

    The cost grows with the square of the length; in return nothing is assumed of the network but that it is causal.

    Args:
        policy: a causal language model.
        prompts: token ids, at least one each.
        chance: (prompts, longest), uniform in [0, 1): decides each token.
        temperature: logits are divided by it; 0 takes the likeliest token.
        end_ids: any of them ends a response.
        pad_id: stands on the right of shorter sequences.
        context: tokens of prompt and response together, at most.
        hear: is told the first response so far after each of its tokens.

    Returns:
        Of each prompt: the response, and the log-probabilities of its tokens, nats.
    """
    device = policy.device
    ends = torch.tensor(list(end_ids), dtype=torch.int64, device=device)
    length = torch.tensor([len(prompt) for prompt in prompts], device=device)
    room = (context - length).clamp(min=0, max=chance.shape[1])
    ids = torch.full((len(prompts), int((length + room).max())), pad_id, device=device)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt, device=device)
    count, figures = torch.zeros_like(length), torch.zeros(len(prompts), int(room.max()), device=device)
    alive = (room > 0).nonzero().squeeze(1)
    chance = chance.to(device)
    for time in range(figures.shape[1]):
        if not len(alive):
            break
        end = length[alive] + time
        places = torch.stack([torch.arange(len(alive), device=device), end - 1], dim=1)
        logits = logits_at(policy, ids[alive, : int(end.max())], places)
        drawn, figures[alive, time] = drawn_tokens(logits, chance[alive, time], temperature=temperature)
        ids[alive, end] = drawn
        count[alive] += 1
        if hear:
            hear(ids[0, length[0] : length[0] + count[0]].tolist())
        alive = alive[~torch.isin(drawn, ends) & (time + 1 < room[alive])]
    told = zip(length.tolist(), count.tolist(), strict=True)
    return [(ids[row, start : start + size].tolist(), figures[row, :size].cpu()) for row, (start, size) in enumerate(told)]
