"""Weights are counted in the headers of files: as many as the network has, tied ones once, and what is damaged is refused."""

import json
import struct
from types import SimpleNamespace

import huggingface_hub
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from models.outline import outline
from posttrain.errors import RequestError
from posttrain.settings.model import ModelSettings
from tasks.base_model import counting as subject
from tasks.base_model.counting import count_weights
from tests.tasks.base_model.ggufs import llama, write_gguf

SHAPE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}


@pytest.fixture(autouse=True)
def _anew():
    subject._at_hub.cache_clear()


def write_header(file, shapes):
    """Write a safetensors file's header, and no weights: nothing but the header may be read."""
    header = json.dumps({"__metadata__": {"format": "pt"}} | {name: {"shape": shape} for name, shape in shapes.items()}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header)


def folder(path, shapes, **config):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    write_header(path / "model.safetensors", shapes)
    return str(path)


@pytest.mark.parametrize("is_tied", [True, False])
def test_as_many_as_the_network_has(tmp_path, is_tied):
    model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=is_tied, **SHAPE))
    model.save_pretrained(tmp_path)
    weights = sum(weight.numel() for weight in model.parameters())
    assert count_weights(str(tmp_path)) == weights
    assert outline(ModelSettings(base=str(tmp_path)), None, vocabulary=40, context=64).weights == weights


@pytest.mark.parametrize("output", ["lm_head.weight", "embed_out.weight"])
def test_an_output_layer_that_repeats_the_embedding_counts_once(tmp_path, output):
    shapes = {"model.embed_tokens.weight": [40, 16], output: [40, 16], "model.norm.weight": [16]}
    assert count_weights(folder(tmp_path / "tied", shapes, tie_word_embeddings=True)) == 40 * 16 + 16
    assert count_weights(folder(tmp_path / "own", shapes, tie_word_embeddings=False)) == 2 * 40 * 16 + 16
    assert count_weights(folder(tmp_path / "unsaid", shapes)) == 2 * 40 * 16 + 16
    alone = {output: [40, 16], "model.norm.weight": [16]}
    assert count_weights(folder(tmp_path / "alone", alone, tie_word_embeddings=True)) == 40 * 16 + 16


def test_several_files_count_together_and_a_second_copy_does_not(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    write_header(tmp_path / "model-1.safetensors", {"a": [3, 5]})
    write_header(tmp_path / "model-2.safetensors", {"b": [7]})
    assert count_weights(str(tmp_path)) == 22
    write_header(tmp_path / "consolidated.safetensors", {"layers.a": [3, 5], "layers.b": [7]})
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert count_weights(str(tmp_path)) == 22
    (tmp_path / "model.safetensors.index.json").unlink()
    write_header(tmp_path / "model.safetensors", {"a": [3, 5], "b": [7]})
    assert count_weights(str(tmp_path)) == 22


def test_a_gguf_file(tmp_path):
    file = write_gguf(tmp_path / "small.gguf", llama())
    assert count_weights(str(file)) == sum(weight.numel() for weight in llama().parameters())


def test_a_model_that_a_package_carries_is_known_before_it_is_installed(monkeypatch):
    monkeypatch.setattr("tasks.base_model.packaged.find_spec", lambda name: pytest.fail("nothing is looked for"))
    assert count_weights("smollm2") == 134_515_008


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "unpack requires a buffer of 8 bytes"),
        (b"abc", "unpack requires a buffer of 8 bytes"),
        (struct.pack("<Q", 2**60), "model.safetensors is no safetensors file"),
        (struct.pack("<Q", 9) + b'{"a": [1]', "Expecting"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "'int' object is not subscriptable"),
        (struct.pack("<Q", 2) + b"{}", "there are no *.safetensors with weights"),
    ],
)
def test_damaged_safetensors(tmp_path, content, told):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(RequestError) as refused:
        count_weights(str(tmp_path))
    assert str(refused.value).startswith(f"model.base={tmp_path}: its weights cannot be counted: {told}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("keep", [0, 3, 23, 24, 60, 400])
def test_a_gguf_file_that_is_cut_off(tmp_path, keep):
    whole = write_gguf(tmp_path / "small.gguf", llama()).read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:keep])
    with pytest.raises(RequestError, match=r"^model\.base=\S*cut\.gguf: its weights cannot be counted: "):
        count_weights(str(tmp_path / "cut.gguf"))


def test_what_is_no_gguf_file(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGML" + bytes(40))
    with pytest.raises(RequestError, match=r"it is no GGUF file of version 2 or 3$"):
        count_weights(str(tmp_path / "a.gguf"))


# --- the hub ----------------------------------------------------------------------------------------------------------


def test_what_the_hubs_cache_holds_is_counted_without_the_network(tmp_path, monkeypatch):
    folder(tmp_path, {"a": [6, 7]})
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(tmp_path / "config.json"))
    monkeypatch.setattr(huggingface_hub, "get_safetensors_metadata", lambda *_, **__: pytest.fail("the network is asked"))
    assert count_weights("ann/model") == 42


def test_the_hub_is_asked_for_the_revision_once_a_process(monkeypatch):
    asked = []

    def metadata(name, *, revision):
        asked.append((name, revision))
        return SimpleNamespace(parameter_count={"BF16": 100, "F32": 5})

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "get_safetensors_metadata", metadata)
    assert count_weights("ann/model", revision="v1") == count_weights("ann/model", revision="v1") == 105
    assert asked == [("ann/model", "v1")]


def test_a_hub_that_does_not_tell(monkeypatch):
    asked = []

    def fail(*_, **__):
        asked.append(1)
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", fail)
    for _ in range(2):
        with pytest.raises(RequestError) as refused:
            count_weights("ann/model")
    assert asked == [1]
    assert str(refused.value) == (
        "model.base=ann/model is no directory here, and its weights cannot be counted at the hub: no route to host"
    )
