"""How likely a model finds a response."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.encoding import prompt_ids
from posttrain.ops.device_rows import in_parts
from posttrain.ops.logprobs import response_logprobs

LARGEST_LOGITS = 2**28
"""Numbers in the logits of one forward pass, at most: 1 GB in float32, whatever the vocabulary."""


@torch.inference_mode()
def score_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    responses: Sequence[Sequence[int]],
    *,
    temperature: float,
    batch_size: int,
) -> Tensor:
    """Return log p(response | prompt) of each pair, summed over the response's tokens; (pairs,), nats.

    Args:
        model: a causal language model, in evaluation mode.
        tokenizer: of that model.
        prompts: texts as `models.load.prompt_text` makes them.
        responses: token ids, one response a prompt: `Response.ids`, or `models.encoding.response_ids` of a text.
        temperature: the one they were sampled at; logits are divided by it.
        batch_size: pairs a forward pass, at most; fewer where the vocabulary is large.
    """
    if not prompts:
        return torch.zeros(0, dtype=torch.float64)
    heads = prompt_ids(tokenizer, prompts)
    pairs = [(head, list(tail)) for head, tail in zip(heads, responses, strict=True)]
    longest_of_all = max(len(head) + len(tail) for head, tail in pairs)
    batch_size = max(1, min(batch_size, LARGEST_LOGITS // (longest_of_all * len(tokenizer))))
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]) + len(pairs[index][1]))
    totals = torch.zeros(len(pairs), dtype=torch.float64)

    def score(chosen: Sequence[int]) -> None:
        longest = max(len(pairs[index][0]) + len(pairs[index][1]) for index in chosen)
        ids = torch.full((len(chosen), longest), tokenizer.pad_token_id)
        is_response = torch.zeros(len(chosen), longest, dtype=torch.bool)
        is_token = torch.zeros(len(chosen), longest, dtype=torch.bool)
        for row, index in enumerate(chosen):
            head, tail = pairs[index]
            ids[row, : len(head) + len(tail)] = torch.tensor(head + tail)
            is_token[row, : len(head) + len(tail)] = True
            is_response[row, len(head) : len(head) + len(tail)] = True
        logits = model(input_ids=ids.to(model.device), attention_mask=is_token.long().to(model.device)).logits
        totals[list(chosen)] = (
            response_logprobs(logits.float(), ids.to(model.device), is_response.to(model.device), temperature=temperature)
            .double()
            .cpu()
        )

    in_parts("reading responses", order, batch_size, score)
    return totals
