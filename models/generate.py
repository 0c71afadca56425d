"""Responses of a model, in batches of prompts of like length; what is drawn does not depend on the batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.generation.streamers import BaseStreamer

from models.encoding import prompt_ids, response_texts
from models.endings import end_ids
from posttrain.ops.device_rows import in_parts
from posttrain.rl.rollout import derived_generator, drawn_tokens


@dataclass(frozen=True)
class Response:
    """One response.

    Attributes:
        text: without the token that ended it.
        tokens: its length, that token counted.
        is_finished: whether it ended by itself, with any of the tokens that end a response (`models.endings`).
        ids: as they were sampled, its end included. Text need not come back as the same tokens, so log-probabilities want these.
    """

    text: str
    tokens: int
    is_finished: bool
    ids: tuple[int, ...] = field(default=(), compare=False, repr=False)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    samples: int,
    temperature: float,
    max_new_tokens: int,
    context: int,
    batch_size: int,
    seed: int,
    names: Sequence[str] = (),
    advance: Callable[[int], None] = lambda prompts: None,
    hear: Callable[[Response], None] | None = None,
) -> list[list[Response]]:
    """Return `samples` responses a prompt, in the order of `prompts`.

    A response depends on the seed, the prompt, its name and the number of the sample alone, up to the rounding of the network:
    batch size, order and the other prompts decide nothing, and neither does how many samples there are.

    Prompts are sorted by length, longest first, so that padding is little and a lack of memory shows at once. No top-k or
    top-p, and nothing from the model's generation_config.json: samples follow the model's own distribution, which preference
    pairs and KL estimates rely on. A prompt that fills the context gets an empty, unfinished response.

    Args:
        model: a causal language model, in evaluation mode.
        tokenizer: pads on the left.
        prompts: texts as `models.load.prompt_text` makes them.
        samples: responses a prompt; 1 with temperature 0.
        temperature: 0 decodes greedily.
        max_new_tokens: response tokens, at most.
        context: tokens of prompt and response together, at most.
        batch_size: sequences generated together, at most.
        seed: of what is drawn.
        names: of each prompt, such as its question's id; prompts of one name draw by the same uniforms. Empty: the prompts.
        advance: is told after each batch how many prompts it answered.
        hear: of one prompt and one sample, is told after each token what there is of the response by then.
    """
    if not prompts:
        return []
    if hear and (len(prompts) > 1 or samples > 1):
        raise ValueError(f"one response is heard at a time, got {len(prompts)} prompts and {samples} samples")
    names = names or prompts
    if len(names) != len(prompts):
        raise ValueError(f"each prompt needs a name, got {len(names)} names for {len(prompts)} prompts")
    ids = prompt_ids(tokenizer, prompts)
    order = sorted(range(len(ids)), key=lambda index: (-len(ids[index]), index))
    responses: list[list[Response]] = [[] for _ in ids]
    rooms = [min(max_new_tokens, context - len(prompt)) for prompt in ids]
    with _own_distribution(model):
        for chosen, room in _batches(order, rooms, most=max(1, batch_size // samples)):
            if room < 1:
                for index in chosen:
                    responses[index] = [Response(text="", tokens=0, is_finished=False)] * samples
            else:
                named = [names[index] for index in chosen] if temperature else []
                drawn_by = uniforms(named, samples=samples, longest=room, seed=seed) if named else torch.zeros(0)
                rows = list(enumerate(index for index in chosen for _ in range(samples)))

                def draw(part: Sequence[tuple[int, int]], drawn_by: Tensor = drawn_by, room: int = room) -> None:
                    batch = tokenizer.pad({"input_ids": [ids[index] for _, index in part]}, return_tensors="pt").to(model.device)
                    width = batch["input_ids"].shape[1]
                    processors = LogitsProcessorList()
                    if temperature:
                        chance = drawn_by[[row for row, _ in part]].to(model.device)
                        processors.append(_Draws(chance, start=width, temperature=temperature))
                    how: dict[str, Any] = {"generation_config": _decoding(tokenizer, room), "logits_processor": processors}
                    if hear:
                        how["streamer"] = _Heard(tokenizer, hear)
                    told = model.generate(**batch, **how)
                    for (_, index), response in zip(part, _read(tokenizer, told[:, width:]), strict=True):
                        responses[index].append(response)

                in_parts("sampling", rows, len(rows), draw)
            advance(len(chosen))
    return responses


def _batches(order: Sequence[int], rooms: Sequence[int], *, most: int) -> Iterator[tuple[list[int], int]]:
    """Yield up to `most` prompts with equal room for a response, and that room, so that no prompt shortens another's response."""
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) == most or rooms[index] != rooms[batch[0]]):
            yield batch, rooms[batch[0]]
            batch = []
        batch.append(index)
    if batch:
        yield batch, rooms[batch[0]]


@contextmanager
def _own_distribution(model: PreTrainedModel) -> Iterator[None]:
    """Leave the model's generation_config (repetition penalty, min-p, …) out: transformers fills every gap of ours with it."""
    kept, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = kept


def uniforms(names: Sequence[str], *, samples: int, longest: int, seed: int) -> Tensor:
    """Return the uniforms that decide each token of each sample, (names · samples, longest), in [0, 1).

    A row is a function of the seed, its name and its number among the name's samples; a longer one begins as a shorter one does.
    """
    rows = [
        torch.rand(longest, generator=derived_generator(seed, "response", name, sample))
        for name in names
        for sample in range(samples)
    ]
    return torch.stack(rows)


class _Draws(LogitsProcessor):  # type: ignore[misc]
    """Leaves one token a row: the one that the row's uniform draws (`posttrain.rl.rollout.drawn_tokens`)."""

    def __init__(self, drawn_by: Tensor, *, start: int, temperature: float) -> None:
        self._drawn_by, self._start, self._temperature = drawn_by, start, temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        drawn, _ = drawn_tokens(scores, self._drawn_by[:, input_ids.shape[1] - self._start], temperature=self._temperature)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn[:, None], 0.0)


class _Heard(BaseStreamer):  # type: ignore[misc]
    """Tells what there is of one response after each token, read as the whole of it will be."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, hear: Callable[[Response], None]) -> None:
        self._tokenizer, self._hear = tokenizer, hear
        self._ids: list[int] | None = None  # the prompt comes first

    def put(self, value: Tensor) -> None:
        if self._ids is None:
            self._ids = []
            return
        self._ids += value.flatten().tolist()
        self._hear(_read(self._tokenizer, torch.tensor([self._ids]))[0])

    def end(self) -> None:
        """Nothing is held back."""


def _decoding(tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> GenerationConfig:
    """Return greedy decoding: what is sampled is the only token that `_Draws` leaves."""
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=list(end_ids(tokenizer)),
    )


def _read(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> list[Response]:
    is_end = torch.isin(ids, torch.tensor(end_ids(tokenizer), device=ids.device))
    is_finished = is_end.any(dim=1)
    lengths = torch.where(is_finished, is_end.int().argmax(dim=1) + 1, ids.shape[1]).tolist()
    finished = is_finished.tolist()
    rows = [row[:length] for row, length in zip(ids.tolist(), lengths, strict=True)]
    texts = response_texts(tokenizer, [row[: len(row) - done] for row, done in zip(rows, finished, strict=True)])
    return [
        Response(text=text, tokens=len(row), is_finished=done, ids=tuple(row))
        for text, row, done in zip(texts, rows, finished, strict=True)
    ]
