"""REINFORCE leave-one-out: how much better a response is than the mean of the others to the same prompt."""

from torch import Tensor

from posttrain.rl.advantages import grouped, groups_without_signal, on_each_token
from posttrain.rl.estimators import Estimate, Rollout, Surrogate
from posttrain.settings.rloo import RLOOSettings


class LeaveOneOut:
    """RLOO's estimator."""

    name = "rloo"
    has_critic = False

    def __init__(self, settings: RLOOSettings) -> None:
        self.num_generations = settings.num_generations
        self.surrogate = Surrogate(
            mean_over="responses",
            importance_sampling_level="sequence",
            clip_range=(settings.clip_range, settings.clip_range_high or settings.clip_range),
            kl_in="reward",
            kl_coef=settings.kl_coef,
        )

    def estimate(self, rollout: Rollout) -> Estimate:
        """Return each response's advantage on all its tokens, and the share of groups that say nothing but for the KL."""
        advantage = leave_one_out_advantages(rollout.reward.sum(dim=1), num_generations=rollout.num_generations)
        return Estimate(
            advantage=on_each_token(advantage, rollout.is_response),
            metrics={"groups_without_signal": groups_without_signal(rollout.score, num_generations=rollout.num_generations)},
        )


def leave_one_out_advantages(reward: Tensor, *, num_generations: int) -> Tensor:
    """Return each response's reward less the mean of the others of its group, which does not depend on it: no bias.

        A_i = r_i - (Σ_{j ≠ i} r_j) / (k - 1)

    Section 3.3 of Ahmadian et al. 2024 (arXiv:2402.14740), after Kool et al. 2019; k = `num_generations`.

    Args:
        reward: r, (responses,), those of a group one after the other.
        num_generations: responses of a group.

    Returns:
        (responses,).

    Raises:
        ValueError: a group has one response, or the responses are no whole number of groups.
    """
    groups = grouped(reward, num_generations=num_generations)
    others = (groups.sum(dim=1, keepdim=True) - groups) / (num_generations - 1)
    return (groups - others).flatten()
