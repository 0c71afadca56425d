"""Group-relative policy optimisation: how much better a response is than others to the same prompt."""

import torch
from torch import Tensor

from posttrain.rl.advantages import grouped, groups_without_signal, on_each_token
from posttrain.rl.estimators import Estimate, MeanOver, Rollout, Surrogate
from posttrain.settings.grpo import GRPOSettings

MEAN_OVER: dict[str, MeanOver] = {"grpo": "responses", "dr_grpo": "constant", "bnpo": "tokens"}


class GroupRelative:
    """GRPO's estimator, and Dr. GRPO's with `grpo.loss_type=dr_grpo`."""

    name = "grpo"
    has_critic = False

    def __init__(self, settings: GRPOSettings) -> None:
        self.num_generations = settings.num_generations
        is_scaled_by_default = settings.loss_type != "dr_grpo"
        self.is_scaled = is_scaled_by_default if settings.scale_rewards == "auto" else settings.scale_rewards == "group"
        self.surrogate = Surrogate(
            mean_over=MEAN_OVER[settings.loss_type],
            importance_sampling_level="token",
            clip_range=(settings.clip_range, settings.clip_range_high or settings.clip_range),
            kl_in=settings.kl_in,
            kl_coef=settings.kl_coef,
        )

    def estimate(self, rollout: Rollout) -> Estimate:
        """Return each response's advantage on all its tokens, and the share of groups that say nothing."""
        reward = rollout.reward.sum(dim=1)
        advantage = group_advantages(reward, num_generations=rollout.num_generations, is_scaled=self.is_scaled)
        return Estimate(
            advantage=on_each_token(advantage, rollout.is_response),
            metrics={"groups_without_signal": groups_without_signal(rollout.score, num_generations=rollout.num_generations)},
        )


def group_advantages(reward: Tensor, *, num_generations: int, is_scaled: bool) -> Tensor:
    """Return each response's reward less the mean of its group, over the group's standard deviation.

        A_i = (r_i - mean(r_1 … r_G)) / (std(r_1 … r_G) + 1e-4)

    Section 4.1.2 of Shao et al. 2024 (arXiv:2402.03300), G = `num_generations`. The standard deviation is the sample's (over
    G - 1), and 1e-4 is added to it, as in TRL; the paper says neither. Without the division it is Dr. GRPO's (section 3.2 of
    arXiv:2503.20783). A group of equal rewards gets 0, to the last bit.

    Args:
        reward: (responses,), those of a group one after the other.
        num_generations: responses of a group.
        is_scaled: whether to divide.

    Returns:
        (responses,).

    Raises:
        ValueError: a group has one response, or the responses are no whole number of groups.
    """
    groups = grouped(reward, num_generations=num_generations)
    centred = groups - groups.mean(dim=1, keepdim=True)
    if is_scaled:
        centred = centred / (groups.std(dim=1, keepdim=True) + 1e-4)
    is_equal = (groups == groups[:, :1]).all(dim=1, keepdim=True)  # a mean of equal numbers may be a rounding off them
    return torch.where(is_equal, 0.0, centred).flatten()
