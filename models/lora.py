"""LoRA: which adapters a base gets, and how they become part of its weights."""

from typing import Any

from peft import LoraConfig

from posttrain.settings.model import ModelSettings


def lora(model: ModelSettings, *, task: str | None = "CAUSAL_LM") -> LoraConfig | None:
    """Return the adapter settings, or None where all weights are trained; `task` None for a network without an output layer."""
    if model.lora_rank == 0:
        return None
    return LoraConfig(
        r=model.lora_rank, lora_alpha=model.lora_alpha, lora_dropout=0.0, target_modules="all-linear", task_type=task
    )


def merged(model: Any) -> Any:
    """Return the model with its adapters added to its weights, so that it loads without peft."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
