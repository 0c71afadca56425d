"""Bases as people ship them, small and random: a tokenizer of each kind, a Llama beside it, a generation config."""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LETTERS = "abcdefghij"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}\n\n{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n\n{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def byte_level(*special: str, template: str | None = None, **named: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes, as GPT-2's and Llama 3's are, with these special tokens behind them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({token: number for number, token in enumerate([*alphabet, "pad"])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in special])
    made = PreTrainedTokenizerFast(tokenizer_object=core, **named)
    made.chat_template = template
    return made


def sentence_piece(*, bos: bool = True, eos: bool = False, template: str | None = None) -> PreTrainedTokenizerFast:
    """Return a tokenizer as Llama 2's: a mark at the beginning of a text, BOS before it, EOS behind it where asked for."""
    words = [f"▁{letter}" for letter in LETTERS]
    pieces = ["<unk>", "<s>", "</s>", "▁", "\n", "[INST]", "[/INST]", *LETTERS, *words]
    scores = [0.0] * 3 + [-4.0] * (4 + len(LETTERS)) + [-2.0] * len(words)
    core = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=0))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    single = f"{'<s> ' * bos}$A{' </s>' * eos}"
    core.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 1), ("</s>", 2)])
    core.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")])
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.chat_template = template
    return made


def llama_3() -> PreTrainedTokenizerFast:
    """Return a tokenizer that names no pad token and reserves several, whose turns end otherwise than its texts."""
    special = ["<|begin|>", "<|end|>", "<|reserved_special_token_0|>", "<|finetune_right_pad_id|>", "<|start|>", "<|eot_id|>"]
    return byte_level(*special, template=LLAMA_3, bos_token="<|begin|>", eos_token="<|end|>")


def ship(folder: Path, tokenizer: PreTrainedTokenizerFast, *, rows: int | None = None, tied: bool = True, **generation) -> Path:
    """Write a base; `generation` is its generation_config.json, which transformers would not always save."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows or len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=96,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if generation:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


ENDS = [258, 259, 262]
"""Of `ship_with_ends`: <|end|>, <|reserved_special_token_0|>, and <|eot_id|>, with which the template ends a turn."""


def ship_with_ends(folder: Path) -> Path:
    """Write a base as Llama 3's, whose generation config lists three ends, each of which it is likely to write before long."""
    ship(folder, llama_3(), tied=False)
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[ENDS] *= 2.5
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ENDS}))
    return folder
