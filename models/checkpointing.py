"""Activations that are computed again in the backward pass instead of kept (Chen et al. 2016, arXiv:1604.06174)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from posttrain.settings.model import ModelSettings


def let_checkpoint(network: Any, settings: ModelSettings) -> Any:
    """Return the network, which keeps each block's input alone where `model.gradient_checkpointing=on` asks for it."""
    if settings.gradient_checkpointing == "on":
        whole = network.get_base_model() if hasattr(network, "get_base_model") else network
        whole.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    return network


@contextmanager
def with_cache(network: Any) -> Iterator[None]:
    """Let a network in training use its cache: under checkpointing transformers takes it away, without an error."""
    if not (network.training and getattr(network, "is_gradient_checkpointing", False)):
        yield
        return
    network.eval()
    try:
        yield
    finally:
        network.train()
