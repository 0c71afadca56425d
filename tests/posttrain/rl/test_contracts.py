"""What must hold while PPO trains: each fault is named, and health is left alone."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from posttrain.errors import ContractError
from posttrain.rl.contracts import (
    Health,
    Recomputed,
    Signal,
    check_first_ratio,
    check_kl,
    collapse,
    error_of_mean,
    explained,
)


def never():
    raise AssertionError("nothing differs, so nothing is to explain")


def test_small_differences_pass_and_no_tokens_are_none():
    check_first_ratio(torch.tensor([1e-4, -9e-4]), tolerance=1e-3, explain=never)
    check_first_ratio(torch.zeros(0), tolerance=1e-3, explain=never)


def test_rounding_passes_by_its_mean_where_it_is_said_to_be_there():
    some = torch.tensor([0.05, -0.03])
    check_first_ratio(some, tolerance=1e-3, explain=never, mean_tolerance=0.05)
    for wrong in (some * 2, torch.tensor([float("nan"), 0.0])):
        with pytest.raises(ContractError, match="must have a ratio of 1"):
            check_first_ratio(wrong, tolerance=1e-3, explain=str, mean_tolerance=0.05)


@pytest.mark.parametrize(("difference", "told"), [(0.25, "0.25"), (-0.25, "0.25"), (float("nan"), "nan")])
def test_a_ratio_that_is_not_1_is_refused_with_its_cause(difference, told):
    with pytest.raises(ContractError) as caught:
        check_first_ratio(torch.tensor([0.0, difference]), tolerance=1e-3, explain=lambda: "It is the moon.")
    assert str(caught.value) == (
        "PPO's first mini-batch must have a ratio of 1: log-probabilities in training and in sampling differ by up to "
        f"{told} nats, allowed are 0.001 (ppo.ratio_tolerance). It is the moon."
    )


FIGURES = torch.tensor([-1.0, -2.0])


def cause(network=None, *, rounding=0.0, **differing):
    """Explain where each named figure lies 0.5 from what training computes."""
    names = ("sampled", "trained", "trained_again", "one_by_one", "at_temperature_1")
    found = Recomputed(**{name: FIGURES + differing.get(name, 0.0) for name in names})
    return explained(found, network or nn.Linear(1, 1), temperature=0.7, tolerance=1e-3, rounding=rounding)


def test_each_cause_is_told_apart():
    # the figure that agrees with the sampler's names the cause
    assert cause(sampled=0.5, one_by_one=0.5).startswith("Padding is the cause: each sequence by itself agrees.")
    assert cause(sampled=0.5, at_temperature_1=0.5) == (
        "Temperature is the cause: sampling used undivided logits, training divides them by ppo.temperature=0.7"
    )
    assert cause(sampled=0.5).startswith("Neither dropout, padding nor temperature explains it: prompt or response were not")
    assert cause(sampled=0.5, trained_again=0.1) == (
        "Dropout is the cause: the same batch gives other figures each time. Turn it off in the model's configuration"
    )


def test_rounding_is_named_where_it_is_small_enough_and_nothing_else_explains_it():
    said = cause(sampled=0.05, rounding=0.1)
    assert said.startswith("Rounding is the cause: products are in bfloat16,") and "by 0.05 nats a token" in said
    assert cause(sampled=0.5, rounding=0.1).startswith("Neither dropout"), "larger than rounding is"
    assert cause(sampled=0.05).startswith("Neither dropout"), "float32 does not round so"
    assert cause(sampled=0.05, one_by_one=0.05, rounding=0.1).startswith("Padding")


def test_dropout_is_named_by_its_module():
    network = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.1))
    assert cause(network, sampled=0.5).startswith("Dropout is the cause (1 has p > 0):")
    assert cause(network.eval(), sampled=0.5).startswith("Neither dropout")
    assert cause(nn.Sequential(nn.Dropout(0.0)), sampled=0.5).startswith("Neither dropout")


def test_a_kl_that_chance_explains_passes():
    check_kl(torch.tensor([0.5, -0.4, 0.1]))
    check_kl(torch.tensor([0.0, 0.0]))
    check_kl(torch.tensor([-1e-5, -1e-5]))  # rounding
    check_kl(torch.tensor([-3.0]))  # one alone has no standard error


def test_a_kl_below_0_is_refused():
    # mean -1.1, deviation √(0.1² + 0.1²) = 0.1414, standard error 0.1414 / √2 = 0.1: eleven of them
    with pytest.raises(ContractError) as caught:
        check_kl(torch.tensor([-1.0, -1.2]))
    assert str(caught.value) == (
        "the mean KL from the reference is -1.1 nats with a standard error of 0.1: further below 0 than chance explains, and no "
        "KL is negative: the responses were not sampled from the policy's own distribution (temperature, top-k, top-p)"
    )
    check_kl(torch.tensor([-1.0, -1.8]))  # mean -1.4, standard error 0.4: three and a half


def test_a_kl_below_0_without_any_spread_is_refused_too():
    with pytest.raises(ContractError, match="is -1 nats with a standard error of 0: further below 0"):
        check_kl(torch.tensor([-1.0, -1.0]))


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_a_kl_that_is_not_finite_is_refused(odd):
    with pytest.raises(ContractError, match=r"^the KL from the reference is not finite: a log-probability is -inf or NaN\."):
        check_kl(torch.tensor([0.1, odd]))


# --- collapse ---------------------------------------------------------------------------------------------------------

WELL = Health(reward=0.4, reward_deviation=0.4, entropy=0.5, response_tokens=10.0, finished=0.8)


def judged(*later, patience=2):
    history = [WELL, *(Health(**{**vars(WELL), **one}) for one in later)]
    return collapse(history, patience=patience, max_length_growth=3.0, min_finished=0.5)


@pytest.mark.parametrize(
    ("fallen", "fine", "said"),
    [
        # half a deviation below 0.4 is 0.2
        ({"reward": 0.19}, {"reward": 0.21}, "the reward fell from 0.4 to 0.19"),
        (
            {"entropy": 1e-5},
            {"entropy": 1e-5, "reward": 0.41},
            "the entropy fell to 1e-05 nats a token with the reward no better than at the start (0.4)",
        ),
        ({"response_tokens": 31.0}, {"response_tokens": 30.0}, "responses grew from 10.0 to 31.0 tokens"),
        ({"finished": 0.39}, {"finished": 0.41}, "responses that end with EOS fell from 80% to 39%"),
    ],
)
def test_each_collapse_is_seen_once_it_has_lasted(fallen, fine, said):
    assert judged(fallen, fallen) == said
    assert judged({}, fallen, fallen) == said
    assert judged(fallen) is None, "one update is no collapse yet"
    assert judged({"reward": -9.0, "response_tokens": 999.0}) is None, "however bad it was"
    assert judged(fine, fine) is None
    assert judged(fallen, fallen, {}, {}) is None, "it has recovered"


def test_the_mean_over_patience_decides():
    # (0.05 + 0.4) / 2 is above 0.2, (0.05 + 0.3) / 2 below
    assert judged({"reward": 0.05}, {"reward": 0.4}) is None
    assert judged({"reward": 0.05}, {"reward": 0.3}) == "the reward fell from 0.4 to 0.175"


@pytest.mark.parametrize(("error", "said"), [(0.05, "the reward fell from 0.4 to 0.15"), (0.07, None), (math.inf, None)])
def test_a_fall_within_chance_is_none(error, said):
    """It fell by 0.25, and three standard errors of that are 3 · √(e² + 2 (e / 2)²): 0.18 and 0.26."""
    start, later = (Health(**{**vars(WELL), "reward_error": error, "reward": reward}) for reward in (0.4, 0.15))
    assert collapse([start, later, later], patience=2, max_length_growth=3.0, min_finished=0.5) == said


def test_responses_to_one_prompt_are_no_draws_of_their_own():
    score = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.5, 0.5])
    assert error_of_mean(score, num_generations=2) == pytest.approx(0.5 / 3**0.5)
    assert error_of_mean(score, num_generations=1) == pytest.approx(score.std().item() / 6**0.5)
    assert error_of_mean(score, num_generations=6) == math.inf


def test_equal_scores_at_the_start_are_no_measure():
    start = Health(**{**vars(WELL), "reward_deviation": 0.0})
    later = Health(**{**vars(WELL), "reward": 0.3})
    assert collapse([start, later], patience=1, max_length_growth=3.0, min_finished=0.5) is None


@given(count=st.integers(1, 8), patience=st.integers(1, 5))
def test_what_stays_as_it_was_never_collapses(count, patience):
    assert collapse([WELL] * count, patience=patience, max_length_growth=1.1, min_finished=1.0) is None


# --- signal ---------------------------------------------------------------------------------------------------------------


def watched(updates, *, patience=3, **how):
    """Feed (questions, responses, scores) an update; return the watch."""
    watch = Signal(patience=patience, **how)
    for questions, responses, scores in updates:
        watch.see(questions, responses, scores)
    return watch


def test_two_scores_of_one_question_are_a_signal():
    watch = watched([([1, 2, 1], [[5], [5], [6]], [0.0, 0.0, 1.0])])
    assert watch.is_there and watch.missing() is None


def test_a_question_asked_again_in_a_later_update_counts():
    assert watched([([1], [[5]], [0.0]), ([2], [[5]], [0.0]), ([1], [[6]], [0.5])]).is_there


def test_one_response_with_two_scores_is_the_rewards_noise_and_no_signal():
    assert not watched([([1, 1], [[5], [5]], [0.0, 1.0])]).is_there


def test_a_constant_reward_is_refused_after_patience_and_not_before():
    update = ([1, 2], [[5], [6]], [0.25, 0.25])
    assert watched([update] * 2).missing() is None
    assert watched([update] * 3).missing() == "all 6 responses of 3 updates have one and the same score, 0.25"


def test_a_reward_of_the_question_alone_is_refused_once_enough_pairs_say_so():
    """Each question's two responses differ and score alike; questions score differently, so no deviation is zero."""
    update = ([1, 1, 2, 2], [[5], [6], [5], [7]], [0.0, 0.0, 1.0, 1.0])
    assert watched([update] * 3, enough=100).missing() is None
    # per update one comparison a question at least: in the first 2, in later ones the second response of each again
    assert watched([update] * 3, enough=6).missing() == (
        "of 6 pairs of different responses to one question not one has two different scores: the reward depends on the question "
        "alone"
    )


def test_questions_that_never_come_again_say_nothing_against_a_reward_that_varies():
    assert watched([([n], [[n]], [float(n)]) for n in range(20)]).missing() is None


def test_rounding_is_no_signal():
    assert not watched([([1, 1], [[5], [6]], [0.3, 0.1 + 0.2])]).is_there


def test_a_watch_goes_on_from_its_state():
    updates = [([n % 3, 9], [[n], [1]], [0.0, 0.0]) for n in range(6)]
    whole = watched(updates)
    half = watched(updates[:3])
    resumed = Signal(patience=3, state=half.state())
    for update in updates[3:]:
        resumed.see(*update)
    assert resumed.state() == whole.state() and resumed.missing() == whole.missing() is not None
