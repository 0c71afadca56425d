"""What a response is worth: one interface for graders, models, judges and functions, and the shaping that PPO gives it.

A reward function takes prompts, completions and records, lists of one length, and returns `Rewards`, or a plain list of
numbers. Records are the questions as dicts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from posttrain.compute import Compute
from posttrain.errors import ContractError, PosttrainError
from posttrain.finite import is_finite, shown_value


@dataclass(frozen=True)
class Rewards:
    """What a reward function says of a batch.

    Attributes:
        values: a number a response.
        parts: named sub-scores, each a number a response ("format", "answer", …).
        reasons: why, a line a response; empty where the function gives none.
        compute: that the networks took which scored them.
    """

    values: Sequence[float]
    parts: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    compute: Compute = field(default_factory=Compute)


RewardFunction = Callable[[Sequence[str], Sequence[str], Sequence[Mapping[str, Any]]], Rewards | Sequence[float]]


def rewarded(
    function: RewardFunction, name: str, prompts: Sequence[str], completions: Sequence[str], records: Sequence[Mapping[str, Any]]
) -> Rewards:
    """Return the rewards of a batch, checked.

    Args:
        function: see above.
        name: what errors call it.
        prompts: texts.
        completions: texts, as many.
        records: the questions as dicts, as many.

    Raises:
        ContractError: it raises, or what it returns has the wrong length or is not a finite number; the record is named.
    """
    try:
        given = function(prompts, completions, records)
    except PosttrainError:
        raise
    except Exception as error:
        culprit = _first_that_raises(function, prompts, completions, records)
        raise ContractError(
            f"the reward {name} raised {type(error).__name__}: {error}; {culprit}. A reward that breaks stops the run, "
            "as a 0 in its place would be learned from"
        ) from error
    rewards = given if isinstance(given, Rewards) else Rewards(values=_listed(given, name, len(records)))
    for what, values in (("values", rewards.values), *rewards.parts.items()):
        _check(values, records, f"the reward {name}" if what == "values" else f"the part {what} of the reward {name}")
    if rewards.reasons and len(rewards.reasons) != len(records):
        raise ContractError(f"the reward {name} gave {len(rewards.reasons)} reasons for {len(records)} responses")
    return rewards


def _listed(given: Any, name: str, wanted: int) -> Sequence[float]:
    values = given.tolist() if isinstance(given, Tensor) else given
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ContractError(f"the reward {name} must return a list of {wanted} numbers, got {type(given).__name__}")
    return values


def _check(values: Sequence[float], records: Sequence[Mapping[str, Any]], what: str) -> None:
    if len(values) != len(records):
        raise ContractError(f"{what} must be one number a response, {len(records)}, got {len(values)}")
    for value, record in zip(values, records, strict=True):
        if not isinstance(value, (int, float)) or not is_finite(value):
            raise ContractError(f"{what} must be a finite number, got {shown_value(value)} for {named(record)}")


def _first_that_raises(
    function: RewardFunction, prompts: Sequence[str], completions: Sequence[str], records: Sequence[Mapping[str, Any]]
) -> str:
    for prompt, completion, record in zip(prompts, completions, records, strict=True):
        try:
            function([prompt], [completion], [record])
        except Exception:
            return f"the first response it raises for is {completion[:200]!r} to {named(record)}"
    return f"no single one of the {len(records)} responses makes it raise, only the batch that starts with {named(records[0])}"


def named(record: Mapping[str, Any]) -> str:
    """Return what a message calls a record: its id, else its prompt's beginning."""
    return f"record {record['id']}" if "id" in record else f"the record {str(record.get('prompt', record))[:80]!r}"


def eos_shaped(score: Tensor, is_finished: Tensor, *, missing_eos: str, penalty: float) -> Tensor:
    """Return scores under the policy for responses that were cut off before EOS.

    Args:
        score: (batch,).
        is_finished: (batch,), bool.
        missing_eos: `keep` the score; `subtract` the penalty from it; `replace` it by minus the penalty.
        penalty: in units of the reward.

    Raises:
        ValueError: `missing_eos` is none of the three.
    """
    if missing_eos == "keep":
        return score
    if missing_eos == "subtract":
        return torch.where(is_finished, score, score - penalty)
    if missing_eos == "replace":
        return torch.where(is_finished, score, torch.full_like(score, -penalty))
    raise ValueError(f"missing_eos must be keep, subtract or replace, got {missing_eos}")


@dataclass(frozen=True)
class RunningScale:
    """Count, mean and sum of squared deviations of all scores so far (Chan, Golub and LeVeque 1979), to divide scores by.

    Engstrom et al. 2020 (arXiv:2005.12729) found reward scaling among what decides PPO; here it is that of scores, not of
    discounted returns, since a response has one score and gamma 1.
    """

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def with_scores(self, score: Tensor) -> "RunningScale":
        """Return the scale after a batch of scores, (batch,)."""
        values = score.double()
        count, mean = values.numel(), values.mean().item()
        squares = (values - mean).square().sum().item()
        total = self.count + count
        gap = mean - self.mean
        return RunningScale(
            count=total,
            mean=self.mean + gap * count / total,
            squares=self.squares + squares + gap**2 * self.count * count / total,
        )

    @property
    def deviation(self) -> float:
        """Standard deviation so far; 1 where all scores were equal, so that dividing by it changes nothing."""
        deviation = math.sqrt(self.squares / self.count) if self.count else 0.0
        return deviation if deviation > 1e-8 else 1.0


def token_rewards(score: Tensor, response_length: Tensor, *, longest: int) -> Tensor:
    """Return (batch, longest): the score at each response's last token, 0 elsewhere.

    Args:
        score: (batch,).
        response_length: (batch,), int64, at least 1.
        longest: columns.
    """
    rewards = torch.zeros(len(score), longest, dtype=score.dtype, device=score.device)
    rewards[torch.arange(len(score), device=score.device), response_length - 1] = score
    return rewards


def adapted_kl_coef(kl_coef: float, kl: float, *, target: float, horizon: float, episodes: int) -> float:
    """Return the KL coefficient after an update that came out at `kl`.

        e = clip(KL / target - 1, ±0.2),   β ← β (1 + e · episodes / horizon)

    Section 2.2 of Ziegler et al. 2019 (arXiv:1909.08593), with the horizon of its code.

    Args:
        kl_coef: β.
        kl: mean KL of a response from the reference, nats.
        target: the KL aimed at, nats.
        horizon: episodes.
        episodes: of this update.
    """
    error = min(0.2, max(-0.2, kl / target - 1))
    return kl_coef * (1 + error * episodes / horizon)
