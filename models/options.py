"""How likely a language model goes on with each of a few options."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import takewhile

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from models.encoding import ids_apart, prompt_ids
from models.positions import logits_at
from models.uncached import has_key_value_cache
from posttrain.errors import RequestError

LEAST_SHARED = 32
"""Tokens that all texts must begin with, so that reading them once is worth a cache."""


def option_ids(tokenizer: PreTrainedTokenizerBase, ending: str, options: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each option as they follow `ending`, without any that the ending and the option share.

    Raises:
        RequestError: the tokenizer does not know an option, or two options are the same tokens to it.
    """
    before = _ids(tokenizer, ending)
    found: list[list[int]] = []
    for option in options:
        together = _ids(tokenizer, ending + option)
        ids = together[len(before) :] if together[: len(before)] == before else ids_apart(tokenizer, option)
        if not ids or tokenizer.unk_token_id in ids:
            raise RequestError(
                f"judge.template: the judge's tokenizer does not know the option {option!r} (behind {ending[-40:]!r}), so it has "
                "no probability. Take words that the model has read, or another judge.model"
            )
        if ids in found:
            raise RequestError(
                f"judge.template: the options {options[found.index(ids)]!r} and {option!r} are the same tokens to the judge. "
                "Take words that differ"
            )
        found.append(ids)
    return found


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return ids


def option_logprobs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    options: Sequence[Sequence[int]],
    *,
    batch_size: int,
) -> Iterator[tuple[list[int], list[list[float]]]]:
    """Yield, batch by batch, which texts it is about and log p(option | text) of each, nats.

    Of two options of which one is the other's beginning (1 and 10), the shorter one counts without the longer. Batches are of
    texts of like length, in an order that depends on nothing but the texts: the same set of texts gives the same numbers to the
    last bit, in whatever order they come.

    Args:
        model: a causal language model, in evaluation mode.
        tokenizer: of that model.
        texts: what stands before the options.
        options: tokens of each option, as `option_ids` gives them.
        batch_size: texts a forward pass, at most.
    """
    ids = prompt_ids(tokenizer, texts)
    shared = _shared_beginning(model, ids)
    order = sorted(range(len(texts)), key=lambda index: (-len(ids[index]), texts[index]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        if shared:
            rest = [ids[index][shared.length :] for index in chosen]
            yield chosen, _continuations(model, tokenizer, rest, options, shared=shared)
        elif all(len(option) == 1 for option in options):  # as ever, bit by bit: the default judge's labels
            yield chosen, _next_tokens(model, tokenizer, [ids[index] for index in chosen], [option[0] for option in options])
        else:
            yield chosen, _continuations(model, tokenizer, [ids[index] for index in chosen], options)


@torch.inference_mode()
def _next_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: Sequence[Sequence[int]], options: Sequence[int]
) -> list[list[float]]:
    batch = tokenizer.pad({"input_ids": [list(row) for row in ids]}, padding_side="left", return_tensors="pt").to(model.device)
    positions = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    logits = model(**batch, position_ids=positions, logits_to_keep=1).logits[:, -1]
    rows: list[list[float]] = logits.double().log_softmax(dim=-1)[:, list(options)].tolist()
    return rows


@dataclass(frozen=True)
class _Shared:
    """What all texts begin with: how many tokens, and their keys and values, of one row."""

    length: int
    cache: DynamicCache

    def of_rows(self, rows: int) -> DynamicCache:
        """Return keys and values of so many rows, which a forward pass may add to."""
        copied = deepcopy(self.cache)
        copied.batch_repeat_interleave(rows)
        return copied


@torch.inference_mode()
def _shared_beginning(model: PreTrainedModel, ids: Sequence[Sequence[int]]) -> _Shared | None:
    """Read what all texts begin with; None where that is short, or a network cannot go on from keys and values."""
    alike = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*ids, strict=False)))
    length = min((alike, *(len(row) - 1 for row in ids)))
    if len(ids) < 2 or length < LEAST_SHARED or not has_key_value_cache(model):
        return None
    cache = DynamicCache(config=model.config.get_text_config())
    beginning = torch.tensor([list(ids[0][:length])], device=model.device)
    model(input_ids=beginning, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return _Shared(length, cache)


@torch.inference_mode()
def _continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[Sequence[int]],
    options: Sequence[Sequence[int]],
    *,
    shared: _Shared | None = None,
) -> list[list[float]]:
    """Return the log-probabilities of options of several tokens; of 1 and 10, 1 is worth p(1) - p(10).

    Args:
        model: a causal language model.
        tokenizer: of that model.
        ids: of each text, behind what is shared.
        options: their tokens.
        shared: what stands before each text.
    """
    found = torch.zeros(len(ids), len(options), dtype=torch.float64)
    for path in _paths(options):
        rows = [[*row, *path] for row in ids]
        batch = tokenizer.pad({"input_ids": rows}, padding_side="right", return_tensors="pt")["input_ids"].to(model.device)
        # what is likely behind the text, and behind each token of the path
        places = [(row, len(ids[row]) - 1 + step) for row in range(len(ids)) for step in range(len(path) + 1)]
        before = shared.of_rows(len(ids)) if shared else None
        likely = logits_at(model, batch, torch.tensor(places, device=model.device), cache=before).double().log_softmax(dim=-1)
        likely = likely.view(len(ids), len(path) + 1, -1)
        for place, option in enumerate(options):
            if list(path[: len(option) - 1]) == list(option[:-1]):
                found[:, place] = torch.stack([likely[:, step, token] for step, token in enumerate(option)]).sum(dim=0).cpu()
    written = found.exp().unbind(dim=1)
    columns = []
    for option, column in zip(options, written, strict=True):
        longer = [other for other in range(len(options)) if _leads(option, options[other])]
        nearest = [other for other in longer if not any(_leads(options[between], options[other]) for between in longer)]
        columns.append(column - sum((written[other] for other in nearest), start=torch.zeros_like(column)))
    told: list[list[float]] = torch.stack(columns, dim=1).clamp(min=1e-300).log().tolist()
    return told


def _paths(options: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return the fewest sequences of tokens along which every option's tokens can be read: of 1, 2 and 10 that is (1)."""
    before = dict.fromkeys(tuple(option[:-1]) for option in options)
    return [path for path in before if not any(_leads(path, other) for other in before)]


def _leads(shorter: Sequence[int], longer: Sequence[int]) -> bool:
    return len(shorter) < len(longer) and list(longer[: len(shorter)]) == list(shorter)
