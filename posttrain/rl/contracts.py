"""What must hold while PPO trains, and which of the usual faults it is when it does not."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posttrain.errors import ContractError
from posttrain.settings.ppo import PPOSettings


def check_first_ratio(difference: Tensor, *, tolerance: float, explain: Callable[[], str], mean_tolerance: float = 0.0) -> None:
    """Refuse to train on episodes that the policy did not sample: before the first step every ratio is 1 (arXiv:2403.17031).

    Args:
        difference: log-probability in training minus that in sampling, of each response token; (tokens,), nats.
        tolerance: largest absolute difference, nats.
        explain: says what differs; called only when something does.
        mean_tolerance: largest mean of absolute differences that passes all the same, nats: where both were computed by the
            network in training, in bfloat16, the same tokens round differently in another batch.

    Raises:
        ContractError: a difference is larger, or not a number.
    """
    worst = difference.abs().max().item() if difference.numel() else 0.0
    if not worst <= tolerance and not (mean_tolerance and difference.abs().mean().item() <= mean_tolerance):
        raise ContractError(
            f"PPO's first mini-batch must have a ratio of 1: log-probabilities in training and in sampling differ by up to "
            f"{worst:.3g} nats, allowed are {tolerance:g} (ppo.ratio_tolerance). {explain()}"
        )


def check_sampler(difference: Tensor, settings: PPOSettings) -> None:
    """Refuse episodes of another distribution where old log-probabilities are computed again, so that no ratio can tell.

    The mean of absolute differences may be `ppo.sampler_tolerance`, well above what rounding in bfloat16 gives; but no more than
    `ppo.ratio_tolerance` where another engine than the policy drew, and nothing corrects for that.

    Args:
        difference: log-probability computed again minus the sampler's own, of each response token; (tokens,), nats.
        settings: say what is allowed, which engine drew, and whether it is corrected for.

    Raises:
        ContractError: the mean is larger, or not a number.
    """
    mean = difference.abs().mean().item() if difference.numel() else 0.0
    says = f"the sampler's log-probabilities differ from the policy's own by {mean:.3g} nats a token on average"
    if not mean <= settings.sampler_tolerance:
        raise ContractError(
            f"{says}, allowed are {settings.sampler_tolerance:g} (ppo.sampler_tolerance): it draws from another distribution "
            "(temperature, top-k, other weights)"
        )
    if not (settings.samples_itself or settings.sampler_correction or mean <= settings.ratio_tolerance):
        raise ContractError(
            f"{says}, and uncorrected {settings.ratio_tolerance:g} are allowed (ppo.ratio_tolerance): "
            f"ppo.engine={settings.engine} is another distribution than the policy. Correct for it "
            "(ppo.sampler_correction=true), or say ppo.engine=transformers"
        )


@dataclass(frozen=True)
class Recomputed:
    """The sampled tokens' log-probabilities computed again in other ways, to find what differs; each (tokens,), nats.

    Attributes:
        sampled: as the sampler gave them.
        trained: as training computes them.
        trained_again: the same, once more.
        one_by_one: one sequence at a time, without any padding.
        at_temperature_1: with undivided logits.
    """

    sampled: Tensor
    trained: Tensor
    trained_again: Tensor
    one_by_one: Tensor
    at_temperature_1: Tensor


def explained(found: Recomputed, network: nn.Module, *, temperature: float, tolerance: float, rounding: float = 0.0) -> str:
    """Say which of dropout, padding, temperature, rounding or template makes training and sampling disagree.

    Args:
        found: the log-probabilities that are compared.
        network: in training.
        temperature: of sampling, as the settings have it.
        tolerance: up to which two log-probabilities agree, nats.
        rounding: mean of absolute differences that bfloat16 explains, nats; 0 where products are in float32.
    """

    def agree(left: Tensor, right: Tensor) -> bool:
        return bool((left - right).abs().max() <= tolerance)

    active = [name for name, module in network.named_modules() if isinstance(module, nn.Dropout) and module.p and module.training]
    if active or not agree(found.trained, found.trained_again):
        where = f" ({active[0]} has p > 0)" if active else ""
        return (
            f"Dropout is the cause{where}: the same batch gives other figures each time. Turn it off in the model's configuration"
        )
    if agree(found.one_by_one, found.sampled):
        return "Padding is the cause: each sequence by itself agrees. The model reads padding, or positions are counted from it"
    if agree(found.at_temperature_1, found.sampled):
        return (
            f"Temperature is the cause: sampling used undivided logits, training divides them by ppo.temperature={temperature:g}"
        )
    if rounding and (mean := (found.trained - found.sampled).abs().mean().item()) <= rounding:
        return (
            f"Rounding is the cause: products are in bfloat16, where sampling and training round differently, here by {mean:.2g} "
            "nats a token on average. Say ppo.old_logprobs=auto, which computes log-probabilities again in bfloat16, or "
            "model.dtype=float32"
        )
    return (
        "Neither dropout, padding nor temperature explains it: prompt or response were not the tokens that were sampled "
        "(another chat template or tokenizer), or the sampler changed the distribution (top-k, top-p, penalties)"
    )


def check_kl(kl: Tensor) -> None:
    """Refuse a KL that cannot be one: not finite, or negative beyond what chance explains.

    Args:
        kl: k1 estimate of each response from the reference, (batch,), nats; its expectation is at least 0.

    Raises:
        ContractError: one is not finite, or the mean lies more than 5 standard errors below 0.
    """
    if not torch.isfinite(kl).all():
        raise ContractError(
            "the KL from the reference is not finite: a log-probability is -inf or NaN. Lower ppo.learning_rate, or check the "
            "model's weights"
        )
    if len(kl) > 1:
        mean, error = kl.mean().item(), (kl.std() / len(kl) ** 0.5).item()
        if mean < -5 * error - 1e-4:
            raise ContractError(
                f"the mean KL from the reference is {mean:.3g} nats with a standard error of {error:.2g}: further below 0 than "
                "chance explains, and no KL is negative: the responses were not sampled from the policy's own distribution "
                "(temperature, top-k, top-p)"
            )


@dataclass(frozen=True)
class Health:
    """One update's training signals, by which a collapse is seen; nothing held out is among them.

    Attributes:
        reward: mean score.
        reward_deviation: standard deviation of the scores.
        entropy: mean of a token, nats.
        response_tokens: mean length.
        finished: share that ended with EOS.
        reward_error: standard error of the mean score, prompts being the draws.
    """

    reward: float
    reward_deviation: float
    entropy: float
    response_tokens: float
    finished: float
    reward_error: float = 0.0  # a checkpoint of an earlier version has none


def error_of_mean(score: Tensor, *, num_generations: int) -> float:
    """Return the standard error of a mean score, prompts being the draws; infinite where there is one prompt.

    Args:
        score: (responses,), those to one prompt one after the other.
        num_generations: responses to a prompt.
    """
    means = score.view(-1, num_generations).mean(dim=1)
    return (means.std() / len(means) ** 0.5).item() if len(means) > 1 else math.inf


CERTAIN = 3.0
"""Standard errors by which a reward must have fallen, too. By chance it does in one of 700 looks where prompts are many, and in
one of 100 where an update asks 8, by Student's t with 7 degrees of freedom."""


def collapse(history: Sequence[Health], *, patience: int, max_length_growth: float, min_finished: float) -> str | None:
    """Return what has collapsed over the last `patience` updates, compared with the first one, or None.

    A reward has collapsed when it lies half a standard deviation of the first update's scores below their mean, and further than
    chance explains: of a few responses to a few prompts the mean falls as far with nothing amiss. A policy has collapsed when
    its entropy is next to nothing and the reward no better than at the start; lengths when they grew `max_length_growth`-fold;
    stopping when the share finished is below `min_finished` of the first update's.

    Args:
        history: of every update so far.
        patience: updates that are averaged; none is judged before there are as many after the first.
        max_length_growth: factor.
        min_finished: share of the first update's share.
    """
    if len(history) <= patience:
        return None
    first, last = history[0], history[-patience:]
    reward, entropy, tokens, finished = (
        sum(getattr(one, name) for one in last) / patience for name in ("reward", "entropy", "response_tokens", "finished")
    )
    noise = math.hypot(first.reward_error, *(one.reward_error / patience for one in last))
    if first.reward - reward > max(first.reward_deviation / 2, CERTAIN * noise) and first.reward_deviation > 0:
        return f"the reward fell from {first.reward:.3g} to {reward:.3g}"
    if entropy < 1e-4 and reward <= first.reward:
        return f"the entropy fell to {entropy:.2g} nats a token with the reward no better than at the start ({reward:.3g})"
    if tokens > max_length_growth * first.response_tokens:
        return f"responses grew from {first.response_tokens:.1f} to {tokens:.1f} tokens"
    if finished < min_finished * first.finished:
        return f"responses that end with EOS fell from {first.finished:.0%} to {finished:.0%}"
    return None


class Signal:
    """Whether a reward tells two responses to one question apart, without which there is nothing for PPO to learn.

    A reward that is the same for all responses, or depends on the question alone, leaves advantages that are the critic's errors:
    the policy drifts, and no other contract can see it. The first two different responses to one question with different scores
    are a signal, and end the watch.

    Args:
        patience: updates without a signal before a run is refused.
        state: of an earlier watch, as `state` gives it; None to begin.
        enough: comparisons within questions after which a reward that varies between questions only is refused.
    """

    def __init__(self, *, patience: int, enough: int = 64, state: Mapping[str, Any] | None = None) -> None:
        self._patience, self._enough = patience, enough
        before = state or {"updates": 0, "compared": 0, "responses": 0, "range": (math.inf, -math.inf), "is_there": False}
        self._first: dict[int, tuple[int, float]] = dict(before.get("first", {}))
        self._updates, self._compared, self._responses = before["updates"], before["compared"], before["responses"]
        self._lowest, self._highest = before["range"]
        self.is_there: bool = before["is_there"]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, of plain numbers."""
        return {
            "updates": self._updates,
            "compared": self._compared,
            "responses": self._responses,
            "range": (self._lowest, self._highest),
            "is_there": self.is_there,
            "first": {} if self.is_there else dict(self._first),
        }

    def see(self, questions: Sequence[int], responses: Sequence[Sequence[int]], scores: Sequence[float]) -> None:
        """Take in an update's responses, as token ids, with their scores; each of (episodes,)."""
        self._updates += 1
        for question, response, score in zip(questions, responses, scores, strict=True):
            if self.is_there:
                return
            self._responses += 1
            self._lowest, self._highest = min(self._lowest, score), max(self._highest, score)
            ids = hash(tuple(response))
            other, its_score = self._first.setdefault(question, (ids, score))
            if other != ids:
                self._compared += 1
                self.is_there = not math.isclose(score, its_score, rel_tol=1e-6, abs_tol=1e-9)

    def missing(self) -> str | None:
        """Return what speaks against any signal, or None where there is one or it is too early to tell."""
        if self.is_there or self._updates < self._patience:
            return None
        if math.isclose(self._lowest, self._highest, rel_tol=1e-6, abs_tol=1e-9):
            return f"all {self._responses:,} responses of {self._updates} updates have one and the same score, {self._lowest:g}"
        if self._compared >= self._enough:
            return (
                f"of {self._compared:,} pairs of different responses to one question not one has two different scores: the "
                "reward depends on the question alone"
            )
        return None
