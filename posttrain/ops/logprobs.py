"""Log-probabilities of tokens and responses."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def token_logprobs(logits: Tensor, ids: Tensor, *, temperature: float) -> Tensor:
    """Log-probability of each token given those before it.

        log p_t = log softmax(logits_{t-1} / T)[id_t]

    Args:
        logits: (batch, time, vocabulary), as the model returns them: position t predicts token t + 1.
        ids: (batch, time), int64.
        temperature: T; log-probabilities of sampled tokens need the T they were sampled at.

    Returns:
        (batch, time - 1), nats: entry t belongs to token t + 1, as the first token has nothing before it.

    Raises:
        ValueError: if shapes differ or T is not positive.
    """
    if logits.shape[:2] != ids.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and ids {tuple(ids.shape)} must agree in batch and time")
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    predictions = logits[:, :-1] / temperature
    taken = predictions.gather(-1, ids[:, 1:, None]).squeeze(-1)
    return taken - torch.logsumexp(predictions, dim=-1)


def response_logprobs(logits: Tensor, ids: Tensor, is_response: Tensor, *, temperature: float) -> Tensor:
    """Log-probability of each response: the sum over its tokens, (batch,), nats.

    Args:
        logits: (batch, time, vocabulary).
        ids: (batch, time), int64.
        is_response: (batch, time), bool; True where a token belongs to the response. Never True at position 0.
        temperature: see `token_logprobs`.

    Raises:
        ValueError: if shapes differ, T is not positive, or a response claims position 0, which nothing predicts.
    """
    if is_response.shape != ids.shape:
        raise ValueError(f"is_response {tuple(is_response.shape)} and ids {tuple(ids.shape)} must have one shape")
    if is_response[:, 0].any():
        raise ValueError("a response cannot start at position 0: no token stands before it to predict it from")
    logprobs = token_logprobs(logits, ids, temperature=temperature)
    return logprobs.masked_fill(~is_response[:, 1:], 0.0).sum(dim=-1)


def taken_logprobs(logits: Tensor, ids: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of the token taken at each of some positions, and the entropy of the distribution it was taken from.

        log p = log softmax(logits / T)[id],   H = - Σ p log p

    Both come from one pass over some rows at a time, and the gradient from another: with a vocabulary of 32,000 the plain
    formula writes and reads several copies of the logits, which take longer than the product that made them
    (`benchmarks.ppo_vs_trl`).

    Args:
        logits: (tokens, vocabulary), of the positions that predict them.
        ids: (tokens,), int64.
        temperature: T, the one that they were sampled at.

    Returns:
        Log-probabilities, (tokens,), nats, with a gradient; entropies, (tokens,), nats, without one.

    Raises:
        ValueError: if shapes differ or T is not positive.
    """
    if logits.shape[:1] != ids.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and ids {tuple(ids.shape)} must agree in their first dimension")
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    told: tuple[Tensor, Tensor] = _Taken.apply(logits, ids, temperature)  # type: ignore[no-untyped-call]
    return told


_AT_ONCE = 2**18
"""Numbers of the logits that are worked on at once: 1 MB in float32, which stays in a core's cache."""


class _Taken(torch.autograd.Function):
    """See `taken_logprobs`: ∂ log p / ∂ logits = (1[id] - p) / T."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        logprob, entropy, total = (logits.new_empty(len(ids)) for _ in range(3))
        for rows in _parts(logits):
            part = logits[rows] / temperature
            total[rows] = torch.logsumexp(part, dim=-1)
            logprob[rows] = part.gather(-1, ids[rows, None]).squeeze(-1) - total[rows]
            share = (part - total[rows, None]).exp_()
            entropy[rows] = total[rows] - share.mul_(part).sum(dim=-1)
        ctx.save_for_backward(logits, ids, total)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy)
        return logprob, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, ids, total = ctx.saved_tensors
        of_logprob = gradients[0] / ctx.temperature
        gradient = torch.empty_like(logits)
        for rows in _parts(logits):
            part = torch.div(logits[rows], ctx.temperature, out=gradient[rows])
            part.sub_(total[rows, None]).exp_().mul_(-of_logprob[rows, None])
            part.scatter_add_(-1, ids[rows, None], of_logprob[rows, None])
        return gradient, None, None


def _parts(logits: Tensor) -> Iterator[slice]:
    rows = max(1, _AT_ONCE // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    for start in range(0, len(logits), max(1, rows)):
        yield slice(start, start + rows)


def entropies(logits: Tensor, *, temperature: float) -> Tensor:
    """Entropy of the next-token distribution at each of some positions, (tokens,), nats: - Σ p log p, p = softmax(logits / T)."""
    logprob = torch.log_softmax(logits if temperature == 1 else logits / temperature, dim=-1)
    return -(logprob.exp() * logprob).sum(dim=-1)


def stepwise_kl(logits: Tensor, reference_logits: Tensor, *, temperature: float) -> Tensor:
    """KL(p ‖ q) of two next-token distributions at each of some positions, exact over the vocabulary; (tokens,), nats.

        KL = Σ_v p_v (log p_v - log q_v),   p = softmax(logits / T), q = softmax(reference_logits / T)

    Summed over a response that p drew it is the Rao–Blackwellised estimate of the KL of whole responses (arXiv:2504.10637).

    Args:
        logits: of p; (tokens, vocabulary).
        reference_logits: of q; likewise.
        temperature: T.

    Returns:
        float32, never negative, without a gradient.

    Raises:
        ValueError: if shapes differ or T is not positive.
    """
    if logits.shape != reference_logits.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and reference_logits {tuple(reference_logits.shape)} must have one shape")
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    told = logits.new_empty(len(logits), dtype=torch.float32)
    with torch.no_grad():
        for rows in _parts(logits):
            own, other = (torch.log_softmax(part[rows].float() / temperature, dim=-1) for part in (logits, reference_logits))
            share = own.exp()
            # a token that p never takes adds nothing, whatever q says of it; -inf - -inf would be NaN
            told[rows] = (share * (own - other).masked_fill(share == 0, 0.0)).sum(dim=-1)
    return told.clamp(min=0)  # rounding leaves a sum of 0 a hair below it
