"""Weights of tokens that another distribution drew: their formula, what they do to a gradient, and what is refused without."""

import math

import pytest
import torch
from pydantic import ValidationError

from posttrain.errors import ContractError
from posttrain.ops.losses import clipped_policy_loss, clipped_response_loss
from posttrain.rl.contracts import check_sampler
from posttrain.rl.corrections import truncated_weights
from posttrain.settings.ppo import PPOSettings

OWN = torch.tensor([[-1.0, -2.0, 0.0], [-0.5, -3.0, -1.0]])
DRAWN = torch.tensor([[-1.5, -2.0, 0.0], [-0.4, -5.0, -1.0]])


def test_each_token_has_its_own_weight():
    found = truncated_weights(OWN, DRAWN, cap=3.0, level="token")
    wanted = [[math.exp(0.5), 1.0, 1.0], [math.exp(-0.1), 3.0, 1.0]]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_a_response_has_the_product_of_its_tokens():
    found = truncated_weights(OWN, DRAWN, cap=3.0, level="sequence")
    torch.testing.assert_close(found, torch.tensor([[math.exp(0.5)] * 3, [3.0] * 3]))
    torch.testing.assert_close(truncated_weights(OWN, DRAWN, cap=9.0, level="sequence")[1], torch.tensor([math.exp(1.9)] * 3))


def test_weights_make_another_distributions_sample_the_policys():
    """The mean of w f over draws of q is the mean of f under p, as long as nothing is truncated; and less where it is."""
    own, drawn, values = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, -2.0, 4.0])
    weights = truncated_weights(own.log()[None], drawn.log()[None], cap=2.0, level="token")[0]
    assert (drawn * weights * values).sum().item() == pytest.approx((own * values).sum().item())
    least = truncated_weights(own.log()[None], drawn.log()[None], cap=1.0, level="token")[0]
    assert (drawn * least).sum() < 1 and least.max() == 1


@pytest.mark.parametrize("is_of_response", [False, True])
def test_a_loss_is_multiplied_and_what_is_watched_is_not(is_of_response):
    shape = (2, 3)
    old = torch.full(shape, -1.0)
    logprob = (old + torch.tensor([[0.05, -0.02, 0.1], [0.3, 0.0, -0.4]])).requires_grad_()
    weight = torch.full(shape, 1 / 6)
    advantage = torch.tensor([1.0, -2.0])
    if is_of_response:
        compute, correction = clipped_response_loss, torch.tensor([0.5, 2.0])
    else:
        compute, correction = clipped_policy_loss, torch.tensor([[0.5, 1.0, 2.0], [3.0, 0.1, 1.0]])
        advantage = advantage[:, None].expand(shape)
    plain = compute(logprob, old, advantage, weight, clip_range=0.2)
    ones = compute(logprob, old, advantage, weight, clip_range=0.2, correction=torch.ones_like(correction))
    found = compute(logprob, old, advantage, weight, clip_range=0.2, correction=correction)
    assert plain.loss == ones.loss and found.loss != plain.loss
    assert (found.clip_fraction, found.approx_kl) == (plain.clip_fraction, plain.approx_kl)
    # a token's gradient is its own, times its correction
    (before,), (after,) = (torch.autograd.grad(one.loss, logprob, retain_graph=True) for one in (plain, found))
    torch.testing.assert_close(after, before * (correction[:, None] if is_of_response else correction))
    assert before.abs().max() > 0
    with pytest.raises(ValueError, match=r"correction \(1,"):
        compute(logprob, old, advantage, weight, clip_range=0.2, correction=correction[:1])


def test_what_differs_uncorrected_is_refused():
    slight, strong = torch.full((9,), 0.02), torch.full((9,), 0.2)
    other = {"engine": "bfloat16"}
    check_sampler(slight, PPOSettings())
    check_sampler(slight, PPOSettings(**other))
    check_sampler(slight / 100, PPOSettings(**other, sampler_correction=False))
    with pytest.raises(ContractError) as refused:
        check_sampler(slight, PPOSettings(**other, sampler_correction=False))
    assert str(refused.value) == (
        "the sampler's log-probabilities differ from the policy's own by 0.02 nats a token on average, and uncorrected 0.001 are "
        "allowed (ppo.ratio_tolerance): ppo.engine=bfloat16 is another distribution than the policy. Correct for it "
        "(ppo.sampler_correction=true), or say ppo.engine=transformers"
    )
    for settings in (PPOSettings(), PPOSettings(**other)):
        with pytest.raises(ContractError, match=r"by 0\.2 nats a token on average, allowed are 0\.1 \(ppo\.sampler_tolerance\)"):
            check_sampler(strong, settings)
        with pytest.raises(ContractError, match="nan nats"):
            check_sampler(strong * float("nan"), settings)


def test_another_engines_log_probabilities_are_never_trained_on():
    with pytest.raises(ValidationError, match="engine=bfloat16 is another distribution than the policy"):
        PPOSettings(engine="bfloat16", old_logprobs="sampler")
    with pytest.raises(ValidationError, match="sampler_correction_cap"):
        PPOSettings(sampler_correction_cap=0.5)
