"""How large a base is, from its configuration alone: no weight is loaded, and none is allocated."""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from models.tiny import network
from posttrain.advice.situation import Base
from posttrain.errors import RequestError
from posttrain.settings.model import ModelSettings, TinySettings


def outline(settings: ModelSettings, tiny: TinySettings | None, *, vocabulary: int, context: int) -> Base:
    """Return the sizes of a base.

    Args:
        settings: which base.
        tiny: the network that is made here; None where `settings.base` names a directory or a hub id.
        vocabulary: tokens of the tiny base's tokenizer.
        context: tokens of prompt and response together, at most, in a pipeline.

    Raises:
        RequestError: its configuration cannot be read, or is none of a causal language model.
    """
    with torch.device("meta"):
        if tiny is not None:
            made: Any = network(tiny, vocabulary=vocabulary, context=context, pad=0, eos=1)
        else:
            made = _skeleton(settings.source, revision=settings.revision)
    told = made.config.get_text_config()
    linear = [layer for name, layer in made.named_modules() if isinstance(layer, nn.Linear) and not _is_output(made, layer)]
    return Base(
        name=settings.base,
        is_tiny=tiny is not None,
        weights=sum(weight.numel() for weight in made.parameters()),
        adapter_width=sum(layer.in_features + layer.out_features for layer in linear),
        layers=int(getattr(told, "num_hidden_layers", 0)),
        width=int(getattr(told, "hidden_size", 0)),
        cache_width=2 * _heads(told) * _head_width(told),
        vocabulary=int(told.vocab_size),
        context=context,
    )


def _heads(told: Any) -> int:
    """Return the heads that keep keys and values: fewer than there are queries where groups share them (arXiv:2305.13245)."""
    return int(getattr(told, "num_key_value_heads", None) or getattr(told, "num_attention_heads", None) or 1)


def _head_width(told: Any) -> int:
    width, heads = int(getattr(told, "hidden_size", 0)), int(getattr(told, "num_attention_heads", None) or 1)
    return int(getattr(told, "head_dim", None) or width // heads)


def _skeleton(source: str, *, revision: str | None) -> Any:
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RequestError(f"model.base={source}: its configuration cannot be loaded: {reason}") from None


def _is_output(model: Any, layer: nn.Module) -> bool:
    """Return whether a layer is the output layer, which LoRA's "all-linear" leaves out."""
    return layer is model.get_output_embeddings()
