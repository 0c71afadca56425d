"""Stages of a command that is no pipeline: the keys and results of a pipeline, without a run in the ledger and without Prefect.

A pipeline that comes to such a stage finds it made, and records it among its own.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.plan import Plan
from flows.run import Done, Run, Say, StageCall
from posttrain.settings.config import Config
from tasks.workspace.artifacts import Log, Outcome, find, make
from tasks.workspace.paths import Paths


@dataclass
class Alone(Run):
    """Runs stages in order and remembers what they gave; made by `alone`."""

    def obtain(self, call: StageCall) -> Done:
        """Take a stage that is there, or compute it; nothing of it is written into the ledger.

        Raises:
            TypeError: the stage keeps checkpoints, which only a pipeline's do.
        """
        if call.resumable:
            raise TypeError(f"stage {call.name} keeps checkpoints, and only a pipeline resumes from them")

        def computing(out: Path, log: Log) -> Outcome:
            return self._computed(call, out, log, {})

        is_there = find(self.paths, call.name, call.key)[0] is not None
        with self._telling(call, is_there=is_there) as line:
            artifact, was_there = make(self.paths, call.name, call.key, computing, **call.kept, say=self._say, shared=self.shared)
            line.end("reused" if was_there else "")
        shutil.rmtree(self.paths.checkpoints / call.name / call.key, ignore_errors=True)
        return Done(name=call.name, artifact=artifact, cached=was_there, run_id="")

    def keep_metrics(self, metrics: Mapping[str, float]) -> None:
        """Keep nothing: there is no run to keep it on."""


class _NoLedger:
    """Stands for the ledger of stages that have none."""

    def __getattr__(self, name: str) -> Any:
        raise TypeError(f"these stages have no run in the ledger, and {name} was asked of it")


def alone(paths: Paths, config: Config, say: Say, *, data: Path, names: tuple[str, ...]) -> Alone:
    """Return what runs the stages of a command.

    Args:
        paths: of the repository.
        config: every setting.
        say: prints one line for the user.
        data: folder of the dataset.
        names: of the stages to come, in order.
    """
    plan = Plan(config=config, data=data, names=names)
    return Alone(paths=paths, config=config, ledger=_NoLedger(), parent="", say=say, plan=plan)  # type: ignore[arg-type]
