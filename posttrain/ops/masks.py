"""Which tokens are a response's, and what each weighs in a loss.

Sequences are a prompt and its response, padded on the right: a causal model never sees what comes later, so padding needs
no attention mask and cannot change a real token. Figures of response tokens lie in (batch, response time) arrays, padded on
the right as well, or flat, one row after the other, without padding.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


def padded(rows: Sequence[Sequence[int]], *, with_value: int) -> Tensor:
    """Return rows of tokens as one (batch, longest) int64 tensor, padded on the right."""
    longest = max(map(len, rows), default=0)
    return torch.tensor([[*row, *([with_value] * (longest - len(row)))] for row in rows], dtype=torch.int64).reshape(
        len(rows), longest
    )


def is_response(response_length: Tensor, *, longest: int | None = None) -> Tensor:
    """Return (batch, longest), True where a response has a token; `longest` defaults to the longest response.

    Args:
        response_length: (batch,), int64, tokens.
        longest: columns of the result.
    """
    columns = int(response_length.max()) if longest is None else longest
    return torch.arange(columns, device=response_length.device) < response_length[:, None]


def is_predicting(prompt_length: Tensor, response_length: Tensor, *, time: int) -> Tensor:
    """Return (batch, time), True at the positions whose output predicts a response token: one before each of them.

    Args:
        prompt_length: (batch,), int64, tokens; at least 1, as nothing predicts a sequence's first token.
        response_length: (batch,), int64, tokens.
        time: columns of the result.

    Raises:
        ValueError: if a prompt is empty, or a sequence is longer than `time`.
    """
    if not (prompt_length > 0).all():
        raise ValueError("a prompt needs a token, since nothing else predicts the response's first")
    if int((prompt_length + response_length).max()) > time:
        raise ValueError(f"a sequence of {int((prompt_length + response_length).max())} tokens does not fit into {time}")
    place = torch.arange(time, device=prompt_length.device)
    first = prompt_length[:, None] - 1
    return (place >= first) & (place < first + response_length[:, None])


def unflattened(flat: Tensor, where: Tensor) -> Tensor:
    """Return `flat` (tokens,) laid out as `where` (batch, time) says, 0 where it is False.

    Raises:
        ValueError: if `where` is True at another number of places.
    """
    if flat.shape[0] != int(where.sum()):
        raise ValueError(f"{flat.shape[0]} figures do not fit {int(where.sum())} tokens")
    out = torch.zeros(where.shape, dtype=flat.dtype, device=flat.device)
    out[where] = flat
    return out


def token_weights(response_length: Tensor, *, mean_over: Literal["tokens", "responses"]) -> Tensor:
    """Return the weight of each response token in a batch's loss, flat, summing to 1 over the batch.

    `tokens` gives each the same, so a long response weighs more; `responses` gives each response the same, so a long one's
    tokens weigh less (arXiv:2503.20783 calls the bias of either by name).

    Args:
        response_length: (batch,), int64, tokens; of the whole batch that a step is taken on.
        mean_over: see above.

    Raises:
        ValueError: if no response has a token.
    """
    tokens = int(response_length.sum())
    if tokens == 0:
        raise ValueError("no response has a token, so there is no mean to take")
    lengths = response_length.clamp(min=1).double()
    each = torch.full_like(lengths, 1 / tokens) if mean_over == "tokens" else 1 / (lengths * int((response_length > 0).sum()))
    return each.repeat_interleave(response_length).float()
