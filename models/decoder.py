"""A Llama-like policy's weights laid out for a processor, so that a token costs its matrix products and little beside them.

Of a step of transformers' own forward on a few dozen rows, most is not arithmetic: weights are laid out anew for each product,
masks and positions are made again, queries, keys and values come from three products where one would do. Here weights are laid
out once for a whole sampling (oneDNN's own layout), the products that share an input are one, and keys and values stand in
memory that was there from the start. What it may be used for is tried out: `decoder` compares it with each module the first
time, and again when something of the module but its weights has changed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from posttrain.ops.masks import padded

_FAMILY = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
_FIXED_POSITIONS = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings whose angles do not depend on how long the longest sequence is."""
LARGE = 2**22
"""Weights from which laying them out pays: below, a sampling costs calls and not products."""
_APART = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest norm of what logits differ by from the module's own, as a share of their norm; rounding stays far below either."""


def decoder(policy: Any, *, rows: int) -> "Decoder | None":
    """Return what decodes as the policy does now, or None where the policy's own forward must.

    That is so for a model that is small, not on a CPU, or not of the family; whose linear layers are neither plain ones nor
    ones with a LoRA adapter; or whose logits, on two short sequences, are not the module's own.

    Args:
        policy: a causal language model, with LoRA adapters or without; training it later changes nothing here.
        rows: that are decoded together.
    """
    inner = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    if type(inner) not in _FAMILY or policy.device.type != "cpu" or sum(map(torch.Tensor.numel, policy.parameters())) < LARGE:
        return None
    if inner.config.rope_parameters.get("rope_type", "default") not in _FIXED_POSITIONS:
        return None
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else policy.dtype
    if kind not in _APART:
        return None
    try:
        made = Decoder(inner, kind=kind, rows=rows)
    except _UnknownError:
        return None
    seen, now = _PROVEN.setdefault(policy, set()), (kind, _structure(policy))
    if now not in seen and not _agrees(made, policy):
        return None
    seen.add(now)
    return made


_PROVEN: WeakKeyDictionary[Any, set[tuple[torch.dtype, int]]] = WeakKeyDictionary()
"""Modules that decoded as they compute themselves, by number format and what they were made of."""


def _structure(policy: nn.Module) -> int:
    """Return what a module's outputs hang on beside its weights: kinds and modes of its parts, hooks, forwards replaced."""
    return hash(
        tuple(
            (
                name,
                type(part),
                part.training,
                "forward" in vars(part),
                *map(tuple, (part._forward_hooks, part._forward_pre_hooks)),
            )
            for name, part in policy.named_modules()
        )
    )


def _agrees(made: "Decoder", policy: Any) -> bool:
    """Compare logits behind two short prompts, of which one is padded, and behind one more token."""
    most = policy.get_input_embeddings().num_embeddings - 1
    prompts = [[min(token, most) for token in row] for row in ([5, 3, 4, 5, 2], [2, 4])]
    follows = torch.tensor([3, 2]).clamp(max=most)
    session = made.session(room=6)
    mine = torch.stack([session.read(prompts), session.read_next(follows)], dim=1)
    # a causal module needs no mask for what stands behind a sequence
    ids = padded([[*prompt, int(token)] for prompt, token in zip(prompts, follows, strict=True)], with_value=0)
    logits = policy(input_ids=ids, use_cache=False).logits.float()
    own = torch.stack([logits[row, len(prompt) - 1 : len(prompt) + 1] for row, prompt in enumerate(prompts)])
    return bool(((mine - own).norm(dim=(1, 2)) <= _APART[made.kind] * own.norm(dim=(1, 2))).all())


class _UnknownError(Exception):
    """A module that is not what its family has in its place."""


@dataclass(frozen=True)
class _Linear:
    """W, b and, where adapters are kept apart, A and B of W + B A.

    Attributes:
        weight: W, (out, in), in the number format of the products.
        bias: b, (out,), or None.
        down: A, (rank, in).
        up: B, scaled, (out, rank).
    """

    weight: Tensor
    bias: Tensor | None
    down: Tensor | None = None
    up: Tensor | None = None

    @classmethod
    def of(cls, module: nn.Module, kind: torch.dtype) -> "_Linear":
        """Return a layer's weights; in float32 an adapter is part of W, in bfloat16 W would round it away."""
        if type(module) is nn.Linear:
            return cls(module.weight.detach().to(kind), None if module.bias is None else module.bias.detach().to(kind))
        if not isinstance(module, LoraLinear) or type(module.base_layer) is not nn.Linear:
            raise _UnknownError
        base = cls.of(module.base_layer, kind)
        if module.disable_adapters or module.merged:
            return base
        if len(module.active_adapters) != 1:
            raise _UnknownError
        name = module.active_adapters[0]
        if name in module.lora_variant or module.lora_bias.get(name):  # DoRA and its kin are W + B A until they are trained
            raise _UnknownError
        down, up = module.lora_A[name].weight.detach(), module.scaling[name] * module.lora_B[name].weight.detach()
        if kind == torch.float32:
            return cls(base.weight + up.float() @ down.float(), base.bias)
        return cls(base.weight, base.bias, down.to(kind), up.to(kind))

    @classmethod
    def joined(cls, parts: Sequence["_Linear"]) -> "_Linear":
        """Return the layer whose output is that of the parts, one behind the other."""
        weight = parts[0].weight if len(parts) == 1 else torch.cat([part.weight for part in parts])
        bias = None
        if any(part.bias is not None for part in parts):
            bias = torch.cat([part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in parts])
        adapted = [part for part in parts if part.down is not None]
        if not adapted:
            return cls(weight, bias)
        ups = [part.weight.new_zeros(len(part.weight), 0) if part.up is None else part.up for part in parts]
        downs = torch.cat([part.down for part in adapted if part.down is not None])
        return cls(weight, bias, downs, torch.block_diag(*ups))  # type: ignore[no-untyped-call]

    def arranged(self, order: Tensor) -> "_Linear":
        """Return the layer whose outputs stand in another order, (out,), int64."""
        bias, up = (None if figure is None else figure[order] for figure in (self.bias, self.up))
        return _Linear(self.weight[order], bias, self.down, up)

    def product(self, rows: int) -> Callable[[Tensor], Tensor]:
        """Return the layer as a function of (tokens, in), its weights laid out for about as many rows."""
        plain = _product(self.weight, self.bias, rows)
        if self.down is None or self.up is None:
            return plain
        down, up = self.down, self.up
        return lambda entries: plain(entries).add_(nn.functional.linear(nn.functional.linear(entries, down), up))


def _product(weight: Tensor, bias: Tensor | None, rows: int) -> Callable[[Tensor], Tensor]:
    if not has_onednn(weight.dtype):
        return lambda entries: nn.functional.linear(entries, weight, bias)
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return lambda entries: torch.ops.mkldnn._linear_pointwise(entries, laid_out, bias, "none", [], "")


def has_onednn(kind: torch.dtype) -> bool:
    """Return whether PyTorch has oneDNN's products of weights laid out beforehand, in a number format, on this processor."""
    is_there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not is_there or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    return kind == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@dataclass(frozen=True)
class _Layer:
    before_attention: "_Norm"
    heads: Callable[[Tensor], Tensor]
    query_norm: "_Norm | None"
    key_norm: "_Norm | None"
    out: Callable[[Tensor], Tensor]
    before_mlp: "_Norm"
    gate_and_up: Callable[[Tensor], Tensor]
    act: Callable[[Tensor], Tensor]
    down: Callable[[Tensor], Tensor]


class _Norm:
    """x / √(mean x² + ε) · weight in float32 (arXiv:1910.07467, eq. 4)."""

    def __init__(self, module: Any, kind: torch.dtype, order: Tensor | None = None) -> None:
        weight = module.weight.detach().float()
        self._weight = weight if order is None else weight[order]
        self._epsilon = float(module.variance_epsilon)
        self._kind = kind

    def __call__(self, entries: Tensor) -> Tensor:
        entries = entries.float()
        length = torch.linalg.vector_norm(entries, dim=-1, keepdim=True)
        scale = (length.square_().div_(entries.shape[-1]).add_(self._epsilon)).rsqrt_()
        scaled: Tensor = (entries * scale).mul_(self._weight).to(self._kind)
        return scaled


class Decoder:
    """The weights of a model of the Llama family, as they were when this was made.

    Args:
        model: of one of `_FAMILY`, its linear layers with LoRA adapters or without.
        kind: number format of products, keys and values; everything between them is float32.
        rows: that are decoded together.

    Raises:
        _UnknownError: a module is not what its family has in its place.
    """

    def __init__(self, model: Any, *, kind: torch.dtype, rows: int) -> None:
        def laid_out(*modules: nn.Module, order: Tensor | None = None) -> Callable[[Tensor], Tensor]:
            joined = _Linear.joined([_Linear.of(module, kind) for module in modules])
            return (joined if order is None else joined.arranged(order)).product(rows)

        def norm(module: nn.Module | None) -> _Norm | None:
            return None if module is None else _Norm(module, torch.float32, in_pairs)

        config, trunk = model.config, model.model
        self.kind = kind
        self.window: int | None = config.sliding_window if getattr(config, "sliding_window", None) else None
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.width: int = trunk.layers[0].self_attn.head_dim
        # the two entries that are turned by one angle stand side by side in queries and keys: then they are one complex number
        in_pairs = torch.arange(self.width).view(2, -1).T.flatten()
        turned = (self.heads + self.groups) * self.width
        order = torch.arange(turned + self.groups * self.width)
        order[:turned] = order[:turned].view(-1, self.width)[:, in_pairs].flatten()
        self.scaling: float = trunk.layers[0].self_attn.scaling
        self.embedding: nn.Embedding = trunk.embed_tokens
        self.positions = trunk.rotary_emb
        self.layers = [
            _Layer(
                before_attention=_Norm(layer.input_layernorm, kind),
                heads=laid_out(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj, order=order),
                query_norm=norm(getattr(layer.self_attn, "q_norm", None)),
                key_norm=norm(getattr(layer.self_attn, "k_norm", None)),
                out=laid_out(layer.self_attn.o_proj),
                before_mlp=_Norm(layer.post_attention_layernorm, kind),
                gate_and_up=laid_out(layer.mlp.gate_proj, layer.mlp.up_proj),
                act=layer.mlp.act_fn,
                down=laid_out(layer.mlp.down_proj),
            )
            for layer in trunk.layers
        ]
        self.norm = _Norm(trunk.norm, kind)
        self.head = laid_out(model.lm_head)

    def session(self, *, room: int) -> "Session":
        """Return a decoding of some rows, each of `room` tokens at most, prompt and padding included."""
        return Session(self, room=room)

    def reaches(self, room: int) -> bool:
        """Return whether every token of so many sees all those before it."""
        return self.window is None or room <= self.window


class Session:
    """Rows that are decoded together, with their keys and values.

    Args:
        weights: of the model.
        room: tokens of a row, padding included, at most.
    """

    def __init__(self, weights: Decoder, *, room: int) -> None:
        self._weights = weights
        self._room = room
        self._length = 0
        cos, sin = weights.positions(torch.zeros(1, dtype=torch.float32), torch.arange(room)[None])
        half = weights.width // 2  # of both, the second half repeats the first
        self._turn = torch.complex(cos[0, :, None, :half].contiguous(), sin[0, :, None, :half].contiguous())
        self._place = torch.zeros(0)
        self._bias = torch.zeros(0)
        self._stored: list[tuple[Tensor, Tensor]] = []

    def read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Take the rows' prompts, each of a token at least, and return the logits of what follows, (rows, vocabulary).

        A prompt that several rows have is read once.
        """
        weights = self._weights
        distinct = {tuple(prompt): 0 for prompt in prompts}
        for number, prompt in enumerate(distinct):
            distinct[prompt] = number
        lengths = torch.tensor([len(prompt) for prompt in distinct])
        rows, columns = len(distinct), int(lengths.max())
        is_token = torch.arange(columns) >= columns - lengths[:, None]
        flat = is_token.flatten().nonzero().squeeze(1)
        place = (torch.arange(columns) - (columns - lengths[:, None])).flatten()[flat]
        # a token sees itself and those before it; padding sees itself, so that no row of attention is empty
        visible = (is_token[:, None] & torch.ones(columns, columns, dtype=torch.bool).tril()) | torch.eye(
            columns, dtype=torch.bool
        )
        which = torch.tensor([distinct[tuple(prompt)] for prompt in prompts])

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            laid_out = []
            for figure in (query, key, value):
                whole = figure.new_zeros(rows * columns, *figure.shape[1:])
                whole[flat] = figure
                laid_out.append(whole.view(rows, columns, -1, weights.width).transpose(1, 2))
            self._stored.append((self._kept(laid_out[1][which]), self._kept(laid_out[2][which])))
            query, key, value = laid_out
            out = nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=visible[:, None], scale=weights.scaling, enable_gqa=weights.heads != weights.groups
            )
            return out.transpose(1, 2).reshape(rows * columns, -1)[flat]

        hidden = self._through(torch.tensor([token for prompt in distinct for token in prompt]), place, attend)
        self._length = columns
        self._place = lengths[which]
        self._bias = torch.zeros(len(which), self._room, dtype=weights.kind)
        self._bias[:, :columns].masked_fill_(~is_token[which], -torch.inf)
        return weights.head(weights.norm(hidden[lengths.cumsum(0) - 1])).float()[which]

    def read_next(self, ids: Tensor) -> Tensor:
        """Take one more token of each row, (rows,), and return the logits of what follows, (rows, vocabulary)."""
        weights, length = self._weights, self._length + 1
        rows = len(ids)
        bias = self._bias[:, None, None, :length]
        layer = iter(self._stored)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = next(layer)
            keys[:, :, length - 1], values[:, :, length - 1] = key, value
            # the queries that share a key are as good as a sequence of queries: nothing is copied for them
            out = nn.functional.scaled_dot_product_attention(
                query.view(rows, weights.groups, -1, weights.width),
                keys[:, :, :length],
                values[:, :, :length],
                attn_mask=bias,
                scale=weights.scaling,
            )
            return out.reshape(rows, -1)

        hidden = self._through(ids, self._place, attend)
        self._length = length
        self._place = self._place + 1
        return weights.head(weights.norm(hidden)).float()

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only; (rows,), int64."""
        self._place, self._bias = self._place[rows], self._bias[rows]
        self._stored = [(self._kept(keys[rows]), self._kept(values[rows])) for keys, values in self._stored]

    def _kept(self, figure: Tensor) -> Tensor:
        """Return keys or values, (rows, groups, tokens, width), with room for those to come."""
        room = figure.new_zeros(*figure.shape[:2], self._room, figure.shape[3])
        room[:, :, : figure.shape[2]] = figure
        return room

    def _through(self, ids: Tensor, place: Tensor, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """Return the hidden states of tokens, (tokens, width), float32, at their places; `attend` is where they meet."""
        weights = self._weights
        turn = self._turn[place]
        turned = weights.heads + weights.groups
        hidden = weights.embedding(ids).float()
        for layer in weights.layers:
            heads = layer.heads(layer.before_attention(hidden)).view(len(ids), -1, weights.width)
            entries = heads[:, :turned].float()
            if layer.query_norm and layer.key_norm:
                entries = torch.cat(
                    [layer.query_norm(entries[:, : weights.heads]), layer.key_norm(entries[:, weights.heads :])], dim=1
                )
            pairs = torch.view_as_complex(entries.view(*entries.shape[:-1], -1, 2))
            entries = torch.view_as_real(pairs * turn).flatten(-2).to(weights.kind)
            met = attend(entries[:, : weights.heads], entries[:, weights.heads :], heads[:, turned:])
            hidden = hidden + layer.out(met)
            gate, up = layer.gate_and_up(layer.before_mlp(hidden)).chunk(2, dim=-1)
            hidden = hidden + layer.down(layer.act(gate).mul_(up))
        left: Tensor = hidden
        return left
