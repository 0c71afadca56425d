"""The loss of a language model that is to learn some tokens better than others."""

from torch import Tensor

from posttrain.ops.logprobs import token_logprobs


def weighted_next_token_loss(logits: Tensor, ids: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the negative log-likelihood of each token given those before it; scalar, nats a token.

        L = - Σ_t w_t log p(id_t | id_<t) / Σ_t w_t

    With weight 1 on tokens and 0 on padding it is `posttrain.ops.losses.next_token_loss`.

    Args:
        logits: (batch, time, vocabulary).
        ids: (batch, time), int64, padded on the right.
        weight: (batch, time), float, not negative; 0 on padding. That of the first token counts for nothing.

    Raises:
        ValueError: if shapes differ, a weight is negative, or no token to predict has any.
    """
    if weight.shape != ids.shape:
        raise ValueError(f"weight {tuple(weight.shape)} and ids {tuple(ids.shape)} must have one shape")
    if (weight < 0).any():
        raise ValueError(f"a weight must be at least 0, got {weight.min().item()}")
    weights = weight[:, 1:]
    total = weights.sum()
    if not total > 0:
        raise ValueError("no token with something before it has a weight, so there is nothing to predict")
    logprobs = token_logprobs(logits, ids, temperature=1.0)
    return -(logprobs * weights).masked_fill(weights == 0, 0.0).sum() / total
