"""The settings of RLOO."""

from typing import Annotated

from pydantic import Field

from posttrain.settings.section import NotNegative, Positive, Section


class RLOOSettings(Section):
    """REINFORCE leave-one-out (arXiv:2402.14740): PPO's loop without a critic, where a response's baseline is the mean reward of
    the others to the same question. The loop's settings are those of `ppo.*`, less what is named here and what a critic needs."""

    num_generations: Annotated[int, Field(ge=2)] = 4
    """Responses a question within an update (2 and 4 in the paper, 2 in TRL). `ppo.episodes` must be a multiple of it."""
    kl_coef: NotNegative = 0.05
    """β of the KL from the reference (0.05 in TRL), in the place of `ppo.kl_coef`: the KL of the whole response is subtracted
    from its reward, as in the paper."""
    clip_range: Positive = 0.2
    """ε at which a response's ratio, the product of its tokens', is clipped below 1 and above (TRL's form; the paper takes one
    step from a rollout, where the ratio is 1)."""
    clip_range_high: NotNegative = 0.0
    """ε above 1; 0: as `rloo.clip_range`."""
