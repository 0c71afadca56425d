"""What a pipeline's stages gave, as its end reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.feedback import Feedback
from tasks.rewards.interface import RewardSource
from tasks.workspace.artifacts import Artifact


@dataclass(frozen=True)
class Outcomes:
    """What a pipeline's stages gave.

    Attributes:
        models: by name, in the order in which they were made.
        results: evaluations, by model.
        feedback: what came between SFT and PPO or DPO.
        reward: what the method was rewarded by; None without one.
        audit: of what PPO was rewarded by; None without PPO.
        verdicts: what a judge made of held-out answers, by model; empty where `evaluate.judge` does not ask for it.
        elsewhere: what tasks of lm-evaluation-harness say, by model; empty where `evaluate.tasks` names none.
    """

    models: Mapping[str, Artifact]
    results: Mapping[str, Artifact]
    feedback: Feedback
    reward: RewardSource | None
    audit: Artifact | None
    verdicts: Mapping[str, Artifact] = field(default_factory=dict)
    elsewhere: Mapping[str, Artifact] = field(default_factory=dict)
