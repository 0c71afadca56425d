"""How much better each token turned out than expected."""

import torch
from torch import Tensor


def generalised_advantages(
    reward: Tensor, value: Tensor, is_response: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates, and the returns that a critic is to predict.

        δ_t = r_t + γ V_{t+1} - V_t,   A_t = δ_t + γ λ A_{t+1},   R_t = A_t + V_t

    Eq. 16 of Schulman et al. 2016 (arXiv:1506.02438), γ = `gamma`, λ = `gae_lambda`. After a response's last token nothing
    follows: V and A are 0 there, whether the response ended by itself or was cut off.

    Args:
        reward: (batch, time), of each response token; what lies on padding is not read.
        value: (batch, time), the critic's estimate before each token; what lies on padding is not read.
        is_response: (batch, time), bool; True on a response's tokens, which start at column 0 without a gap.
        gamma: γ in 0..1.
        gae_lambda: λ in 0..1.

    Returns:
        Advantages and returns, (batch, time), 0 on padding.

    Raises:
        ValueError: if shapes differ.
    """
    if not reward.shape == value.shape == is_response.shape:
        raise ValueError(
            f"reward {tuple(reward.shape)}, value {tuple(value.shape)} and is_response {tuple(is_response.shape)} "
            "must have one shape"
        )
    value = value.masked_fill(~is_response, 0.0)
    advantage = torch.zeros_like(value)
    following = torch.zeros_like(value[:, 0]) if value.shape[1] else value.sum(dim=1)
    next_value = following
    for time in reversed(range(value.shape[1])):
        surprise = reward[:, time] + gamma * next_value - value[:, time]
        following = (surprise + gamma * gae_lambda * following).masked_fill(~is_response[:, time], 0.0)
        advantage[:, time] = following
        next_value = value[:, time]
    return advantage, advantage + value


def whitened(advantage: Tensor, is_response: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over the response tokens, 0 on padding; (batch, time).

    The standard deviation is the population's; 1e-8 is added to the variance (as in the code of Ziegler et al. 2019,
    arXiv:1909.08593). Give the whole update's advantages, of all processes: those of a part would be scaled by the part.

    Raises:
        ValueError: if shapes differ, or fewer than two tokens are a response's (one alone has no spread).
    """
    if advantage.shape != is_response.shape:
        raise ValueError(f"advantage {tuple(advantage.shape)} and is_response {tuple(is_response.shape)} must have one shape")
    taken = advantage[is_response]
    if taken.numel() < 2:
        raise ValueError(f"whitening needs two response tokens at least, got {taken.numel()}")
    centred = advantage - taken.mean()
    return (centred * torch.rsqrt(taken.var(correction=0) + 1e-8)).masked_fill(~is_response, 0.0)


def rewards_to_go(reward: Tensor, *, gamma: float) -> Tensor:
    """Return what each token's response still gets, (batch, time): Σ_{l ≥ 0} γˡ r_{t+l}.

    Args:
        reward: (batch, time), 0 behind a response's end.
        gamma: γ.
    """
    total = torch.zeros_like(reward)
    follows = torch.zeros_like(reward[:, 0])
    for time in reversed(range(reward.shape[1])):
        follows = reward[:, time] + gamma * follows
        total[:, time] = follows
    return total


def fitted_line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return gain and offset of the least-squares line y ≈ gain · x + offset; gain 0 where x is constant.

    Args:
        x: (tokens,).
        y: (tokens,).
    """
    spread = x - x.mean()
    square = float(spread.square().sum())
    gain = float((spread * (y - y.mean())).sum()) / square if square > 0 else 0.0
    return gain, float(y.mean()) - gain * float(x.mean())


def grouped(values: Tensor, *, num_generations: int) -> Tensor:
    """Return values of responses, (responses,), as (groups, num_generations): those to one prompt lie one after the other.

    Raises:
        ValueError: a group has one response, which nothing can be compared with, or they are no whole number of groups.
    """
    if num_generations < 2:
        raise ValueError(f"a group needs two responses at least, got num_generations={num_generations}")
    if len(values) % num_generations:
        raise ValueError(f"{len(values)} responses are no whole number of groups of {num_generations}")
    return values.view(-1, num_generations)


def groups_without_signal(score: Tensor, *, num_generations: int) -> float:
    """Return the share of groups whose responses all have one score, from which a comparison within groups learns nothing.

    Args:
        score: (responses,), before any KL: with it no two are equal.
        num_generations: responses of a group.
    """
    groups = grouped(score, num_generations=num_generations)
    return (groups == groups[:, :1]).all(dim=1).float().mean().item()


def on_each_token(advantage: Tensor, is_response: Tensor) -> Tensor:
    """Return a response's advantage, (batch,), on each of its tokens, (batch, time), 0 on padding."""
    return advantage[:, None].expand_as(is_response).masked_fill(~is_response, 0.0)
