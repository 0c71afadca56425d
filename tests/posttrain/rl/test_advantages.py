"""Generalised advantage estimates and whitening: by hand, at both ends of λ, and blind to padding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posttrain.ops.masks import is_response
from posttrain.rl.advantages import fitted_line, generalised_advantages, rewards_to_go, whitened

REWARD = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
VALUE = torch.tensor([[0.5, 0.25, 1.0]], dtype=torch.float64)
ALL = torch.ones(1, 3, dtype=torch.bool)


def random_case(seed=0, lengths=(5, 2, 4)):
    generator = torch.Generator().manual_seed(seed)
    mask = is_response(torch.tensor(lengths))
    reward, value = torch.randn(2, *mask.shape, generator=generator, dtype=torch.float64)
    return reward, value, mask


def test_by_hand():
    # γ = 1/2, λ = 1/2, so γλ = 1/4
    # δ_2 = 2 + 0 - 1 = 1;            A_2 = 1
    # δ_1 = 1 + 1/2 · 1 - 1/4 = 5/4;  A_1 = 5/4 + 1/4 · 1 = 3/2
    # δ_0 = 0 + 1/2 · 1/4 - 1/2 = -3/8; A_0 = -3/8 + 1/4 · 3/2 = 0
    advantage, returns = generalised_advantages(REWARD, VALUE, ALL, gamma=0.5, gae_lambda=0.5)
    torch.testing.assert_close(advantage, torch.tensor([[0.0, 1.5, 1.0]], dtype=torch.float64))
    # R = A + V
    torch.testing.assert_close(returns, torch.tensor([[0.5, 1.75, 2.0]], dtype=torch.float64))


def test_discount_and_lambda_are_not_each_other():
    one, _ = generalised_advantages(REWARD, VALUE, ALL, gamma=1.0, gae_lambda=0.5)
    other, _ = generalised_advantages(REWARD, VALUE, ALL, gamma=0.5, gae_lambda=1.0)
    # δ_1 = 1 + 1 - 1/4 = 7/4, A_1 = 7/4 + 1/2 = 9/4; with the two exchanged δ_1 = 5/4, A_1 = 5/4 + 1/2 = 7/4
    assert one[0, 1].item() == pytest.approx(9 / 4) and other[0, 1].item() == pytest.approx(7 / 4)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_with_lambda_1_returns_are_monte_carlo(gamma):
    reward, value, mask = random_case()
    advantage, returns = generalised_advantages(reward, value, mask, gamma=gamma, gae_lambda=1.0)
    for row, length in enumerate((5, 2, 4)):
        for time in range(length):
            wanted = sum(gamma ** (later - time) * reward[row, later] for later in range(time, length))
            torch.testing.assert_close(returns[row, time], wanted)
            torch.testing.assert_close(advantage[row, time], wanted - value[row, time])


def test_with_lambda_0_advantages_are_one_step_surprises():
    reward, value, mask = random_case()
    advantage, _ = generalised_advantages(reward, value, mask, gamma=0.9, gae_lambda=0.0)
    for row, length in enumerate((5, 2, 4)):
        for time in range(length):
            following = value[row, time + 1] if time + 1 < length else 0.0
            torch.testing.assert_close(advantage[row, time], reward[row, time] + 0.9 * following - value[row, time])


def test_a_perfect_critic_leaves_no_advantage():
    mask = is_response(torch.tensor([4]))
    reward = torch.tensor([[0.0, 0.0, 0.0, 3.0]])
    advantage, returns = generalised_advantages(reward, torch.full((1, 4), 3.0), mask, gamma=1.0, gae_lambda=0.95)
    assert torch.equal(advantage, torch.zeros(1, 4)) and torch.equal(returns, torch.full((1, 4), 3.0))


@given(seed=st.integers(0, 99), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), more=st.integers(0, 3))
def test_padding_changes_nothing_bit_for_bit(seed, lengths, more):
    reward, value, mask = random_case(seed, lengths)
    plain = generalised_advantages(reward, value, mask, gamma=0.9, gae_lambda=0.8)
    wide = torch.nn.functional.pad(mask, (0, more))
    rubbish = [torch.nn.functional.pad(figure, (0, more)).masked_fill(~wide, float("nan")) for figure in (reward, value)]
    padded = generalised_advantages(*rubbish, wide, gamma=0.9, gae_lambda=0.8)
    for one, other in zip(plain, padded, strict=True):
        assert torch.equal(one, other[:, : mask.shape[1]])
        assert (other[~wide] == 0).all()


def test_shapes_must_agree():
    said = r"^reward \(1, 3\), value \(1, 2\) and is_response \(1, 3\) must have one shape$"
    with pytest.raises(ValueError, match=said):
        generalised_advantages(REWARD, VALUE[:, :2], ALL, gamma=1.0, gae_lambda=1.0)
    with pytest.raises(ValueError, match=r"^advantage \(1, 3\) and is_response \(1, 2\) must have one shape$"):
        whitened(REWARD, ALL[:, :2])


def test_whitening_by_hand():
    # 1, 3, 5 over the response: mean 3, variance (4 + 0 + 4) / 3 = 8/3; (1 - 3) / √(8/3) = -√(3/2)
    advantage = torch.tensor([[1.0, 3.0], [5.0, 99.0]], dtype=torch.float64)
    told = whitened(advantage, torch.tensor([[True, True], [True, False]]))
    torch.testing.assert_close(told, torch.tensor([[-(1.5**0.5), 0.0], [1.5**0.5, 0.0]], dtype=torch.float64))


def test_whitened_tokens_have_mean_0_and_variance_1_and_padding_is_0():
    advantage, _, mask = random_case()
    told = whitened(advantage * 7 + 3, mask)
    assert told[mask].mean().item() == pytest.approx(0, abs=1e-12)
    assert told[mask].var(correction=0).item() == pytest.approx(1, abs=1e-8)
    assert (told[~mask] == 0).all()


def test_whitening_reads_no_padding():
    advantage, _, mask = random_case()
    clean, dirty = advantage.masked_fill(~mask, 0.0), advantage.masked_fill(~mask, float("inf"))
    assert torch.equal(whitened(clean, mask), whitened(dirty, mask))
    over_padding = (clean - clean.mean()) * torch.rsqrt(clean.var(correction=0) + 1e-8)
    assert not torch.allclose(whitened(clean, mask)[mask], over_padding[mask], atol=1e-2), "the common bug is another number"


def test_equal_advantages_become_0_and_stay_finite():
    mask = is_response(torch.tensor([2, 1]))
    assert (whitened(torch.full((2, 2), 4.0), mask) == 0).all()


def test_one_token_has_no_spread():
    with pytest.raises(ValueError, match=r"^whitening needs two response tokens at least, got 1$"):
        whitened(REWARD, torch.tensor([[True, False, False]]))


def test_rewards_to_go_by_hand():
    reward = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.25, 0.0]])
    assert rewards_to_go(reward, gamma=1.0).tolist() == [[3.0, 2.0, 2.0], [0.75, 0.25, 0.0]]
    assert rewards_to_go(reward, gamma=0.5).tolist() == [[1.5, 1.0, 2.0], [0.625, 0.25, 0.0]]


@given(gain=st.floats(-3, 3), offset=st.floats(-3, 3))
def test_a_line_is_found_again(gain, offset):
    x = torch.tensor([0.0, 1.0, -2.0, 0.5])
    found = fitted_line(x, gain * x + offset)
    assert found == pytest.approx((gain, offset), abs=1e-5)


def test_the_line_leaves_residuals_that_x_does_not_explain_and_a_constant_gives_the_mean():
    torch.manual_seed(0)
    x, y = torch.randn(50), torch.randn(50)
    gain, offset = fitted_line(x, y)
    left = y - gain * x - offset
    assert abs(left.mean().item()) < 1e-6 and abs((left * (x - x.mean())).sum().item()) < 1e-4
    assert fitted_line(torch.full((4,), 2.0), torch.tensor([1.0, 2.0, 3.0, 6.0])) == (0.0, 3.0)
