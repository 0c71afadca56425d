"""A model of transformers as one GGUF file, llama.cpp's form.

The specification is the page gguf.md of the project ggml. Names of tensors are those of the package `gguf`.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from posttrain.errors import RequestError
from tasks.exporting.forms import TYPES
from tasks.workspace.quiet import quiet_libraries

GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What byte-level BPE splits text by where a tokenizer says no more than `use_regex`; llama.cpp calls it `gpt-2`."""
QWEN2_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_WORDS = QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
WORDS = {GPT2_WORDS: "gpt-2", QWEN2_WORDS: "qwen2", LLAMA3_WORDS: "llama-bpe"}
"""llama.cpp's names of the expressions that split text before byte-level BPE."""


@dataclass(frozen=True)
class Architecture:
    """An architecture that is written.

    Attributes:
        name: that llama.cpp has for it.
        tensors: its names of tensors, in the package `gguf`.
        is_rotated_apart: whether query and key rows are put into llama.cpp's order, in which the two halves that are rotated
            together lie beside each other.
    """

    name: str
    tensors: Any
    is_rotated_apart: bool


ARCHITECTURES = {
    "llama": Architecture("llama", gguf.MODEL_ARCH.LLAMA, is_rotated_apart=True),
    "mistral": Architecture("llama", gguf.MODEL_ARCH.LLAMA, is_rotated_apart=True),
    "qwen2": Architecture("qwen2", gguf.MODEL_ARCH.QWEN2, is_rotated_apart=False),
}
"""By transformers' `model_type`."""


@dataclass(frozen=True)
class Precision:
    """How weights are kept. Vectors (norms, biases) are float32 in every file, as llama.cpp wants them.

    Attributes:
        file: of the file as a whole.
        tensor: of a matrix.
        block: the length of a row must be a multiple of this; a matrix of other rows is kept in float16.
    """

    file: Any
    tensor: Any
    block: int = 1


_Q = gguf.GGMLQuantizationType
F32, F16, BF16, Q8 = TYPES
PRECISIONS = {
    F32: Precision(gguf.LlamaFileType.ALL_F32, _Q.F32),
    F16: Precision(gguf.LlamaFileType.MOSTLY_F16, _Q.F16),
    BF16: Precision(gguf.LlamaFileType.MOSTLY_BF16, _Q.BF16),
    Q8: Precision(gguf.LlamaFileType.MOSTLY_Q8_0, _Q.Q8_0, block=32),
}


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file holds of a tokenizer: tokens by id, the kind of each, merges, and how text is split before them."""

    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    words: str
    special: dict[str, int] = field(default_factory=dict)


def why_not(folder: Path) -> str:
    """Return why a model cannot be written as GGUF, "" where it can. No weight is read."""
    config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    kind = config.model_type
    if kind not in ARCHITECTURES:
        return f"its architecture is {kind}, and GGUF is written of {', '.join(ARCHITECTURES)}"
    rotary = getattr(config, "rope_parameters", None) or {}
    if rotary.get("rope_type", "default") != "default":
        return f"its rotary embedding is scaled ({rotary['rope_type']}), which is not written here"
    if kind == "mistral" and config.sliding_window:
        return f"its attention slides over {config.sliding_window:,} tokens, which llama.cpp's llama does not do"
    if kind != "qwen2" and (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)):
        return "its layers have biases, which llama.cpp's llama has not"
    if kind == "qwen2" and getattr(config, "use_sliding_window", False):
        return "its attention slides, which llama.cpp's qwen2 does not do"
    try:
        vocabulary(AutoTokenizer.from_pretrained(str(folder)), rows=config.vocab_size)
    except RequestError as error:
        return str(error)
    return ""


def write_gguf(folder: Path, file: Path, *, name: str, precision: str) -> None:
    """Write a model's weights, tokenizer and chat template into a GGUF file.

    Args:
        folder: a Hugging Face directory that `why_not` has nothing against.
        file: to write.
        name: of the model.
        precision: of `PRECISIONS`.

    Raises:
        RequestError: a tensor has no place in the architecture.
        OSError: the disk refuses.
    """
    with quiet_libraries():
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
        reader = AutoTokenizer.from_pretrained(str(folder))
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, use_safetensors=True)
    kind, chosen = ARCHITECTURES[config.model_type], PRECISIONS[precision]
    writer = gguf.GGUFWriter(str(file), kind.name)
    try:
        writer.add_name(name)
        writer.add_file_type(chosen.file)
        if chosen.block > 1:
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_shape(writer, config)
        _add_tokenizer(writer, reader, vocabulary(reader, rows=config.vocab_size))
        for tensor, weight in _tensors(model, kind, config):
            _add(writer, tensor, weight, chosen)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    heads = config.num_attention_heads
    per_head = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads or heads)
    writer.add_rope_dimension_count(per_head)
    if per_head * heads != config.hidden_size:  # else it goes without saying
        writer.add_key_length(per_head)
        writer.add_value_length(per_head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: gguf.GGUFWriter, reader: PreTrainedTokenizerBase, words: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.words)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    writer.add_token_merges(words.merges)
    adders: dict[str, Callable[[int], None]] = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for role, number in words.special.items():
        adders[role](number)
    begins, bos = reader("")["input_ids"], reader.bos_token_id
    writer.add_add_bos_token(bos is not None and begins[:1] == [bos])
    if isinstance(reader.chat_template, str):
        writer.add_chat_template(reader.chat_template)


def vocabulary(reader: PreTrainedTokenizerBase, *, rows: int) -> Vocabulary:
    """Return a tokenizer as GGUF holds it.

    Args:
        reader: the tokenizer.
        rows: of the model's embedding; those that no token has are named, as llama.cpp wants them.

    Raises:
        RequestError: it is of a kind that is not written.
    """
    core = json.loads(reader.backend_tokenizer.to_str()) if getattr(reader, "is_fast", False) else {"model": {"type": "slow"}}
    model = core["model"]
    words = _words(core.get("pre_tokenizer")) if model["type"] == "BPE" and not model.get("byte_fallback") else ""
    # Qwen2's tokenizers compose characters first (NFC), which llama.cpp leaves out
    normalizer = (core.get("normalizer") or {"type": "NFC"})["type"]
    if not words or normalizer != "NFC":
        raise RequestError(
            f"its tokenizer is {model['type']} of a kind that GGUF does not hold here: byte-level BPE that splits text as "
            f"{', '.join([*WORDS.values(), 'smollm'])} do can be written"
        )
    by_id = {number: token for token, number in reader.get_vocab().items()}
    if max(by_id) >= rows:
        raise RequestError(f"its tokenizer has {max(by_id) + 1:,} tokens and its embedding {rows:,} rows")
    added = {number: token.special for number, token in reader.added_tokens_decoder.items()}
    tokens, kinds = [], []
    for number in range(rows):
        is_special = added.get(number)
        kind = gguf.TokenType.NORMAL if is_special is None else gguf.TokenType.CONTROL
        if is_special is False:
            kind = gguf.TokenType.USER_DEFINED
        tokens.append(by_id.get(number, f"[PAD{number}]"))
        kinds.append(int(kind if number in by_id else gguf.TokenType.UNUSED))
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    roles = {role: getattr(reader, f"{role}_token_id") for role in ("bos", "eos", "unk", "pad")}
    return Vocabulary(tokens, kinds, merges, words, {role: number for role, number in roles.items() if number is not None})


def _words(splitter: Any) -> str:
    """Return llama.cpp's name of how text is split before byte-level BPE, "" for a way that it has no name for here."""
    parts = splitter["pretokenizers"] if splitter and splitter["type"] == "Sequence" else [splitter]
    if not parts[-1] or parts[-1]["type"] != "ByteLevel" or parts[-1].get("add_prefix_space"):
        return ""
    before, is_split_further = parts[:-1], parts[-1].get("use_regex", True)
    if not before:
        return WORDS[GPT2_WORDS] if is_split_further else ""
    if len(before) > 1:
        return ""
    if before[0]["type"] == "Digits" and before[0]["individual_digits"] and is_split_further:
        return "smollm"
    if before[0]["type"] == "Split" and not is_split_further:
        return WORDS.get(before[0]["pattern"].get("Regex", ""), "")
    return ""


def _tensors(model: Any, kind: Architecture, config: PreTrainedConfig) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield each weight under llama.cpp's name; a head that is the embedding stands once."""
    names = gguf.get_tensor_name_map(kind.tensors, config.num_hidden_layers)
    is_tied = config.tie_word_embeddings
    for name, weight in model.state_dict().items():
        if is_tied and name == "lm_head.weight":
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise RequestError(f"its weight {name} has no place in llama.cpp's {kind.name}, so it cannot be written as GGUF")
        numbers = weight.float().cpu().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if kind.is_rotated_apart and heads:
            numbers = numbers.reshape(heads, 2, -1, numbers.shape[1]).swapaxes(1, 2).reshape(numbers.shape)
        yield found, np.ascontiguousarray(numbers)


def _add(writer: gguf.GGUFWriter, name: str, numbers: np.ndarray[Any, Any], chosen: Precision) -> None:
    kept = _Q.F32 if numbers.ndim < 2 else chosen.tensor if numbers.shape[-1] % chosen.block == 0 else _Q.F16
    if kept in (_Q.F32, _Q.F16):
        writer.add_tensor(name, numbers.astype(np.float32 if kept == _Q.F32 else np.float16))
    else:
        writer.add_tensor(name, gguf.quants.quantize(numbers, kept), raw_dtype=kept)
