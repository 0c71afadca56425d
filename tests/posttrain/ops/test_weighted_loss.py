"""The weighted loss: by hand, as the plain one where all weights are equal, and what it refuses."""

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posttrain.ops.losses import next_token_loss, weighted_next_token_loss


def test_by_hand():
    # two tokens, even odds but for the second prediction: p = (1/2), then (3/4); weights 1 and 3
    logits = torch.tensor([[[0.0, 0.0], [log(3.0), 0.0], [9.0, -9.0]]])
    ids = torch.tensor([[1, 1, 0]])
    loss = weighted_next_token_loss(logits, ids, torch.tensor([[7.0, 1.0, 3.0]]))
    # -(1·log(1/2) + 3·log(3/4)) / 4 = (0.693147 + 0.863046) / 4; the weight of the first token counts for nothing
    assert loss.item() == pytest.approx((log(2) + 3 * log(4 / 3)) / 4, abs=1e-6)
    assert loss.item() != pytest.approx((log(2) + log(4 / 3)) / 2, abs=1e-3)


@given(st.integers(0, 2**31), st.floats(0.1, 50))
def test_with_equal_weights_it_is_the_plain_loss(seed, weight):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 6, 5, generator=generator, dtype=torch.double)
    ids = torch.randint(0, 5, (3, 6), generator=generator)
    is_token = torch.arange(6) < torch.tensor([[6], [2], [4]])
    weighted = weighted_next_token_loss(logits, ids, is_token.double() * weight)
    assert weighted.item() == pytest.approx(next_token_loss(logits, ids, is_token).item(), rel=1e-9)


def test_what_stands_in_padding_changes_nothing_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    logits, ids = torch.randn(2, 5, 4, generator=generator), torch.randint(0, 4, (2, 5), generator=generator)
    weight = torch.tensor([[1.0, 2.0, 30.0, 0.0, 0.0], [1.0, 1.0, 1.0, 30.0, 1.0]])
    before = weighted_next_token_loss(logits, ids, weight)
    logits[0, 2:] = -torch.inf
    logits[0, 2:, 0] = 5.0
    ids[0, 3:] = 2
    assert torch.equal(weighted_next_token_loss(logits, ids, weight), before)


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [
        ([[1.0, 1.0]], "weight (1, 2) and ids (1, 3) must have one shape"),
        ([[1.0, -1.0, 1.0]], "a weight must be at least 0, got -1.0"),
        ([[1.0, 0.0, 0.0]], "no token with something before it has a weight, so there is nothing to predict"),
    ],
)
def test_refusals(weight, sentence):
    with pytest.raises(ValueError) as caught:
        weighted_next_token_loss(torch.zeros(1, 3, 2), torch.zeros(1, 3, dtype=torch.long), torch.tensor(weight))
    assert str(caught.value) == sentence
