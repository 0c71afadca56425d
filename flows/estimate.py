"""What a job will take, from what its stages took before in this store."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flows.probe import ProbedStage
from tasks.workspace.artifacts import made_before, most_like
from tasks.workspace.paths import Paths

COSTS = ("generated_tokens", "trained_tokens", "labels")


@dataclass(frozen=True)
class Estimate:
    """Of some stages together.

    Attributes:
        seconds: that those took which have been made before.
        costs: of the same, those in `COSTS`.
        unknown: names of the stages of which this store has none.
    """

    seconds: float
    costs: Mapping[str, float]
    unknown: tuple[str, ...]


class Earlier:
    """Stages that this store has made, looked up by how alike their settings are."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._made: dict[str, list[dict[str, Any]]] = {}
        self._found: dict[str, dict[str, Any] | None] = {}

    def refresh(self) -> None:
        """Look again: stages have been made since."""
        self._made.clear()
        self._found = {key: facts for key, facts in self._found.items() if facts is not None}

    def like(self, stage: ProbedStage) -> dict[str, Any] | None:
        """Return what `stage.json` says of the stage that is most like this one; None where there is none of its name."""
        if stage.key not in self._found:
            if stage.name not in self._made:
                self._made[stage.name] = made_before(self._paths, stage.name)
            self._found[stage.key] = most_like(self._made[stage.name], stage.settings)
        return self._found[stage.key]

    def seconds(self, stages: Iterable[ProbedStage]) -> dict[str, float]:
        """Return what stages took before, by key; those that are new are left out."""
        return {stage.key: float(facts["seconds"]) for stage in stages if (facts := self.like(stage))}

    def estimate(self, stages: Iterable[ProbedStage]) -> Estimate:
        """Return what stages will take together."""
        seconds, unknown = 0.0, []
        costs = dict.fromkeys(COSTS, 0.0)
        for stage in stages:
            facts = self.like(stage)
            if facts is None:
                unknown.append(stage.name)
                continue
            seconds += float(facts["seconds"])
            for name in COSTS:
                costs[name] += float(facts["costs"].get(name) or 0.0)
        return Estimate(seconds=seconds, costs=costs, unknown=tuple(dict.fromkeys(unknown)))
