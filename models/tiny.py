"""The tiny base: its network, and how it is pretrained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from posttrain.ops.losses import next_token_loss
from posttrain.settings.model import PretrainSettings, TinySettings


def network(settings: TinySettings, *, vocabulary: int, context: int, pad: int, eos: int) -> LlamaForCausalLM:
    """Return a Llama-style network with random weights (seed torch before).

    Weights start with a standard deviation near 1/√width, as width 96 wants; at the usual 0.02 the same steps reached
    0.11 instead of 0.48 (docs/decisions/0003-world.md).
    """
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=settings.width,
            intermediate_size=settings.width * 8 // 3 // 8 * 8,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            pad_token_id=pad,
            eos_token_id=eos,
            bos_token_id=None,
            attention_dropout=0.0,
            initializer_range=0.8 / settings.width**0.5,
        )
    )


@dataclass(frozen=True)
class PretrainStep:
    """One optimiser step: its loss in nats a token, its learning rate, and the tokens it was trained on."""

    step: int
    loss: float
    learning_rate: float
    tokens: int


def pretrain(
    model: LlamaForCausalLM, documents: Sequence[Sequence[int]], settings: PretrainSettings, *, seed: int, pad: int
) -> Iterator[PretrainStep]:
    """Train `model` in place on token ids, one step a yield: AdamW on a one-cycle schedule (arXiv:1708.07120).

    Args:
        model: on the device where it is to train.
        documents: token ids of each document, EOS included.
        settings: steps, tokens a batch, peak learning rate.
        seed: of the order of documents.
        pad: id of the padding token.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.95, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=settings.learning_rate, total_steps=settings.steps + 1)
    batches = like_length_batches(documents, tokens=settings.batch_tokens, seed=seed)
    model.train()
    for step in range(1, settings.steps + 1):
        ids, is_token = padded([documents[index] for index in next(batches)], pad=pad, device=model.device)
        loss = next_token_loss(model(input_ids=ids, attention_mask=is_token.long()).logits, ids, is_token)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        yield PretrainStep(step, loss.item(), float(schedule.get_last_lr()[0]), int(is_token.sum()))
    model.eval()


def padded(sequences: Sequence[Sequence[int]], *, pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids padded on the right, (batch, time) int64, and where a token is, (batch, time) bool."""
    longest = max(len(sequence) for sequence in sequences)
    ids = torch.tensor([[*sequence, *[pad] * (longest - len(sequence))] for sequence in sequences])
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    is_token = torch.arange(longest) < lengths[:, None]
    return ids.to(device), is_token.to(device)


def like_length_batches(documents: Sequence[Sequence[int]], *, tokens: int, seed: int) -> Iterator[list[int]]:
    """Yield indices without end: batches of about `tokens` tokens, padding included, of documents of like length."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(documents), generator=generator).tolist()
        batches: list[list[int]] = []
        for start in range(0, len(order), 4096):
            pool = sorted(order[start : start + 4096], key=lambda index: len(documents[index]))
            batch: list[int] = []
            for index in pool:
                if batch and (len(batch) + 1) * len(documents[index]) > tokens:
                    batches.append(batch)
                    batch = []
                batch.append(index)
            batches.append(batch)
        for index in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[index]
