"""The pretraining loss: by hand, as torch's cross entropy, and blind to padding."""

from math import log

import pytest
import torch
from torch.nn.functional import cross_entropy

from posttrain.losses import next_token_loss

# Words 0 and 1. Row one predicts 1 with 1/2, then 0 with 3/4; row two predicts 0 with 1/4, then there is only padding.
LOGITS = torch.tensor([[[0.0, 0.0], [log(3), 0.0], [5.0, 0.0]], [[0.0, log(3)], [9.0, -9.0], [9.0, -9.0]]], dtype=torch.float64)
IDS = torch.tensor([[0, 1, 0], [1, 0, 0]])
IS_TOKEN = torch.tensor([[True, True, True], [True, True, False]])


def test_by_hand():
    # three predicted tokens: -(log 1/2 + log 3/4 + log 1/4) / 3
    wanted = -(log(1 / 2) + log(3 / 4) + log(1 / 4)) / 3
    assert next_token_loss(LOGITS, IDS, IS_TOKEN).item() == pytest.approx(wanted, abs=1e-12)
    # a mean of row means, or one over all places, would be another number
    assert wanted != pytest.approx(-((log(1 / 2) + log(3 / 4)) / 2 + log(1 / 4)) / 2, abs=1e-3)
    assert wanted != pytest.approx(-(log(1 / 2) + log(3 / 4) + log(1 / 4)) / 4, abs=1e-3)


def test_it_is_torchs_cross_entropy_where_nothing_is_padding():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 7, 13, generator=generator, dtype=torch.float64)
    ids = torch.randint(13, (4, 7), generator=generator)
    wanted = cross_entropy(logits[:, :-1].reshape(-1, 13), ids[:, 1:].reshape(-1))
    torch.testing.assert_close(next_token_loss(logits, ids, torch.ones_like(ids, dtype=torch.bool)), wanted)


def test_equal_chances_cost_the_logarithm_of_the_vocabulary():
    ids = torch.randint(50, (2, 9))
    loss = next_token_loss(torch.zeros(2, 9, 50), ids, torch.ones_like(ids, dtype=torch.bool))
    assert loss.item() == pytest.approx(log(50), rel=1e-6)


def test_more_padding_changes_nothing_bit_for_bit():
    more = torch.full((2, 5, 2), 1e9, dtype=torch.float64)
    wider = next_token_loss(
        torch.cat([LOGITS, more], dim=1),
        torch.cat([IDS, torch.ones(2, 5, dtype=torch.int64)], dim=1),
        torch.cat([IS_TOKEN, torch.zeros(2, 5, dtype=torch.bool)], dim=1),
    )
    assert torch.equal(wider, next_token_loss(LOGITS, IDS, IS_TOKEN))


def test_padding_gets_no_gradient():
    logits = LOGITS.clone().requires_grad_()
    next_token_loss(logits, IDS, IS_TOKEN).backward()
    assert (logits.grad[1, 1:] == 0).all() and (logits.grad[0, 2] == 0).all()
    assert (logits.grad[0, :2] != 0).all() and (logits.grad[1, 0] != 0).all()


def test_there_must_be_something_to_predict():
    one = torch.tensor([[True, False, False], [True, False, False]])
    with pytest.raises(ValueError, match=r"^no sequence has a second token, so there is nothing to predict$"):
        next_token_loss(LOGITS, IDS, one)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"^is_token \(2, 2\) and ids \(2, 3\) must have one shape$"):
        next_token_loss(LOGITS, IDS, IS_TOKEN[:, :2])
    with pytest.raises(ValueError, match=r"^logits \(2, 2, 2\) and ids \(2, 3\) must agree in batch and time$"):
        next_token_loss(LOGITS[:, :2], IDS, IS_TOKEN)
