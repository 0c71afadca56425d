"""Sampling: what is drawn, how likely it was, and that company and speed change neither."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

from models.policy import policy_and_critic
from models.sampler import _cache, _quick_products, _RoomyLayer, sample
from posttrain.ops.masks import padded
from tests.models.test_policy import gpt2, network, told_by
from tests.tiny_ppo import CONTEXT, EOS, PAD, QUESTIONS, VOCABULARY, llama

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(model, prompts=QUESTIONS, *, longest=8, seed=0, **changes):
    chance = torch.rand(len(prompts), longest, generator=torch.Generator().manual_seed(seed))
    how = {"temperature": 1.0, "end_ids": (EOS,), "pad_id": PAD, "context": CONTEXT, "batch_size": 64, **changes}
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
    told = drawn(scripted(t3=4, t4=5, t5=EOS), [[3]], end_ids=(EOS, 5))
    assert told.responses == [[4, 5]] and told.is_finished == [True], "each end ends it"
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
    """A grid of first uniforms, times a few second ones: shares of first tokens, and of second tokens after each."""
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


def test_a_row_that_has_filled_the_context_does_no_harm_to_those_that_go_on():
    # learned positions end at the context: a row that stays in the batch behind its end must not ask for one beyond
    made = policy_and_critic(gpt2(), critic="separate")
    longest = made.policy.config.n_positions
    prompts = [[3] * (longest - 1), *([[4, 5]] * 3)]
    told = drawn(made.policy, prompts, longest=8, context=longest)
    assert len(told.responses[0]) == 1
    alone = drawn(made.policy, prompts[1:], chance=torch.rand(4, 8, generator=torch.Generator().manual_seed(0))[1:])
    assert list(told.responses[1:]) == list(alone.responses)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=5), data=st.data())
def test_a_cache_with_room_holds_what_a_growing_one_does(lengths, data):
    roomy, growing = _RoomyLayer(sum(lengths)), DynamicCache(config=llama().config).layers[0]
    rows = 5
    for length in lengths:
        keys, values = torch.randn(rows, 2, length, 3), torch.randn(rows, 2, length, 3)
        for mine, theirs in zip(roomy.update(keys, values), growing.update(keys, values), strict=True):
            assert torch.equal(mine, theirs)
        kept = torch.tensor(sorted(data.draw(st.sets(st.integers(0, rows - 1), min_size=1))))
        rows = len(kept)
        for layer in (roomy, growing):
            layer.batch_select_indices(kept)
        assert torch.equal(roomy.keys, growing.keys) and torch.equal(roomy.values, growing.values)
        assert roomy.get_seq_length() == growing.get_seq_length()


def test_leaving_an_empty_cache_is_no_error():
    layer = _RoomyLayer(4)
    layer.batch_select_indices(torch.tensor([0]))
    assert layer.get_seq_length() == 0


def test_layers_with_a_window_keep_their_own_cache():
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=3,
        pad_token_id=PAD,
        eos_token_id=EOS,
        initializer_range=0.4,
    )
    assert not any(type(layer) is _RoomyLayer for layer in _cache(config, room=9).layers)
    assert all(type(layer) is _RoomyLayer for layer in _cache(llama().config, room=9).layers)
    made = policy_and_critic(MistralForCausalLM(config), critic="separate")
    told = drawn(made.policy, [[3, 4, 5, 6, 7], [8]])
    for prompt, response, logprob in zip([[3, 4, 5, 6, 7], [8]], told.responses, told.logprobs, strict=True):
        inputs = torch.tensor([prompt + response]), torch.tensor([len(prompt)]), torch.tensor([len(response)])
        torch.testing.assert_close(logprob, told_by(made, inputs).logprob, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (48, 1), (3, 20), (49, 1)])
def test_quick_products_are_the_same_products(bias, shape):
    torch.manual_seed(0)
    holder = nn.ModuleDict({"wide": nn.Linear(256, 300, bias=bias), "small": nn.Linear(8, 4)})
    entries = torch.randn(*shape, 256)
    plain = holder["wide"](entries)
    with _quick_products(holder):
        assert "forward" in vars(holder["wide"]) and "forward" not in vars(holder["small"])
        quick = holder["wide"](entries)
    torch.testing.assert_close(quick, plain, atol=1e-5, rtol=1e-5)
    assert quick.shape == plain.shape and quick.is_contiguous()
    assert "forward" not in vars(holder["wide"])


def test_quick_products_end_with_the_sampling_that_failed():
    holder = nn.Sequential(nn.Linear(256, 256))
    with pytest.raises(ZeroDivisionError), _quick_products(holder):
        raise ZeroDivisionError
    assert "forward" not in vars(holder[0])
