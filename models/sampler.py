"""Sampling from the policy as it is being trained: responses with the log-probabilities that they were drawn at."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from models.uncached import has_key_value_cache, sample_uncached
from posttrain.rl.rollout import Sampled, drawn_tokens


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

    A row's tokens depend on its own prompt and uniforms alone, up to rounding, whatever it is batched with. Rows that have
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
    sample_batch = _sample_batch if has_key_value_cache(policy) else sample_uncached
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        with _quick_products(policy):
            drawn = sample_batch(
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


_WORTH_LEAVING = 0.75
"""Ended rows leave once no more than this share of the batch is left: before, they cost less than moving the cache."""


def _sample_batch(
    policy: Any, prompts: Sequence[Sequence[int]], chance: Tensor, *, temperature: float, eos_id: int, pad_id: int, context: int
) -> list[tuple[list[int], Tensor]]:
    device = policy.device
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    room = (context - lengths).clamp(min=0, max=chance.shape[1])
    longest, width = int(room.max()), int(lengths.max())
    tokens = torch.full((len(prompts), longest), pad_id, device=device)
    figures = torch.zeros(len(prompts), longest, device=device)
    count = torch.zeros(len(prompts), dtype=torch.int64, device=device)

    ids = torch.tensor([[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    is_token = (torch.arange(width + longest, device=device) >= width - lengths[:, None]).long()
    place = (is_token[:, :width].cumsum(dim=1) - 1).clamp(min=0)
    cache = _cache(policy.config.get_text_config(), room=width + longest)
    batch = {"row": torch.arange(len(prompts), device=device), "is_alive": room > 0, "room": room, "chance": chance.to(device)}
    batch |= {"ids": ids, "is_token": is_token, "place": place}
    for time in range(longest):
        alive = int(batch["is_alive"].sum())
        if not alive:
            break
        if alive <= _WORTH_LEAVING * len(batch["row"]):
            kept = batch["is_alive"].nonzero().squeeze(1)
            batch = {name: figure[kept] for name, figure in batch.items()}
            cache.batch_select_indices(kept)
        row = batch["row"]
        logits = policy(
            input_ids=batch["ids"],
            attention_mask=batch["is_token"][:, : width + time],
            position_ids=batch["place"],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        drawn, figures[row, time] = drawn_tokens(logits, batch["chance"][:, time], temperature=temperature)
        tokens[row, time] = drawn  # of an ended row too, behind what is counted
        count[row] += batch["is_alive"]
        batch["is_alive"] &= (drawn != eos_id) & (time + 1 < batch["room"])
        batch["ids"] = drawn[:, None]
        batch["place"] = (batch["place"][:, -1:] + 1).clamp(max=context - 1)
    rows = zip(tokens.tolist(), count.tolist(), figures.cpu(), strict=True)
    return [(row[:length], told[:length].clone()) for row, length, told in rows]


def _cache(config: PreTrainedConfig, *, room: int) -> DynamicCache:
    """Return an empty cache; layers that keep every token have room for `room` of them from the start."""
    cache = DynamicCache(config=config)
    cache.layers = [_RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of a layer, written into memory that is there already: `DynamicLayer` copies all of them each token."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.length = 0
        self.stored: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if self.stored is None:
            self.lazy_initialization(key_states, value_states)
            self.stored = self._empty(key_states), self._empty(value_states)
        start, self.length = self.length, self.length + key_states.shape[-2]
        for stored, new in zip(self.stored, (key_states, value_states), strict=True):
            stored[:, :, start : self.length] = new
        return self._visible()

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.stored is None:
            return
        smaller = []
        for stored in self.stored:
            smaller.append(self._empty(stored[: len(indices)]))
            smaller[-1][:, :, : self.length] = stored[indices, :, : self.length]
        self.stored = smaller[0], smaller[1]
        self._visible()

    def _empty(self, like: Tensor) -> Tensor:
        return like.new_empty(*like.shape[:-2], self.room, like.shape[-1])

    def _visible(self) -> tuple[Tensor, Tensor]:
        assert self.stored
        self.keys, self.values = (stored[:, :, : self.length] for stored in self.stored)
        return self.keys, self.values


_FEW_ROWS = 48
_LARGE_WEIGHT = 2**16


@contextmanager
def _quick_products(policy: nn.Module) -> Iterator[None]:
    """Let linear layers on a CPU compute (W xᵀ)ᵀ where x has few rows and W is large.

    MKL takes 1.6 to 3.5 times as long for x Wᵀ with 4 to 48 rows of x, which is every token but the first of a sampled response
    (`python -m benchmarks.ppo_parts`).
    """
    patched = [
        module
        for module in policy.modules()
        if type(module) is nn.Linear and module.weight.device.type == "cpu" and module.weight.numel() >= _LARGE_WEIGHT
    ]
    for module in patched:
        module.forward = _Swapped(module)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for module in patched:
            del module.forward


class _Swapped:
    def __init__(self, module: nn.Linear) -> None:
        self.module = module

    def __call__(self, entries: Tensor) -> Tensor:
        rows = entries.reshape(-1, entries.shape[-1])
        if not 1 < len(rows) <= _FEW_ROWS:
            return nn.functional.linear(entries, self.module.weight, self.module.bias)
        product = (self.module.weight @ rows.t()).t().contiguous().view(*entries.shape[:-1], -1)
        return product if self.module.bias is None else product + self.module.bias
