"""PPO whole: one update against the formulas written out, its contracts, its settings, and resuming."""

import copy
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from models.policy import policy_and_critic, reference_logprobs
from posttrain.errors import ContractError, RequestError
from posttrain.rl.learner import Learner, rate_factor
from posttrain.rl.network import TokenFigures
from posttrain.rl.ppo import _errors
from posttrain.rl.rewards import Rewards
from posttrain.rl.rollout import Sampled, derived_generator
from posttrain.settings.ppo import PPOSettings
from tests.tiny_ppo import QUESTIONS, SEED, SETTINGS, llama, run, sampler, score

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def close(one, other, atol=1e-6):
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def moved(one, other):
    return max((weight - other[name]).abs().max().item() for name, weight in one.items())


# --- one update, written out ------------------------------------------------------------------------------------------


FAR = 9
"""Seed of a reference that is not the policy, as it is after the first update."""


def far(**settings):
    return reference_logprobs(llama(seed=FAR), temperature=settings.get("temperature", 1.0))


def valued(critic):
    """Return the network with values that are not 0, as after the first update: with zeros, γ and λ could be exchanged."""
    network = policy_and_critic(llama(), critic=critic)
    with torch.no_grad():
        network.value_head.weight.copy_(torch.linspace(-0.5, 0.5, 16)[None])
    return network


def written_out(made, update):
    """Return the weights after an update's episodes, from a fresh network: a loop over responses, tokens and formulas."""
    settings, shared, kl_coef = made.settings, made.settings.critic == "shared", made.settings.kl_coef
    network = valued(settings.critic)
    episodes, γ, λ = update.episodes, settings.gamma, settings.gae_lambda

    def told(row, policy=network.policy):
        head, tail = int(episodes.prompt_length[row]), int(episodes.response_length[row])
        ids = episodes.ids[row : row + 1, : head + tail]
        where = slice(head - 1, head + tail - 1)
        spread = torch.log_softmax(policy(input_ids=ids).logits[0, where] / settings.temperature, dim=-1)
        trunk = policy.model if shared else network.critic
        value = network.value_head(trunk(input_ids=ids).last_hidden_state[0, where])[:, 0]
        return spread.gather(1, ids[0, head:, None])[:, 0], value, -(spread.exp() * spread).sum(1)

    reference, rows = llama(seed=FAR), range(settings.episodes)
    old, old_value, kept, advantages, returns = [], [], [], [], []
    for row in rows:
        with torch.no_grad():
            logprob, value, _ = told(row)
            kept.append(told(row, reference)[0])
        score = min(settings.reward_clip, max(-settings.reward_clip, update.rewards.values[row] - settings.reward_centre))
        if not update.episodes.is_finished[row]:
            penalty = settings.missing_eos_penalty
            score = {"keep": score, "subtract": score - penalty, "replace": -penalty}[settings.missing_eos]
        reward = [0.0] * (len(value) - 1) + [score]
        if settings.kl_in == "reward":
            reward = [one - kl_coef * float(k1) for one, k1 in zip(reward, logprob - kept[-1], strict=True)]
        following = [*value.tolist()[1:], 0.0]
        surprise = [r + γ * after - v for r, after, v in zip(reward, following, value.tolist(), strict=True)]
        advantage = [
            sum((γ * λ) ** (later - t) * surprise[later] for later in range(t, len(surprise))) for t in range(len(surprise))
        ]
        old.append(logprob)
        old_value.append(value)
        advantages.append(torch.tensor(advantage))
        returns.append(advantages[-1] + value)
    every = torch.cat(advantages)
    if settings.whiten_advantages:
        advantages = [(one - every.mean()) / (every.var(correction=0) + 1e-8).sqrt() for one in advantages]
    trunk = [] if shared else list(network.critic.parameters())
    policy, critic = list(network.policy.parameters()), [*trunk, *network.value_head.parameters()]
    optimiser = torch.optim.Adam(
        [{"params": policy, "lr": settings.learning_rate}, {"params": critic, "lr": settings.critic_learning_rate}],
        eps=settings.adam_epsilon,
    )
    ε, εv = settings.clip_range, settings.value_clip_range
    for epoch in range(settings.epochs):
        order = torch.randperm(settings.episodes, generator=derived_generator(SEED, "mini-batches", update.number - 1, epoch))
        for mini_batch in order.split(settings.mini_batch_size):
            tokens = sum(len(old[row]) for row in mini_batch.tolist())
            loss = torch.zeros(())
            for row in mini_batch.tolist():
                logprob, value, entropy = told(row)
                share = 1 / tokens if settings.mean_over == "tokens" else 1 / (settings.mini_batch_size * len(logprob))
                ρ, gain, goal = (logprob - old[row]).exp(), advantages[row], returns[row]
                loss = loss - share * torch.minimum(ρ * gain, ρ.clamp(1 - ε, 1 + ε) * gain).sum()
                clipped = old_value[row] + (value - old_value[row]).clamp(-εv, εv)
                worse = torch.maximum((value - goal) ** 2, (clipped - goal) ** 2)
                loss = loss + settings.value_coef * share * worse.sum() / 2 - settings.entropy_coef * share * entropy.sum()
                if settings.kl_in == "loss":
                    gap = kept[row] - logprob
                    loss = loss + kl_coef * share * (gap.exp() - 1 - gap).sum()
            optimiser.zero_grad()
            loss.backward()
            for group in (policy, critic):
                nn.utils.clip_grad_norm_(group, settings.max_grad_norm)
            optimiser.step()
    return dict(network.named_parameters())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"critic": "shared", "value_coef": 0.3},
        {"kl_in": "loss", "kl_coef": 0.7, "mean_over": "responses"},
        {"temperature": 0.6, "gamma": 0.9, "gae_lambda": 0.5, "entropy_coef": 0.2},
        {"missing_eos": "subtract", "missing_eos_penalty": 0.7, "whiten_advantages": False, "max_grad_norm": 0.1},
        {"missing_eos": "replace", "missing_eos_penalty": 0.4, "reward_centre": 0.3, "reward_clip": 0.25, "clip_range": 0.02},
        {"value_clip_range": 0.01, "value_coef": 3.0, "epochs": 3, "device_batch_size": 3, "old_logprobs": "recomputed"},
        {"samples_per_prompt": 4, "mini_batch_size": 4},
    ],
    ids=lambda settings: " ".join(settings) or "defaults",
)
def test_an_update_is_its_formulas_written_out(settings):
    network = valued(settings.get("critic", "separate"))
    made = run(network, updates=1, reference=far(**settings), **{"learning_rate": 3e-3, "critic_learning_rate": 1e-2, **settings})
    close(dict(made.network.named_parameters()), written_out(made, made.updates[0]), atol=3e-5)
    assert moved(made.weights, dict(valued(made.settings.critic).named_parameters())) > 3e-3, "the tolerance can fail"


def test_a_policy_that_has_left_its_reference_pays_for_it():
    """The first update of a run starts with a KL of 0; here the reference is another network from the start."""
    near = run(updates=1)
    assert near.metric("kl")[0] == pytest.approx(0, abs=1e-4)
    made = run(updates=1, reference=far(), kl_coef=0.01)
    kl = (made.updates[0].episodes.logprob - made.updates[0].episodes.reference_logprob).sum(dim=1).mean().item()
    assert made.metric("kl")[0] == pytest.approx(kl) and kl > 1
    assert made.metric("sqrt_kl")[0] == pytest.approx(kl**0.5)
    assert made.metric("objective")[0] == pytest.approx(made.metric("reward")[0] - 0.01 * kl)


# --- contracts --------------------------------------------------------------------------------------------------------


def test_the_first_ratio_is_1_within_rounding_and_the_first_step_knows_no_kl():
    made = run(updates=2, epochs=1, mini_batch_size=16, device_batch_size=16, ratio_tolerance=1e-5)
    assert made.metric("approx_kl") == pytest.approx([0, 0], abs=1e-9)
    assert made.metric("clip_fraction") == [0, 0]
    # whitened advantages sum to 0 over all tokens, so on policy the loss is 0 whatever the network
    assert made.metric("policy_loss") == pytest.approx([0, 0], abs=1e-5)


class Padded(nn.Module):
    """A network whose log-probabilities depend on how wide the batch is."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def parameter_groups(self):
        return self.inner.parameter_groups()

    def forward(self, ids, prompt_length, response_length, *, temperature, want):
        told = self.inner(ids, prompt_length, response_length, temperature=temperature, want=want)
        is_padded = ((prompt_length + response_length) < ids.shape[1]).repeat_interleave(response_length)
        return TokenFigures(
            logprob=None if told.logprob is None else told.logprob - 0.1 * is_padded, value=told.value, entropy=told.entropy
        )


def refused(network=None, *, draw=sampler, inner=None, reference=None, **settings):
    """Run PPO on a network, with samples of `inner`, and return the cause that its refusal names."""
    made = network or policy_and_critic(llama(), critic="separate")
    inner = inner or made
    before = {name: weight.clone() for name, weight in made.named_parameters()}
    with pytest.raises(ContractError) as caught:
        run(made, draw=draw(inner), reference=reference or reference_logprobs(inner.policy, temperature=1.0), **settings)
    assert all(torch.equal(weight, before[name]) for name, weight in made.named_parameters()), "nothing was trained"
    said, _, cause = str(caught.value).partition("(ppo.ratio_tolerance). ")
    assert said.startswith(
        "PPO's first mini-batch must have a ratio of 1: log-probabilities in training and in sampling differ by"
    )
    return cause


def test_sampling_at_another_temperature_than_it_says_is_refused():
    said = refused(draw=lambda network: sampler(network, temperature=1.0), temperature=0.7)
    assert said.startswith(
        "Temperature is the cause: sampling used undivided logits, training divides them by ppo.temperature=0.7"
    )
    said = refused(draw=lambda network: sampler(network, temperature=0.7))
    assert said.startswith("Neither dropout, padding nor temperature explains it:")


def test_dropout_is_refused():
    network = policy_and_critic(llama(attention_dropout=0.3), critic="separate")
    for layer in network.policy.model.layers:  # as a model would be that hides it
        layer.self_attn.attention_dropout = 0.3
    assert refused(network).startswith("Dropout is the cause: the same batch gives other figures each time.")


def test_a_network_that_reads_padding_is_refused():
    inner = policy_and_critic(llama(), critic="separate")
    said = refused(Padded(inner), inner=inner)
    assert said.startswith("Padding is the cause: each sequence by itself agrees.")


def test_other_tokens_than_were_sampled_are_refused():
    def draw(network):
        plain = sampler(network)

        def other(asked, chance):
            prompts, sampled = plain(asked, chance)
            return [[*prompt[:-1], prompt[-1] ^ 1] for prompt in prompts], sampled

        return other

    # a reference that finds every token most unlikely, lest a KL below 0 be noticed first
    unlike = reference_logprobs(llama(), temperature=0.05)
    assert refused(draw=draw, reference=unlike).startswith(
        "Neither dropout, padding nor temperature explains it: prompt or response"
    )


def test_where_logprobs_are_computed_again_the_sampler_is_still_held_to_the_policy():
    network = policy_and_critic(llama(), critic="separate")
    made = run(network, draw=sampler(network), updates=1, old_logprobs="recomputed")
    assert made.metric("kl")[0] == pytest.approx(0, abs=1e-4)
    with pytest.raises(ContractError, match=r"nats a token on average, allowed are 0.01 \(ppo.sampler_tolerance\)"):
        run(network, draw=sampler(network, temperature=1.3), updates=1, old_logprobs="recomputed", sampler_tolerance=0.01)
    made = run(network, draw=sampler(network, temperature=1.3), updates=1, old_logprobs="recomputed", sampler_tolerance=9.0)
    assert made.metric("kl")[0] == pytest.approx(0, abs=1e-4), "the figures are the policy's own, whatever the sampler said"


def test_responses_that_do_not_end_are_refused_at_the_start_only():
    with pytest.raises(ContractError) as caught:
        run(min_finished=0.9)
    share = run(updates=1).metric("finished")[0]
    assert 0 < share < 0.9
    assert str(caught.value) == (
        f"only {share:.0%} of the first responses end with EOS, PPO needs 90% (ppo.min_finished): it rewards whole responses, "
        "and cannot teach a model to end them. Train SFT longer, or give more room than ppo.max_new_tokens=6"
    )
    network = policy_and_critic(llama(), critic="separate")
    draw, calls = sampler(network), []

    def cut_off(asked, chance):
        prompts, sampled = draw(asked, chance)
        calls.append(None)
        return prompts, sampled if len(calls) == 1 else replace(sampled, is_finished=[False] * len(asked))

    made = run(network, draw=cut_off, min_finished=share)
    assert made.metric("finished") == pytest.approx([share, 0.0]), "what comes later is judged as a collapse, over patience"


def test_a_collapse_stops_the_run():
    """The score falls at the third update whatever the policy does."""
    calls = []

    def falling(asked, responses):
        calls.append(len(asked))
        return Rewards([float(place % 2) - 5 * (len(calls) > 2) for place in range(len(asked))])

    with pytest.raises(ContractError) as caught:
        run(reward=falling, updates=9, patience=1)
    assert str(caught.value) == (
        "PPO has collapsed by update 3: over the last 1 updates the reward fell from 0.5 to -4.5. Lower ppo.learning_rate (now "
        "0.001) or raise ppo.kl_coef (now 0.05)"
    )
    assert len(calls) == 3


def test_a_policy_that_is_not_finite_is_refused():
    network = policy_and_critic(llama(), critic="separate")
    draw = sampler(network)

    def broken(asked, chance):
        prompts, sampled = draw(asked, chance)
        return prompts, replace(sampled, logprobs=[row * float("nan") for row in sampled.logprobs])

    with pytest.raises(ContractError, match=r"^the KL from the reference is not finite"):
        run(network, draw=broken)


def test_an_empty_response_is_refused():
    def nothing(asked, chance):
        return [QUESTIONS[one] for one in asked], Sampled([[]] * len(asked), [torch.zeros(0)] * len(asked), [False] * len(asked))

    with pytest.raises(ValueError, match=r"^response 0 has no token"):
        run(draw=nothing, reward=lambda asked, responses: Rewards([0.0] * len(asked)))


def test_processes_must_share_a_mini_batch_evenly():
    class Three:
        num_processes = 3

    with pytest.raises(RequestError) as caught:
        Learner(nn.Linear(1, 1), estimator=None, settings=PPOSettings(**SETTINGS), accelerator=Three(), seed=0)
    assert str(caught.value) == (
        "ppo.mini_batch_size must be a multiple of the number of processes (3), so that each has as much to do, got 8"
    )


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
    learner.accelerator = Accelerator(cpu=True)
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
