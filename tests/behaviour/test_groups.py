"""GRPO and RLOO raise their reward, and the KL holds it back, on a network of a few thousand weights."""

import pytest

from posttrain.rl.grpo import GroupRelative
from posttrain.rl.rloo import LeaveOneOut
from posttrain.settings.grpo import GRPOSettings
from posttrain.settings.rloo import RLOOSettings
from tests.behaviour.test_ppo import SIZE, ends
from tests.tiny_ppo import run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

ESTIMATORS = {
    "grpo": lambda kl_coef: GroupRelative(GRPOSettings(kl_coef=kl_coef)),
    "dr_grpo": lambda kl_coef: GroupRelative(GRPOSettings(kl_coef=kl_coef, loss_type="dr_grpo", kl_in="reward")),
    "rloo": lambda kl_coef: LeaveOneOut(RLOOSettings(kl_coef=kl_coef)),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_without_a_critic_raise_their_reward(name):
    made = run(critic="none", estimator=ESTIMATORS[name](0.0), **SIZE)
    before, after = ends(made.metric("reward"))
    assert before < 0.4 and after > before + 0.4
    assert ends(made.metric("kl"))[1] > 0.5, "which costs distance from the reference"
    signal = ends(made.metric("groups_without_signal"))
    assert signal[0] < 0.3 < signal[1], "groups of equally good responses are what it ends with"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_kl_holds_a_policy_without_a_critic_too(name):
    free, held = (run(critic="none", estimator=ESTIMATORS[name](kl_coef), **{**SIZE, "updates": 5}) for kl_coef in (0.0, 2.0))
    assert ends(held.metric("kl"), over=1)[1] < 0.4 * ends(free.metric("kl"), over=1)[1]
