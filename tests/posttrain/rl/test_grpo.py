"""GRPO: its advantages by hand and by identity, what it refuses, and TRL's trainer on the same responses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl import GRPOConfig, GRPOTrainer

from posttrain.rl.advantages import grouped, groups_without_signal, on_each_token
from posttrain.rl.estimators import Rollout, Surrogate
from posttrain.rl.grpo import GroupRelative, group_advantages
from posttrain.settings.grpo import GRPOSettings
from tests.trl_trainers import GROUP, assert_one_step, ours, theirs

REWARDS = st.lists(st.integers(-5, 5).map(lambda n: n / 4), min_size=4, max_size=4)


def advantages(*reward, is_scaled=True, size=2):
    return group_advantages(torch.tensor(reward), num_generations=size, is_scaled=is_scaled).tolist()


def test_advantages_by_hand():
    # groups (1, 3) and (0, 0): means 2 and 0; sample deviations √2 and 0
    assert advantages(1.0, 3.0, 0.0, 0.0, is_scaled=False) == [-1.0, 1.0, 0.0, 0.0]
    scaled = 1 / (2**0.5 + 1e-4)
    assert advantages(1.0, 3.0, 0.0, 0.0) == pytest.approx([-scaled, scaled, 0.0, 0.0], rel=1e-6)
    # the population's deviation, 1, would give 0.9999
    assert scaled == pytest.approx(0.70706, abs=1e-4)
    # one group of three: mean 2, sample deviation √7
    assert advantages(0.0, 1.0, 5.0, size=3) == pytest.approx([number / (7**0.5 + 1e-4) for number in (-2, -1, 3)], rel=1e-6)


@given(rewards=REWARDS, shift=st.sampled_from([-3.0, 0.5]), factor=st.sampled_from([2.0, 8.0]))
def test_what_is_added_to_all_of_a_group_or_multiplied_changes_nothing(rewards, shift, factor):
    before = torch.tensor(advantages(*rewards, size=4))
    assert before.sum().item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(torch.tensor(advantages(*(one + shift for one in rewards), size=4)), before, atol=1e-5, rtol=0)
    # 1e-4 in the denominator is all that a unit of the reward changes
    scaled = torch.tensor(advantages(*(one * factor for one in rewards), size=4))
    torch.testing.assert_close(scaled, before, atol=2e-3, rtol=0)
    plain = torch.tensor(advantages(*rewards, is_scaled=False, size=4))
    torch.testing.assert_close(
        torch.tensor(advantages(*(one * factor for one in rewards), is_scaled=False, size=4)), plain * factor
    )


@pytest.mark.parametrize("is_scaled", [True, False])
def test_equal_rewards_give_0_to_the_last_bit(is_scaled):
    # a mean of equal numbers may be a rounding off them, and 1e-8 over 1e-4 would be an advantage of 1e-4
    assert advantages(*[0.1] * 7, *[0.7] * 7, size=7, is_scaled=is_scaled) == [0.0] * 14


def test_a_group_of_one_and_broken_groups_are_refused():
    with pytest.raises(ValueError, match=r"^a group needs two responses at least, got num_generations=1$"):
        advantages(1.0, 2.0, size=1)
    with pytest.raises(ValueError, match=r"^3 responses are no whole number of groups of 2$"):
        advantages(1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        GRPOSettings(num_generations=1)
    assert grouped(torch.arange(6), num_generations=3).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_groups_without_signal_by_hand():
    score = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.5, 0.5])
    assert groups_without_signal(score, num_generations=2) == pytest.approx(2 / 3)
    assert groups_without_signal(score, num_generations=3) == 0


def rollout(score, *, kl):
    """Two groups of two; responses of one to three tokens, the KL spread over them."""
    mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [True, True, False]])
    reward = torch.zeros(4, 3)
    last = mask.sum(dim=1) - 1
    reward[torch.arange(4), last] = torch.tensor(score)
    reward = reward - (torch.tensor(kl) / mask.sum(dim=1))[:, None] * mask
    return Rollout(score=torch.tensor(score), reward=reward, value=torch.zeros(4, 3), is_response=mask, num_generations=2)


def test_an_estimate_is_a_number_a_response_on_each_of_its_tokens():
    made = GroupRelative(GRPOSettings(scale_rewards="none")).estimate(rollout([1.0, 3.0, 2.0, 2.0], kl=[0.0] * 4))
    assert made.advantage.tolist() == [[-1.0, -1.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert made.returns is None and made.metrics == {"groups_without_signal": 0.5}
    assert on_each_token(torch.tensor([5.0]), torch.tensor([[True, False]])).tolist() == [[5.0, 0.0]]


def test_the_kl_of_a_whole_response_is_compared_where_it_is_in_the_reward():
    # rewards 1 - 0.5 and 3 - 1.5; 2 and 2 - 1
    made = GroupRelative(GRPOSettings(scale_rewards="none", kl_in="reward")).estimate(
        rollout([1.0, 3.0, 2.0, 2.0], kl=[0.5, 1.5, 0.0, 1.0])
    )
    assert made.advantage[:, 0].tolist() == pytest.approx([-0.5, 0.5, 0.5, -0.5])
    assert made.metrics == {"groups_without_signal": 0.5}, "what the score says, not the KL"


@pytest.mark.parametrize(
    ("settings", "mean_over", "is_scaled"),
    [
        ({}, "responses", True),
        ({"loss_type": "dr_grpo"}, "constant", False),
        ({"loss_type": "bnpo"}, "tokens", True),
        ({"loss_type": "dr_grpo", "scale_rewards": "group"}, "constant", True),
        ({"scale_rewards": "none"}, "responses", False),
    ],
)
def test_what_settings_make_of_the_loss(settings, mean_over, is_scaled):
    made = GroupRelative(GRPOSettings(kl_coef=0.3, clip_range=0.1, **settings))
    assert made.surrogate == Surrogate(
        mean_over=mean_over, importance_sampling_level="token", clip_range=(0.1, 0.1), kl_in="loss", kl_coef=0.3
    )
    assert made.is_scaled is is_scaled and not made.has_critic and made.num_generations == 8
    assert GroupRelative(GRPOSettings(clip_range_high=0.28)).surrogate.clip_range == (0.2, 0.28)


# --- TRL --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize(
    ("loss_type", "scale_rewards"), [("grpo", "group"), ("grpo", "none"), ("dr_grpo", "none"), ("bnpo", "group")]
)
def test_it_is_trls_trainer_on_the_same_responses(tmp_path, one_thread, loss_type, scale_rewards, beta):
    """Advantages, loss and its gradient by every log-probability, from the methods of TRL 1.16's own GRPOTrainer, within 1e-6.

    They differ on purpose: the KL is the paper's, where TRL multiplies it by the ratio unless `use_bias_correction_kl=False`. And
    where this does not look: groups of equal rewards get exactly 0 (TRL's mean may be a rounding off, and
    that is divided by 1e-4); a reward that is None or not a number ends the run (TRL leaves the response out); and the mean of a
    mini-batch counts all of it, where TRL takes the mean of the means of its accumulated parts.
    """
    wanted = theirs(
        GRPOTrainer,
        GRPOConfig,
        tmp_path,
        loss_type=loss_type,
        scale_rewards=scale_rewards,
        beta=beta,
        epsilon=0.1,
        epsilon_high=0.3,
        use_bias_correction_kl=False,
    )
    settings = GRPOSettings(
        num_generations=GROUP,
        loss_type=loss_type,
        scale_rewards=scale_rewards,
        kl_coef=beta,
        clip_range=0.1,
        clip_range_high=0.3,
    )
    mine = ours(GroupRelative(settings))
    assert_one_step(mine, wanted)
    assert wanted.metrics["clip_ratio/low_mean"] > 0 and wanted.metrics["clip_ratio/high_mean"] > 0
    assert mine.metrics["groups_without_signal"] == pytest.approx(1 / 3)
    assert wanted.metrics["frac_reward_zero_std"] == pytest.approx(1 / 3)
