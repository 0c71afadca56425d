"""What an optimiser step minimises: the policy's clipped loss, with a value loss, an entropy bonus and a KL where there are any.

A mini-batch may be computed in parts and by several processes: every term is a sum over tokens times weights that count the
whole mini-batch, so that the parts' losses and figures add up.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from posttrain.ops.losses import PolicyLoss, clipped_policy_loss, clipped_response_loss, clipped_value_loss, kl_k3
from posttrain.ops.masks import is_response, token_weights, unflattened
from posttrain.rl.estimators import Estimate, MeanOver, Surrogate
from posttrain.rl.network import TokenFigures
from posttrain.rl.rollout import Episodes
from posttrain.settings.ppo import PPOSettings

FIGURES = ("policy_loss", "value_loss", "clip_fraction", "value_clip_fraction", "approx_kl", "entropy", "gradient_norm")
"""What a step tells, in the order of its tensor; the last is filled in when gradients are clipped."""
OF_CRITIC = frozenset({"value_loss", "value_clip_fraction"})
"""Figures that are told only where there is a critic."""


@dataclass(frozen=True)
class MiniBatch:
    """What a step learns from: figures of every episode of the update, and what each token weighs in this step.

    Attributes:
        advantage: (batch, time).
        returns: (batch, time); None where there is no critic.
        weight: (batch, time), sums to 1 over the tokens of the mini-batch, 0 on all others.
        scale: what the policy's loss is multiplied by; 1 unless its denominator is a constant.
    """

    advantage: Tensor
    returns: Tensor | None
    weight: Tensor
    scale: float

    @classmethod
    def of(cls, estimate: Estimate, lengths: Tensor, rows: Tensor, *, mean_over: MeanOver, longest: int) -> "MiniBatch":
        """Return the mini-batch of some episodes.

        A constant denominator, responses × `longest` (Dr. GRPO, arXiv:2503.20783), is written as the mean over tokens times the
        share of that room that tokens fill, so that what is watched beside the loss stays a mean.

        Args:
            estimate: of the whole update.
            lengths: (batch,), int64, response tokens of each episode of the update; on the CPU.
            rows: which of them the mini-batch is.
            mean_over: see `Surrogate`.
            longest: response tokens, at most (`ppo.max_new_tokens`).
        """
        weight = torch.zeros(len(lengths), int(lengths.max()))
        weight[rows] = unflattened(
            token_weights(lengths[rows], mean_over="tokens" if mean_over == "constant" else mean_over),
            is_response(lengths[rows], longest=weight.shape[1]),
        )
        return cls(
            advantage=estimate.advantage,
            returns=estimate.returns,
            weight=weight.to(estimate.advantage.device),
            scale=int(lengths[rows].sum()) / (len(rows) * longest) if mean_over == "constant" else 1.0,
        )

    def rows(self, chosen: Tensor, *, longest: int) -> "MiniBatch":
        """Return what belongs to some of the update's episodes, cut to `longest` response tokens."""

        def part(figure: Tensor) -> Tensor:
            return figure[chosen][:, :longest]

        returns = None if self.returns is None else part(self.returns)
        return replace(self, advantage=part(self.advantage), returns=returns, weight=part(self.weight))


def loss_of_part(
    figures_of_tokens: TokenFigures,
    part: Episodes,
    learnt: MiniBatch,
    *,
    surrogate: Surrogate,
    settings: PPOSettings,
    kl_coef: float,
) -> tuple[Tensor, Tensor]:
    """Return a part's share of its mini-batch's loss, and of the figures, in the order of `FIGURES`.

    Args:
        figures_of_tokens: by the network in training, of the part's response tokens, flat.
        part: its episodes.
        learnt: what belongs to them.
        surrogate: how the policy's loss is formed.
        settings: of the critic and of the entropy bonus.
        kl_coef: β as it now is.
    """
    assert figures_of_tokens.logprob is not None and figures_of_tokens.entropy is not None
    mask = part.is_response
    weight = learnt.weight[mask]
    policy = _policy_loss(figures_of_tokens.logprob, part, learnt, surrogate)
    loss = learnt.scale * policy.loss
    figures = {"policy_loss": loss, "clip_fraction": policy.clip_fraction, "approx_kl": policy.approx_kl}
    if learnt.returns is not None:
        assert figures_of_tokens.value is not None
        value = clipped_value_loss(
            figures_of_tokens.value, part.value[mask], learnt.returns[mask], weight, clip_range=settings.value_clip_range
        )
        loss = loss + settings.value_coef * value.loss
        figures |= {"value_loss": value.loss, "value_clip_fraction": value.clip_fraction}
    figures["entropy"] = (weight * figures_of_tokens.entropy).sum()
    if settings.entropy_coef:
        loss = loss - settings.entropy_coef * figures["entropy"]
    if surrogate.kl_in == "loss":
        loss = loss + kl_coef * learnt.scale * (weight * kl_k3(figures_of_tokens.logprob, part.reference_logprob[mask])).sum()
    none = torch.zeros_like(figures["entropy"])
    return loss, torch.stack([figures.get(name, none).detach() for name in FIGURES])


def _policy_loss(logprob: Tensor, part: Episodes, learnt: MiniBatch, surrogate: Surrogate) -> PolicyLoss:
    mask, (low, high) = part.is_response, surrogate.clip_range
    if surrogate.importance_sampling_level == "sequence":
        laid_out = unflattened(logprob, mask)
        of_response = {"advantage": learnt.advantage[:, 0], "correction": part.correction[:, 0]}
        return clipped_response_loss(
            laid_out, part.logprob, weight=learnt.weight, clip_range=low, clip_range_high=high, **of_response
        )
    of_token = {"advantage": learnt.advantage[mask], "correction": part.correction[mask]}
    return clipped_policy_loss(
        logprob, part.logprob[mask], weight=learnt.weight[mask], clip_range=low, clip_range_high=high, **of_token
    )
