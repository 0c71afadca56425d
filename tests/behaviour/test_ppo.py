"""PPO raises its reward, and the KL holds it back, on a network of a few thousand weights."""

import pytest

from tests.tiny_ppo import run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SIZE = {"updates": 14, "episodes": 64, "mini_batch_size": 32, "device_batch_size": 32, "learning_rate": 1e-2, "patience": 20}


def ends(numbers, over=2):
    return sum(numbers[:over]) / over, sum(numbers[-over:]) / over


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_ppo_raises_its_reward(critic):
    made = run(critic=critic, kl_coef=0.0, **SIZE)
    before, after = ends(made.metric("reward"))
    assert before < 0.3 and after > before + 0.25
    assert ends(made.metric("kl"))[1] > 0.5, "which costs distance from the reference"


@pytest.mark.parametrize("kl_in", ["reward", "loss"])
def test_the_kl_holds_the_policy_at_its_reference(kl_in):
    free, held = (run(kl_in=kl_in, kl_coef=coefficient, **{**SIZE, "updates": 5}) for coefficient in (0.0, 2.0))
    assert ends(held.metric("kl"), over=1)[1] < 0.3 * ends(free.metric("kl"), over=1)[1]
