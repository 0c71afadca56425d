"""How far a model has moved from another one, measured on the responses that it drew."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from models.positions import logits_at
from posttrain.ops.device_rows import in_parts
from posttrain.ops.logprobs import stepwise_kl
from posttrain.ops.masks import is_predicting, padded

LARGEST_LOGITS = 2**26
"""Numbers in one model's logits at a time, at most: 256 MB in float32, whatever the vocabulary."""


@torch.inference_mode()
def response_kl(
    subject: Any,
    reference: Any,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    temperature: float,
    batch_size: int,
) -> Tensor:
    """Return the Rao–Blackwellised estimate of KL(p ‖ q) that each sampled response gives; (pairs,), float64, nats.

        KL(y) = Σ_t Σ_v p(v | y_<t) (log p(v | y_<t) - log q(v | y_<t)),   y drawn from p

    Amini, Vieira and Cotterell 2025 (arXiv:2504.10637): the mean over responses is unbiased as that of log p(y) - log q(y) is,
    its variance is never larger, and no response's estimate is negative. The sum runs over the tokens of the response,
    EOS included.

    Args:
        subject: p, the causal language model that drew the responses, in evaluation mode.
        reference: q, with the same vocabulary.
        prompts: token ids, at least one each.
        responses: token ids, one response a prompt; an empty one gives 0.
        temperature: the one they were sampled at; the logits of both models are divided by it.
        batch_size: sequences a forward pass, at most; fewer where the vocabulary is large.

    Raises:
        ValueError: a prompt is empty, or there are not as many responses.
    """
    pairs = list(zip(prompts, responses, strict=True))
    totals = torch.zeros(len(pairs), dtype=torch.float64)
    room = max(1, LARGEST_LOGITS // int(subject.config.get_text_config().vocab_size))
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]) + len(pairs[index][1]))

    def measure(chosen: Sequence[int]) -> None:
        ids = padded([[*pairs[index][0], *pairs[index][1]] for index in chosen], with_value=0).to(subject.device)
        heads, tails = (torch.tensor([len(pairs[index][part]) for index in chosen], device=ids.device) for part in (0, 1))
        found = torch.zeros(len(chosen), dtype=torch.float64)
        # one response alone may be longer than there is room for: its positions then take several passes
        for places in torch.split(is_predicting(heads, tails, time=ids.shape[1]).nonzero(), room):
            logits = [logits_at(model, ids, places) for model in (subject, reference)]
            of_token = stepwise_kl(*logits, temperature=temperature).double().cpu()
            found.index_add_(0, places[:, 0].cpu(), of_token)
        totals[list(chosen)] = found

    for batch in _batches(order, [len(tail) for _, tail in pairs], most=batch_size, room=room):
        in_parts("reading responses", batch, len(batch), measure)
    return totals


def _batches(order: Sequence[int], lengths: Sequence[int], *, most: int, room: int) -> Iterator[list[int]]:
    """Yield up to `most` sequences at a time whose responses have no more than `room` tokens together, or one alone."""
    batch: list[int] = []
    tokens = 0
    for index in order:
        if batch and (len(batch) == most or tokens + lengths[index] > room):
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch
