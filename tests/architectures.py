"""Small random causal models of many architectures, and tokenizers of several kinds, as directories."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from models.tokenizers import bpe_tokenizer, world_tokenizer

TOKENIZERS: Mapping[str, Callable[[list[str]], PreTrainedTokenizerBase]] = {
    "words": world_tokenizer,
    "bytes": lambda texts: bpe_tokenizer(texts, vocabulary=300),
}
"""By kind: makes a tokenizer of some texts. A kind that is added here joins the matrix."""

CONTEXT = 128
_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "initializer_range": 0.2}
_EXPERTS = {"num_experts_per_tok": 2, "output_router_logits": True}
_OPT = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "init_std": 0.2}
_BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
_MAMBA = {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2, "initializer_range": 0.2}
_NEO = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 4}
_JAMBA = {"num_experts": 2, "mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False}
_PERIODS = {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1}
_GATED = {"head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8}
_QWEN_MOE = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4}

ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "gpt2": _GPT2,
    "gpt_neox": _LLAMA,
    "gpt_neo": {**_NEO, "intermediate_size": 48, "max_position_embeddings": CONTEXT, "initializer_range": 0.2},
    "llama": _LLAMA,
    "mistral": {**_LLAMA, "sliding_window": 4},
    "mixtral": {**_LLAMA, **_EXPERTS, "num_local_experts": 4},
    "qwen2": {**_LLAMA, "tie_word_embeddings": True},
    "qwen3": {**_LLAMA, "head_dim": 8},
    "qwen2_moe": {**_LLAMA, **_EXPERTS, **_QWEN_MOE},
    "gemma2": {**_LLAMA, **_GATED},
    "gemma3_text": {**_LLAMA, **_GATED},
    "phi3": {**_LLAMA, "original_max_position_embeddings": CONTEXT},
    # its head reads fewer numbers than its layers have, and its learned positions begin at 2
    "opt": {**_OPT, "max_position_embeddings": CONTEXT, "word_embed_proj_dim": 16},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2},
    "bloom": _BLOOM,
    "granite": {**_LLAMA, "logits_scaling": 2.0, "embedding_multiplier": 2.0},
    "mamba": _MAMBA,
    "jamba": {**_LLAMA, **_EXPERTS, **_JAMBA, **_PERIODS, "num_experts_per_tok": 1},
    "stablelm": _LLAMA,
    "olmo2": _LLAMA,
    "olmoe": {**_LLAMA, **_EXPERTS, "num_experts": 4},
    "smollm3": _LLAMA,
    "cohere": _LLAMA,
    "lfm2": {**_LLAMA, "layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "openai-gpt": _GPT2,
}
"""By the architecture's name in transformers: what makes it small, and shows what is its own (windows, experts, soft caps)."""

MATRIX = list(ARCHITECTURES)[:18]
"""Those that are trained by every method; the others are tried as bases."""


def causal_model(architecture: str, *, vocabulary: int, pad: int, eos: int, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Return a random causal model, in evaluation mode, whose predictions are far from even."""
    torch.manual_seed(seed)
    special = {"pad_token_id": pad, "eos_token_id": eos, "bos_token_id": eos}
    config = AutoConfig.for_model(architecture, vocab_size=vocabulary, **special, **{**ARCHITECTURES[architecture], **changes})
    return AutoModelForCausalLM.from_config(config).eval()


def save_base(folder: Path, architecture: str, kind: str, texts: Iterable[str]) -> None:
    """Write a model of an architecture and a tokenizer of a kind, as a directory that anybody may have made."""
    tokenizer = TOKENIZERS[kind](list(texts))
    model = causal_model(architecture, vocabulary=len(tokenizer), pad=tokenizer.pad_token_id, eos=tokenizer.eos_token_id, seed=1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
