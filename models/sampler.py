"""Sampling from the policy as it is being trained: responses with the log-probabilities that they were drawn at."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from models.decoder import Decoder, Session, decoder
from models.uncached import has_key_value_cache, sample_uncached
from posttrain.ops.device_rows import in_parts
from posttrain.rl.rollout import Sampled, drawn_tokens


@torch.no_grad()
def sample(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    chance: Tensor,
    *,
    temperature: float,
    end_ids: Collection[int],
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
        temperature: logits are divided by it; 0 takes the likeliest token.
        end_ids: any of them ends a response.
        pad_id: stands on the left of shorter prompts.
        context: tokens of prompt and response together, at most.
        batch_size: rows drawn together, at most.
    """
    has_room = [row for row, prompt in enumerate(prompts) if len(prompt) < context and chance.shape[1]]
    order = sorted(has_room, key=lambda row: len(prompts[row]))
    responses: list[list[int]] = [[] for _ in prompts]
    logprobs: list[Tensor] = [torch.zeros(0)] * len(prompts)
    how: dict[str, Any] = {"temperature": temperature, "end_ids": end_ids, "pad_id": pad_id, "context": context}
    sampler = Sampler(policy, **how, rows=min(batch_size, len(order)))

    def draw(rows: Sequence[int]) -> None:
        drawn = sampler.draw([prompts[row] for row in rows], chance[list(rows)])
        for row, (tokens, figures) in zip(rows, drawn, strict=True):
            responses[row], logprobs[row] = tokens, figures

    in_parts("sampling", order, batch_size, draw)
    return Sampled(
        responses=responses, logprobs=logprobs, is_finished=[bool(tokens) and tokens[-1] in end_ids for tokens in responses]
    )


_WORTH_LEAVING = 0.75
"""Ended rows leave once no more than this share of the batch is left: before, they cost less than moving the cache."""


class Sampler:
    """A policy as it is now, laid out for drawing responses from it; one that was trained since needs another of these.

    Args:
        policy: a causal language model.
        temperature: logits are divided by it; 0 takes the likeliest token.
        end_ids: any of them ends a response.
        pad_id: stands on the left of shorter prompts.
        context: tokens of prompt and response together, at most.
        rows: that are drawn together, about; 0 lays nothing out beforehand.
    """

    def __init__(
        self, policy: Any, *, temperature: float, end_ids: Collection[int], pad_id: int, context: int, rows: int
    ) -> None:
        self._policy, self._temperature, self._end_ids = policy, temperature, end_ids
        self._pad_id, self._context = pad_id, context
        self._has_cache = has_key_value_cache(policy)
        self._decoder = decoder(policy, rows=rows) if rows and self._has_cache else None

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[Sequence[int]], chance: Tensor, hear: Callable[[list[int]], None] | None = None
    ) -> list[tuple[list[int], Tensor]]:
        """Return the response to each prompt, with the log-probabilities of its tokens, nats.

        Args:
            prompts: token ids, each shorter than the context; all are drawn together.
            chance: (prompts, longest), uniform in [0, 1): decides each token; its width is the longest response.
            hear: is told the first response so far after each of its tokens.
        """
        how: dict[str, Any] = {"temperature": self._temperature, "end_ids": self._end_ids, "pad_id": self._pad_id}
        how |= {"context": self._context, "hear": hear}
        if not self._has_cache:
            return sample_uncached(self._policy, prompts, chance, **how)
        # the decoder has its number format already, and asks for no autocast at each of its operations
        with _quick_products(self._policy) if self._decoder is None else torch.autocast("cpu", enabled=False):
            return _sample_batch(self._policy, prompts, chance, decodes=self._decoder, **how)


def _sample_batch(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    chance: Tensor,
    *,
    decodes: Decoder | None,
    temperature: float,
    end_ids: Collection[int],
    pad_id: int,
    context: int,
    hear: Callable[[list[int]], None] | None,
) -> list[tuple[list[int], Tensor]]:
    device = policy.device
    ends = torch.tensor(list(end_ids), dtype=torch.int64, device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    room = (context - lengths).clamp(max=chance.shape[1])
    longest, width = int(room.max()), int(lengths.max())
    tokens = torch.full((len(prompts), longest), pad_id, device=device)
    figures = torch.zeros(len(prompts), longest, device=device)
    count = torch.zeros(len(prompts), dtype=torch.int64, device=device)

    if decodes is not None and decodes.reaches(width + longest) and lengths.min():
        rows: Session | _Forward = decodes.session(room=width + longest)
    else:
        rows = _Forward(policy, room=width + longest, pad_id=pad_id, context=context)
    batch = {"row": torch.arange(len(prompts), device=device), "room": room, "chance": chance.to(device)}
    batch |= {"is_alive": torch.ones_like(room, dtype=torch.bool)}
    drawn = torch.zeros(0)
    for time in range(longest):
        if not (alive := int(batch["is_alive"].sum())):
            break
        if time and alive <= _WORTH_LEAVING * len(batch["row"]):
            kept = batch["is_alive"].nonzero().squeeze(1)
            batch, drawn = {name: figure[kept] for name, figure in batch.items()}, drawn[kept]
            rows.keep(kept)
        row = batch["row"]
        logits = rows.read_next(drawn) if time else rows.read(prompts)
        drawn, figures[row, time] = drawn_tokens(logits, batch["chance"][:, time], temperature=temperature)
        tokens[row, time] = drawn  # of an ended row too, behind what is counted
        count[row] += batch["is_alive"]
        if hear:
            hear(tokens[0, : count[0]].tolist())
        batch["is_alive"] &= ~torch.isin(drawn, ends) & (time + 1 < batch["room"])
    told = zip(tokens.tolist(), count.tolist(), figures.cpu(), strict=True)
    return [(row[:length], of_tokens[:length].clone()) for row, length, of_tokens in told]


class _Forward:
    """Rows that are decoded together by the policy's own forward, whatever it is; see `models.decoder.Session`.

    Args:
        policy: a causal language model.
        room: tokens of a row, padding included, at most.
        pad_id: stands on the left of shorter prompts.
        context: tokens of a row, at most: positions end there.
    """

    def __init__(self, policy: Any, *, room: int, pad_id: int, context: int) -> None:
        self._policy, self._room, self._pad_id, self._context = policy, room, pad_id, context
        self._cache = _cache(policy.config.get_text_config(), room=room)
        self._is_token = self._place = torch.zeros(0)
        self._length = 0

    def read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Take the rows' prompts and return the logits of what follows, (rows, vocabulary)."""
        device = self._policy.device
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        width = int(lengths.max())
        ids = torch.tensor([[self._pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        self._is_token = (torch.arange(self._room, device=device) >= width - lengths[:, None]).long()
        self._place = (self._is_token[:, :width].cumsum(dim=1) - 1).clamp(min=0)
        return self._logits(ids)

    def read_next(self, ids: Tensor) -> Tensor:
        """Take one more token of each row, (rows,), and return the logits of what follows, (rows, vocabulary)."""
        self._place = (self._place[:, -1:] + 1).clamp(max=self._context - 1)
        return self._logits(ids[:, None])

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only; (rows,), int64."""
        self._is_token, self._place = self._is_token[rows], self._place[rows]
        self._cache.batch_select_indices(rows)

    def _logits(self, ids: Tensor) -> Tensor:
        self._length += ids.shape[1]
        logits: Tensor = self._policy(
            input_ids=ids,
            attention_mask=self._is_token[:, : self._length],
            position_ids=self._place,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits


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
