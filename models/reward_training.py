"""How a reward model's network learns from labels: groups of pairs, their loss, and an optimiser's steps."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.processes import processes, rank, sum_gradients, summed
from models.reward import token_scores, tokens_read
from models.sharding import is_sharded, shard
from posttrain.ops.device_rows import SHARED, with_rows
from posttrain.ops.losses import bradley_terry_loss
from posttrain.settings.reward_model import RewardModelSettings


@dataclass(frozen=True)
class Group:
    """All labels of one prompt, which share a batch, and its responses, each of which goes through the network once.

    Attributes:
        responses: token ids of prompt, response and EOS.
        pairs: (place of the first, place of the second, probability that the first is better, margin).
    """

    responses: Sequence[Sequence[int]]
    pairs: Sequence[tuple[int, int, float, float]]


@dataclass(frozen=True)
class RewardStep:
    """One optimiser step.

    Attributes:
        step: its number, from 1.
        loss: of the scores, nats a label, each weighted as in training; the loss of the tokens' mean is not in it.
        accuracy: share of the labels that the scores agree with, before the step.
        learning_rate: of the step.
        tokens: that went through the network.
    """

    step: int
    loss: float
    accuracy: float
    learning_rate: float
    tokens: int


def steps_of(settings: RewardModelSettings, *, groups: int) -> int:
    """Return the optimiser steps that a member's training takes."""
    return min(settings.max_steps, math.ceil(math.ceil(groups / settings.batch_size) * settings.epochs))


def train_reward_network(
    network: Any, groups: Sequence[Group], settings: RewardModelSettings, *, seed: int, autocast: bool = False
) -> Iterator[RewardStep]:
    """Train a network in place, one step a yield: AdamW, a rate that rises and then falls linearly, gradients of norm 1.

        L = BT(score at the last token) + w · BT(mean score of the tokens from the first that differs),   w = `token_weight`

    BT is the mean of `bradley_terry_loss` over a step's prompts, each with the mean over its own labels, as eq. 1 of
    arXiv:2203.02155 divides by K choose 2; with `mean_over` "labels" it is the mean over all of a step's labels. How the prompts
    are split among the device's parts decides nothing.
    The second term says at which token a response goes wrong, which the last token alone tells in many more labels.

    Args:
        network: as `reward_network` gives it, or sharded (`shard_reward_network`).
        groups: the prompts to learn from.
        settings: passes, prompts a step, rate.
        seed: of the order of prompts.
        autocast: whether the passes through the network are in bfloat16 (weights and scores stay as they are).
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    is_whole = not is_sharded(network)
    steps = steps_of(settings, groups=len(groups))
    rising = max(1.0, settings.warmup_ratio * steps)
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, betas=(0.9, settings.adam_beta2), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min((step + 1) / rising, 1 - step / steps))
    batches = _batches(len(groups), settings.batch_size, seed=seed)
    for step in range(1, steps + 1):
        batch = [groups[place] for place in next(batches)]
        optimiser.zero_grad(set_to_none=True)
        loss, hits, tokens = with_rows(
            "training",
            min(settings.device_batch_size, sum(len(group.responses) for group in batch)),
            partial(_gradients, network, batch, settings, autocast=autocast),
            undo=partial(optimiser.zero_grad, set_to_none=True),
            fixed=SHARED if processes() > 1 else "",
        )
        told = torch.tensor([loss, hits, tokens], dtype=torch.float64, device=network.device)
        loss, hits, tokens = summed(told).tolist()
        if is_whole:  # parts have their sum already
            sum_gradients(weights)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        rate = float(schedule.get_last_lr()[0])
        schedule.step()
        yield RewardStep(step, loss, hits, rate, int(tokens))


def shard_reward_network(network: Any, *, products: torch.dtype | None = None) -> None:
    """Let each process keep its part of a network's weights: of the trunk's blocks, of the trunk, and of the head.

    Scores of tokens ask trunk and head, and not the network, so each of the two is gathered by itself.
    """
    whole = network.get_base_model() if hasattr(network, "get_base_model") else network
    shard(whole.base_model, products=products)
    shard(network.score)


def _gradients(
    network: Any, batch: Sequence[Group], settings: RewardModelSettings, rows: int, *, autocast: bool
) -> tuple[float, float, float]:
    """Add this process's part of a step's gradients; return its part of the loss, of the share ranked right, of the tokens."""
    labels = sum(len(group.pairs) for group in batch)
    loss = hits = tokens = 0.0
    # what sums the gradients of a sharded network takes their mean over the processes
    together = processes() if is_sharded(network) else 1
    for part, counts in _passes(batch, rows, is_equal=is_sharded(network)):
        with torch.autocast(network.device.type, torch.bfloat16) if autocast else nullcontext():
            responses = [group.responses for group in part]
            scores, ends = token_scores(network, responses)
            tokens += counts * tokens_read(network, responses)
        pairs = _Pairs.of(part, margin_weight=settings.margin_weight, on=scores.device)
        difference = pairs.last(scores, ends)
        share = counts * (pairs.weights / len(batch) if settings.mean_over == "prompts" else 1 / labels)
        own = (share * pairs.losses(difference)).sum()
        second = (share * pairs.losses(pairs.mean(scores, ends))).sum()
        (together * (own + settings.token_weight * second)).backward()  # type: ignore[no-untyped-call]
        loss += own.item()
        hits += counts * pairs.hits(difference) / labels
    return loss, hits, tokens


def _passes(batch: Sequence[Group], rows: int, *, is_equal: bool) -> Iterator[tuple[Sequence[Group], float]]:
    """Yield what this process takes through the network at a time, and what that counts: 1, or 0 for what fills up.

    Args:
        batch: the groups of a step, of which each process takes its part.
        rows: responses at a time, at most.
        is_equal: whether every process must make as many passes as any other, since they gather weights together.
    """
    parts = [list(_parts(batch[one :: processes()], most=rows)) for one in range(processes())]
    mine = parts[rank()]
    yield from ((part, 1.0) for part in mine)
    if is_equal:
        yield from ((batch[:1], 0.0) for _ in range(max(map(len, parts)) - len(mine)))


@dataclass(frozen=True)
class _Pairs:
    """The labels of some groups, flat; each (labels,).

    Attributes:
        sides: place of the first response among those of all groups, and of the second.
        shared: tokens that both begin with, the prompt's among them, fewer than either has.
        preference: probability that the first is better.
        margin: difference of scores asked for.
        weights: 1 over the number of labels of the label's prompt.
    """

    sides: tuple[Tensor, Tensor]
    shared: Tensor
    preference: Tensor
    margin: Tensor
    weights: Tensor

    @classmethod
    def of(cls, groups: Sequence[Group], *, margin_weight: float, on: torch.device) -> "_Pairs":
        rows, before = [], 0
        for group in groups:
            for one, other, preference, margin in group.pairs:
                shared = _shared(group.responses[one], group.responses[other])
                rows.append((before + one, before + other, shared, preference, margin, 1 / len(group.pairs)))
            before += len(group.responses)
        first, second, common, told, asked, weights = (torch.tensor(column, device=on) for column in zip(*rows, strict=True))
        return cls(sides=(first, second), shared=common, preference=told, margin=margin_weight * asked, weights=weights)

    def last(self, scores: Tensor, ends: Tensor) -> Tensor:
        """Return the difference of the scores at the last token."""
        first, second = (scores[ends[side] - 1] for side in self.sides)
        return first - second

    def mean(self, scores: Tensor, ends: Tensor) -> Tensor:
        """Return the difference of the mean scores of the tokens that are not shared."""
        until = torch.cat([scores.new_zeros(1), scores]).double().cumsum(0)  # before each token; rounding grows with the batch
        begins = torch.cat([ends.new_zeros(1), ends[:-1]])
        first, second = (
            (until[ends[side]] - until[begins[side] + self.shared]) / (ends[side] - begins[side] - self.shared)
            for side in self.sides
        )
        return (first - second).to(scores.dtype)

    def losses(self, difference: Tensor) -> Tensor:
        return bradley_terry_loss(difference, self.preference, self.margin)

    def hits(self, difference: Tensor) -> float:
        """Return how many labels a difference agrees with; where either says that both are equal, half of one."""
        return float(((difference.detach().sign() * (self.preference - 0.5).sign() + 1) / 2).sum())


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens both begin with, at least one of either left out."""
    most = min(len(one), len(other)) - 1
    return next((place for place in range(most) if one[place] != other[place]), most)


def _parts(batch: Sequence[Group], *, most: int) -> Iterator[list[Group]]:
    """Yield whole groups of at most `most` responses together; a group of more is a part of its own."""
    part: list[Group] = []
    for group in batch:
        if part and sum(len(one.responses) for one in part) + len(group.responses) > most:
            yield part
            part = []
        part.append(group)
    if part:
        yield part


def _batches(groups: int, size: int, *, seed: int) -> Iterator[list[int]]:
    """Yield places of groups without end, each once a pass."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(groups, generator=generator).tolist()
        yield from (order[start : start + size] for start in range(0, groups, size))
