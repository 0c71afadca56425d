"""How large a base is, from its configuration alone."""

import pytest
from transformers import AutoModelForCausalLM, GPT2Config

from models.outline import outline
from posttrain.errors import RequestError
from posttrain.settings.model import ModelSettings


def test_a_real_architecture_is_counted_without_its_weights(tmp_path):
    made = AutoModelForCausalLM.from_config(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=32))
    made.config.save_pretrained(tmp_path)
    found = outline(ModelSettings(base=str(tmp_path)), None, vocabulary=0, context=32)
    assert found.weights == sum(weight.numel() for weight in made.parameters())
    assert (found.layers, found.width, found.vocabulary, found.is_tiny) == (2, 16, 50, False)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"], "no weights were there to load"
    with pytest.raises(RequestError, match="its configuration cannot be loaded"):
        outline(ModelSettings(base=str(tmp_path / "none")), None, vocabulary=0, context=32)
