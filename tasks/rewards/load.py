"""Reward functions made of what `ppo.reward` names: graders, models, judges, Python functions; with a time limit."""

import threading
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.load import device, load_tokenizer
from models.reward import load_reward_model, score_texts
from posttrain.compute import Compute
from posttrain.errors import ContractError, RequestError
from posttrain.graders import Grader, Sample, build_grader
from posttrain.rl.rewards import RewardFunction, Rewards, named, rewarded
from tasks.rewards.table import RewardSource, imported

BATCH = 64
"""Texts that a reward model reads at once."""


def reward_function(source: RewardSource) -> RewardFunction:
    """Return what scores responses.

    Raises:
        RequestError: it cannot be loaded.
    """
    if source.kind == "grader":
        return graded(build_grader(source.spec))
    if source.kind == "model":
        return scored_by(*reward_members(source))
    if source.kind == "judge":
        from tasks.judges.judge import judge_reward

        return judge_reward(**source.judge)
    return imported(source)


def graded(grader: Grader) -> RewardFunction:
    """Return a grader as a reward: parts `right` and `partial` are shares of responses, reasons say what was compared."""

    def reward(prompts: Sequence[str], completions: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Rewards:
        grades = grader.grade([Sample(completion, record) for completion, record in zip(completions, records, strict=True)])
        names = dict.fromkeys(name for grade in grades for name in grade.parts)
        return Rewards(
            values=[grade.score for grade in grades],
            parts={
                "right": [float(grade.is_right) for grade in grades],
                "partial": [float(grade.is_partial) for grade in grades],
                **{name: [grade.parts.get(name, 0.0) for grade in grades] for name in names},
            },
            reasons=[grade.reason for grade in grades],
        )

    return reward


def reward_members(source: RewardSource) -> tuple[list[PreTrainedModel], PreTrainedTokenizerBase]:
    """Return the models of a reward model, one or an ensemble's, and their tokenizer.

    Raises:
        RequestError: it cannot be loaded.
    """
    try:
        members = load_reward_model(source.path, on=device())
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RequestError(f"ppo.reward={source.name}: it cannot be loaded: {str(error).strip().partition(chr(10))[0]}") from None
    return members, load_tokenizer(source.path, setting="ppo.reward")


def scored_by(members: Sequence[PreTrainedModel], tokenizer: PreTrainedTokenizerBase) -> RewardFunction:
    """Return the mean score of prompt, completion and EOS, each member's centre taken off, as a reward."""

    def reward(prompts: Sequence[str], completions: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Rewards:
        texts = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        spent: list[Compute] = []
        values = score_texts(members, tokenizer, texts, batch_size=BATCH, spent=spent.append)
        return Rewards(values=values, compute=reduce(Compute.plus, spent, Compute()))

    return reward


def within(
    seconds: float | None,
    function: RewardFunction,
    name: str,
    prompts: Sequence[str],
    completions: Sequence[str],
    records: Sequence[Mapping[str, Any]],
) -> Rewards:
    """Return the rewards of a batch, or stop the run where they take longer than `seconds`; None: they may take their time.

    The reward runs in a thread of its own, which is left behind when it hangs: Python cannot end one, but the process can go.

    Raises:
        ContractError: it takes too long, raises, or returns what is no reward.
    """
    told: list[Rewards | BaseException] = []

    def work() -> None:
        try:
            told.append(rewarded(function, name, prompts, completions, records))
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=work, name=f"reward {name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if not told:
        raise ContractError(
            f"the reward {name} took longer than {seconds:g} s (ppo.reward_seconds) for {len(records)} responses, the first to "
            f"{named(records[0])}. Mend it, or raise ppo.reward_seconds"
        )
    if isinstance(told[0], BaseException):
        raise told[0]
    return told[0]
