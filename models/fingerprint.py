"""Whether training moved a network at all."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from models.sharding import whole
from posttrain.errors import ContractError

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprint(network: nn.Module) -> list[int]:
    """Return a number for each weight tensor that is trained: the sum of its values' bits read as whole numbers.

    One changed weight changes it, however little it changed; of two networks with unequal weights hardly any have equal ones.
    Where processes hold a part of the weights each, all of them must ask for it.
    """
    trained = (whole(weight.detach()) for weight in network.parameters() if weight.requires_grad)
    return [int(weight.contiguous().view(BITS[weight.element_size()]).sum(dtype=torch.int64).item()) for weight in trained]


@contextmanager
def must_move(network: nn.Module, *, stage: str, remedy: str = "") -> Iterator[None]:
    """Refuse a training that leaves every weight as it was.

    Args:
        network: what is trained within.
        stage: of the settings, for the error.
        remedy: what to do; empty where the section of the stage has a learning rate to raise.

    Raises:
        ContractError: not one trained weight is another than before.
    """
    before = fingerprint(network)
    yield
    if fingerprint(network) == before:
        raise ContractError(
            f"{stage} ended with the very weights that it started from, so it has learnt nothing: every step was zero, or "
            f"smaller than the weights' precision. {remedy or f'Raise {stage}.learning_rate'}, keep weights in float32 "
            "(model.dtype), or give it data that tell something"
        )
