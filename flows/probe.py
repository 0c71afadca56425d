"""What a pipeline would do, found by walking its stages without running one: their keys, and which are there already.

The walk is the pipeline's own (`run_stages`), so it also refuses what the pipeline would refuse before it trains: a reward that
is none, data without a role that the method needs. A stage that is not there is stood in for by its key, so that what hangs on it
has a key as well: not the final one, but one that two pipelines share exactly where they will share the stage.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.bases import find_base, find_judge
from flows.feedback import people_of
from flows.judging import is_judged
from flows.pipeline import run_stages
from flows.run import Done, Run, StageCall
from posttrain.settings.config import Config
from tasks.data.dvc import DatasetVersion
from tasks.workspace.artifacts import Artifact, find, glance
from tasks.workspace.keys import source_digest
from tasks.workspace.paths import Paths


@dataclass(frozen=True)
class ProbedStage:
    """One stage of a pipeline.

    Attributes:
        name: of the stage.
        key: the final one where all before it are there; else one that is equal wherever the final ones will be.
        settings: that enter its key, by dotted name.
        artifact: None where it is not there, or damaged.
        inputs: digests that enter its key, by the name of the argument.
        compute: its function, as `module:function`.
    """

    name: str
    key: str
    settings: Mapping[str, Any]
    artifact: Artifact | None
    inputs: Mapping[str, str] = field(default_factory=dict)
    compute: str = ""


@dataclass(frozen=True)
class Probed:
    """The stages of a pipeline, in order.

    Attributes:
        stages: all of them; fewer where `is_whole` is false.
        is_whole: the walk came to its end. It does not where rows of the data cannot be read before the gate has put them aside.
    """

    stages: tuple[ProbedStage, ...]
    is_whole: bool = True

    @property
    def missing(self) -> tuple[ProbedStage, ...]:
        """Return the stages that would run."""
        return tuple(stage for stage in self.stages if stage.artifact is None)

    @property
    def is_cached(self) -> bool:
        """Return whether nothing would run."""
        return self.is_whole and not self.missing


@dataclass
class _Walk(Run):
    """A pipeline whose stages are looked up and never run."""

    find_stage: Callable[[str, str], Artifact | None] = lambda stage, key: None
    raw_data: Path = Path()
    stages: list[ProbedStage] = field(default_factory=list)

    def obtain(self, call: StageCall) -> Done:
        """Return the stage that is there, else one that stands in for it."""
        found = self.find_stage(call.name, call.key)
        inputs = call.inputs
        self.stages.append(ProbedStage(call.name, call.key, inputs.settings, found, inputs=inputs.digests, compute=call.compute))
        return Done(name=call.name, artifact=found or self._stand_in(call.name, call.key), cached=True, run_id="")

    def keep_metrics(self, metrics: Mapping[str, float]) -> None:
        """Keep nothing: nothing was measured."""

    def _stand_in(self, name: str, key: str) -> Artifact:
        return Artifact(
            stage=name,
            key=key,
            folder=str(self.raw_data),  # read before training: the dataset's rows, by what follows the gate
            seconds=0.0,
            metrics={"context": float(self.config.model.context)},
            costs={},
            digest=f"to come: {key}",
        )


class Prober:
    """Probes pipelines on one version of a dataset; the files of a stage are checked once, however many pipelines share it.

    Attributes:
        paths: of the repository.
        data: the dataset.
        ledger: opened where `ppo.reward` names a registered model; a function, since that costs a second.
        is_glance: large files of a stage are looked for and not read (`tasks.workspace.artifacts.glance`).
    """

    def __init__(self, paths: Paths, data: DatasetVersion, *, ledger: Callable[[], Any], is_glance: bool = False) -> None:
        self.paths = paths
        self.data = data
        self.ledger = ledger
        self.is_glance = is_glance
        self._source = cache(source_digest)  # our code as it is now: pipelines share most of it
        self._known: dict[tuple[str, str], Artifact] = {}

    def probe(self, config: Config) -> Probed:
        """Return what a pipeline would do.

        Raises:
            PosttrainError: the pipeline would refuse before it trains.
        """
        # settings of a job that were made for this: nobody has looked for its base yet
        find_base(self.paths, config.model)
        if is_judged(config):
            find_judge(self.paths, config.judge)
        walk = _Walk(
            paths=self.paths,
            config=config,
            ledger=_Late(self.ledger),  # type: ignore[arg-type]
            parent="",
            say=lambda line: None,
            find_stage=self._find,
            source=self._source,
            raw_data=self.data.folder,
            people=people_of(config, self.paths, self.data),
        )
        try:
            run_stages(walk, self.data)
        except ValidationError:  # a row that the gate will put aside, or stop at: it says so itself
            return Probed(tuple(walk.stages), is_whole=False)
        return Probed(tuple(walk.stages))

    def _find(self, stage: str, key: str) -> Artifact | None:
        if (stage, key) not in self._known:
            found = glance(self.paths, stage, key) if self.is_glance else find(self.paths, stage, key)[0]
            if found is None:
                return None
            self._known[stage, key] = found
        return self._known[stage, key]


class _Late:
    """The ledger, opened when something of it is asked for."""

    def __init__(self, opened: Callable[[], Any]) -> None:
        self._opened = opened

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened(), name)
