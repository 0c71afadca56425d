"""LoRA: which adapters a base gets, and how they become part of its weights."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from models.quantization import is_quantized, merged_whole
from posttrain.settings.model import ModelSettings


def lora(model: ModelSettings, *, task: str | None = "CAUSAL_LM") -> LoraConfig | None:
    """Return the adapter settings, or None where all weights are trained; `task` None for a network without an output layer."""
    if model.lora_rank == 0:
        return None
    return LoraConfig(
        r=model.lora_rank, lora_alpha=model.lora_alpha, lora_dropout=0.0, target_modules="all-linear", task_type=task
    )


def seeded_lora(model: ModelSettings, *, seed: int) -> LoraConfig | None:
    """Return the adapter settings for a trainer that makes the adapters next: PyTorch's generator starts anew from `seed`.

    Adapters are drawn from the process's own generator (A is uniform, B is 0), so that without this one seed gives other weights
    each time. A trainer of transformers sets the generator again before it trains.
    """
    torch.manual_seed(seed)
    return lora(model)


def adapted(network: Any, model: ModelSettings, *, task: str | None, seed: int) -> Any:
    """Return the network with the adapters of a seed, or as it is where all weights are trained; see `lora`."""
    adapters = lora(model, task=task)
    if adapters is None:
        return network
    torch.manual_seed(seed)
    return get_peft_model(network, adapters)


def merged(model: Any) -> Any:
    """Return the model with its adapters added to its weights, so that it loads without peft, nor bitsandbytes."""
    if is_quantized(model):
        return merged_whole(model)
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
