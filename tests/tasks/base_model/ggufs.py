"""A small Llama in a GGUF file, as llama.cpp writes it, beside the same model of transformers."""

from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM

HEADS = 2
CONFIG = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": HEADS}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGED = "ab"
VOCABULARY = 256 + len(SPECIAL) + 1
END = 2
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""Of llama.cpp, by those of transformers."""


def llama() -> LlamaForCausalLM:
    """Return a model with random weights, the same at each call."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=64, tie_word_embeddings=False, eos_token_id=END, **CONFIG)
    return LlamaForCausalLM(config).eval()


def write_gguf(file: Path, model: LlamaForCausalLM, *, architecture: str = "llama") -> Path:
    """Write a model with a byte-level tokenizer of its own."""
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(CONFIG["hidden_size"])
    writer.add_block_count(CONFIG["num_hidden_layers"])
    writer.add_feed_forward_length(CONFIG["intermediate_size"])
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*SPECIAL, *sorted(ByteLevel.alphabet()), MERGED])
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * 257)
    writer.add_token_merges([" ".join(MERGED)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    for name, weight in model.state_dict().items():
        writer.add_tensor(_name(name), _permuted(name, weight.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _name(name: str) -> str:
    parts = name.removesuffix(".weight").split(".")
    if "layers" in parts:
        return f"blk.{parts[2]}.{NAMES['.'.join(parts[3:])]}.weight"
    return {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[parts[-1]] + ".weight"


def _permuted(name: str, weight: np.ndarray) -> np.ndarray:
    """Return rows in llama.cpp's order: the halves that are rotated together lie beside each other."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return weight
    return weight.reshape(HEADS, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape).copy()
