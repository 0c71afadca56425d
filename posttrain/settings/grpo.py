"""The settings of GRPO."""

from typing import Annotated, Literal

from pydantic import Field

from posttrain.settings.section import NotNegative, Positive, Section


class GRPOSettings(Section):
    """Group-relative policy optimisation (arXiv:2402.03300): PPO's loop without a critic, where responses to one question are
    compared with each other. The loop's settings are those of `ppo.*`, less what is named here and what a critic needs."""

    num_generations: Annotated[int, Field(ge=2)] = 8
    """Responses a question within an update, which are compared: a group (64 in the paper, 8 in TRL). `ppo.episodes` must be a
    multiple of it."""
    loss_type: Literal["grpo", "dr_grpo", "bnpo"] = "grpo"
    """What the loss is a mean over: `grpo`, the tokens of each response, then responses; `dr_grpo`, all tokens, over a constant,
    responses × `ppo.max_new_tokens` (Dr. GRPO, arXiv:2503.20783: a long wrong response is then no cheaper than a short one);
    `bnpo`, all tokens of a mini-batch. TRL's names."""
    scale_rewards: Literal["auto", "group", "none"] = "auto"
    """Whether an advantage is divided by its group's standard deviation: `none` under Dr. GRPO, as a question that is nearly
    always or nearly never answered would weigh more; `auto`: by `loss_type`."""
    kl_coef: NotNegative = 0.04
    """β of the KL from the reference (0.04 in the paper), in the place of `ppo.kl_coef`."""
    kl_in: Literal["reward", "loss"] = "loss"
    """`loss`: k3 is added to the loss, as in the paper; `reward`: k1 of its tokens is subtracted from a response's reward, and so
    is part of what a group is compared by."""
    clip_range: Positive = 0.2
    """ε of the clipped loss, below 1 and above."""
    clip_range_high: NotNegative = 0.0
    """ε above 1 (0.28 in DAPO, arXiv:2503.14476, so that unlikely tokens can grow); 0: as `grpo.clip_range`."""
