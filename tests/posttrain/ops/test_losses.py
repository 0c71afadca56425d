"""The losses: by hand, as what they are known to equal, in parts as at once, and blind to padding."""

from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from posttrain.ops.losses import (
    bradley_terry_loss,
    clipped_policy_loss,
    clipped_response_loss,
    clipped_value_loss,
    kl_k1,
    kl_k3,
    next_token_loss,
)

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


# --- PPO --------------------------------------------------------------------------------------------------------------


def policy_loss(ratio, advantage, *, clip_range=0.2, clip_range_high=None):
    """The loss of one token, and its gradient by the log-probability."""
    logprob = torch.tensor([log(0.1 * ratio)], dtype=torch.float64, requires_grad=True)
    old, gain, weight = (torch.tensor([number], dtype=torch.float64) for number in (log(0.1), advantage, 1.0))
    told = clipped_policy_loss(logprob, old, gain, weight, clip_range=clip_range, clip_range_high=clip_range_high)
    told.loss.backward()
    return told.loss.item(), logprob.grad.item(), told.clip_fraction.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "outside"),
    [
        (1.1, 2.0, -2.2, -2.2, 0.0),  # within: -ρA, whose derivative by log p is -ρA
        (1.5, 2.0, -2.4, 0.0, 1.0),  # good token, already likelier than 1.2: min(3, 2.4), nothing more to gain
        (0.5, 2.0, -1.0, -1.0, 1.0),  # good token made unlikelier: min(1, 1.6), still pulled back
        (0.5, -2.0, 1.6, 0.0, 1.0),  # bad token, already below 0.8: min(-1, -1.6)
        (1.5, -2.0, 3.0, 3.0, 1.0),  # bad token made likelier: min(-3, -2.4), still pushed down
    ],
)
def test_the_policy_loss_by_hand(ratio, advantage, loss, gradient, outside):
    assert policy_loss(ratio, advantage) == pytest.approx((loss, gradient, outside), abs=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "outside"),
    [
        (1.3, 2.0, -2.6, -2.6, 0.0),  # beyond 1.2, within 1.4: still gains
        (1.5, 2.0, -2.8, 0.0, 1.0),  # min(3, 2.8)
        (0.7, -2.0, 1.6, 0.0, 1.0),  # below 0.8, which is as before: min(-1.4, -1.6)
    ],
)
def test_a_wider_range_above_leaves_the_one_below_alone(ratio, advantage, loss, gradient, outside):
    told = policy_loss(ratio, advantage, clip_range=0.2, clip_range_high=0.4)
    assert told == pytest.approx((loss, gradient, outside), abs=1e-12)


def response_loss(logprob, old, advantage, weight, **clip):
    return clipped_response_loss(*(torch.tensor(one, dtype=torch.float64) for one in (logprob, old, advantage, weight)), **clip)


def test_the_loss_of_whole_responses_by_hand():
    # response 1: ratio exp(log 1.1 + log 1.2) = 1.32, advantage 1: clipped at 1.2; response 2: ratio 0.9, advantage -2
    # weights are the tokens', 1/4 each and 1/2: a response weighs 1/2; loss -(½ · 1.2 + ½ · 0.9 · -2) = 0.3
    told = response_loss(
        [[log(0.11), log(0.36)], [log(0.45), 0.0]],
        [[log(0.1), log(0.3)], [log(0.5), 0.0]],
        [1.0, -2.0],
        [[0.25, 0.25], [0.5, 0.0]],
        clip_range=0.2,
    )
    assert told.loss.item() == pytest.approx(0.3, abs=1e-12)
    assert told.clip_fraction.item() == pytest.approx(0.5)
    # of tokens, as everywhere: ¼ (0.1 - log 1.1) + ¼ (0.2 - log 1.2) + ½ (-0.1 - log 0.9)
    wanted = (0.1 - log(1.1)) / 4 + (0.2 - log(1.2)) / 4 + (-0.1 - log(0.9)) / 2
    assert told.approx_kl.item() == pytest.approx(wanted, abs=1e-12)
    # a ratio a token would clip neither of them: -(¼ · 1.1 + ¼ · 1.2 - ½ · 1.8) = 0.325
    assert told.loss.item() != pytest.approx(0.325, abs=1e-3)


def test_on_policy_the_gradient_of_whole_responses_is_that_of_reinforce():
    """The sum over a response's tokens, each with the weight of the response and not of the token."""
    logprob = torch.randn(3, 4, dtype=torch.float64).requires_grad_()
    advantage, weight = torch.randn(3, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    told = clipped_response_loss(logprob, logprob.detach(), advantage, weight, clip_range=0.2)
    told.loss.backward()
    torch.testing.assert_close(logprob.grad, -(weight.sum(dim=1) * advantage)[:, None].expand(3, 4))


def test_the_loss_of_whole_responses_needs_a_weight_a_token():
    with pytest.raises(ValueError, match=r"^shapes must agree: logprob \(1, 2\), old_logprob \(1, 2\), weight \(1, 1\)$"):
        response_loss([[0.0, 0.0]], [[0.0, 0.0]], [1.0], [[1.0]], clip_range=0.2)


def test_the_policy_losss_figures_by_hand():
    # ratios 1.5, 1 and 0.9 with weights 1/2, 1/4, 1/4: one of them, of weight 1/2, outside 1 ± 0.2
    # k3 of KL(old ‖ new) = ρ - 1 - log ρ: 1/2 (0.5 - log 1.5) + 1/4 · 0 + 1/4 (-0.1 - log 0.9)
    ratio, weight = torch.tensor([1.5, 1.0, 0.9]), torch.tensor([0.5, 0.25, 0.25])
    told = clipped_policy_loss(ratio.log(), torch.zeros(3), torch.tensor([1.0, 2.0, -1.0]), weight, clip_range=0.2)
    # -(1/2 · 1.2 + 1/4 · 2 + 1/4 · -0.9) = -0.875
    assert told.loss.item() == pytest.approx(-0.875, abs=1e-6)
    assert told.clip_fraction.item() == pytest.approx(0.5)
    assert told.approx_kl.item() == pytest.approx((0.5 - log(1.5)) / 2 + (-0.1 - log(0.9)) / 4, abs=1e-6)


def test_on_policy_the_gradient_is_that_of_reinforce():
    logprob = torch.randn(7, dtype=torch.float64).requires_grad_()
    advantage, weight = torch.randn(7, dtype=torch.float64), torch.rand(7, dtype=torch.float64)
    told = clipped_policy_loss(logprob, logprob.detach(), advantage, weight, clip_range=0.2)
    told.loss.backward()
    torch.testing.assert_close(logprob.grad, -weight * advantage)
    assert told.approx_kl.item() == 0 and told.clip_fraction.item() == 0


def value_loss(value, old_value, returns, *, clip_range=0.2):
    estimate = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    old, wanted, weight = (torch.tensor([number], dtype=torch.float64) for number in (old_value, returns, 1.0))
    told = clipped_value_loss(estimate, old, wanted, weight, clip_range=clip_range)
    told.loss.backward()
    return told.loss.item(), estimate.grad.item(), told.clip_fraction.item()


@pytest.mark.parametrize(
    ("value", "loss", "gradient", "clipped"),
    [
        (1.1, 0.405, -0.9, 0.0),  # within 1 ± 0.2 of the old 1: ½ (1.1 - 2)²
        (1.5, 0.32, 0.0, 1.0),  # moved towards 2 beyond 1.2: ½ (1.2 - 2)² is the larger error, and has no gradient
        (0.5, 1.125, -1.5, 0.0),  # moved away: ½ (0.5 - 2)² is larger than ½ (0.8 - 2)², so it is pulled back
    ],
)
def test_the_value_loss_by_hand(value, loss, gradient, clipped):
    assert value_loss(value, 1.0, 2.0) == pytest.approx((loss, gradient, clipped), abs=1e-12)
    # and the same seen from above: old 1, returns 0
    assert value_loss(2 - value, 1.0, 0.0) == pytest.approx((loss, -gradient, clipped), abs=1e-12)


def test_in_two_parts_or_at_once_is_one_loss():
    generator = torch.Generator().manual_seed(0)
    one, old, gain, target = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    weight = torch.full((9,), 1 / 9, dtype=torch.float64)
    for loss, figures, how in (
        (clipped_policy_loss, (one * 0.2, old * 0.2, gain, weight), ("loss", "clip_fraction", "approx_kl")),
        (clipped_value_loss, (one, old, target, weight), ("loss", "clip_fraction")),
    ):
        whole = loss(*figures, clip_range=0.2)
        parts = [loss(*(figure[rows] for figure in figures), clip_range=0.2) for rows in (slice(0, 2), slice(2, 9))]
        for name in how:
            torch.testing.assert_close(getattr(whole, name), sum(getattr(part, name) for part in parts))
            assert getattr(whole, name) != 0


def test_tokens_of_no_weight_do_not_count():
    figures = torch.tensor([[0.1, 5.0], [0.0, -3.0], [1.0, 100.0], [1.0, 0.0]])
    for loss in (clipped_policy_loss, clipped_value_loss):
        assert loss(*figures, clip_range=0.2) == loss(*(figure[:1] for figure in figures), clip_range=0.2)


def test_both_estimates_have_the_kl_as_their_expectation():
    """Over every outcome of a distribution of four, weighted by its probability, not over samples."""
    p, q = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.05, 0.5, 0.05]], dtype=torch.float64)
    wanted = sum(a * log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    assert (p * kl_k1(p.log(), q.log())).sum().item() == pytest.approx(wanted, abs=1e-12)
    assert (p * kl_k3(p.log(), q.log())).sum().item() == pytest.approx(wanted, abs=1e-12)
    assert wanted != pytest.approx((q * kl_k1(q.log(), p.log())).sum().item(), abs=1e-2), "the other direction is another number"
    assert (kl_k3(p.log(), q.log()) > 0).all() and (kl_k1(p.log(), q.log()) < 0).any()


def test_k1_and_k3_by_hand():
    # p = 1/2, q = 1/4: k1 = log 2; k3 = 1/2 - 1 + log 2
    p, q = torch.tensor([log(1 / 2)], dtype=torch.float64, requires_grad=True), torch.tensor([log(1 / 4)], dtype=torch.float64)
    assert kl_k1(p, q).item() == pytest.approx(log(2))
    k3 = kl_k3(p, q)
    assert k3.item() == pytest.approx(log(2) - 1 / 2)
    k3.backward()
    # its derivative by log p is 1 - q/p: it pushes a token down where it is likelier than in the reference
    assert p.grad.item() == pytest.approx(1 - exp(log(1 / 4) - log(1 / 2)))


@pytest.mark.parametrize("loss", [clipped_policy_loss, clipped_value_loss])
def test_shapes_of_ppos_losses_must_agree(loss):
    names = ("value, old_value, returns" if loss is clipped_value_loss else "logprob, old_logprob, advantage").split(", ")
    said = f"^shapes must agree: {names[0]} \\(2,\\), {names[1]} \\(2,\\), {names[2]} \\(3,\\), weight \\(2,\\)$"
    with pytest.raises(ValueError, match=said):
        loss(torch.zeros(2), torch.zeros(2), torch.zeros(3), torch.zeros(2), clip_range=0.2)


@pytest.mark.parametrize("estimate", [kl_k1, kl_k3])
def test_shapes_of_kl_estimates_must_agree(estimate):
    with pytest.raises(ValueError, match=r"^shapes must agree: logprob \(2,\), reference_logprob \(1,\)$"):
        estimate(torch.zeros(2), torch.zeros(1))


# --- pairs ------------------------------------------------------------------------------------------------------------


def pairs(*rows):
    """Return difference, preference and margin of (d, p, m) rows."""
    return [torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)]


def test_bradley_terry_by_hand():
    # σ(log 3) = 3/4 and σ(-log 3) = 1/4
    certain, against, soft, with_margin = bradley_terry_loss(
        *pairs((log(3), 1.0, 0.0), (log(3), 0.0, 0.0), (log(3), 0.8, 0.0), (log(6), 1.0, log(2)))
    ).tolist()
    assert certain == pytest.approx(-log(3 / 4), abs=1e-12)
    assert against == pytest.approx(-log(1 / 4), abs=1e-12)
    assert soft == pytest.approx(-(0.8 * log(3 / 4) + 0.2 * log(1 / 4)), abs=1e-12)
    # log 6 - log 2 = log 3: of a margin only what is beyond it counts
    assert with_margin == pytest.approx(-log(3 / 4), abs=1e-12)
    assert certain != pytest.approx(against, abs=0.1) and soft != pytest.approx(certain, abs=0.1)


PAIR = st.tuples(st.floats(-30, 30), st.floats(0, 1), st.floats(0, 5))


@given(st.lists(PAIR, min_size=1, max_size=8))
def test_which_response_stands_first_does_not_matter(rows):
    difference, preference, margin = pairs(*rows)
    torch.testing.assert_close(
        bradley_terry_loss(-difference, 1 - preference, margin),
        bradley_terry_loss(difference, preference, margin),
        rtol=1e-9,
        atol=1e-9,
    )


@given(st.lists(PAIR, min_size=1, max_size=8))
def test_without_margin_it_is_torchs_cross_entropy(rows):
    difference, preference, margin = pairs(*rows)
    wanted = binary_cross_entropy_with_logits(difference, preference, reduction="none")
    torch.testing.assert_close(bradley_terry_loss(difference, preference, 0 * margin), wanted)


def test_a_label_that_says_equal_pulls_nowhere_from_equal_scores():
    difference = torch.zeros(1, requires_grad=True)
    bradley_terry_loss(difference, torch.tensor([0.5]), torch.zeros(1)).sum().backward()
    assert difference.grad.item() == 0.0
    # and a label that is a little surer does pull: d/dd = σ(0) - 0.6
    moved = torch.zeros(1, requires_grad=True)
    bradley_terry_loss(moved, torch.tensor([0.6]), torch.zeros(1)).sum().backward()
    assert moved.grad.item() == pytest.approx(-0.1, abs=1e-7)


def test_scores_far_apart_cost_their_difference_and_not_infinity():
    far = bradley_terry_loss(*pairs((-1000.0, 1.0, 0.0), (1000.0, 1.0, 0.0)))
    assert far.tolist() == pytest.approx([1000.0, 0.0], abs=1e-9)


def test_pairs_of_unequal_number_are_refused():
    with pytest.raises(ValueError, match=r"^shapes must agree: difference \(2,\), preference \(1,\), margin \(2,\)$"):
        bradley_terry_loss(torch.zeros(2), torch.zeros(1), torch.zeros(2))
