"""Estimators and the loop: PPO's own advantages, and a loop that needs neither a critic nor PPO's mean over tokens."""

import copy
from dataclasses import dataclass, replace

import pytest
import torch

from models.policy import policy_and_critic, reference_logprobs
from posttrain.errors import RequestError
from posttrain.rl.advantages import generalised_advantages, whitened
from posttrain.rl.estimators import Estimate, GeneralisedAdvantage, Rollout, Surrogate, explained_variance
from posttrain.settings.ppo import PPOSettings
from tests.tiny_ppo import llama, run

PPO = Surrogate(mean_over="tokens", importance_sampling_level="token", clip_range=(0.2, 0.2), kl_in="reward", kl_coef=0.05)


def test_explained_variance_by_hand():
    def told(*value):
        return explained_variance(torch.tensor(value), torch.tensor([1.0, 3.0]))["explained_variance"]

    assert told(1.0, 3.0) == 1
    assert told(2.0, 2.0) == 0
    # R - V = 0.5, 1: variance 1/16, of 1
    assert told(0.5, 2.0) == pytest.approx(1 - 1 / 16)
    assert told(3.0, 1.0) == pytest.approx(-3)
    assert explained_variance(torch.tensor([1.0, 2.0]), torch.tensor([5.0, 5.0])) == {}, "undefined is left out, not 0"


def rollout():
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [True, True, True]])
    reward, value = (torch.randn(4, 3).masked_fill(~mask, 0.0) for _ in range(2))
    return Rollout(score=reward.sum(dim=1), reward=reward, value=value, is_response=mask, num_generations=2)


@pytest.mark.parametrize("whitens", [True, False])
def test_ppos_estimate_is_generalised_advantages_and_their_returns(whitens):
    given = rollout()
    made = GeneralisedAdvantage(PPOSettings(gamma=0.9, gae_lambda=0.5, whiten_advantages=whitens)).estimate(given)
    advantage, returns = generalised_advantages(given.reward, given.value, given.is_response, gamma=0.9, gae_lambda=0.5)
    assert torch.equal(made.advantage, whitened(advantage, given.is_response) if whitens else advantage)
    assert torch.equal(made.returns, returns), "whitening is no part of what the critic is to predict"
    mask = given.is_response
    assert made.metrics == explained_variance(given.value[mask], returns[mask])


def test_ppos_loss_is_what_its_settings_say():
    settings = PPOSettings(mean_over="responses", clip_range=0.3, kl_in="loss", kl_coef=0.7, samples_per_prompt=4)
    made = GeneralisedAdvantage(settings)
    assert made.surrogate == Surrogate(
        mean_over="responses", importance_sampling_level="token", clip_range=(0.3, 0.3), kl_in="loss", kl_coef=0.7
    )
    assert (made.name, made.has_critic, made.num_generations) == ("ppo", True, 4)


# --- the loop ---------------------------------------------------------------------------------------------------------


@dataclass
class Recorded:
    """An estimator without a critic that hands out advantages which were estimated before, update by update."""

    advantages: list
    surrogate: Surrogate = PPO
    num_generations: int = 1
    name: str = "recorded"
    has_critic: bool = False

    def __post_init__(self):
        self.seen = []

    def estimate(self, rollout):
        self.seen.append(rollout)
        return Estimate(self.advantages[len(self.seen) - 1], metrics={"groups": 7.0})


class Recording(GeneralisedAdvantage):
    def estimate(self, rollout):
        made = super().estimate(rollout)
        self.made = [*getattr(self, "made", []), made.advantage]
        return made


@pytest.fixture
def with_critic(one_thread):
    estimator = Recording(PPOSettings(samples_per_prompt=2, kl_coef=0.05))
    return estimator, run(estimator=estimator)


@pytest.mark.slow
def test_from_equal_advantages_a_loop_without_a_critic_trains_equal_policies_bit_for_bit(with_critic):
    estimator, ours = with_critic
    without = run(critic="none", estimator=Recorded(estimator.made, num_generations=2))
    assert all(torch.equal(weight, ours.weights[name]) for name, weight in without.weights.items())
    assert without.weights.keys() == {name for name in ours.weights if name.startswith("policy.")}, "no critic is in memory"
    assert any(
        (weight - dict(llama().named_parameters())[name.removeprefix("policy.")]).abs().max() > 1e-3
        for name, weight in without.weights.items()
    ), "it can fail"
    of_critic = {"ppo/value_loss", "ppo/value_clip_fraction", "ppo/explained_variance"}
    for mine, theirs in zip(without.updates, ours.updates, strict=True):
        assert theirs.metrics.keys() - mine.metrics.keys() == of_critic
        assert mine.metrics["ppo/groups"] == 7.0
        same = mine.metrics.keys() - {"ppo/groups", "ppo/gradient_norm"}
        assert {name: mine.metrics[name] for name in same} == {name: theirs.metrics[name] for name in same}


@pytest.mark.slow
def test_an_estimator_is_given_whole_groups_of_one_prompt(with_critic):
    recorded = Recorded(with_critic[0].made, num_generations=4)
    made = run(critic="none", updates=1, estimator=recorded)
    asked, given = made.updates[0].asked, recorded.seen[0]
    assert len(asked) == 16 and [asked[place] for place in range(0, 16, 4)] == [asked[place] for place in range(3, 16, 4)]
    assert len(set(asked)) == 4
    assert given.num_generations == 4 and given.value.abs().sum() == 0
    assert torch.equal(given.score, made.updates[0].episodes.score)
    kl = (made.updates[0].episodes.logprob - made.updates[0].episodes.reference_logprob).sum(dim=1)
    torch.testing.assert_close(given.reward.sum(dim=1), given.score - 0.05 * kl)


def test_an_update_that_is_no_whole_number_of_groups_is_refused():
    with pytest.raises(RequestError) as caught:
        run(critic="none", estimator=Recorded([], num_generations=5))
    assert str(caught.value) == "ppo.episodes must be a multiple of the 5 responses to a prompt that recorded compares, got 16"


@pytest.mark.slow
def test_without_a_critic_a_resumed_run_is_the_undisturbed_one_bit_for_bit(with_critic):
    made = with_critic[0].made
    whole = run(critic="none", estimator=Recorded(made))
    rest = run(critic="none", estimator=Recorded(made[1:]), state=copy.deepcopy(whole.states[0]))
    assert all(torch.equal(weight, rest.weights[name]) for name, weight in whole.weights.items())


@pytest.mark.slow
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_constant_denominator_is_the_mean_over_tokens_times_the_share_of_room_that_is_filled(with_critic, level):
    """In the gradient, which Adam would not show; the figures beside the loss stay means."""
    surrogate = replace(PPO, kl_in="loss", kl_coef=0.3, importance_sampling_level=level)
    how = {"updates": 1, "epochs": 1, "mini_batch_size": 16, "device_batch_size": 3}
    mean, constant = (
        run(
            critic="none",
            reference=reference_logprobs(llama(seed=9), temperature=1.0),
            estimator=Recorded(with_critic[0].made, replace(surrogate, mean_over=name)),
            **how,
        )
        for name in ("tokens", "constant")
    )
    filled = mean.metric("response_tokens")[0] / mean.settings.max_new_tokens
    assert filled < 0.9
    for name in ("gradient_norm", "policy_loss"):
        assert constant.metric(name)[0] == pytest.approx(filled * mean.metric(name)[0], rel=1e-4, abs=1e-7), name
    for name in ("entropy", "approx_kl", "clip_fraction"):
        assert constant.metric(name)[0] == pytest.approx(mean.metric(name)[0], rel=1e-6, abs=1e-9), name


def test_a_network_without_a_critic_has_no_values():
    network = policy_and_critic(llama(), critic="none")
    assert network.parameter_groups().keys() == {"policy"}
    ids = torch.tensor([[3, 4, 5]])
    with pytest.raises(ValueError, match=r"^a value is wanted of a network without a critic$"):
        network(ids, torch.tensor([1]), torch.tensor([2]), temperature=1.0, want=frozenset({"value"}))
    figures = network(ids, torch.tensor([1]), torch.tensor([2]), temperature=1.0, want=frozenset({"logprob"}))
    assert figures.value is None and figures.logprob.shape == (2,)
