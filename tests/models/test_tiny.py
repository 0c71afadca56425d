"""The tiny base: tokenizers that give every text back, a network of known size, a schedule and batches as described."""

from math import log
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import tiny
from models.tiny import network, padded, pretrain
from models.tokenizers import EOS, PAD, bpe_tokenizer, world_tokenizer
from posttrain.data.world import CAREFUL, draw_author, draw_problem, generate
from posttrain.settings.data import WorldSettings
from posttrain.settings.model import PretrainSettings, TinySettings

CPU = torch.device("cpu")
SMALL = TinySettings(layers=2, width=16, heads=2)
SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def world_reader():
    few = WorldSettings(corpus_documents=1_500, demonstrations=1, questions=1, held_out=1)
    return world_tokenizer(record.text + "\n" for role, record in generate(few) if role == "corpus")


@pytest.fixture(scope="module")
def bytes_reader():
    return bpe_tokenizer(["the cat sat on the mat with 12 other cats " * 20, "naïve café"], vocabulary=300)


def tokens(reader, text):
    return reader.convert_ids_to_tokens(reader(text)["input_ids"])


# --- the world's words ------------------------------------------------------------------------------------------------


@given(SEEDS)
def test_every_story_and_solution_comes_back(world_reader, seed):
    random = Random(seed)
    problem = draw_problem(random)
    for author in (CAREFUL, draw_author(random, careful_share=0)):
        text = f"{problem.text}\n{author.solution(problem)[0]}"
        ids = world_reader(text)["input_ids"]
        assert world_reader.unk_token_id not in ids
        assert world_reader.decode(ids) == text


@given(SEEDS)
def test_every_document_of_another_corpus_comes_back(world_reader, seed):
    other = WorldSettings(seed=seed, corpus_documents=5, demonstrations=1, questions=1, held_out=1)
    for role, record in generate(other):
        text = record.text if role == "corpus" else record.prompt + "\n"
        assert world_reader.decode(world_reader(text)["input_ids"]) == text


@given(SEEDS)
def test_prompt_and_response_share_no_token(world_reader, seed):
    """TRL tokenizes them together and apart; both must be the same."""
    problem = draw_problem(Random(seed))
    prompt, completion = problem.text + "\n", CAREFUL.solution(problem)[0]
    assert (
        world_reader(prompt)["input_ids"] + world_reader(completion)["input_ids"]
        == world_reader(prompt + completion)["input_ids"]
    )


def test_a_word_is_a_token_and_so_is_a_digit(world_reader):
    assert tokens(world_reader, "Tom has 12 apples.\n") == ["Tom", " has ", "1", "2", " apples", ".", "\n"]
    assert len(world_reader) < 100


def test_a_word_never_seen_is_unknown_and_special_tokens_come_first(world_reader):
    assert tokens(world_reader, "Rumpelstilzchen") == ["<unk>"]
    assert world_reader.convert_tokens_to_ids([PAD, EOS, "<unk>"]) == [0, 1, 2]


def test_nothing_is_put_around_a_text(world_reader, bytes_reader):
    for reader in (world_reader, bytes_reader):
        assert reader("")["input_ids"] == []
        assert {reader.pad_token_id, reader.eos_token_id}.isdisjoint(reader("12 + 5")["input_ids"])


# --- byte-level BPE ---------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_text_comes_back_from_bytes(bytes_reader, text):
    if PAD not in text and EOS not in text:
        assert bytes_reader.decode(bytes_reader(text)["input_ids"]) == text


@given(st.integers(0, 10**12))
def test_digits_stay_apart(bytes_reader, number):
    assert len(bytes_reader(str(number))["input_ids"]) == len(str(number))


@pytest.mark.parametrize("vocabulary", [260, 270])
def test_the_vocabulary_is_no_larger_than_asked_for(vocabulary):
    reader = bpe_tokenizer(["the cat sat on the mat " * 20], vocabulary=vocabulary)
    assert len(reader) <= vocabulary
    assert reader.convert_tokens_to_ids([PAD, EOS]) == [0, 1]


def test_frequent_words_become_tokens(bytes_reader):
    assert "Ġthe" in tokens(bytes_reader, "on the mat")


def test_equal_texts_make_equal_tokenizers():
    texts = ["the cat sat on the mat " * 20]
    for make in (world_tokenizer, lambda given: bpe_tokenizer(given, vocabulary=280)):
        assert make(texts).backend_tokenizer.to_str() == make(texts).backend_tokenizer.to_str()


# --- the network ------------------------------------------------------------------------------------------------------


def test_its_size_by_hand():
    # width 16, inner width 16 * 8 / 3 = 42, rounded down to 40; vocabulary 50, tied
    # a layer: 4 * 16 * 16 attention + 3 * 16 * 40 feed-forward + 2 * 16 norms = 2,976; twice; + 50 * 16 + 16
    model = network(SMALL, vocabulary=50, context=64, pad=0, eos=1)
    assert sum(weight.numel() for weight in model.parameters()) == 2 * 2_976 + 50 * 16 + 16
    assert model.config.max_position_embeddings == 64
    assert (model.config.pad_token_id, model.config.eos_token_id, model.config.bos_token_id) == (0, 1, None)


def test_the_default_has_the_size_that_was_measured():
    """docs/decisions/0003-world.md: 0.15 million with a vocabulary near 75."""
    model = network(TinySettings(), vocabulary=75, context=512, pad=0, eos=1)
    # 64 * 8 // 3 = 170, 168 inner; a layer 4 * 64² + 3 * 64 * 168 + 2 * 64 = 48,768
    assert sum(weight.numel() for weight in model.parameters()) == 3 * 48_768 + 75 * 64 + 64


def test_weights_start_at_the_spread_their_width_wants():
    torch.manual_seed(0)
    model = network(TinySettings(), vocabulary=75, context=64, pad=0, eos=1)
    # 0.8 / √64 = 0.1, far from the customary 0.02; 4,096 draws: three standard errors are 3.3 %
    assert model.model.layers[0].self_attn.q_proj.weight.std().item() == pytest.approx(0.8 / 64**0.5, rel=0.035)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_padding_by_hand():
    ids, is_token = padded([[5, 6, 7], [8]], pad=9, device=CPU)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert is_token.tolist() == [[True, True, True], [True, False, False]]
    assert (ids.dtype, is_token.dtype) == (torch.int64, torch.bool)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 100), st.integers(0, 9))
def test_every_document_comes_once_an_epoch_in_batches_within_their_size(lengths, tokens, seed):
    documents = [[0] * length for length in lengths]
    batches, left, first = tiny.like_length_batches(documents, tokens=tokens, seed=seed), set(range(len(documents))), []
    while left:
        batch = next(batches)
        first.append(batch)
        assert batch and set(batch) <= left
        left -= set(batch)
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= tokens
    again = tiny.like_length_batches(documents, tokens=tokens, seed=seed)
    assert first == [next(again) for _ in first]


def test_documents_of_like_length_go_together():
    lengths = [3, 9] * 50
    batches = tiny.like_length_batches([[0] * length for length in lengths], tokens=45, seed=0)
    mixed = sum(len({lengths[index] for index in next(batches)}) > 1 for _ in range(10))
    assert mixed <= 1


# --- pretraining ------------------------------------------------------------------------------------------------------


def corpus(reader):
    few = WorldSettings(corpus_documents=200, demonstrations=1, questions=1, held_out=1)
    texts = [record.text for role, record in generate(few) if role == "corpus"]
    return [[*ids, reader.eos_token_id] for ids in reader(texts)["input_ids"]]


def trained(reader, documents, *, steps=12, seed=0, learning_rate=1e-2):
    torch.manual_seed(seed)
    model = network(SMALL, vocabulary=len(reader), context=128, pad=0, eos=1)
    settings = PretrainSettings(steps=steps, batch_tokens=512, learning_rate=learning_rate)
    return model, list(pretrain(model, documents, settings, seed=seed, pad=0))


def test_pretraining_lowers_the_loss_from_that_of_a_guess(world_reader, one_thread):
    model, steps = trained(world_reader, corpus(world_reader), steps=30)
    assert [one.step for one in steps] == list(range(1, 31))
    assert steps[0].loss == pytest.approx(log(len(world_reader)), abs=0.7)
    assert sum(one.loss for one in steps[-5:]) / 5 < 0.8 * steps[0].loss
    assert not model.training


def test_a_step_counts_its_tokens_without_padding(world_reader, one_thread):
    documents = [[5, 6, 7, 1], [8, 1]]
    _, steps = trained(world_reader, documents, steps=3)
    assert [one.tokens for one in steps] == [6, 6, 6]


def test_one_cycle_rises_to_its_peak_and_falls_below_its_start(world_reader, one_thread):
    _, steps = trained(world_reader, corpus(world_reader), steps=20)
    rates = [one.learning_rate for one in steps]
    peak = rates.index(max(rates))
    # torch's cycle: 30 % of the steps up from 1/25 of the peak, then down to 1/10,000 of that
    assert max(rates) == pytest.approx(1e-2, rel=0.03) and 3 <= peak <= 7
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < rates[0]


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_does_not(world_reader, one_thread):
    documents = corpus(world_reader)
    first, again, other = (trained(world_reader, documents, steps=4, seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
