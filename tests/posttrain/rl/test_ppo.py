"""PPO whole: one update against the formulas written out, and its contracts."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from models.policy import policy_and_critic, reference_logprobs
from posttrain.errors import ContractError, RequestError
from posttrain.rl.layout import Replicated
from posttrain.rl.learner import Learner
from posttrain.rl.network import TokenFigures
from posttrain.rl.rewards import Rewards
from posttrain.rl.rollout import Sampled, derived_generator
from posttrain.settings.ppo import PPOSettings
from tests.posttrain.rl.weights import FAR, close, far, moved, valued
from tests.tiny_ppo import QUESTIONS, SEED, SETTINGS, llama, run, sampler

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


# --- one update, written out ------------------------------------------------------------------------------------------


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
        how = {"settings": PPOSettings(**SETTINGS), "accelerator": Three(), "seed": 0, "layout": Replicated()}
        Learner(nn.Linear(1, 1), estimator=None, **how)
    assert str(caught.value) == (
        "ppo.mini_batch_size must be a multiple of the number of processes (3), so that each has as much to do, got 8"
    )
