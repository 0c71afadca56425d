"""Policy and critic: only response tokens count, padding never does, and sampling and training see one function."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForSequenceClassification

from models.policy import policy_and_critic, reference_logprobs, sample, without_dropout
from posttrain.losses import clipped_policy_loss, clipped_value_loss
from posttrain.masks import padded, token_weights
from tests.tiny_ppo import CONTEXT, EOS, PAD, QUESTIONS, VOCABULARY, llama

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
@pytest.mark.parametrize("adapters", [lambda made: made, with_adapters], ids=["copy", "adapters off"])
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


def test_a_reference_beside_adapters_is_no_second_model(monkeypatch):
    made = policy_and_critic(llama(), critic="separate", adapters=with_adapters)
    monkeypatch.setattr("copy.deepcopy", lambda _: pytest.fail("a copy"))
    torch.testing.assert_close(reference_logprobs(made.policy, temperature=1.0)(*batch()), told_by(made, batch()).logprob)


# --- sampling ---------------------------------------------------------------------------------------------------------


def drawn(model, prompts=QUESTIONS, *, longest=8, seed=0, **changes):
    chance = torch.rand(len(prompts), longest, generator=torch.Generator().manual_seed(seed))
    how = {"temperature": 1.0, "eos_id": EOS, "pad_id": PAD, "context": CONTEXT, "batch_size": 64, **changes}
    return sample(model, prompts, how.pop("chance", chance), **how)


def scripted(**follows):
    """A network that is sure of what follows each token: embeddings and output layer do all the work."""
    made = llama(num_hidden_layers=1, hidden_size=VOCABULARY)
    with torch.no_grad():
        for weight in made.model.layers.parameters():
            weight.zero_()
        made.model.embed_tokens.weight.copy_(torch.eye(VOCABULARY))
        made.lm_head.weight.zero_()
        for token, following in follows.items():
            made.lm_head.weight[following, int(token.removeprefix("t"))] = 30.0
    return made


def test_a_sure_network_is_followed_to_its_eos():
    # 3 → 4 → 5 → EOS; 6 → 6 → … without end
    told = drawn(scripted(t3=4, t4=5, t5=EOS, t6=6), [[3], [9, 9, 6], [8, 5], [2, 3]], longest=4)
    assert told.responses == [[4, 5, EOS], [6, 6, 6, 6], [EOS], [4, 5, EOS]]
    assert told.is_finished == [True, False, True, True]
    assert [len(row) for row in told.logprobs] == [3, 4, 1, 3]
    assert all(row.abs().max() < 1e-3 for row in told.logprobs)


def test_eos_as_the_last_token_allowed_is_an_end():
    told = drawn(scripted(t3=4, t4=EOS), [[3]], longest=2)
    assert told.responses == [[4, EOS]] and told.is_finished == [True]
    assert drawn(scripted(t3=4, t4=EOS), [[3]], longest=1).is_finished == [False]


def test_the_context_bounds_prompt_and_response_together():
    told = drawn(scripted(t6=6), [[6], [6] * 5, [6] * 6, [6] * 9], longest=4, context=6)
    assert [len(row) for row in told.responses] == [4, 1, 0, 0]
    assert told.is_finished == [False] * 4 and len(told.logprobs[3]) == 0
    assert drawn(scripted(t6=6), [[6] * 9], longest=4, context=6).responses == [[]]


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_logprobs_of_sampling_are_those_of_training(temperature):
    made = network()
    told = drawn(made.policy, QUESTIONS * 3, temperature=temperature, batch_size=7)
    prompts = QUESTIONS * 3
    ids = padded([[*head, *tail] for head, tail in zip(prompts, told.responses, strict=True)], with_value=PAD)
    inputs = ids, torch.tensor([len(one) for one in prompts]), torch.tensor([len(one) for one in told.responses])
    trained = told_by(made, inputs, temperature=temperature).logprob
    torch.testing.assert_close(torch.cat(list(told.logprobs)), trained, atol=1e-5, rtol=0)
    assert len({len(row) for row in told.responses}) > 3, "rows left the batch at different times"
    other = told_by(made, inputs, temperature=temperature * 1.2).logprob
    assert (other - trained).abs().max() > 1e-2, "the tolerance can fail"


def test_positions_are_counted_from_a_prompts_own_first_token():
    made = policy_and_critic(gpt2(), critic="separate")
    whole, alone = drawn(made.policy, batch_size=12), drawn(made.policy, batch_size=1)
    assert whole.responses == alone.responses
    for row, (prompt, response) in enumerate(zip(QUESTIONS, whole.responses, strict=True)):
        inputs = torch.tensor([prompt + response]), torch.tensor([len(prompt)]), torch.tensor([len(response)])
        torch.testing.assert_close(whole.logprobs[row], told_by(made, inputs).logprob, atol=1e-5, rtol=0)


@settings(max_examples=15)
@given(
    order=st.permutations(range(12)),
    batch_size=st.integers(1, 12),
    kept=st.integers(1, 12),
)
def test_a_row_is_the_same_whatever_it_is_batched_with(order, batch_size, kept):
    model = llama()
    chance = torch.rand(12, 8, generator=torch.Generator().manual_seed(2))
    whole = drawn(model, chance=chance)
    rows = order[:kept]
    part = drawn(model, [QUESTIONS[row] for row in rows], chance=chance[rows], batch_size=batch_size)
    for place, row in enumerate(rows):
        assert part.responses[place] == whole.responses[row]
        assert part.is_finished[place] == whole.is_finished[row]
        torch.testing.assert_close(part.logprobs[place], whole.logprobs[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_what_is_drawn_has_the_networks_own_probabilities(temperature):
    """A grid of first chances, times a few second ones: shares of first tokens, and of second tokens after each."""
    model, prompt, grid = llama(), [3, 4, 5], 1_000
    first = ((torch.arange(grid) + 0.5) / grid).repeat_interleave(20)
    second = ((torch.arange(20) + 0.5) / 20).repeat(grid)
    told = drawn(
        model, [prompt] * (20 * grid), chance=torch.stack([first, second], dim=1), temperature=temperature, batch_size=20_000
    )
    counts = torch.bincount(torch.tensor([row[0] for row in told.responses]), minlength=VOCABULARY) / (20 * grid)
    wanted = torch.softmax(model(input_ids=torch.tensor([prompt])).logits[0, -1] / temperature, dim=-1)
    torch.testing.assert_close(counts, wanted, atol=1.1 / grid, rtol=0)
    common = int(wanted.index_fill(0, torch.tensor([EOS]), 0).argmax())
    after = torch.tensor([row[1] for row in told.responses if row[0] == common])
    wanted = torch.softmax(model(input_ids=torch.tensor([[*prompt, common]])).logits[0, -1] / temperature, dim=-1)
    torch.testing.assert_close(torch.bincount(after, minlength=VOCABULARY) / len(after), wanted, atol=1.1 / 20, rtol=0)


def test_sampling_leaves_no_gradient_and_the_network_as_it_was():
    made = network()
    told = drawn(made.policy)
    assert made.training and not any(row.requires_grad for row in told.logprobs)
