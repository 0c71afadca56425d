"""Embeddings smaller than the tokenizer: grown for tokens that were added, refused for words of another vocabulary."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from models.embedding import grow_embedding
from models.load import load_model, load_tokenizer
from models.reward import load_reward_model, reward_network, score_texts
from models.shipped import notes_on
from posttrain.errors import RequestError
from posttrain.settings.model import ModelSettings
from tasks.workspace.weights import save
from tests.models.shipped import byte_level, llama_3, ship

CPU = torch.device("cpu")
ONE = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def gpt_2(tmp_path, request):
    return ship(tmp_path / "base", byte_level("<|endoftext|>", **ONE), tied=request.param)


def test_it_grows_by_the_pad_token_to_the_mean_and_nothing_else_moves(gpt_2, tmp_path):
    reader, model = load_tokenizer(gpt_2), load_model(gpt_2, ModelSettings(), on=CPU)
    plain = AutoModelForCausalLM.from_pretrained(gpt_2)
    rows = plain.get_input_embeddings().weight.shape[0]
    for ours, theirs in zip(
        (model.get_input_embeddings(), model.get_output_embeddings()),
        (plain.get_input_embeddings(), plain.get_output_embeddings()),
        strict=True,
    ):
        assert ours.weight.shape[0] == rows + 1 == len(reader)
        assert torch.equal(ours.weight[:rows], theirs.weight)
        torch.testing.assert_close(ours.weight[rows], theirs.weight.mean(dim=0))
    ids = torch.tensor([[5, 9, 17]])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits[..., :rows], plain(ids).logits, atol=1e-6, rtol=0)
        assert model(torch.tensor([[reader.pad_token_id]])).logits.isfinite().all()

    # what is saved holds it, in plain transformers and in ours
    save(model, reader, tmp_path / "saved")
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "saved")(ids).logits, model(ids).logits)
    assert notes_on(tmp_path / "saved") == []


def test_it_grows_alike_whatever_was_drawn_before_and_disturbs_no_draws(gpt_2):
    first = load_model(gpt_2, ModelSettings(), on=CPU).get_input_embeddings().weight
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(gpt_2)
    state = torch.get_rng_state()
    grow_embedding(model, len(first))
    assert torch.equal(model.get_input_embeddings().weight, first) and torch.equal(torch.get_rng_state(), state)


def test_a_reward_model_grows_as_well(gpt_2):
    reader = load_tokenizer(gpt_2)
    network = reward_network(str(gpt_2), ModelSettings(), on=CPU, pad=reader.pad_token_id, seed=0)
    assert network.get_input_embeddings().weight.shape[0] == len(reader)
    assert network(torch.tensor([[5, reader.pad_token_id]])).logits.isfinite().all()


def test_anybodys_reward_model_without_a_pad_token_scores_a_batch(gpt_2, tmp_path):
    AutoModelForSequenceClassification.from_pretrained(gpt_2, num_labels=1).save_pretrained(tmp_path / "reward")
    AutoTokenizer.from_pretrained(gpt_2).save_pretrained(tmp_path / "reward")
    members, reader = load_reward_model(tmp_path / "reward", on=CPU), load_tokenizer(tmp_path / "reward")
    alone = [score_texts(members, reader, [text], batch_size=1)[0] for text in ("a", "abcd")]
    assert score_texts(members, reader, ["a", "abcd"], batch_size=2) == pytest.approx(alone, abs=1e-5)


def test_larger_is_left_alone(tmp_path):
    base = ship(tmp_path, byte_level("<|endoftext|>", **ONE), rows=300)
    assert load_model(base, ModelSettings(), on=CPU).get_input_embeddings().weight.shape[0] == 300
    assert notes_on(base) == [f"model.base={base}: <|pad|> pads, as its tokenizer names none for that"]


def test_tokens_that_were_added_without_rows_get_some(tmp_path):
    tokenizer = llama_3()
    base = ship(tmp_path, tokenizer, rows=len(tokenizer) - 2)
    model = load_model(base, ModelSettings(), on=CPU)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    rows = f"{len(tokenizer) - 2:,} to {len(tokenizer):,}"
    assert f"model.base={base}: the embedding grows from {rows} rows, new ones the mean of the old" in notes_on(base)


def test_the_tokenizer_of_another_model_is_refused_with_its_words(tmp_path):
    base = ship(tmp_path, llama_3(), rows=250)
    for ask in (notes_on, lambda source: load_model(source, ModelSettings(), on=CPU)):
        with pytest.raises(RequestError) as caught:
            ask(base)
        words = load_tokenizer(base).convert_ids_to_tokens(250)
        assert str(caught.value) == (
            f"model.base={base}: its tokenizer has 263 tokens and its embedding 250 rows, so 7 words ({words!r}, …) have none: "
            "it is the tokenizer of another model. Put the right one into the directory"
        )
