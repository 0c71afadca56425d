"""How likely a model finds a response."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from posttrain.logprobs import response_logprobs


@torch.inference_mode()
def score_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    responses: Sequence[str],
    *,
    is_finished: Sequence[bool],
    temperature: float,
    batch_size: int,
) -> Tensor:
    """Return log p(response | prompt) of each pair, summed over its tokens, EOS included where it was reached; (pairs,), nats.

    Args:
        model: a causal language model, in evaluation mode.
        tokenizer: of that model.
        prompts: texts as `models.load.prompt_text` makes them.
        responses: one a prompt.
        is_finished: whether the response ended with EOS.
        temperature: the one it was sampled at; logits are divided by it.
        batch_size: pairs a forward pass, at most.
    """
    if not prompts:
        return torch.zeros(0, dtype=torch.float64)
    heads = tokenizer(list(prompts), return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    tails = tokenizer(list(responses), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)[
        "input_ids"
    ]
    pairs = [(head, tail + [tokenizer.eos_token_id] * done) for head, tail, done in zip(heads, tails, is_finished, strict=True)]
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]) + len(pairs[index][1]))
    totals = torch.zeros(len(pairs), dtype=torch.float64)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
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
        totals[chosen] = (
            response_logprobs(logits.float(), ids.to(model.device), is_response.to(model.device), temperature=temperature)
            .double()
            .cpu()
        )
    return totals
