"""Small models with byte-level BPE tokenizers, as Hugging Face directories."""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as kinds
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from tasks.exporting.gguf_file import QWEN2_WORDS

TEXTS = ["Tom has 12 apples, finds 5, and sells 3. How many are there now?\n", "Mia's 20 coins weren't there.\n"]
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


def reader(splitter: pre_tokenizers.PreTokenizer) -> PreTrainedTokenizerFast:
    core = Tokenizer(kinds.BPE())
    core.pre_tokenizer = splitter
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<pad>", "<eos>", "<bos>"], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(TEXTS * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return tokenizer


def gpt2_words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def smollm_words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2_words()])


def qwen2_words() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def folder_of(folder: Path, kind: str, tokenizer: PreTrainedTokenizerFast, **changes) -> Path:
    """Write a model with random weights, the same at each call."""
    torch.manual_seed(0)
    made, network = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[kind]
    settings = {**SHAPE, "vocab_size": len(tokenizer) + 3, "max_position_embeddings": 96, "initializer_range": 0.4} | changes
    model = network(made(eos_token_id=tokenizer.eos_token_id, pad_token_id=0, bos_token_id=2, **settings))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
