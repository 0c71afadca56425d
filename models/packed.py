"""Sequences of a batch one behind the other, without padding between them, and attention within each.

Everything in a decoder but attention works on single tokens, so a batch without padding costs what its tokens cost (Krell et al.
2021, arXiv:2107.02027). Attention alone gets the sequences side by side, padded on the right, in groups of like length. So tokens
that several sequences begin with can be read once: attention gets them once a sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "posttrain_packed"
_GROUP = 16
"""Sequences whose attention is computed together; padding among more costs more than further calls
(`python -m benchmarks.ppo_parts`)."""


@dataclass(frozen=True)
class Packing:
    """Where the tokens of sequences are, one sequence behind the other, and in groups padded on the right.

    Attributes:
        place: (tokens,), int64, of each token in its own sequence.
        to_padded: (padded,), the token at each place of all groups, one group behind the other; any at padding.
        from_padded: (tokens,), the place of each token there; one of them where sequences share it.
        groups: rows and columns of each.
        filled: (filled,), the places that are no padding, where sequences share tokens; else None.
    """

    place: Tensor
    to_padded: Tensor
    from_padded: Tensor
    groups: Sequence[tuple[int, int]]
    filled: Tensor | None = None

    @classmethod
    def of(cls, lengths: Tensor, *, tokens: Tensor | None = None, group: int = _GROUP) -> "Packing":
        """Return the packing of sequences of these lengths, (sequences,), int64, each at least 1.

        Args:
            lengths: of the sequences.
            tokens: (sum of lengths,), which of the tokens that are read each one is (`read_once`); None: each is one of its own.
            group: sequences whose attention is computed together, at most.
        """
        device, lengths = lengths.device, lengths.cpu()
        start = lengths.cumsum(0) - lengths
        place = torch.arange(int(lengths.sum())) - start.repeat_interleave(lengths)
        to_padded, is_token, groups = [], [], []
        for rows in torch.split(lengths.argsort(stable=True), group):
            column = torch.arange(int(lengths[rows[-1]]))
            inside = column < lengths[rows, None]
            to_padded.append((start[rows, None] + column * inside).flatten())
            is_token.append(inside.flatten())
            groups.append((len(rows), len(column)))
        token = torch.cat(to_padded)
        at = torch.cat(is_token).nonzero().squeeze(1)
        from_padded = torch.empty_like(place)
        from_padded[token[at]] = at
        filled = None
        if tokens is not None:
            own = torch.empty(int(tokens.max()) + 1, dtype=torch.int64)
            own[tokens] = torch.arange(len(tokens))  # of several sequences that share a token, one
            place, from_padded, token, filled = place[own], from_padded[own], tokens[token], at.to(device)
        return cls(place.to(device), token.to(device), from_padded.to(device), groups, filled)


def read_once(groups: Sequence[Sequence[Sequence[int]]]) -> tuple[list[int], Tensor]:
    """Return the tokens of sequences, what each begins with as the one before it left out, and which of them each token is.

    Args:
        groups: token ids of sequences that begin alike, such as responses behind one prompt; groups share nothing, so that what
            is read of one depends on no other.

    Returns:
        The ids of the tokens that are read; (sum of lengths,), int64, for each token of all sequences its place among them.
    """
    read: list[int] = []
    places: list[int] = []
    told: list[int] = []
    together = [(before, one) for group in groups for before, one in zip(((), *group), group, strict=False)]
    for before, sequence in together:
        same = next((place for place, two in enumerate(zip(before, sequence, strict=False)) if two[0] != two[1]), None)
        same = min(len(before), len(sequence)) if same is None else same
        places = [*places[:same], *range(len(read), len(read) + len(sequence) - same)]
        read.extend(sequence[same:])
        told.extend(places)
    return read, torch.tensor(told)


class _Padded(torch.autograd.Function):
    """(tokens, …) → (padded, …). Nothing reads what stands in padding, so no gradient comes back from there.

    A token that several sequences share gets the sum of what comes back from its places.
    """

    @staticmethod
    def forward(ctx: Any, flat: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return flat.index_select(0, packing.to_padded)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        packing: Packing = ctx.packing
        if packing.filled is None:
            return gradients[0].index_select(0, packing.from_padded), None
        out = gradients[0].new_zeros(len(packing.from_padded), *gradients[0].shape[1:])
        filled = packing.filled
        return out.index_add_(0, packing.to_padded[filled], gradients[0].index_select(0, filled)), None


class _Unpadded(torch.autograd.Function):
    """(padded, …) → (tokens, …)."""

    @staticmethod
    def forward(ctx: Any, laid_out: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return laid_out.index_select(0, packing.from_padded)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        packing: Packing = ctx.packing
        out = gradients[0].new_zeros(len(packing.to_padded), *gradients[0].shape[1:])
        return out.index_copy_(0, packing.from_padded, gradients[0]), None


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    **how: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each packed sequence; without a packing, PyTorch's attention as transformers calls it."""
    if packing is None:
        told: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **how)
        return told
    laid_out = [_Padded.apply(figure[0].transpose(0, 1), packing) for figure in (query, key, value)]  # type: ignore[no-untyped-call]
    sizes = [rows * columns for rows, columns in packing.groups]
    outs = []
    for (rows, columns), *parts in zip(packing.groups, *(figure.split(sizes) for figure in laid_out), strict=True):
        grouped = [part.view(rows, columns, *part.shape[1:]).transpose(1, 2) for part in parts]
        mask = _window(columns, how.get("sliding_window"), query.device)
        out, _ = sdpa_attention_forward(module, *grouped, mask, is_causal=mask is None, **how)
        outs.append(out.reshape(rows * columns, *out.shape[2:]))
    joined = outs[0] if len(outs) == 1 else torch.cat(outs)
    return _Unpadded.apply(joined, packing)[None], None  # type: ignore[no-untyped-call]


def _window(columns: int, width: int | None, device: torch.device) -> Tensor | None:
    """Return the mask of a sliding window, (1, 1, columns, columns); None where every earlier token is within it."""
    if width is None or columns <= width:
        return None
    apart = torch.arange(columns, device=device)[:, None] - torch.arange(columns, device=device)
    return ((apart >= 0) & (apart < width))[None, None]


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def called_packed(network: Any, ids: Tensor, packing: Packing) -> Any:
    """Return the output of a network on packed ids, (1, tokens); its hidden states and logits are (1, tokens, …).

    A mask of four dimensions is handed on as it is: without one, transformers would make tokens × tokens of it.
    """
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device)
    return network(input_ids=ids, position_ids=packing.place[None], attention_mask=mask, use_cache=False, packing=packing)


_ATTENTION = {"full_attention", "sliding_attention"}
"""Layers in which tokens meet in attention alone; convolutions and states would run on into the next sequence."""


def is_packing(network: Any) -> bool:
    """Return whether a network takes packed sequences (`let_pack`)."""
    return bool(network.config._attn_implementation == NAME)


@torch.no_grad()
def let_pack(network: Any) -> None:
    """Let a network take packed sequences where it can.

    What a model does with positions, masks and attention is its own, so this is tried out: on two short sequences, its output
    must be that of one at a time. A model for which it is not, or that has another attention than PyTorch's, stays as it is.

    Args:
        network: a decoder, with or without an output layer, of at least 4 tokens, without dropout.
    """
    config = network.config.get_text_config()
    if config._attn_implementation != "sdpa" or not set(getattr(config, "layer_types", None) or ()) <= _ATTENTION:
        return
    sequences = [torch.tensor(ids, device=network.device) for ids in ([1, 2, 0, 1, 3], [3, 0, 2])]
    alone = torch.cat([network(input_ids=ids[None], use_cache=False)[0][0] for ids in sequences]).float()
    packing = Packing.of(torch.tensor([5, 3], device=network.device), group=1)
    network.set_attn_implementation(NAME)
    try:
        told = called_packed(network, torch.cat(sequences)[None], packing)[0][0].float()
        apart = 1e-3 if network.dtype == torch.float32 else 2e-2
        fits = told.shape == alone.shape and bool((told - alone).norm() <= apart * alone.norm())
    except Exception:  # whatever a model raises at what it does not know
        fits = False
    if not fits:
        network.set_attn_implementation("sdpa")
