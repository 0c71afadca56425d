"""Which questions an update asks, what chance decides in it, and the episodes that come out.

Everything random is a function of the seed and of where it is used, never of what was drawn before: an update computes
the same thing in an undisturbed run, after a resume, and however many processes share it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from posttrain.ops.masks import is_response, padded


@dataclass(frozen=True)
class Sampled:
    """Responses as they were drawn.

    Attributes:
        responses: token ids of each, EOS included where it came.
        logprobs: of each of its tokens under the distribution that it was drawn from, nats.
        is_finished: whether it ended by itself, with a token that ends a response.
    """

    responses: Sequence[Sequence[int]]
    logprobs: Sequence[Tensor]
    is_finished: Sequence[bool]


@dataclass(frozen=True)
class Episodes:
    """Prompts with their responses, and what is known of each token when an update's training starts.

    Attributes:
        ids: (batch, time), int64; prompt, then response, padded on the right.
        prompt_length: (batch,), int64.
        response_length: (batch,), int64.
        is_finished: (batch,), bool; the response ended by itself.
        score: (batch,), the reward of the whole response, before shaping.
        logprob: (batch, response time), nats, under the policy that sampled; 0 on padding, as are those below.
        reference_logprob: (batch, response time), nats.
        value: (batch, response time), the critic's.
        correction: (batch, response time); what a token's part of the loss is multiplied by (`posttrain.rl.corrections`), 1 where
            the policy's own distribution was drawn from.
    """

    ids: Tensor
    prompt_length: Tensor
    response_length: Tensor
    is_finished: Tensor
    score: Tensor
    logprob: Tensor
    reference_logprob: Tensor
    value: Tensor
    correction: Tensor

    @property
    def is_response(self) -> Tensor:
        """(batch, response time), True on response tokens."""
        return is_response(self.response_length, longest=self.logprob.shape[1])

    def rows(self, chosen: Tensor) -> "Episodes":
        """Return some episodes, cut to the longest of them."""
        part = replace(self, **{field.name: getattr(self, field.name)[chosen] for field in fields(self)})
        time = int((part.prompt_length + part.response_length).max())
        longest = int(part.response_length.max())
        cut = {name: getattr(part, name)[:, :longest] for name in ("logprob", "reference_logprob", "value", "correction")}
        return replace(part, ids=part.ids[:, :time], **cut)

    def parts(self, chosen: Tensor, size: int) -> Iterator[Tensor]:
        """Yield some rows in parts of `size` at most, which a device takes at once, each of sequences of like length."""
        length = (self.prompt_length + self.response_length).cpu()[chosen]
        yield from torch.split(chosen[length.argsort(stable=True)], size)


def joined(prompts: Sequence[Sequence[int]], sampled: Sampled, *, pad_id: int, device: torch.device) -> Episodes:
    """Return episodes without scores, reference and values yet (zeros).

    Raises:
        ValueError: if a response has no token: there is nothing to learn from it, and no last token for its reward.
    """
    empty = [place for place, response in enumerate(sampled.responses) if not len(response)]
    if empty:
        raise ValueError(f"response {empty[0]} has no token: its prompt of {len(prompts[empty[0]])} tokens fills the context")
    ids = padded([[*head, *tail] for head, tail in zip(prompts, sampled.responses, strict=True)], with_value=pad_id)
    lengths = torch.tensor([len(response) for response in sampled.responses])
    logprob = torch.zeros(len(prompts), int(lengths.max()))
    logprob[is_response(lengths)] = torch.cat([row.float().cpu() for row in sampled.logprobs])
    nothing = torch.zeros_like(logprob)
    episodes = Episodes(
        ids=ids,
        prompt_length=torch.tensor([len(prompt) for prompt in prompts]),
        response_length=lengths,
        is_finished=torch.tensor(list(sampled.is_finished)),
        score=torch.zeros(len(prompts)),
        logprob=logprob,
        reference_logprob=nothing,
        value=nothing,
        correction=torch.ones_like(logprob),
    )
    return replace(episodes, **{field.name: getattr(episodes, field.name).to(device) for field in fields(episodes)})


def derived_generator(seed: int, *use: str | int) -> torch.Generator:
    """Return a generator on the CPU whose seed depends on `seed` and on the name of its use alone."""
    digest = hashlib.sha256("/".join(map(str, (seed, *use))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def questions_of_update(update: int, *, episodes: int, samples: int, questions: int, seed: int) -> list[int]:
    """Return the question of each episode of an update: a new random order each time all have been asked.

    Args:
        update: from 0.
        episodes: of an update; a multiple of `samples`.
        samples: episodes a question, one after the other.
        questions: how many there are.
        seed: of the orders.
    """
    slots = episodes // samples
    order: dict[int, list[int]] = {}
    asked = []
    for slot in range(update * slots, (update + 1) * slots):
        epoch, place = divmod(slot, questions)
        if epoch not in order:
            order[epoch] = torch.randperm(questions, generator=derived_generator(seed, "questions", epoch)).tolist()
        asked += [order[epoch][place]] * samples
    return asked


def drawn_tokens(logits: Tensor, chance: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Draw a token a row by inverting the distribution function, so that a row's token depends on its own chance alone.

        id = smallest k with Σ_{j ≤ k} p_j > u,   p = softmax(logits / T)

    At T = 0 it is the likeliest token, which is certain then; of equal ones the first.

    Args:
        logits: (batch, vocabulary).
        chance: u, (batch,), uniform in [0, 1).
        temperature: T.

    Returns:
        Tokens (batch,), int64, and their log-probabilities (batch,), nats.
    """
    if not temperature:
        likeliest = logits.argmax(dim=-1)
        return likeliest, torch.zeros(len(logits), device=logits.device)
    scaled = logits.float() if temperature == 1 else logits.float() / temperature
    if scaled.shape[-1] >= _MANY:
        return _drawn_by_blocks(scaled, chance)
    logprob = torch.log_softmax(scaled, dim=-1)
    reached = logprob.exp().cumsum(dim=-1)
    # rounding leaves the total a hair from 1; a chance that reaches it still means a token that has some probability
    total = reached[:, -1:]
    wanted = _below(chance[:, None] * total, total)
    ids = torch.searchsorted(reached, wanted, right=True)
    return ids.squeeze(-1), logprob.gather(-1, ids).squeeze(-1)


_MANY = 2**13
"""Tokens of a vocabulary from which sums of blocks are quicker: below, the numbers of the tiny base stay what they are."""
_BLOCK = 256


def _drawn_by_blocks(scaled: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
    """Draw as `drawn_tokens` does, from (batch, vocabulary) logits / T: first a block of tokens, and then one of its tokens.

    Nothing but the block that is drawn is summed up token by token, and no log-probability but that of the drawn token is made.
    """
    top = scaled.amax(dim=-1, keepdim=True)
    weights = (scaled - top).exp_()
    if odd := -weights.shape[-1] % _BLOCK:
        weights = torch.nn.functional.pad(weights, (0, odd))
    blocks = weights.view(len(weights), -1, _BLOCK)
    reached = blocks.sum(dim=-1).cumsum(dim=-1)
    total = reached[:, -1:]
    wanted = chance[:, None] * total
    block = torch.searchsorted(reached, _below(wanted, total), right=True)
    before = torch.where(block > 0, reached.gather(-1, (block - 1).clamp(min=0)), 0)
    inside = before + blocks[torch.arange(len(blocks), device=blocks.device), block.squeeze(-1)].cumsum(dim=-1)
    # a block's sum and the sum of its tokens round differently: what lies between them means its last token of some probability
    ids = block * _BLOCK + torch.searchsorted(inside, _below(wanted, inside[:, -1:]), right=True)
    return ids.squeeze(-1), (scaled.gather(-1, ids) - top - total.log()).squeeze(-1)


def _below(wanted: Tensor, end: Tensor) -> Tensor:
    """Return what is wanted, or the number next below the end where that is reached."""
    return torch.minimum(wanted, torch.nextafter(end, torch.zeros_like(end)))


def uniforms(update: int, *, episodes: int, longest: int, seed: int) -> Tensor:
    """Return the chance that decides each token of an update, (episodes, longest), uniform in [0, 1)."""
    return torch.rand(episodes, longest, generator=derived_generator(seed, "tokens", update))
