"""What a token's part of the loss is multiplied by where another distribution than the policy's was drawn from."""

from typing import Literal

from torch import Tensor


def truncated_weights(own: Tensor, drawn: Tensor, *, cap: float, level: Literal["token", "sequence"]) -> Tensor:
    """Return truncated importance weights, of each token or of each response.

        c_t = min(exp(own_t - drawn_t), C);   c_i = min(exp(Σ_t own_it - drawn_it), C) on each token of response i

    Ionides 2008 (doi:10.1198/106186008X320456) truncates weights: a little bias for a variance that is bounded. Used so for
    samplers that are not quite the policy, by token, in Yao et al. 2025 (https://fengyao.notion.site/off-policy-rl).

    Args:
        own: log-probability of each token under the policy that is trained, as it was before the update; (batch, time), nats,
            0 on padding.
        drawn: the same under the distribution that was drawn from; same shape.
        cap: C ≥ 1.
        level: what has a weight, as what has a ratio in the loss.

    Returns:
        (batch, time); with level `token` 1 on padding.
    """
    difference = own - drawn
    if level == "sequence":
        difference = difference.sum(dim=1, keepdim=True).expand_as(difference)
    return difference.exp().clamp(max=cap)
