"""Responses of a model, in batches of prompts of like length; what is drawn does not depend on the batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.encoding import prompt_ids, response_texts
from models.endings import end_ids
from models.sampler import Sampler
from posttrain.ops.device_rows import in_parts
from posttrain.rl.rollout import derived_generator


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
    responses: list[list[Response]] = [[Response(text="", tokens=0, is_finished=False)] * samples for _ in ids]
    prompts_at_once = max(1, batch_size // samples)
    sampler = Sampler(
        model,
        temperature=temperature,
        end_ids=end_ids(tokenizer),
        pad_id=tokenizer.pad_token_id,
        context=context,
        # who listens to one response waits for its first token: laying the weights out takes as long as a dozen tokens
        rows=0 if hear else min(prompts_at_once, len(ids)) * samples,
    )
    for start in range(0, len(order), prompts_at_once):
        chosen = order[start : start + prompts_at_once]
        chance = torch.zeros(len(chosen) * samples, max_new_tokens)
        if temperature:
            chance = uniforms([names[index] for index in chosen], samples=samples, longest=max_new_tokens, seed=seed)
        places = ((index, sample) for index in chosen for sample in range(samples))
        rows = [(row, index, sample) for row, (index, sample) in enumerate(places) if len(ids[index]) < context]

        def draw(part: Sequence[tuple[int, int, int]], chance: Tensor = chance) -> None:
            heard = (lambda so_far: hear(_read(tokenizer, [so_far])[0])) if hear else None
            drawn = sampler.draw([ids[index] for _, index, _ in part], chance[[row for row, _, _ in part]], heard)
            told = _read(tokenizer, [tokens for tokens, _ in drawn])
            for (_, index, sample), response in zip(part, told, strict=True):
                responses[index][sample] = response

        if max_new_tokens > 0:
            in_parts("sampling", rows, len(rows), draw)
        advance(len(chosen))
    return responses


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


def _read(tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[int]]) -> list[Response]:
    """Return responses of some tokens each, of which only the last may end one."""
    ends = {*end_ids(tokenizer)}
    finished = [row[-1] in ends for row in rows]
    texts = response_texts(tokenizer, [row[: len(row) - done] for row, done in zip(rows, finished, strict=True)])
    return [
        Response(text=text, tokens=len(row), is_finished=done, ids=tuple(row))
        for text, row, done in zip(texts, rows, finished, strict=True)
    ]
