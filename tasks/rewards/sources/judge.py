"""An AI judge as a reward of single responses (direct RLAIF)."""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from posttrain.errors import ContractError, RequestError
from posttrain.judges.opinions import Opinion, expected, inquiry, rescaled, shown
from posttrain.records import Message
from posttrain.settings.judge import JudgeSettings
from tasks.judges.load import JudgeSource
from tasks.judges.summary import compute_of
from tasks.rewards.interface import RewardSource

if TYPE_CHECKING:
    from posttrain.rl.rewards import RewardFunction, Rewards


@dataclass(frozen=True)
class JudgeReward(RewardSource):
    """A judge that scores each response.

    Attributes:
        judge: who is asked; the mode is pointwise whatever `judge.mode` says.
    """

    kind: ClassVar[str] = "judge"
    has_own_limits: ClassVar[bool] = True

    judge: JudgeSource

    @classmethod
    def of(cls, judge: JudgeSource) -> "JudgeReward":
        """Return the judge as a reward."""
        return cls(name=f"the judge {judge.settings.model}", judge=replace(judge, mode="pointwise"))

    @property
    def who(self) -> str:
        """What reports call it."""
        return f"the AI judge ({self.judge.settings.model})"

    @property
    def decides(self) -> Any:
        """Who is asked, and how."""
        return self.judge.digest

    def load(self) -> "RewardFunction":
        """Return the judge's scores as a reward."""
        return judge_reward(self.judge)


def judge_reward(source: JudgeSource) -> "RewardFunction":
    """Return the judge as a reward of single responses: its expected score of 1 to 10, rescaled to -1 to 1 (d-RLAIF).

        r = (2 Σ i·P(i) - 11) / 9

    Section 2.2 of arXiv:2309.00267. Parts: `judge_score` (1 to 10), `judge_entropy` (nats), `judge_unreadable` (1 where the
    reply could not be read; the reward is then the mean of the others, which neither pushes nor pulls).

    Args:
        source: who is asked; the mode is pointwise whatever it says.

    Raises:
        RequestError: the template or the judge is none.
    """
    source = replace(source, mode="pointwise")
    template, settings, judge = source.template(), source.settings, source.open()
    scores = list(template.options.values())

    def reward(prompts: Sequence[str], completions: Sequence[str], records: Sequence[Mapping[str, Any]]) -> "Rewards":
        inquiries = [
            inquiry(template, reasoning=settings.reasoning, prompt=_prompt(prompt, record), response=completion)
            for prompt, completion, record in zip(prompts, completions, records, strict=True)
        ]
        before = judge.usage
        opinions = judge.ask(inquiries)
        if any(opinion is None for opinion in opinions):
            raise RequestError(
                f"judge.budget={settings.budget} is spent, and PPO asks the judge about each response: raise it, or learn from a "
                "reward model (rlaif.direct=false)"
            )
        rewards = _rewards([opinion for opinion in opinions if opinion], scores, settings, judge.name)
        return replace(rewards, compute=compute_of(judge, judge.usage.since(before)))

    weakref.finalize(reward, judge.close)
    return reward


def _prompt(prompt: str, record: Mapping[str, Any]) -> str:
    """Return a question as the judge reads it: the record's own, without what a chat template puts around it."""
    told = record.get("prompt", prompt)
    return shown(told if isinstance(told, str) else tuple(Message.model_validate(message) for message in told))


def _rewards(opinions: Sequence[Opinion], scores: Sequence[float], settings: JudgeSettings, name: str) -> "Rewards":
    from posttrain.rl.rewards import Rewards  # imports torch

    given = [expected(opinion.shares, scores) if opinion.shares else None for opinion in opinions]
    read = [score for score in given if score is not None]
    unreadable = len(given) - len(read)
    if not read or unreadable > settings.max_unreadable * len(given):
        raise ContractError(
            f"the judge {name}: {unreadable} of {len(given)} replies are none of the options, allowed are "
            f"{settings.max_unreadable:.1%} (judge.max_unreadable). Correct the template (judge.template), or take another "
            "judge (judge.model)"
        )
    mean = sum(read) / len(read)
    return Rewards(
        values=[rescaled(mean if score is None else score) for score in given],
        parts={
            "judge_score": [mean if score is None else score for score in given],
            "judge_entropy": [opinion.entropy for opinion in opinions],
            "judge_unreadable": [float(score is None) for score in given],
        },
        reasons=[
            "the judge's reply could not be read" if score is None else f"the judge gives {score:.2f} of 10" for score in given
        ],
    )
