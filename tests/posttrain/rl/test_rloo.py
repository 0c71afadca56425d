"""RLOO: its advantages by hand and by identity, what it refuses, and TRL's trainer on the same responses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl import RLOOConfig, RLOOTrainer

from posttrain.rl.estimators import Rollout, Surrogate
from posttrain.rl.grpo import group_advantages
from posttrain.rl.rloo import LeaveOneOut, leave_one_out_advantages
from posttrain.settings.rloo import RLOOSettings
from tests.trl_trainers import GROUP, assert_one_step, ours, theirs


def advantages(*reward, size):
    return leave_one_out_advantages(torch.tensor(reward), num_generations=size)


def test_advantages_by_hand():
    # 1 against the mean of 2 and 6, 2 against that of 1 and 6, 6 against that of 1 and 2; then a group of equals
    assert advantages(1.0, 2.0, 6.0, 5.0, 5.0, 5.0, size=3).tolist() == [1 - 4, 2 - 3.5, 6 - 1.5, 0, 0, 0]


@given(
    size=st.integers(2, 6),
    rewards=st.lists(st.floats(-8, 8, width=32), min_size=12, max_size=12),
    shift=st.floats(-8, 8, width=32),
)
def test_they_are_k_over_k_less_1_times_the_distance_from_the_groups_mean(size, rewards, shift):
    """So RLOO and GRPO without its division differ by a factor; and a baseline of the group moves nothing."""
    reward = torch.tensor(rewards[: 12 - 12 % size], dtype=torch.float64)
    made = leave_one_out_advantages(reward, num_generations=size)
    centred = group_advantages(reward, num_generations=size, is_scaled=False)
    torch.testing.assert_close(made, size / (size - 1) * centred, atol=1e-9, rtol=0)
    torch.testing.assert_close(leave_one_out_advantages(reward + shift, num_generations=size), made, atol=1e-9, rtol=0)


def test_a_response_does_not_move_its_own_baseline():
    before, after = advantages(1.0, 2.0, 6.0, size=3), advantages(1.0, 2.0, 7.0, size=3)
    assert (after - before).tolist() == [-0.5, -0.5, 1.0]


def test_a_group_of_one_and_broken_groups_are_refused():
    with pytest.raises(ValueError, match=r"^a group needs two responses at least, got num_generations=1$"):
        advantages(1.0, 2.0, size=1)
    with pytest.raises(ValueError, match=r"^3 responses are no whole number of groups of 2$"):
        advantages(1.0, 2.0, 3.0, size=2)
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        RLOOSettings(num_generations=1)


def test_the_kl_of_a_whole_response_is_part_of_its_reward():
    mask = torch.tensor([[True, True], [True, False]])
    # scores 3 and 1 on the last tokens, KLs 0.5 + 0.25 and 1: rewards 2.25 and 0
    reward = torch.tensor([[-0.5, 3.0 - 0.25], [1.0 - 1.0, 0.0]])
    score = torch.tensor([3.0, 1.0])
    made = LeaveOneOut(RLOOSettings()).estimate(
        Rollout(score=score, reward=reward, value=torch.zeros(2, 2), is_response=mask, num_generations=2)
    )
    assert made.advantage.tolist() == [[2.25, 2.25], [-2.25, 0.0]]
    assert made.returns is None and made.metrics == {"groups_without_signal": 0.0}
    same = Rollout(score=torch.ones(2), reward=reward, value=torch.zeros(2, 2), is_response=mask, num_generations=2)
    assert LeaveOneOut(RLOOSettings()).estimate(same).metrics == {"groups_without_signal": 1.0}, "the KL is no signal"


def test_what_settings_make_of_the_loss():
    made = LeaveOneOut(RLOOSettings(kl_coef=0.3, clip_range=0.1))
    assert made.surrogate == Surrogate(
        mean_over="responses", importance_sampling_level="sequence", clip_range=(0.1, 0.1), kl_in="reward", kl_coef=0.3
    )
    assert made.num_generations == 4 and not made.has_critic
    assert LeaveOneOut(RLOOSettings(clip_range_high=0.5)).surrogate.clip_range == (0.2, 0.5)


# --- TRL --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_it_is_trls_trainer_on_the_same_responses(tmp_path, one_thread, beta):
    """Advantages, loss and its gradient by every log-probability, from the methods of TRL 1.16's own RLOOTrainer, within 1e-6.

    They differ on purpose where this does not look: advantages are not normalised over the batch (off in TRL as well, and not in
    the paper); old log-probabilities are the sampler's in float32, where TRL computes them again; a reward that is None or not a
    number ends the run; and the mean of a mini-batch counts all of it, where TRL averages the means of its accumulated parts.
    """
    wanted = theirs(RLOOTrainer, RLOOConfig, tmp_path, beta=beta, epsilon=0.1, epsilon_high=0.3)
    mine = ours(LeaveOneOut(RLOOSettings(num_generations=GROUP, kl_coef=beta, clip_range=0.1, clip_range_high=0.3)))
    assert_one_step(mine, wanted)
    assert wanted.metrics["clip_ratio/low_mean"] > 0 and wanted.metrics["clip_ratio/high_mean"] > 0
