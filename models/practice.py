"""How the tiny base practises what its default judge is asked: language modelling with most of the weight on verdicts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from models.tiny import like_length_batches, padded
from posttrain.ops.losses import weighted_next_token_loss

VERDICT_WEIGHT = 30.0
"""Weight of a verdict's token beside 1 of any other: of the 90 tokens of a review four are verdicts, and reading alone learns
them last."""
PEAK_RATE = 2e-3
BATCH_TOKENS = 2_048


@dataclass(frozen=True)
class PracticeStep:
    """One optimiser step: its weighted loss in nats a token, its learning rate, and the tokens it was trained on."""

    step: int
    loss: float
    learning_rate: float
    tokens: int


def practise(
    model: PreTrainedModel, documents: Sequence[Sequence[int]], *, verdicts: Sequence[int], steps: int, seed: int, pad: int
) -> Iterator[PracticeStep]:
    """Train `model` in place on reviews, one step a yield: AdamW on a one-cycle schedule (arXiv:1708.07120).

    Args:
        model: on the device where it is to train.
        documents: token ids of each review, EOS included.
        verdicts: ids of the tokens that are verdicts.
        steps: of the optimiser.
        seed: of the order of documents.
        pad: id of the padding token.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=PEAK_RATE, total_steps=steps + 1)
    batches = like_length_batches(documents, tokens=BATCH_TOKENS, seed=seed)
    wanted = torch.tensor(verdicts, device=model.device)
    model.train()
    for step in range(1, steps + 1):
        ids, is_token = padded([documents[index] for index in next(batches)], pad=pad, device=model.device)
        weight = is_token * torch.where(torch.isin(ids, wanted), VERDICT_WEIGHT, 1.0)
        loss = weighted_next_token_loss(model(input_ids=ids, attention_mask=is_token.long()).logits, ids, weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        yield PracticeStep(step, loss.item(), float(schedule.get_last_lr()[0]), int(is_token.sum()))
    model.eval()
