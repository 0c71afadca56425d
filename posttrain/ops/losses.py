"""Losses of the trainers that are ours."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from posttrain.ops.logprobs import token_logprobs


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


@dataclass(frozen=True)
class PolicyLoss:
    """PPO's policy loss, and what people watch beside it; each is a sum over tokens times their weights.

    Attributes:
        loss: scalar, carries the gradient.
        clip_fraction: weight of the tokens (or responses, where these have the ratio) whose ratio is clipped, so lies outside
            the clip range; scalar.
        approx_kl: k3 estimate of KL(old policy ‖ policy) a token; scalar, nats.
    """

    loss: Tensor
    clip_fraction: Tensor
    approx_kl: Tensor


@dataclass(frozen=True)
class ValueLoss:
    """PPO's value loss, and the weight of the tokens where clipping decided; scalars."""

    loss: Tensor
    clip_fraction: Tensor


def clipped_policy_loss(
    logprob: Tensor,
    old_logprob: Tensor,
    advantage: Tensor,
    weight: Tensor,
    *,
    clip_range: float,
    clip_range_high: float | None = None,
    correction: Tensor | None = None,
) -> PolicyLoss:
    """PPO's clipped surrogate objective, negated so that lower is better.

        L = - Σ_t w_t c_t min(ρ_t A_t, clip(ρ_t, 1 - ε, 1 + ε′) A_t),   ρ_t = exp(logprob_t - old_logprob_t)

    Eq. 7 of Schulman et al. 2017 (arXiv:1707.06347), where ε′ = ε; a larger ε′ is DAPO's (arXiv:2503.14476, eq. 10). The mean is
    written as a sum of weights so that it is the same whether a batch is computed at once, in parts, or by several processes.

    Args:
        logprob: of each sampled token under the policy in training; any shape, nats, carries the gradient.
        old_logprob: of the same tokens under the policy that sampled them; same shape.
        advantage: of each token; same shape.
        weight: of each token, 0 on padding, summing to 1 over the batch of a step (`posttrain.ops.masks.token_weights`).
        clip_range: ε.
        clip_range_high: ε′; None: as ε.
        correction: c, for tokens that another distribution than the old policy's was drawn from
            (`posttrain.rl.corrections`); same shape. None: 1.

    Raises:
        ValueError: if shapes differ.
    """
    given = {} if correction is None else {"correction": correction}
    _one_shape(logprob=logprob, old_logprob=old_logprob, advantage=advantage, weight=weight, **given)
    corrected = weight if correction is None else weight * correction
    high = clip_range if clip_range_high is None else clip_range_high
    difference = logprob - old_logprob
    ratio = difference.exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip_range, 1 + high) * advantage)
    with torch.no_grad():
        is_outside = (ratio - 1 > high) | (1 - ratio > clip_range)
        approx_kl = kl_k3(old_logprob, logprob)
    return PolicyLoss(
        loss=-(corrected * surrogate).sum(), clip_fraction=(weight * is_outside).sum(), approx_kl=(weight * approx_kl).sum()
    )


def clipped_response_loss(
    logprob: Tensor,
    old_logprob: Tensor,
    advantage: Tensor,
    weight: Tensor,
    *,
    clip_range: float,
    clip_range_high: float | None = None,
    correction: Tensor | None = None,
) -> PolicyLoss:
    """The clipped surrogate objective with one ratio a response, the product of its tokens' (REINFORCE on whole responses).

        L = - Σ_i w_i c_i min(ρ_i A_i, clip(ρ_i, 1 - ε, 1 + ε′) A_i)
        ρ_i = exp(Σ_t logprob_it - old_logprob_it),   w_i = Σ_t w_it

    Where the policy still is the one that sampled, the gradient is REINFORCE's, Σ_i w_i A_i ∇ log p(response_i), as section 3 of
    Ahmadian et al. 2024 (arXiv:2402.14740) has it; clipping lets a rollout be used more than once, as in TRL's RLOOTrainer.

    Args:
        logprob: of each sampled token under the policy in training; (batch, time), nats, 0 on padding, carries the gradient.
        old_logprob: of the same tokens under the policy that sampled them; (batch, time), 0 on padding.
        advantage: of each response; (batch,).
        weight: of each token, (batch, time), 0 on padding, summing to 1 over the batch of a step.
        clip_range: ε.
        clip_range_high: ε′; None: as ε.
        correction: c of each response, (batch,); None: 1.

    Returns:
        `clip_fraction` counts responses; `approx_kl` is of a token, as in `clipped_policy_loss`.

    Raises:
        ValueError: if shapes differ.
    """
    _one_shape(logprob=logprob, old_logprob=old_logprob, weight=weight)
    of_responses = clipped_policy_loss(
        logprob.sum(dim=1),
        old_logprob.sum(dim=1),
        advantage,
        weight.sum(dim=1),
        clip_range=clip_range,
        clip_range_high=clip_range_high,
        correction=correction,
    )
    return replace(of_responses, approx_kl=(weight * kl_k3(old_logprob, logprob.detach())).sum())


def clipped_value_loss(value: Tensor, old_value: Tensor, returns: Tensor, weight: Tensor, *, clip_range: float) -> ValueLoss:
    """Half the squared error of the critic, which gains nothing by moving further than ε in one update.

        L = ½ Σ_t w_t max((V_t - R_t)², (clip(V_t, V°_t - ε, V°_t + ε) - R_t)²)

    Not in the paper, but in its authors' code (openai/baselines, ppo2), and in Ziegler et al. 2019 (arXiv:1909.08593).

    Args:
        value: V, the critic's estimate; any shape, carries the gradient.
        old_value: V°, its estimate when the episodes were collected; same shape.
        returns: R; same shape.
        weight: see `clipped_policy_loss`.
        clip_range: ε, in units of the reward.

    Raises:
        ValueError: if shapes differ.
    """
    _one_shape(value=value, old_value=old_value, returns=returns, weight=weight)
    clipped = torch.maximum(torch.minimum(value, old_value + clip_range), old_value - clip_range)
    error, clipped_error = (value - returns).square(), (clipped - returns).square()
    return ValueLoss(
        loss=0.5 * (weight * torch.maximum(error, clipped_error)).sum(),
        clip_fraction=(weight * (clipped_error > error)).sum().detach(),
    )


def kl_k1(logprob: Tensor, reference_logprob: Tensor) -> Tensor:
    """The plain estimate of KL(p ‖ q) from tokens that p sampled, per token: k1 = log p - log q. Unbiased, of either sign.

    J. Schulman, Approximating KL divergence (2020, joschu.net/blog/kl-approx.html).
    """
    _one_shape(logprob=logprob, reference_logprob=reference_logprob)
    return logprob - reference_logprob


def kl_k3(logprob: Tensor, reference_logprob: Tensor) -> Tensor:
    """The estimate of KL(p ‖ q) from tokens that p sampled that is unbiased and never negative: k3 = q/p - 1 - log(q/p).

    J. Schulman, Approximating KL divergence (2020, joschu.net/blog/kl-approx.html).
    """
    _one_shape(logprob=logprob, reference_logprob=reference_logprob)
    log_ratio = reference_logprob - logprob
    return log_ratio.expm1() - log_ratio


def bradley_terry_loss(difference: Tensor, preference: Tensor, margin: Tensor) -> Tensor:
    """Cross-entropy between labels and what a difference of two scores says of each pair, per pair.

        L = -[p log σ(d - m) + (1 - p) log σ(-d - m)]

    Bradley and Terry 1952 (doi:10.2307/2334029) as eq. 1 of Ouyang et al. 2022 (arXiv:2203.02155), where p = 1 and m = 0; with
    the soft labels p of Lee et al. 2023 (arXiv:2309.00267) and the margin m of Touvron et al. 2023 (eq. 2 of arXiv:2307.09288).
    Which response of a pair stands first does not matter: (-d, 1 - p, m) costs the same.

    Args:
        difference: d, score of the first response minus that of the second; (pairs,), carries the gradient.
        preference: p, probability that the first is better; (pairs,).
        margin: m ≥ 0, the difference asked for, in units of the score; (pairs,), 0 for none.

    Returns:
        (pairs,), nats.

    Raises:
        ValueError: if shapes differ.
    """
    _one_shape(difference=difference, preference=preference, margin=margin)
    return -(preference * logsigmoid(difference - margin) + (1 - preference) * logsigmoid(-difference - margin))


def _one_shape(**tensors: Tensor) -> None:
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes must agree: {shapes}")


def weighted_next_token_loss(logits: Tensor, ids: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the negative log-likelihood of each token given those before it; scalar, nats a token.

        L = - Σ_t w_t log p(id_t | id_<t) / Σ_t w_t

    With weight 1 on tokens and 0 on padding it is `next_token_loss`.

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
