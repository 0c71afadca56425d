"""What tells one policy-gradient method from another: its advantages, its loss, and whether it has a critic.

The loop (`posttrain.rl.ppo`) samples, scores, trains and watches in one way; an estimator says what its episodes are worth. PPO's
own is here, generalised advantages with a critic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

from posttrain.rl.advantages import generalised_advantages, whitened
from posttrain.settings.ppo import PPOSettings

MeanOver = Literal["tokens", "responses", "constant"]


@dataclass(frozen=True)
class Rollout:
    """What an update's episodes came to; all processes' episodes, in groups of `num_generations` to one prompt.

    Attributes:
        score: (batch,), of whole responses, shaped (centred, scaled, clipped, with the penalty for a missing EOS).
        reward: (batch, time), of each response token: the score on the last, less the KL where it is in the reward.
        value: (batch, time), the critic's estimate before each token; zeros where there is no critic.
        is_response: (batch, time), bool.
        num_generations: responses to a prompt, which lie one after the other.
    """

    score: Tensor
    reward: Tensor
    value: Tensor
    is_response: Tensor
    num_generations: int


@dataclass(frozen=True)
class Estimate:
    """What an update learns from.

    Attributes:
        advantage: (batch, time), 0 on padding.
        returns: (batch, time), what the critic is to predict, 0 on padding; None where there is no critic.
        metrics: what is worth watching, by name.
    """

    advantage: Tensor
    returns: Tensor | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Surrogate:
    """How advantages become the policy's loss.

    Attributes:
        mean_over: what the loss is a mean over: all `tokens` of a mini-batch; the tokens of each response, then its `responses`;
            or `constant`, the sum over tokens divided by responses and by the longest response there may be.
        importance_sampling_level: whether each `token` has a ratio of new to old probability, or the `sequence` has one, the
            product of its tokens'; then the advantage is the response's, the same on each of its tokens.
        clip_range: ε below and above 1 at which the ratio is clipped.
        kl_in: whether the KL from the reference is taken off the `reward`, as k1, or added to the `loss`, as k3.
        kl_coef: β of that KL, as it is at the start.
    """

    mean_over: MeanOver
    importance_sampling_level: Literal["token", "sequence"]
    clip_range: tuple[float, float]
    kl_in: Literal["reward", "loss"]
    kl_coef: float


class Estimator(Protocol):
    """A policy-gradient method, as the loop sees it."""

    @property
    def name(self) -> str:
        """The method's, in small letters, which is also that of its section of settings."""

    @property
    def has_critic(self) -> bool:
        """Whether the network has values, which are trained beside the policy."""

    @property
    def num_generations(self) -> int:
        """Responses to a prompt within an update."""

    @property
    def surrogate(self) -> Surrogate:
        """How its advantages become a loss."""

    def estimate(self, rollout: Rollout) -> Estimate:
        """Return advantages of an update's tokens."""


class GeneralisedAdvantage:
    """PPO's: generalised advantage estimation from a critic's values (`posttrain.rl.advantages.generalised_advantages`)."""

    name = "ppo"
    has_critic = True

    def __init__(self, settings: PPOSettings) -> None:
        self.settings = settings
        self.num_generations = settings.samples_per_prompt
        self.surrogate = Surrogate(
            mean_over=settings.mean_over,
            importance_sampling_level="token",
            clip_range=(settings.clip_range, settings.clip_range),
            kl_in=settings.kl_in,
            kl_coef=settings.kl_coef,
        )

    def estimate(self, rollout: Rollout) -> Estimate:
        """Return advantages, whitened where it is asked for, the critic's returns, and how much of them it explained."""
        mask = rollout.is_response
        advantage, returns = generalised_advantages(
            rollout.reward, rollout.value, mask, gamma=self.settings.gamma, gae_lambda=self.settings.gae_lambda
        )
        return Estimate(
            advantage=whitened(advantage, mask) if self.settings.whiten_advantages else advantage,
            returns=returns,
            metrics=explained_variance(rollout.value[mask], returns[mask]),
        )


def explained_variance(value: Tensor, returns: Tensor) -> dict[str, float]:
    """Return 1 - Var(R - V) / Var(R): 1 for a perfect critic, 0 for one that knows the mean; none without variance.

    Args:
        value: V, (tokens,).
        returns: R, (tokens,).
    """
    spread = returns.var(correction=0)
    if not spread > 1e-12:
        return {}
    return {"explained_variance": (1 - (returns - value).var(correction=0) / spread).item()}
