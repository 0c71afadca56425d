"""The embedding beside the tokenizer: a row for each of its tokens."""

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from posttrain.errors import RequestError


def rows_needed(tokenizer: PreTrainedTokenizerBase, *, rows: int, name: str) -> int:
    """Return how many rows an embedding must have: those that it has, or more where tokens were added behind the vocabulary.

    Args:
        tokenizer: that reads for the model.
        rows: that the embedding has.
        name: of the model, for errors.

    Raises:
        RequestError: ordinary words have no row, so that the tokenizer is another model's.
    """
    if len(tokenizer) <= rows and not tokenizer.added_tokens_decoder:
        return rows
    behind = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    if words := sorted(set(behind) - added, key=behind.__getitem__):
        raise RequestError(
            f"{name}: its tokenizer has {len(tokenizer):,} tokens and its embedding {rows:,} rows, so {len(words):,} words "
            f"({words[0]!r}, …) have none: it is the tokenizer of another model. Put the right one into the directory"
        )
    return max(rows, *(number + 1 for number in behind.values())) if behind else rows


def grow_embedding(model: Any, rows: int) -> None:
    """Let the embedding, and the output layer where there is one, have `rows` rows; new ones are the mean of the old.

    With the mean a new token is never likely: one of n tokens at most changes each log-probability by log(1 + 1/n) (Hewitt 2021,
    https://www.cs.columbia.edu/~johnhew/vocab-expansion.html). An embedding that is large enough stays as it is.

    Args:
        model: of transformers.
        rows: tokens of its tokenizer.
    """
    before = model.get_input_embeddings().weight.shape[0]
    if rows <= before:
        return
    with torch.random.fork_rng():  # rows are drawn first, and then set
        model.resize_token_embeddings(rows, mean_resizing=False)
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    figures = [layer.weight for layer in layers if layer is not None]
    figures += [layer.bias for layer in layers if getattr(layer, "bias", None) is not None]
    with torch.no_grad():
        for figure in figures:
            figure[before:] = figure[:before].double().mean(dim=0).to(figure.dtype)
