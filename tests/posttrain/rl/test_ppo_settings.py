"""PPO whole: what each of its settings does, and resuming."""

import copy

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from models.policy import policy_and_critic, reference_logprobs
from posttrain.rl.layout import Replicated
from posttrain.rl.learner import Learner, rate_factor
from posttrain.rl.ppo import _errors
from posttrain.rl.rewards import Rewards
from posttrain.settings.ppo import PPOSettings
from tests.posttrain.rl.weights import close, far, moved, valued
from tests.tiny_ppo import QUESTIONS, SETTINGS, llama, run, score

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean_over", ["tokens", "responses"])
def test_gradient_accumulation_gives_the_same_weights(mean_over):
    how = {"mini_batch_size": 16, "mean_over": mean_over, "entropy_coef": 0.1}
    whole, parts = (run(device_batch_size=size, **how) for size in (16, 3))
    close(whole.weights, parts.weights)
    for name, value in whole.updates[-1].metrics.items():
        assert parts.updates[-1].metrics[name] == pytest.approx(value, abs=1e-5), name


def test_what_stands_on_padding_changes_no_weight_bit_for_bit():
    plain, dirty = run(), run(pad_id=13)
    ids = dirty.updates[0].episodes.ids
    assert (ids != plain.updates[0].episodes.ids).any() and (ids == 13).any()
    assert all(torch.equal(weight, dirty.weights[name]) for name, weight in plain.weights.items())


def test_an_update_ends_early_where_the_policy_has_moved_too_far():
    assert run(updates=1).metric("steps") == [4]
    # the first step always has a KL of 0, the second one sees what the first did
    early = run(updates=1, target_kl=1e-9, learning_rate=1e-2)
    assert early.metric("steps") == [2]
    assert run(updates=1, target_kl=1e3, learning_rate=1e-2).metric("steps") == [4]


def test_the_adaptive_coefficient_moves_towards_its_target():
    how = {"kl_controller": "adaptive", "kl_coef": 0.1, "kl_controller_horizon": 160.0, "updates": 3}
    # the first KL is 0, far below the target: β (1 - 0.2 · 16 / 160) = 0.098, told from the second update on
    made = run(kl_controller_target=50.0, **how)
    assert made.metric("kl_coef") == pytest.approx([0.1, 0.098, 0.098 * 0.98], rel=1e-4)
    assert run(reference=far(), kl_controller_target=0.01, **how).metric("kl_coef") == pytest.approx(
        [0.1, 0.102, 0.102 * 1.02], rel=1e-4
    )
    assert run(kl_controller_target=50.0, **{**how, "kl_controller": "fixed"}).metric("kl_coef") == [0.1] * 3


def test_scores_are_centred_scaled_and_clipped_in_this_order():
    def fixed(asked, responses):
        return Rewards([3.0, 7.0] * (len(asked) // 2))

    # 3 and 7 less 1: mean 4, deviation 2, so 1 and 3; clipped at 2: mean 1.5
    made = run(reward=fixed, updates=1, reward_centre=1.0, reward_scale="running", reward_clip=2.0)
    assert made.metric("reward") == [5.0] and made.metric("reward_shaped") == pytest.approx([1.5])
    assert made.states[0]["scale"] == pytest.approx([16, 4.0, 64.0])
    assert run(reward=fixed, updates=1).metric("reward_shaped") == [5.0]
    # the penalty comes after clipping, so that it cannot be clipped away
    lost = run(reward=fixed, updates=1, reward_clip=1.0, missing_eos="subtract", missing_eos_penalty=4.0)
    assert lost.metric("reward_shaped") == pytest.approx([1 - 4 * (1 - lost.metric("finished")[0])])


def test_the_running_scale_remembers_earlier_updates():
    calls = []

    def growing(asked, responses):
        calls.append(None)
        return Rewards([0.0, 2.0 * 10.0 ** (len(calls) - 1)] * (len(asked) // 2))

    # first 0 and 2: deviation 1; then 0 and 20 as well: mean 5.5, mean square 101, deviation √(101 - 30.25)
    made = run(reward=growing, reward_scale="running")
    assert made.metric("reward_shaped") == pytest.approx([1.0, 10 / (101 - 30.25) ** 0.5], rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "warmup_ratio", "wanted"),
    [
        ("constant", 0.0, [1, 1, 1, 1, 1]),
        ("linear", 0.0, [1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]),
        ("constant", 0.5, [1 / 2.5, 2 / 2.5, 1, 1, 1]),  # 2.5 updates of warm-up
        ("constant", 0.6, [1 / 3, 2 / 3, 1, 1, 1]),
        ("linear", 0.6, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
        ("linear", 1.0, [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1]),
    ],
)
def test_learning_rates_by_hand(schedule, warmup_ratio, wanted):
    settings = PPOSettings(**{**SETTINGS, "updates": 5}, schedule=schedule, warmup_ratio=warmup_ratio)
    assert [rate_factor(update, settings) for update in range(5)] == pytest.approx(wanted)


def test_the_schedule_reaches_policy_and_critic():
    made = run(updates=2, schedule="linear", learning_rate=1e-3, critic_learning_rate=5e-3)
    assert made.metric("learning_rate") == pytest.approx([1e-3, 5e-4])
    rates = [[(group["name"], group["lr"]) for group in state["optimiser"]["param_groups"]] for state in made.states]
    assert dict(rates[0]) == pytest.approx({"policy": 1e-3, "critic": 5e-3})
    assert dict(rates[1]) == pytest.approx({"policy": 5e-4, "critic": 2.5e-3})


def test_what_an_update_tells():
    made = run(samples_per_prompt=2)
    for number, update in enumerate(made.updates, start=1):
        assert update.number == number and len(update.asked) == 16 and update.asked[::2] == update.asked[1::2]
        prompts = [row[:head].tolist() for row, head in zip(update.episodes.ids, update.episodes.prompt_length, strict=True)]
        assert prompts == [QUESTIONS[question] for question in update.asked]
        assert update.metrics["ppo/reward"] == pytest.approx(sum(update.rewards.values) / 16)
        assert update.metrics["ppo/short"] == pytest.approx(sum(update.rewards.parts["short"]) / 16)
        assert update.metrics["ppo/response_tokens"] == pytest.approx(update.episodes.response_length.float().mean().item())
        assert update.metrics["ppo/finished"] == update.episodes.is_finished.float().mean().item()
        assert update.metrics["ppo/gradient_norm"] > 0 and 0 < update.metrics["ppo/entropy"] < torch.tensor(16.0).log()
    assert made.updates[0].episodes.score.tolist() == pytest.approx(list(made.updates[0].rewards.values))


def test_the_objective_is_averaged_over_patience():
    made = run(updates=3, patience=2)
    told = made.metric("objective")
    assert [update.objective for update in made.updates] == pytest.approx(
        [told[0], (told[0] + told[1]) / 2, (told[1] + told[2]) / 2]
    )


# --- resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_a_resumed_run_is_the_undisturbed_one_bit_for_bit(critic):
    how = {
        "critic": critic,
        "updates": 4,
        "kl_controller": "adaptive",
        "kl_controller_horizon": 160.0,
        "reward_scale": "running",
        "schedule": "linear",
        "patience": 2,
    }
    whole = run(**how)
    network = policy_and_critic(llama(), critic=critic)
    reference = reference_logprobs(network.policy, temperature=1.0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(0.5)
    torch.rand(100)  # the state of torch's own chance is no part of it
    rest = run(network, reference=reference, state=copy.deepcopy(whole.states[1]), **how)
    assert [update.number for update in rest.updates] == [3, 4]
    assert all(torch.equal(weight, rest.weights[name]) for name, weight in whole.weights.items())
    assert [update.metrics for update in rest.updates] == [update.metrics for update in whole.updates[2:]]
    assert [update.objective for update in rest.updates] == [update.objective for update in whole.updates[2:]]
    assert {name: rest.states[-1][name] for name in ("kl_coef", "scale", "history", "objectives", "done")} == {
        name: whole.states[-1][name] for name in ("kl_coef", "scale", "history", "objectives", "done")
    }


def test_a_finished_state_has_nothing_left_to_do():
    whole = run(updates=1)
    assert run(state=whole.states[0], updates=1).updates == []


def test_the_seed_decides_everything():
    one, same, other = run(seed=3), run(seed=3), run(seed=4)
    assert all(torch.equal(weight, same.weights[name]) for name, weight in one.weights.items())
    assert one.updates[0].asked != other.updates[0].asked and moved(one.weights, other.weights) > 1e-4


def test_a_part_of_the_reward_cannot_hide_a_figure_of_ppo():
    def hiding(asked, responses):
        told = score(asked, responses)
        return Rewards(values=told.values, parts={"kl": [7.0] * len(asked), "reward": [9.0] * len(asked), **told.parts})

    plain, hidden = run(updates=1), run(updates=1, reward=hiding)
    assert hidden.updates[0].metrics == plain.updates[0].metrics
    assert hidden.updates[0].rewards.parts["kl"] == [7.0] * 16


@pytest.mark.parametrize("most", [1e-3, 0.5, 1e9])
def test_gradients_are_scaled_to_the_limit_and_left_alone_below_it(most):
    learner = object.__new__(Learner)
    learner.settings = PPOSettings(**{**SETTINGS, "max_grad_norm": most})
    learner.accelerator, learner.layout = Accelerator(cpu=True), Replicated()
    weights = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))]
    before = [torch.tensor([0.3, -0.4, 1.2]), torch.tensor([[0.0, 0.5], [0.1, 0.2]])]
    for weight, gradient in zip(weights, before, strict=False):
        weight.grad = gradient.clone()
    norm = torch.cat([gradient.flatten() for gradient in before]).norm()
    assert learner._clipped(weights).item() == pytest.approx(norm.item(), rel=1e-6)
    for weight, gradient in zip(weights, before, strict=False):
        torch.testing.assert_close(weight.grad, gradient * min(1.0, most / norm.item()), atol=1e-6, rtol=1e-4)
    if most > norm:
        assert torch.equal(weights[0].grad, before[0])
    weights[0].grad[0] = torch.nan
    learner._clipped(weights)
    assert weights[1].grad.isnan().all(), "a gradient that is no number does not pass unseen"


def test_a_critic_of_another_unit_is_laid_on_the_returns_before_the_first_step():
    def network():
        made = valued("separate")
        made.rescale_values(-40.0, 9.0)  # a reward model's scores: another scale, the wrong sign, and far off
        return made

    plain, fitted = run(network(), updates=1), run(network(), updates=1, fits_values=True)
    assert plain.metric("explained_variance")[0] < -10
    # (after the line the whole-response returns are explained as well as a line can; those of GAE nearly)
    assert fitted.metric("explained_variance")[0] > -0.5
    assert fitted.metric("value_loss")[0] < 0.1 * plain.metric("value_loss")[0]
    again = run(network(), updates=2, fits_values=True)
    resumed = run(network(), updates=2, fits_values=True, state=again.states[0])
    close(resumed.weights, again.weights, atol=0.0)


def test_the_error_of_an_update_counts_questions_and_not_responses():
    # means of the questions: reward 1 and 3, gold 1 and 0; standard errors √(2 / 2) and √(½ / 2); a response each would have √(⅓)
    told = _errors([7, 7, 9, 9], Rewards(values=[0.0, 2.0, 3.0, 3.0], parts={"gold": [1.0, 1.0, 0.0, 0.0], "other": [1.0] * 4}))
    assert told == {"ppo/reward_error": pytest.approx(1.0), "ppo/gold_error": pytest.approx(0.5)}
    assert _errors([7, 7], Rewards(values=[0.0, 2.0])) == {}, "one question has no spread"
    assert set(_errors([7, 9], Rewards(values=[0.0, 2.0]))) == {"ppo/reward_error"}
