"""Policy and critic: only response tokens count, padding never does, and sampling and training see one function."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForSequenceClassification

from models.packed import is_packing
from models.policy import policy_and_critic, reference_logprobs, without_dropout
from posttrain.ops.losses import clipped_policy_loss, clipped_value_loss
from posttrain.ops.masks import padded, token_weights
from tests.tiny_ppo import EOS, PAD, VOCABULARY, llama

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [[3, 4, 5], [6], [7, 8, 9, 10, 11], [3, 12]]
RESPONSES = [[4, 4, 1], [9, 2, 3, 5, 8], [13], [6, 1]]
EVERYTHING = frozenset({"logprob", "value", "entropy_gradient"})


def batch(rows=range(4), *, pad=PAD, more=0):
    ids = padded([[*PROMPTS[row], *RESPONSES[row], *[pad] * more] for row in rows], with_value=pad)
    return ids, torch.tensor([len(PROMPTS[row]) for row in rows]), torch.tensor([len(RESPONSES[row]) for row in rows])


def network(critic="separate", **how):
    made = policy_and_critic(llama(), critic=critic, **how)
    with torch.no_grad():  # a head of zeros would hide what it reads
        made.value_head.weight.copy_(torch.linspace(-1, 1, 16)[None])
        made.value_head.bias.fill_(0.25)
    return made


def told_by(made, inputs, *, temperature=1.0, want=EVERYTHING):
    return made(*inputs, temperature=temperature, want=want)


def by_full_logits(model, temperature):
    """The same from every position's logits, one sequence at a time, by transformers alone."""
    logprobs, entropies = [], []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0] / temperature
        spread = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1]
        logprobs += [spread[place, token] for place, token in enumerate(response)]
        entropies += list(torch.distributions.Categorical(logits=spread).entropy())
    return torch.stack(logprobs), torch.stack(entropies)


@pytest.mark.parametrize("critic", ["separate", "shared"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_figures_are_those_of_the_full_forward(critic, temperature):
    made = network(critic)
    told = told_by(made, batch(), temperature=temperature)
    logprob, entropy = by_full_logits(made.policy, temperature)
    torch.testing.assert_close(told.logprob, logprob, atol=1e-5, rtol=0)
    torch.testing.assert_close(told.entropy, entropy, atol=1e-5, rtol=0)
    trunk, at = made.critic or made.policy.model, 0
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        hidden = trunk(input_ids=torch.tensor([prompt + response])).last_hidden_state[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(told.value[at : at + len(response)], made.value_head(hidden)[:, 0], atol=1e-5, rtol=0)
        at += len(response)


def loss_and_gradients(critic, inputs):
    """PPO's loss on a batch with old figures and advantages that depend on each token's own content, and its gradients."""
    made = network(critic)
    ids, prompt_length, response_length = inputs
    told = told_by(made, inputs)
    tokens = torch.cat([row[head : head + tail] for row, head, tail in zip(ids, prompt_length, response_length, strict=True)])
    weight = token_weights(response_length, mean_over="tokens")
    gain = (tokens.float() * 1.7).sin()
    policy = clipped_policy_loss(told.logprob, told.logprob.detach() + 0.1 * gain, gain, weight, clip_range=0.2)
    value = clipped_value_loss(told.value, told.value.detach() + gain, gain * 2, weight, clip_range=0.2)
    loss = policy.loss + value.loss - 0.1 * (weight * told.entropy).sum()
    loss.backward()
    gradients = {name: weight.grad for name, weight in made.named_parameters()}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values()), "every weight is trained"
    return told, loss.detach(), gradients


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_padding_content_changes_nothing_bit_for_bit(critic):
    plain, dirty = (loss_and_gradients(critic, batch(pad=pad, more=2)) for pad in (PAD, 13))
    assert torch.equal(plain[0].logprob, dirty[0].logprob) and torch.equal(plain[0].value, dirty[0].value)
    assert torch.equal(plain[0].entropy, dirty[0].entropy) and torch.equal(plain[1], dirty[1])
    embedding = "embed_tokens.weight"  # rows of padding get zeros added to them, which may only change a zero's sign
    for name, gradient in plain[2].items():
        assert torch.equal(gradient, dirty[2][name]) or (
            name.endswith(embedding) and torch.equal(gradient + 0, dirty[2][name] + 0)
        )


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_padding_length_and_batch_order_change_nothing_beyond_rounding(critic):
    order = [2, 0, 3, 1]
    told, loss, gradients = loss_and_gradients(critic, batch())
    for inputs in (batch(more=7), batch(order)):
        _, other_loss, others = loss_and_gradients(critic, inputs)
        torch.testing.assert_close(loss, other_loss, atol=1e-6, rtol=0)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, others[name], atol=1e-6, rtol=1e-5)
    again = told_by(network(critic), batch(order))
    places = torch.split(torch.arange(11), [3, 5, 1, 2])
    for name in ("logprob", "value", "entropy"):
        moved = torch.cat([getattr(told, name)[places[row]] for row in order])
        torch.testing.assert_close(getattr(again, name), moved, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_a_model_that_cannot_pack_gives_the_same_from_padded_sequences(critic):
    plain = llama()
    plain.set_attn_implementation("eager")
    made, packing = policy_and_critic(plain, critic=critic), policy_and_critic(llama(), critic=critic)
    assert not is_packing(made.policy) and is_packing(packing.policy)
    mine, theirs = told_by(made, batch(more=3)), told_by(packing, batch())
    for name in ("logprob", "value", "entropy"):
        torch.testing.assert_close(getattr(mine, name), getattr(theirs, name), atol=1e-5, rtol=0)


def test_only_what_is_wanted_is_told_and_computed():
    made = network()
    told = told_by(made, batch(), want=frozenset({"value"}))
    assert told.logprob is None and told.entropy is None and told.value.shape == (11,)
    made.policy.forward = None
    told_by(made, batch(), want=frozenset({"value"}))
    told = told_by(network(), batch(), want=frozenset({"logprob"}))
    assert told.value is None and told.logprob.requires_grad and not told.entropy.requires_grad
    assert told_by(network(), batch()).entropy.requires_grad


def test_the_output_layer_sees_response_positions_only():
    made, seen = network(), []
    made.policy.lm_head.register_forward_hook(lambda module, arguments, output: seen.append(output.shape))
    told_by(made, batch())
    assert seen == [(11, VOCABULARY)]
    assert made.policy(input_ids=torch.tensor([[3, 4]])).logits.shape == (1, 2, VOCABULARY), (
        "and all of them when asked by others"
    )


def test_a_separate_critic_shares_no_weight_and_a_shared_one_all_but_the_head():
    made = network()
    groups = {name: {id(weight) for weight in weights} for name, weights in made.parameter_groups().items()}
    assert not groups["policy"] & groups["critic"]
    assert groups["policy"] | groups["critic"] == {id(weight) for weight in made.parameters()}
    assert len(groups["critic"]) == len(groups["policy"]) - 1 + 2  # no output layer, but a head of weight and bias
    told_by(made, batch()).value.sum().backward()
    assert all(weight.grad is None for weight in made.policy.parameters())
    shared = network("shared")
    assert shared.critic is None
    assert [id(weight) for weight in shared.parameter_groups()["critic"]] == [
        id(weight) for weight in shared.value_head.parameters()
    ]
    told_by(shared, batch()).value.sum().backward()
    assert shared.policy.model.embed_tokens.weight.grad.abs().sum() > 0


def test_a_critic_starts_as_the_policy_with_values_of_0():
    made = policy_and_critic(llama(), critic="separate")
    assert (told_by(made, batch()).value == 0).all()
    for name, weight in made.policy.model.state_dict().items():
        assert torch.equal(weight, made.critic.state_dict()[name])


def test_a_critic_from_a_reward_model_starts_at_its_score():
    scorer = llama(seed=5, kind=LlamaForSequenceClassification, num_labels=1).eval()
    made = policy_and_critic(llama(), critic="separate", critic_start=scorer)
    value = told_by(made, batch()).value
    # the value before a response's last token is the score of everything up to there
    last = torch.tensor([3, 5, 1, 2]).cumsum(0) - 1
    for row, place in enumerate(last):
        seen = torch.tensor([PROMPTS[row] + RESPONSES[row][:-1]])
        torch.testing.assert_close(value[place], scorer(input_ids=seen).logits[0, 0], atol=1e-5, rtol=0)
    assert value.abs().max() > 0.1
    moved = policy_and_critic(llama(), critic="separate", critic_start=scorer, critic_centre=0.75)
    torch.testing.assert_close(told_by(moved, batch()).value, value - 0.75, atol=1e-6, rtol=0)
    with torch.no_grad():
        made.value_head.weight.zero_()
    assert scorer.score.weight.abs().sum() > 0, "the reward model keeps its own weights"


# --- dropout, reference and adapters ----------------------------------------------------------------------------------


def gpt2():
    """A network that counts positions from the start, where a Llama only knows distances."""
    torch.manual_seed(0)
    settings = {"vocab_size": VOCABULARY, "n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2, "initializer_range": 0.4}
    return GPT2LMHeadModel(GPT2Config(**settings, bos_token_id=None, eos_token_id=EOS, pad_token_id=PAD))


def test_dropout_is_off_wherever_it_hides():
    noisy = gpt2()
    ids = torch.tensor([[3, 4, 5, 6]])
    assert not torch.equal(noisy.train()(input_ids=ids).logits, noisy(input_ids=ids).logits)
    quiet = without_dropout(noisy)
    assert quiet.training and torch.equal(quiet(input_ids=ids).logits, quiet(input_ids=ids).logits)
    llama_like = llama(attention_dropout=0.5).train()
    assert not torch.equal(llama_like(input_ids=ids).logits, llama_like(input_ids=ids).logits)
    made = policy_and_critic(llama_like, critic="separate")
    first, second = (told_by(made, batch()) for _ in range(2))
    assert made.training and torch.equal(first.logprob, second.logprob) and torch.equal(first.value, second.value)


def test_dropout_under_another_name_or_shape_is_off_too():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden_dropout, self.layerdrop, self.eps = 0.1, 0.2, 1e-6
            self.planes = nn.Dropout1d(0.5)

    block = without_dropout(Block())
    assert (block.hidden_dropout, block.layerdrop, block.eps, block.planes.p) == (0.0, 0.0, 1e-6, 0.0)


def with_adapters(made):
    torch.manual_seed(1)
    return get_peft_model(made, LoraConfig(r=2, target_modules=["q_proj", "down_proj"], lora_dropout=0.5))


def changed(policy):
    with torch.no_grad():
        for weight in policy.parameters():
            if weight.requires_grad:
                weight += 0.3 * torch.randn_like(weight)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("adapters", [None, with_adapters], ids=["copy", "adapters off"])
def test_the_reference_stays_what_the_policy_was(adapters, temperature):
    made = policy_and_critic(llama(), critic="separate", adapters=adapters)
    reference = reference_logprobs(made.policy, temperature=temperature)
    before = told_by(made, batch(), temperature=temperature).logprob
    changed(made.policy)
    torch.testing.assert_close(reference(*batch()), by_full_logits(llama(), temperature)[0], atol=1e-5, rtol=0)
    after = told_by(made, batch(), temperature=temperature).logprob
    assert (after - before).abs().max() > 0.05, "the policy has moved, and its adapters are on again"
    assert not reference(*batch()).requires_grad


def test_adapters_alone_are_trained_and_have_no_dropout():
    made = policy_and_critic(llama(), critic="separate", adapters=with_adapters)
    groups = made.parameter_groups()
    assert len(groups["policy"]) == 8 and len(groups["critic"]) == 8 + 2  # two layers, two places, A and B; and the head
    changed(made)
    assert torch.equal(told_by(made, batch()).logprob, told_by(made, batch()).logprob)


def test_a_critic_of_adapters_shares_the_frozen_weights_and_nothing_that_is_trained():
    made = policy_and_critic(llama(), critic="separate", adapters=with_adapters)
    frozen, trained = ({id(one) for one in made.parameters() if one.requires_grad is flag} for flag in (False, True))
    of_policy, of_critic = ({id(one) for one in part.parameters()} for part in (made.policy, made.critic))
    assert of_policy & of_critic <= frozen and of_critic <= of_policy | trained
    value = told_by(made, batch()).value
    changed(made.policy)
    torch.testing.assert_close(told_by(made, batch()).value, value, atol=0, rtol=0)


def test_a_critic_of_adapters_is_worth_what_one_with_frozen_weights_of_its_own_is():
    shared = policy_and_critic(llama(), critic="separate", adapters=with_adapters)
    apart = policy_and_critic(llama(), critic="separate")
    assert apart.critic is not None and shared.critic is not None
    of_its_own = with_adapters(apart.critic)
    own, others = of_its_own.state_dict(), shared.critic.state_dict()
    assert own.keys() == others.keys() and all(torch.equal(weight, others[name]) for name, weight in own.items())


def test_without_adapters_a_separate_critic_shares_nothing():
    made = policy_and_critic(llama(), critic="separate")
    assert made.critic is not None
    assert not {id(one) for one in made.policy.parameters()} & {id(one) for one in made.critic.parameters()}


def test_a_reference_beside_adapters_is_no_second_model(monkeypatch):
    made = policy_and_critic(llama(), critic="separate", adapters=with_adapters)
    monkeypatch.setattr("copy.deepcopy", lambda _: pytest.fail("a copy"))
    torch.testing.assert_close(reference_logprobs(made.policy, temperature=1.0)(*batch()), told_by(made, batch()).logprob)
