"""Losses of the trainers that are ours."""

from torch import Tensor

from posttrain.logprobs import token_logprobs


def next_token_loss(logits: Tensor, ids: Tensor, is_token: Tensor) -> Tensor:
    """Mean negative log-likelihood of each token given those before it; scalar, nats a token.

        L = - mean over t of log p(id_t | id_<t)

    Args:
        logits: (batch, time, vocabulary).
        ids: (batch, time), int64, padded on the right.
        is_token: (batch, time), bool; False on padding, which then neither predicts nor is predicted.

    Raises:
        ValueError: if shapes differ, or there is no token to predict.
    """
    if is_token.shape != ids.shape:
        raise ValueError(f"is_token {tuple(is_token.shape)} and ids {tuple(ids.shape)} must have one shape")
    is_predicted = is_token[:, 1:]
    if not is_predicted.any():
        raise ValueError("no sequence has a second token, so there is nothing to predict")
    logprobs = token_logprobs(logits, ids, temperature=1.0)
    return -logprobs.masked_fill(~is_predicted, 0.0).sum() / is_predicted.sum()
