"""Responses of a model, in batches of prompts of like length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Response:
    """One response: its text without EOS, its length in tokens with EOS, and whether it ended with EOS."""

    text: str
    tokens: int
    is_finished: bool


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
    top-p: samples follow the model's own distribution, which preference pairs and KL estimates rely on.

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
    torch.manual_seed(seed)
    ids = tokenizer(list(prompts), return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    order = sorted(range(len(ids)), key=lambda index: (-len(ids[index]), index))
    responses: list[list[Response]] = [[] for _ in ids]
    prompts_a_batch = max(1, batch_size // samples)
    for start in range(0, len(order), prompts_a_batch):
        chosen = order[start : start + prompts_a_batch]
        batch = tokenizer.pad({"input_ids": [ids[index] for index in chosen]}, return_tensors="pt").to(model.device)
        room = min(max_new_tokens, context - batch["input_ids"].shape[1])
        sequences = model.generate(**batch, generation_config=_decoding(tokenizer, samples, temperature, max(1, room)))
        new = sequences[:, batch["input_ids"].shape[1] :]
        for row, response in enumerate(_read(tokenizer, new)):
            responses[chosen[row // samples]].append(response)
        advance(len(chosen))
    return responses


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
    texts = tokenizer.batch_decode(
        [row[: length - done] for row, length, done in zip(ids.tolist(), lengths, finished, strict=True)]
    )
    return [
        Response(text=text, tokens=length, is_finished=done) for text, length, done in zip(texts, lengths, finished, strict=True)
    ]
