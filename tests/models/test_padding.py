"""Which token pads: one of its own, the same in every process, and never a word."""

import subprocess
import sys

import pytest

from models.load import load_tokenizer
from models.padding import NEW
from tests.models.shipped import CHATML, byte_level, llama_3, sentence_piece

ONE = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
ENDS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize(
    ("tokenizer", "pad"),
    [
        (byte_level("<|endoftext|>", **ONE), NEW),  # GPT-2, whose vocabulary holds the word "pad"
        (byte_level("<s>", "</s>", **ENDS), NEW),
        (byte_level("<s>", "</s>", **ENDS, pad_token="<s>"), NEW),
        (byte_level("<s>", "</s>", "<x>", **ENDS, pad_token="<x>"), "<x>"),
        (byte_level("<s>", "</s>", "<unk>", "[PAD]", **ENDS, pad_token="</s>", unk_token="<unk>"), "[PAD]"),
        (byte_level("<s>", "</s>", "<|vision_pad|>", **ENDS), NEW),  # Qwen's, which stands for a part of a picture
        (byte_level("<s>", "</s>", "<unused1>", "<unused0>", **ENDS), "<unused1>"),
        (byte_level("<s>", "</s>", "<unk>", "<|reserved_0|>", **ENDS, unk_token="<unk>"), "<|reserved_0|>"),
        (sentence_piece(), "<unk>"),
        (llama_3(), "<|finetune_right_pad_id|>"),
        # Qwen: the other end pads, as its makers say
        (byte_level("</s>", "<|im_end|>", template=CHATML, eos_token="<|im_end|>", pad_token="</s>"), "</s>"),
        # the turn's end is taught, so it cannot pad
        (byte_level("</s>", "<|im_start|>", "<|im_end|>", template=CHATML, eos_token="</s>", pad_token="<|im_end|>"), NEW),
    ],
)  # fmt: skip
def test_which_token_pads(tmp_path, tokenizer, pad):
    before = len(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    told = load_tokenizer(tmp_path)
    assert told.pad_token == pad and told.pad_token_id == told.convert_tokens_to_ids(pad)
    assert len(told) == before + (pad == NEW)
    assert told.decode(told("a pad")["input_ids"], skip_special_tokens=True) == "a pad" or told.unk_token == pad
    told.save_pretrained(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.pad_token_id == told.pad_token_id and len(again) == len(told)


def test_every_process_takes_the_same(tmp_path):
    """Hashes of texts, and so the order of sets, differ from process to process."""
    byte_level("<|endoftext|>", **ONE).save_pretrained(tmp_path / "base")
    code = (
        "import sys; from models.load import load_tokenizer; load_tokenizer(sys.argv[1]).save_pretrained(sys.argv[2]);"
        "load_tokenizer(sys.argv[3]).save_pretrained(sys.argv[4])"
    )
    llama_3().save_pretrained(tmp_path / "other")
    for number in ("1", "2"):
        names = [tmp_path / "base", tmp_path / number / "base", tmp_path / "other", tmp_path / number / "other"]
        subprocess.run([sys.executable, "-c", code, *map(str, names)], check=True, env={"PYTHONHASHSEED": number, "PATH": ""})
    for name in ("base/tokenizer.json", "base/tokenizer_config.json", "other/tokenizer.json", "other/tokenizer_config.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name
