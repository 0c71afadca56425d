"""Log-probabilities of tokens and responses."""

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


def taken_logprobs(logits: Tensor, ids: Tensor, *, temperature: float) -> Tensor:
    """Log-probability of the token taken at each of some positions, (tokens,), nats.

        log p = log softmax(logits / T)[id]

    Args:
        logits: (tokens, vocabulary), of the positions that predict them.
        ids: (tokens,), int64.
        temperature: T, the one that they were sampled at.

    Raises:
        ValueError: if shapes differ or T is not positive.
    """
    if logits.shape[:1] != ids.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and ids {tuple(ids.shape)} must agree in their first dimension")
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    predictions = logits if temperature == 1 else logits / temperature
    return predictions.gather(-1, ids[:, None]).squeeze(-1) - torch.logsumexp(predictions, dim=-1)


def entropies(logits: Tensor, *, temperature: float) -> Tensor:
    """Entropy of the next-token distribution at each of some positions, (tokens,), nats: - Σ p log p, p = softmax(logits / T)."""
    logprob = torch.log_softmax(logits if temperature == 1 else logits / temperature, dim=-1)
    return -(logprob.exp() * logprob).sum(dim=-1)
