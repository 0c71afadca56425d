"""A grader as a reward: a program that checks the final answer, or whatever a JSON file of settings describes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from posttrain.errors import RequestError
from posttrain.graders import Grader, Sample, build_grader
from posttrain.graders.build import BUILT_IN
from tasks.rewards.interface import Naming, RewardSource

if TYPE_CHECKING:
    from posttrain.rl.rewards import RewardFunction


@dataclass(frozen=True)
class GraderReward(RewardSource):
    """A grader, built in or of a JSON file.

    Attributes:
        spec: its settings (docs/graders.md).
    """

    kind: ClassVar[str] = "grader"
    is_checkable_by_program: ClassVar[bool] = True

    spec: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def named(cls, name: str, how: Naming) -> Self:
        """Return a built-in grader, or the one that a JSON file describes."""
        if name in BUILT_IN:
            spec: dict[str, Any] = {"type": name, "name": name, "partial_credit": how.partial_credit}
        elif name.endswith(".json"):
            spec = read_grader(name, setting="ppo.reward")
        else:
            return super().named(name, how)
        build_grader(spec)
        return cls(name=name, spec=spec)

    @property
    def decides(self) -> Any:
        """Its settings."""
        return dict(self.spec)

    def load(self) -> "RewardFunction":
        """Return the grader as a reward."""
        return graded(build_grader(self.spec))


def read_grader(path: str, *, setting: str) -> dict[str, Any]:
    """Return what a JSON file says of a grader; whether that is one is found out where it is built.

    Args:
        path: of the file.
        setting: what names it, for messages: `GRADER`, `ppo.reward`.

    Raises:
        RequestError: there is no such file, or it holds no JSON object.
    """
    try:
        spec = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{setting}={path}: there is no such file. It holds a grader's settings (docs/graders.md)") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{setting}={path}: the file is no JSON: {' '.join(str(error).split())}. Correct it") from None
    if not isinstance(spec, dict):
        raise RequestError(f"{setting}={path}: a grader is a JSON object with a type, got {type(spec).__name__}: docs/graders.md")
    return spec


def graded(grader: Grader) -> "RewardFunction":
    """Return a grader as a reward: parts `right` and `partial` are shares of responses, reasons say what was compared."""
    from posttrain.rl.rewards import Rewards  # imports torch

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
