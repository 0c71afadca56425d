"""A GGUF file is read back to the same model, by our reader and by the package's own."""

import json

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.tokenizers import world_tokenizer
from tasks.base_model.gguf import convert
from tasks.exporting.gguf_file import PRECISIONS, why_not, write_gguf
from tests.tasks.exporting.bpe_models import TEXTS, folder_of, gpt2_words, qwen2_words, reader, smollm_words


def read_back(tmp_path, folder, precision):
    file = tmp_path / "out.gguf"
    write_gguf(folder, file, name="small", precision=precision)
    convert(tmp_path / "read", lambda *_: None, folder=tmp_path, file=file.name, told=file.name)
    return tmp_path / "read" / "model"


def logits(folder, ids):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize(("kind", "words"), [("llama", smollm_words), ("llama", gpt2_words), ("qwen2", qwen2_words)])
def test_a_model_comes_back_to_the_last_bit_in_float32(tmp_path, kind, words, is_tied):
    folder = folder_of(tmp_path / "model", kind, reader(words()), tie_word_embeddings=is_tied)
    assert why_not(folder) == ""
    there = read_back(tmp_path, folder, "f32")
    before, after = (AutoTokenizer.from_pretrained(one) for one in (folder, there))
    ids = before(TEXTS[0], return_tensors="pt")["input_ids"]
    assert torch.equal(logits(folder, ids), logits(there, ids))
    roles = ("eos_token_id", "pad_token_id", "bos_token_id", "chat_template")
    assert [getattr(before, role) for role in roles] == [getattr(after, role) for role in roles]
    assert [before(text)["input_ids"] for text in TEXTS] == [after(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize(("precision", "most"), [("f16", 2e-3), ("bf16", 2e-2), ("q8_0", 2e-2)])
def test_fewer_bits_lose_as_much_as_they_must(tmp_path, precision, most):
    folder = folder_of(tmp_path / "model", "llama", reader(gpt2_words()), initializer_range=0.1)
    there = read_back(tmp_path, folder, precision)
    ours = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(there).state_dict()
    lost = max(float((ours[name] - theirs[name]).abs().max() / ours[name].abs().max()) for name in ours)
    assert 0 < lost < most
    kinds = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == PRECISIONS[precision].tensor
    assert kinds["blk.0.attn_norm.weight"] == gguf.GGMLQuantizationType.F32


def test_rows_that_do_not_divide_into_blocks_are_kept_in_float16(tmp_path):
    folder = folder_of(tmp_path / "model", "llama", reader(gpt2_words()), intermediate_size=40)
    write_gguf(folder, tmp_path / "out.gguf", name="small", precision="q8_0")
    kinds = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == gguf.GGMLQuantizationType.F16
    assert kinds["blk.0.ffn_up.weight"] == gguf.GGMLQuantizationType.Q8_0


def test_what_llama_cpp_needs_of_a_tokenizer_is_there(tmp_path):
    folder = folder_of(tmp_path / "model", "llama", reader(smollm_words()))
    write_gguf(folder, tmp_path / "out.gguf", name="small", precision="f16")
    fields = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "out.gguf").fields.items()}
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    assert (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
    assert len(fields["tokenizer.ggml.tokens"]) == rows and fields["tokenizer.ggml.tokens"][-1] == f"[PAD{rows - 1}]"
    assert fields["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1] and fields["tokenizer.ggml.token_type"][-1] == 5
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert (fields["general.file_type"], fields["llama.rope.dimension_count"]) == (1, 8)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "gpt_neox"}, "its architecture is gpt_neox, and GGUF is written of llama, mistral, qwen2"),
        ({"attention_bias": True}, "its layers have biases, which llama.cpp's llama has not"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}},
            "its rotary embedding is scaled (linear), which is not written here",
        ),
        (
            {"model_type": "mistral", "sliding_window": 16},
            "its attention slides over 16 tokens, which llama.cpp's llama does not do",
        ),
        ({"vocab_size": 9}, "its tokenizer has 3"),
    ],
)
def test_what_is_not_written_is_told_before(tmp_path, changes, told):
    folder = folder_of(tmp_path / "model", "llama", reader(gpt2_words()))
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    assert why_not(folder).startswith(told)


def test_a_tokenizer_that_gguf_does_not_hold_is_told_before(tmp_path):
    folder = folder_of(tmp_path / "model", "llama", reader(gpt2_words()))
    world_tokenizer(["one two"]).save_pretrained(folder)
    assert why_not(folder).startswith(
        "its tokenizer is WordLevel of a kind that GGUF does not hold here: byte-level BPE that splits"
    )
