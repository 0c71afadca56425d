"""Packed sequences: nothing but speed differs from one sequence at a time, and models that would differ are left alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from models.packed import NAME, Packing, called_packed, is_packing, let_pack, read_once
from tests.tiny_ppo import EOS, PAD, VOCABULARY, llama

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "bos_token_id": None,
    "initializer_range": 0.4,
}
SEQUENCES = [[3, 4, 5, 6, 7, 8, 9], [2], [10, 11, 12, 13], [5, 5, 5, 14], [15, 3]]


def mistral():
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=3)).eval()


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=EOS)
    ).eval()


def packed(network, sequences=SEQUENCES, *, group=2):
    packing = Packing.of(torch.tensor([len(one) for one in sequences]), group=group)
    return called_packed(network, torch.tensor([[token for one in sequences for token in one]]), packing)[0][0]


def one_by_one(network, sequences=SEQUENCES):
    return torch.cat([network(input_ids=torch.tensor([one]), use_cache=False)[0][0] for one in sequences])


def test_a_packing_by_hand():
    told = Packing.of(torch.tensor([3, 1, 2]), group=2)
    assert told.place.tolist() == [0, 1, 2, 0, 0, 1]
    # by length: (1, 2) padded to 2, then (3) alone; the padding behind the sequence of one token reads that token again
    assert list(told.groups) == [(2, 2), (1, 3)]
    assert told.to_padded.tolist() == [3, 3, 4, 5, 0, 1, 2]
    assert told.from_padded.tolist() == [4, 5, 6, 0, 2, 3]


BEGINNING_ALIKE = [[3, 4, 5, 6], [3, 4, 5, 7, 8], [3, 4, 5], [9, 4], [9, 4], [2]]


def test_what_a_sequence_begins_with_as_the_one_before_it_is_read_once():
    read, tokens = read_once([BEGINNING_ALIKE])
    assert read == [3, 4, 5, 6, 7, 8, 9, 4, 2]
    assert tokens.tolist() == [0, 1, 2, 3, 0, 1, 2, 4, 5, 0, 1, 2, 6, 7, 6, 7, 8]
    read, tokens = read_once([BEGINNING_ALIKE[:2], BEGINNING_ALIKE[2:4]])
    assert read == [3, 4, 5, 6, 7, 8, 3, 4, 5, 9, 4], "groups share nothing"
    assert tokens.tolist() == [0, 1, 2, 3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10]


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=6), min_size=1, max_size=8))
def test_every_token_is_read_behind_what_stands_before_it(sequences):
    read, tokens = read_once([sequences])
    assert [read[token] for token in tokens.tolist()] == [token for one in sequences for token in one]
    assert sorted(set(tokens.tolist())) == list(range(len(read)))
    beginnings = {}
    ends = torch.tensor([len(one) for one in sequences]).cumsum(0).tolist()
    for one, end in zip(sequences, ends, strict=True):
        for place, token in enumerate(tokens[end - len(one) : end].tolist()):
            assert beginnings.setdefault(token, one[: place + 1]) == one[: place + 1]


def test_a_packing_of_shared_tokens_by_hand():
    read, tokens = read_once([[[5, 6, 7], [5, 8]]])
    told = Packing.of(torch.tensor([3, 2]), tokens=tokens)
    assert read == [5, 6, 7, 8] and told.place.tolist() == [0, 1, 2, 1]
    # by length: (5, 8) padded to 3, then (5, 6, 7); the padding reads the first token of its sequence
    assert list(told.groups) == [(2, 3)]
    assert told.to_padded.tolist() == [0, 3, 0, 0, 1, 2] and told.filled.tolist() == [0, 1, 3, 4, 5]
    assert told.from_padded.tolist()[1:] == [4, 5, 1] and told.from_padded[0] in (0, 3)


@pytest.mark.parametrize(
    "made", [llama, lambda: llama(num_key_value_heads=1), mistral, gpt2], ids=["llama", "gqa", "window", "gpt2"]
)
@pytest.mark.parametrize("group", [1, 2, 16])
def test_shared_tokens_give_the_outputs_and_gradients_of_one_sequence_at_a_time(made, group):
    alone, network = made().eval(), made().eval()
    let_pack(network)
    sequences = [[3, 4, 5, 6, 7, 8, 9], [3, 4, 5, 6, 7, 2], [3, 4, 5, 6, 7, 2, 2, 2], [5, 5], [5, 5]]
    read, tokens = read_once([sequences])
    assert len(read) == 12 < len(tokens)
    weight = torch.randn(len(tokens), VOCABULARY, generator=torch.Generator().manual_seed(1))
    packing = Packing.of(torch.tensor([len(one) for one in sequences]), tokens=tokens, group=group)
    mine = called_packed(network, torch.tensor([read]), packing)[0][0].index_select(0, tokens)
    theirs = one_by_one(alone, sequences)
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    for outputs in (mine, theirs):
        (outputs * weight).sum().backward()
    for (name, one), other in zip(network.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=2e-5, rtol=1e-4, msg=name)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), group=st.integers(1, 5))
def test_every_token_has_its_place_and_sequences_stay_together(lengths, group):
    told = Packing.of(torch.tensor(lengths), group=group)
    assert torch.equal(told.to_padded[told.from_padded], torch.arange(sum(lengths)))
    assert sum(rows for rows, _ in told.groups) == len(lengths)
    assert sum(rows * columns for rows, columns in told.groups) == len(told.to_padded)
    assert all(rows <= group for rows, _ in told.groups)
    owner = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    start = 0
    for rows, columns in told.groups:
        block = told.to_padded[start : start + rows * columns].view(rows, columns)
        assert all(len(set(owner[row].tolist())) == 1 for row in block)
        start += rows * columns


@pytest.mark.parametrize(
    "made", [llama, lambda: llama(num_key_value_heads=1), mistral, gpt2], ids=["llama", "gqa", "window", "gpt2"]
)
@pytest.mark.parametrize("group", [1, 2, 16])
def test_output_and_gradients_are_those_of_one_sequence_at_a_time(made, group):
    alone, network = made().eval(), made().eval()
    let_pack(network)
    assert is_packing(network) and not is_packing(alone)
    weight = torch.randn(sum(map(len, SEQUENCES)), VOCABULARY, generator=torch.Generator().manual_seed(1))
    for outputs in (one_by_one(alone), packed(network, group=group)):
        (outputs * weight).sum().backward()
    torch.testing.assert_close(packed(network, group=group), one_by_one(alone), atol=1e-5, rtol=1e-5)
    for (name, mine), theirs in zip(network.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=2e-5, rtol=1e-4, msg=name)


def test_the_window_is_narrower_than_the_sequences():
    """Else the case above would show nothing of windows."""
    wide = mistral()
    wide.config.sliding_window = None
    for layer in wide.model.layers:
        layer.self_attn.sliding_window = None
    wide.config.layer_types = ["full_attention"] * 2
    assert (one_by_one(wide) - one_by_one(mistral())).abs().max() > 1e-2


def test_another_sequence_changes_nothing_bit_for_bit():
    network = llama()
    let_pack(network)
    other = [SEQUENCES[0], [9], [1, 2, 3, 4], [6, 7, 8, 9], [2, 2]]
    assert torch.equal(packed(network)[: len(SEQUENCES[0])], packed(network, other)[: len(SEQUENCES[0])])


def test_the_model_takes_plain_batches_as_before_and_is_saved_as_before(tmp_path):
    network, before = llama(), llama()
    let_pack(network)
    ids, mask = torch.tensor([[PAD, 3, 4], [5, 6, 7]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    for how in ({"attention_mask": mask}, {}):
        assert torch.equal(network(input_ids=ids, **how).logits, before(input_ids=ids, **how).logits)
    network.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


class Deaf(torch.nn.Module):
    """A network whose attention hears of no packing: it would mix the sequences."""

    def __init__(self, raises=False):
        super().__init__()
        self.inner, self.raises = llama(), raises
        self.config, self.device, self.dtype = self.inner.config, torch.device("cpu"), torch.float32
        self.set_attn_implementation = self.inner.set_attn_implementation

    def forward(self, input_ids, packing=None, **how):
        if packing is not None and self.raises:
            raise TypeError("unexpected keyword")
        return self.inner(input_ids=input_ids, **how)


@pytest.mark.parametrize("raises", [True, False])
def test_a_network_that_does_otherwise_is_left_alone(raises):
    deaf = Deaf(raises)
    let_pack(deaf)
    assert deaf.config._attn_implementation == "sdpa"


def test_other_attention_and_layers_that_are_none_are_left_alone():
    torch.manual_seed(0)
    capped = Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8))
    convolving = Lfm2ForCausalLM(Lfm2Config(**{**SMALL, "layer_types": ["conv", "full_attention"]}))
    eager = llama()
    eager.set_attn_implementation("eager")
    for network in (capped, convolving, eager):
        before = network.config._attn_implementation
        let_pack(network)
        assert network.config._attn_implementation == before and not is_packing(network)


def test_packing_twice_is_packing_once():
    network = llama()
    let_pack(network)
    let_pack(network)
    assert is_packing(network)
