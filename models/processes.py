"""The processes that train one stage together: how many, which of them this is, and sums over all of them."""

from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn


def processes() -> int:
    """Return how many processes train together; 1 where a stage runs by itself."""
    return distributed.get_world_size() if _is_shared() else 1


def rank() -> int:
    """Return which of them this is, from 0."""
    return distributed.get_rank() if _is_shared() else 0


def is_first() -> bool:
    """Return whether this process writes what all of them made."""
    return rank() == 0


def summed(values: Tensor) -> Tensor:
    """Return the sum over all processes; every one of them must ask for it."""
    if _is_shared():
        distributed.all_reduce(values)
    return values


def sum_gradients(weights: Iterable[nn.Parameter]) -> None:
    """Let each weight's gradient be the sum over all processes; one that had no part in a step adds nothing."""
    if not _is_shared():
        return
    trained = list(weights)
    for weight in trained:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    # one message instead of one a weight
    flat = summed(torch.cat([weight.grad.flatten() for weight in trained if weight.grad is not None]))
    for weight, part in zip(trained, torch.split(flat, [weight.numel() for weight in trained]), strict=True):
        weight.grad = part.view_as(weight)


def _is_shared() -> bool:
    return distributed.is_available() and distributed.is_initialized()
