"""Logits at some positions of a batch only."""

from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache


def logits_at(model: Any, ids: Tensor, places: Tensor, *, cache: DynamicCache | None = None) -> Tensor:
    """Return the logits at some (row, time) of `ids`, (places, vocabulary): the output layer is handed no other position.

    Sequences are padded on the right, where a causal model needs no mask. What a model does to its logits behind the output
    layer (scaling, soft caps) works on single positions, so it still applies.

    Args:
        model: a causal language model.
        ids: (batch, time), int64.
        places: (places, 2), int64.
        cache: keys and values of what stands before each row; it is added to.
    """
    rows, times = places.unbind(dim=1)

    def select(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (arguments[0][rows, times],)

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        logits: Tensor = model(input_ids=ids, past_key_values=cache, use_cache=cache is not None).logits
    finally:
        hook.remove()
    return logits
