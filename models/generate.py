"""Responses of a model, in batches of prompts of like length."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Response:
    """One response.

    Attributes:
        text: without EOS.
        tokens: its length, EOS counted.
        is_finished: whether it ended with EOS.
        ids: as they were sampled, EOS included. Text need not come back as the same tokens, so log-probabilities want these.
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
    advance: Callable[[int], None] = lambda prompts: None,
) -> list[list[Response]]:
    """Return `samples` responses a prompt, in the order of `prompts`.

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
        seed: of torch's random numbers, set at the start.
        advance: is told after each batch how many prompts it answered.
    """
    if not prompts:
        return []
    torch.manual_seed(seed)
    ids = tokenizer(list(prompts), return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    order = sorted(range(len(ids)), key=lambda index: (-len(ids[index]), index))
    responses: list[list[Response]] = [[] for _ in ids]
    rooms = [min(max_new_tokens, context - len(prompt)) for prompt in ids]
    with _own_distribution(model):
        for chosen, room in _batches(order, rooms, most=max(1, batch_size // samples)):
            if room < 1:
                for index in chosen:
                    responses[index] = [Response(text="", tokens=0, is_finished=False)] * samples
            else:
                batch = tokenizer.pad({"input_ids": [ids[index] for index in chosen]}, return_tensors="pt").to(model.device)
                sequences = model.generate(**batch, generation_config=_decoding(tokenizer, samples, temperature, room))
                for row, response in enumerate(_read(tokenizer, sequences[:, batch["input_ids"].shape[1] :])):
                    responses[chosen[row // samples]].append(response)
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


def _decoding(tokenizer: PreTrainedTokenizerBase, samples: int, temperature: float, max_new_tokens: int) -> GenerationConfig:
    how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
    return GenerationConfig(
        **how,
        num_return_sequences=samples,
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _read(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> list[Response]:
    is_eos = ids == tokenizer.eos_token_id
    is_finished = is_eos.any(dim=1)
    lengths = torch.where(is_finished, is_eos.int().argmax(dim=1) + 1, ids.shape[1]).tolist()
    finished = is_finished.tolist()
    rows = [row[:length] for row, length in zip(ids.tolist(), lengths, strict=True)]
    texts = tokenizer.batch_decode([row[: len(row) - done] for row, done in zip(rows, finished, strict=True)])
    return [
        Response(text=text, tokens=len(row), is_finished=done, ids=tuple(row))
        for text, row, done in zip(texts, rows, finished, strict=True)
    ]
