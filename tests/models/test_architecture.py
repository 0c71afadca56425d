"""Which architectures can be a base, by configuration and by a try; sampling without a cache, and a score on any trunk."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    BertLMHeadModel,
    CLIPConfig,
    Gemma3Config,
    RobertaConfig,
    T5Config,
    WhisperConfig,
    XLNetLMHeadModel,
)

from models import sampler, uncached
from models.architecture import without_router_logits
from models.load import check_base, load_model
from models.policy import policy_and_critic
from models.probe import check_network
from models.reward import load_reward_model, reward_network, save_reward_model, score_texts, token_scores
from models.scorer import scorer_class
from models.tokenizers import world_tokenizer
from models.uncached import has_key_value_cache
from posttrain.errors import RequestError
from posttrain.ops.masks import padded
from posttrain.settings.model import ModelSettings
from tests.architectures import ARCHITECTURES, causal_model

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
PAD, EOS, VOCABULARY, CONTEXT = 0, 1, 32, 24
PROMPTS = [[3, 4, 5], [6], [7, 8, 9, 10, 11], [3, 12]]
QUICK = ("mixtral", "granite", "mamba", "jamba", "opt")
OWN_STATE = {"mamba", "jamba", "lfm2", "openai-gpt"}


def small(architecture, **changes):
    return causal_model(architecture, vocabulary=VOCABULARY, pad=PAD, eos=EOS, **changes)


def tried(network, **settings):
    check_network(without_router_logits(network), ModelSettings(dtype="float32", **settings), named="model.base=./mine")


def refusal(network, **settings):
    with pytest.raises(RequestError) as caught:
        tried(network, **settings)
    return str(caught.value)


# --- by configuration alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (BertConfig(), "(bert) is an encoder: its prediction of a token depends on later ones, so it cannot write"),
        (RobertaConfig(), "(roberta) is an encoder"),
        (T5Config(), "(t5) has an encoder beside its decoder, and only decoders are trained here"),
        (BartConfig(), "(bart) has an encoder beside its decoder"),
        (WhisperConfig(), "(whisper) has an encoder beside its decoder"),
        (Gemma3Config(), "(gemma3) reads more than text, and only text is trained here"),
        (CLIPConfig(), "(clip) reads more than text"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
@pytest.mark.parametrize("setting", ["model.base", "judge.model"])
def test_what_is_no_causal_model_of_text_is_refused_without_its_weights(tmp_path, config, told, setting):
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"never opened")
    with pytest.raises(RequestError) as caught:
        check_base(str(tmp_path), setting=setting)
    assert str(caught.value).startswith(f"{setting}={tmp_path}: its architecture {told}")
    assert ". Take a " in str(caught.value) and "\n" not in str(caught.value)


def test_an_architecture_without_a_language_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    (tmp_path / "model.safetensors").write_bytes(b"never opened")
    with pytest.raises(RequestError, match=r"\(resnet\) is no causal language model in transformers\. Take a causal language"):
        check_base(str(tmp_path))


def test_an_encoder_that_was_made_a_decoder_is_let_through(tmp_path):
    BertConfig(is_decoder=True).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"never opened")
    check_base(str(tmp_path))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_those_of_the_matrix_are_let_through(tmp_path, architecture):
    small(architecture).config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"never opened")
    check_base(str(tmp_path))


# --- by a try ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "architecture", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]
)
def test_a_base_that_serves_passes_the_try(architecture):
    tried(small(architecture))


@pytest.mark.parametrize("kind", [BertLMHeadModel, XLNetLMHeadModel])
def test_a_network_that_reads_ahead_is_refused(kind):
    torch.manual_seed(0)
    config = kind.config_class(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, initializer_range=0.5, d_head=8
    )
    assert refusal(kind(config).eval()) == (
        f"model.base=./mine: its architecture ({config.model_type}) cannot be used here: what it predicts depends on later "
        "tokens. Take a causal language model, such as a Llama, Qwen, Mistral, Gemma or GPT-2"
    )


def test_a_network_whose_padding_changes_what_it_writes_is_refused(monkeypatch):
    network = small("gpt2")
    generate = network.generate

    def unmasked(*, attention_mask, **how):
        return generate(attention_mask=torch.ones_like(attention_mask), **how)

    monkeypatch.setattr(network, "generate", unmasked)
    assert "padding or its cache changes what it writes" in refusal(network)


def test_a_network_whose_samples_are_not_its_own_is_refused(monkeypatch):
    monkeypatch.setattr(sampler, "has_key_value_cache", lambda network: True)
    assert "what is sampled from it has other probabilities than it computes in training" in refusal(small("mamba"))


def test_a_network_without_a_linear_output_layer_is_refused():
    network = small("llama")
    network.set_output_embeddings(nn.Identity())
    assert "it has no linear output layer" in refusal(network)


def test_a_network_that_fails_is_refused_with_its_own_words(monkeypatch):
    network = small("llama")

    def failing(*_, **__):
        raise TypeError("no such argument\nat all")

    monkeypatch.setattr(network, "forward", failing)
    assert "a try of it fails with TypeError: no such argument. Take" in refusal(network)


def test_a_score_that_does_not_fit_is_refused(monkeypatch):
    narrow = SimpleNamespace(score=nn.Linear(8, 1))
    monkeypatch.setattr("models.probe.scorer_class", lambda config: lambda config: narrow)
    assert "a reward model's score does not fit its last hidden state" in refusal(small("llama"))


def test_adapters_that_a_network_does_not_take_are_refused_with_what_to_do():
    assert "it takes no LoRA adapters (" in (told := refusal(small("mamba"), lora_rank=2))
    assert "Say model.lora_rank=0 to train all of its weights" in told and "\n" not in told


# --- router logits ----------------------------------------------------------------------------------------------------


def test_router_logits_are_off_in_whatever_is_loaded(tmp_path):
    network = small("mixtral")
    assert network.config.output_router_logits
    network.save_pretrained(tmp_path)
    assert not load_model(tmp_path, ModelSettings(), on=CPU).config.output_router_logits
    member = reward_network(tmp_path, ModelSettings(), on=CPU, pad=PAD, seed=0)
    assert not member.config.output_router_logits
    member.config.output_router_logits = True
    member.save_pretrained(tmp_path / "scores")
    assert not load_reward_model(tmp_path / "scores", on=CPU)[0].config.output_router_logits


# --- sampling without a cache -----------------------------------------------------------------------------------------


def drawn(model, prompts=PROMPTS, **changes):
    chance = torch.rand(len(PROMPTS), 8, generator=torch.Generator().manual_seed(0))[: len(prompts)]
    how = {"temperature": 0.8, "end_ids": (EOS,), "pad_id": PAD, "context": CONTEXT, "batch_size": 4, **changes}
    return sampler.sample(model, prompts, chance, **how)


def test_a_cache_is_used_where_keys_and_values_are_all_that_is_remembered():
    networks = {name: small(name) for name in (*OWN_STATE, "llama", "mistral", "gemma2", "bloom")}
    assert {name for name, network in networks.items() if not has_key_value_cache(network)} == OWN_STATE


@pytest.mark.parametrize("context", [CONTEXT, 7, 5])
def test_without_a_cache_the_same_is_drawn(monkeypatch, context):
    model = small("llama")
    with_cache = drawn(model, context=context)
    monkeypatch.setattr(sampler, "has_key_value_cache", lambda network: False)
    monkeypatch.setattr(sampler, "_sample_batch", lambda *_, **__: pytest.fail("the cache was used"))
    without = drawn(model, context=context)
    assert without.responses == with_cache.responses and without.is_finished == with_cache.is_finished
    assert len({len(row) for row in without.responses}) > 1, "rows ended at different times"
    torch.testing.assert_close(torch.cat(list(without.logprobs)), torch.cat(list(with_cache.logprobs)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["mamba", "jamba"])
def test_a_recurrent_state_is_sampled_as_it_is_trained(architecture):
    made = policy_and_critic(without_router_logits(small(architecture)), critic="separate")
    told = drawn(made.policy)
    ids = padded([[*head, *tail] for head, tail in zip(PROMPTS, told.responses, strict=True)], with_value=PAD)
    lengths = (torch.tensor([len(row) for row in rows]) for rows in (PROMPTS, told.responses))
    trained = made(ids, *lengths, temperature=0.8, want=frozenset({"logprob", "value"}))
    torch.testing.assert_close(torch.cat(list(told.logprobs)), trained.logprob, atol=1e-5, rtol=0)
    assert trained.value.shape == trained.logprob.shape


def test_a_prompt_that_fills_the_context_is_answered_by_nothing():
    assert (
        uncached.sample_uncached(
            small("llama"), [[3, 4]], torch.rand(1, 4), temperature=1.0, end_ids=(EOS,), pad_id=PAD, context=2
        )[0][0]
        == []
    )


# --- a score on any trunk ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["granite", "mamba", "olmoe"])
def test_a_trunk_without_a_class_in_transformers_gets_a_score_of_ours(tmp_path, architecture):
    reader = world_tokenizer(["ab cd 1 2 + = ."])
    model = causal_model(architecture, vocabulary=len(reader), pad=PAD, eos=EOS)
    model.save_pretrained(tmp_path / "causal")
    network = reward_network(tmp_path / "causal", ModelSettings(), on=CPU, pad=PAD, seed=0)
    trunk = dict(network.base_model.named_parameters())
    assert trunk.keys() == dict(model.base_model.named_parameters()).keys()
    assert all(torch.equal(weight, trunk[name]) for name, weight in model.base_model.named_parameters())
    sequences = [[3, 4, 5, EOS], [6, EOS], [4, 5, 6, 7, 3, EOS]]
    scores, ends = token_scores(network, [sequences])
    for ids, end in zip(sequences, ends.tolist(), strict=True):
        alone = network(input_ids=torch.tensor([ids])).logits.item()
        assert alone == pytest.approx(scores[end - 1].item(), abs=1e-5)
    texts = ["1 + 2 = 12. ab", "2", "1 + 1 = 2. cd ab 12"]
    told = score_texts([network], reader, texts, batch_size=2)
    assert len(set(told)) == 3
    save_reward_model([network], reader, tmp_path / "saved")
    (name,) = json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"]
    assert name.endswith("WithScore")
    loaded = load_reward_model(tmp_path / "saved", on=CPU)
    assert score_texts(loaded, reader, texts, batch_size=3) == pytest.approx(told, abs=1e-5)


def test_a_class_of_transformers_is_taken_where_its_head_is_a_linear_score():
    assert scorer_class(small("llama").config).__name__ == "LlamaForSequenceClassification"
    assert scorer_class(small("granite").config).__name__ == "GraniteWithScore"
    # BERT's head is another layer, `classifier`
    assert scorer_class(BertConfig(is_decoder=True)).__name__ == "BertWithScore"


def test_an_encoder_of_anybody_still_scores(tmp_path):
    reader = world_tokenizer(["ab cd 1 2 + = ."])
    config = BertConfig(
        vocab_size=len(reader), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=1
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(tmp_path)
    (told,) = score_texts(load_reward_model(tmp_path, on=CPU), reader, ["1 + 2"], batch_size=1)
    ids = reader("1 + 2" + reader.eos_token, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert told == pytest.approx(model(input_ids=ids).logits.item(), abs=1e-5)


def test_a_causal_model_is_not_taken_for_a_reward_model(tmp_path):
    small("llama").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"^1 of its weights are not in its files \(score\.weight\), and would be random$"):
        load_reward_model(tmp_path, on=CPU)
