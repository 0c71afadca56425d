"""What `ppo.reward` names, checked before anything is trained and without torch, which a cached run does not wait for."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.rewards.interface import Naming, RewardSource
from tasks.rewards.sources.grader import GraderReward
from tasks.rewards.sources.judge import JudgeReward
from tasks.rewards.sources.model import ModelReward
from tasks.rewards.sources.python import PythonReward

KINDS: Mapping[str, type[RewardSource]] = {row.kind: row for row in (GraderReward, ModelReward, JudgeReward, PythonReward)}
"""Every kind of reward, by its name. The judge is the reward of direct RLAIF, and no text of `ppo.reward` names it."""
BY_PREFIX: Mapping[str, type[RewardSource]] = {"model": ModelReward, "python": PythonReward}
"""The kind that `ppo.reward` names, by what stands before the first colon; anything else is a grader."""


def reward_source(name: str, *, partial_credit: float, registered: Callable[[str], Path]) -> RewardSource:
    """Return what a setting names.

    Args:
        name: `ppo.reward`.
        partial_credit: `ppo.partial_credit`.
        registered: returns the folder of a registered model (`tasks.tracking.registry.local_path`).

    Raises:
        RequestError: it names nothing that is there, or nothing that can be used.
    """
    row = BY_PREFIX.get(name.partition(":")[0], GraderReward)
    return row.named(name, Naming(partial_credit=partial_credit, registered=registered))
