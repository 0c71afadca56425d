"""A training that moves nothing is seen, whatever the type of the weights."""

import pytest
import torch
from torch import nn

from models.fingerprint import fingerprint, must_move
from posttrain.errors import ContractError


def linear(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(7, 5).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_least_change_of_one_weight_is_seen(dtype):
    layer = linear(dtype)
    before = fingerprint(layer)
    with torch.no_grad():
        layer.weight[2, 3] = torch.nextafter(layer.weight[2, 3], torch.tensor(torch.inf, dtype=dtype))
    assert fingerprint(layer) != before and fingerprint(linear(dtype)) == before


def test_only_weights_that_are_trained_count():
    layer = linear()
    layer.bias.requires_grad_(False)
    before = fingerprint(layer)
    with torch.no_grad():
        layer.bias.add_(1)
    assert fingerprint(layer) == before and len(before) == 1


def test_a_step_below_the_weights_precision_is_refused_and_a_larger_one_is_not():
    """1e-9 is lost beside weights near 0.1 in bfloat16, whose steps are 0.0005 there."""
    for rate, moves in ((1e-9, False), (1e-2, True)):
        layer = linear(torch.bfloat16)

        def train(layer=layer, rate=rate):
            with must_move(layer, stage="sft"), torch.no_grad():
                for weight in layer.parameters():
                    weight.sub_(rate * torch.ones_like(weight))

        if moves:
            train()
        else:
            with pytest.raises(ContractError, match=r"^sft ended with the very weights .* Raise sft.learning_rate"):
                train()


def test_an_error_within_is_told_as_it_is():
    with pytest.raises(ZeroDivisionError), must_move(linear(), stage="sft"):
        raise ZeroDivisionError
