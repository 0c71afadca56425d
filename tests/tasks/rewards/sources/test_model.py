"""Reward models as rewards: of a folder, of the registry, of the pipeline itself."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig

from models.load import load_tokenizer, prompt_text
from models.reward import CENTRE
from models.size import size_of
from posttrain.compute import reading
from posttrain.errors import RequestError
from tasks.rewards.sources.model import ModelReward
from tests.tasks.rewards.named_sources import RECORD, source


def test_a_registered_model_is_asked_for_by_its_address(tmp_path):
    (tmp_path / "config.json").write_text('{"id2label": {"0": "LABEL_0"}}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    asked = []

    def registered(uri):
        asked.append(uri)
        return tmp_path

    told = source("model:models:/rewards@challenger", registered=registered)
    assert asked == ["models:/rewards@challenger"]
    assert (told.kind, told.path, told.name) == ("model", tmp_path, "model:models:/rewards@challenger")
    assert told.digest == source(f"model:{tmp_path}").digest
    assert told.is_reward_model and not told.is_checkable_by_program and told.has_own_limits
    assert told.who == told.name


def test_a_model_scores_prompt_and_completion_together(tiny_world, tmp_path):
    reader = load_tokenizer(tiny_world.tokenizer)
    torch.manual_seed(0)
    size = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    config = LlamaConfig(vocab_size=len(reader), pad_token_id=reader.pad_token_id, num_labels=1, **size)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(tmp_path / "model")
    reader.save_pretrained(tmp_path / "model")
    named = source(f"model:{tmp_path / 'model'}")
    prompt = prompt_text(reader, RECORD["prompt"])
    told = named.load()([prompt, prompt], ["Answer: 7", "3 + 4 = 7. Answer: 7"], [RECORD] * 2)
    for text, value in zip(("Answer: 7", "3 + 4 = 7. Answer: 7"), told.values, strict=True):
        ids = reader(prompt + text + reader.eos_token, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            assert value == pytest.approx(model(ids).logits.item(), abs=1e-6)
    texts = [prompt + text + reader.eos_token for text in ("Answer: 7", "3 + 4 = 7. Answer: 7")]
    assert told.compute == reading(size_of(model), sum(map(len, reader(texts)["input_ids"])))
    (tmp_path / "model" / "extra.txt").write_text("another")
    assert source(named.name).digest != named.digest


@pytest.mark.parametrize("is_made_here", [False, True])
def test_a_model_reads_prompts_in_its_own_form_whatever_the_policys_is(tiny_world, monkeypatch, is_made_here):
    """One that others made reads plain text through its own template; one of ours, as it was trained."""
    reader = load_tokenizer(tiny_world.tokenizer)
    reader.chat_template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    reader_of, config = (lambda *_, **__: reader), SimpleNamespace(**({CENTRE: 0.0} if is_made_here else {}))
    monkeypatch.setattr("models.load.load_tokenizer", reader_of)
    monkeypatch.setattr("models.reward.load_reward_model", lambda *_, **__: [SimpleNamespace(config=config)])
    read = []
    monkeypatch.setattr(
        "models.reward.score_texts", lambda members, tokenizer, texts, **_: read.extend(texts) or [0.0] * len(texts)
    )
    source = ModelReward(name="m", path=Path("m"), weights="")
    source.load()(
        ["the policy's form of it"] * 2, ["7", "8"], [{"prompt": "3 + 4"}, {"prompt": [{"role": "user", "content": "x"}]}]
    )
    assert read == (["3 + 4\n7", "[x]8"] if is_made_here else ["[3 + 4]7", "[x]8"])


def test_a_model_with_several_scores_is_refused(tiny_world, tmp_path):
    reader = load_tokenizer(tiny_world.tokenizer)
    size = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    config = LlamaConfig(vocab_size=len(reader), num_labels=3, **size)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="a reward model has one score, this one has 3"):
        source(f"model:{tmp_path}")


def test_a_model_that_was_made_here_is_called_after_whom_it_learnt_from():
    made = ModelReward(name="the reward model", path=Path("model"), weights="w", learnt_from="simulated annotators")
    assert made.who == "reward model of simulated annotators"
    assert made.digest == ModelReward(name="another", path=Path("elsewhere"), weights="w").digest, "the weights decide"
    assert made.digest != ModelReward(name="the reward model", path=Path("model"), weights="v").digest


def test_a_folder_that_no_model_can_be_loaded_from_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RequestError, match=r"^ppo\.reward=broken: it cannot be loaded: "):
        ModelReward(name="broken", path=tmp_path, weights="").load()
