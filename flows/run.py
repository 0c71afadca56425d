"""One pipeline under way: its stages as Prefect tasks, cached by key, verified on a hit, each with a child run in the ledger."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.client.schemas.objects import State

from posttrain.settings.config import Config
from tasks.base_model.identity import device_type
from tasks.feedback.given import GivenLabels
from tasks.launch import Launch, call_on_processes, get_ready
from tasks.tracking.ledger import Ledger
from tasks.tracking.run_notes import reason
from tasks.workspace.artifacts import Artifact, Log, Outcome, earlier_seconds, find, make
from tasks.workspace.device_rows import remembering
from tasks.workspace.keys import Contents, Inputs, sorted_inputs, stage_key
from tasks.workspace.paths import Paths
from tasks.workspace.progress import StageLine
from tasks.workspace.shared_stages import SharedStages, open_shared

if TYPE_CHECKING:  # it reads settings of the stages that run here
    from flows.plan import Plan

Say = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """A stage as the report has it."""

    name: str
    artifact: Artifact
    cached: bool
    run_id: str

    def as_row(self) -> dict[str, Any]:
        """Return name, key, cached, seconds and run id."""
        return {
            "name": self.name,
            "key": self.artifact.key,
            "cached": self.cached,
            "seconds": self.artifact.seconds,
            "run_id": self.run_id,
        }


@dataclass(frozen=True)
class StageCall:
    """A stage that is asked for.

    Attributes:
        name: of the stage.
        compute: `module:function`.
        key: of its result.
        inputs: settings, digests and arguments, sorted.
        resumable: it takes `checkpoints`, a folder of this key's own.
        processes: of each node that compute it.
        is_launched: it is computed by processes of its own, and not by the pipeline's.
    """

    name: str
    compute: str
    key: str
    inputs: Inputs
    resumable: bool
    processes: int
    is_launched: bool = False

    @property
    def kept(self) -> dict[str, Any]:
        """Return what is kept beside the result."""
        return {"settings": self.inputs.settings, "inputs": self.inputs.digests}


@dataclass
class Run:
    """Runs the stages of one pipeline in order and remembers what they gave.

    Attributes:
        paths: of the repository.
        config: every setting of the pipeline; `max_new_tokens=auto` becomes a number behind the data gate.
        ledger: where child runs are opened.
        parent: run id of the pipeline.
        say: prints one line for the user.
        plan: the stages to come; without one, stages are not numbered.
        people: what people said of responses to the dataset's questions, where it is read (`flows.feedback.people_of`).
        done: what has run so far, in order.
        line: of the stage that runs now, or ran last.
        limits: what `max_new_tokens=auto` has become, a line a setting (`flows.lengths`).
        cut_off: which references are longer than a response may be, a line a setting.
        source: returns the digest of a module and what it imports; None: worked out anew for each stage.
        launch: computes a stage by several processes: those of this machine, or of several (flows/nodes.py).
    """

    paths: Paths
    config: Config
    ledger: Ledger
    parent: str
    say: Say
    plan: "Plan | None" = None
    people: GivenLabels | None = None
    done: list[Done] = field(default_factory=list)
    line: StageLine = field(default_factory=StageLine)
    limits: list[str] = field(default_factory=list)
    cut_off: list[str] = field(default_factory=list)
    source: Callable[[str], str] | None = None
    launch: Callable[[Launch], Outcome] = call_on_processes

    def artifact(self, stage: str) -> Artifact:
        """Return what a stage gave that has run.

        Raises:
            LookupError: it has not.
        """
        found = next((one.artifact for one in self.done if one.name == stage), None)
        if found is None:
            raise LookupError(f"stage {stage} has not run yet")
        return found

    def has_run(self, stage: str) -> bool:
        """Return whether a stage has run."""
        return any(one.name == stage for one in self.done)

    @cached_property
    def shared(self) -> SharedStages | None:
        """Return the storage that workers on other machines share stages by, None for none."""
        return open_shared(self.config.store)

    @property
    def data(self) -> Artifact:
        """Return the validated data."""
        return self.artifact("validate")

    @property
    def network(self) -> dict[str, Any]:
        """Return what every stage is given that loads a model: tokenizer, how to load, tokens of the context, seed."""
        tokenizer = self.artifact("tokenizer")
        return {
            "tokenizer": Contents(tokenizer.path / "tokenizer", tokenizer.digest),
            "model": self.config.model,
            "context": int(tokenizer.metrics["context"]),
            "seed": self.config.seed,
        }

    def stage(
        self,
        name: str,
        compute: str,
        /,
        *,
        read: Mapping[str, str] | None = None,
        resumable: bool = False,
        trains: bool = False,
        **arguments: Any,
    ) -> Artifact:
        """Return the artifact of a stage: the cached one if its files are whole, else a new one.

        The arguments are the key (`tasks.workspace.keys`). A stage that this pipeline has run already is not run again, nor told
        twice: its costs are paid once.

        Args:
            name: of the stage.
            compute: `module:function`, called as `function(out, log, **arguments)`; imported only where there is something to
                make, so that a cached run does not wait for torch.
            read: digests of what the stage reads by itself and is not given, which enter the key.
            resumable: it takes `checkpoints`, a folder of this key's own, which goes when the stage is finished.
            trains: it can be computed by several processes, as many as `model.processes` and `launch.nnodes` say.
            arguments: of the stage.

        Raises:
            TypeError: an argument is of a kind that no key can hold, such as a bare path.
        """
        inputs, key = keyed(name, compute, read=read, arguments=arguments, source=self.source)
        if before := next((one for one in self.done if (one.name, one.artifact.key) == (name, key)), None):
            return before.artifact
        processes = self.config.model.processes if trains else 1
        is_launched = trains and (processes > 1 or self.config.launch.nnodes > 1)
        self.done.append(self.obtain(StageCall(name, compute, key, inputs, resumable, processes, is_launched)))
        return self.done[-1].artifact

    def obtain(self, call: StageCall) -> Done:
        """Take a stage that is there, or compute it, as a Prefect task with a child run in the ledger."""
        whole, _ = find(self.paths, call.name, call.key)
        checkpoints = self.paths.checkpoints / call.name / call.key

        @task(
            name=call.name,
            task_run_name=f"{call.name}-{call.key[:8]}",
            cache_key_fn=lambda *_: f"{call.name}-{call.key}",
            refresh_cache=whole is None,
            persist_result=True,
            result_serializer="json",
        )
        def stage_task() -> dict[str, Any]:
            return self._make(call, {"checkpoints": checkpoints} if call.resumable else {})

        folder = self.paths.stages / call.name / call.key
        with self._telling(call, is_there=whole is not None) as line:
            state: State[dict[str, Any]] = stage_task(return_state=True)
            result = state.result()
            is_cached = state.name == "Cached" or result["run_id"] is None
            line.end("reused" if is_cached else "")
        run_id = self.ledger.log_cached_stage(self.parent, folder) if is_cached else result["run_id"]
        artifact = _read(folder)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return Done(name=call.name, artifact=artifact, cached=is_cached, run_id=run_id)

    def keep_metrics(self, metrics: Mapping[str, float]) -> None:
        """Put figures on the pipeline's own run now, where they stay if it does not come to its end."""
        self.ledger.log_metrics(self.parent, metrics)

    @contextmanager
    def _telling(self, call: StageCall, *, is_there: bool) -> Iterator[StageLine]:
        """Tell that a stage begins and ends."""
        number, planned = len(self.done) + 1, len(self.plan.names) if self.plan else 0
        line = StageLine(
            name=call.name,
            doing=self.plan.doing(call.name) if self.plan else "",
            number=number,
            total=max(number, planned),
        )
        if not is_there:
            line.begin(about=earlier_seconds(self.paths, call.name, settings=call.inputs.settings))
        self.line = line
        try:
            yield line
        except BaseException:
            line.end("stopped")
            raise

    def _say(self, line: str) -> None:
        """Print one line for the user, not into the one of a stage that has begun."""
        self.line.pause()
        self.say(line)

    def _make(self, call: StageCall, own: Mapping[str, Any]) -> dict[str, Any]:
        """Compute a stage with a child run in the ledger; return the run's id, None where another process made it meanwhile.

        Args:
            call: the stage.
            own: arguments beside those of the call.
        """
        live: list[Any] = []

        def forward(step: int, metrics: Mapping[str, float]) -> None:
            live[0].log(step, metrics)

        def computing(out: Path, log: Log) -> Outcome:
            live.append(self.ledger.start_stage(self.parent, call.name, key=call.key, settings=call.inputs.settings))
            return self._computed(call, out, log, own)

        try:
            artifact, was_there = make(
                self.paths, call.name, call.key, computing, **call.kept, forward=forward, say=self._say, shared=self.shared
            )
        except BaseException as error:
            if live:
                with suppress(Exception):  # the first error is the one to tell
                    live[0].fail(reason(error), status="FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        if was_there:
            return {"run_id": None}
        live[0].finish(artifact.path)
        return {"run_id": live[0].run_id}

    def _computed(self, call: StageCall, out: Path, log: Log, own: Mapping[str, Any]) -> Outcome:
        """Compute a stage here, or by several processes."""
        arguments = {**call.inputs.arguments, **own}
        if self.config.model.processes > 1 or self.config.launch.nnodes > 1:
            get_ready()  # while an earlier stage computes
        if call.is_launched:
            logs = self.paths.logs / f"{call.name}-{call.key[:8]}"
            return self.launch(Launch(call.compute, out, log, arguments, call.name, call.processes, logs))
        with remembering(self.paths.checkpoints / call.name / call.key, self._say):  # rows of a device that is short of memory
            return called(call.compute, out, log, arguments)


def keyed(
    name: str,
    compute: str,
    *,
    read: Mapping[str, str] | None,
    arguments: Mapping[str, Any],
    source: Callable[[str], str] | None = None,
) -> tuple[Inputs, str]:
    """Return a stage's inputs and its key; what it takes: `Run.stage`, and `source` as `stage_key` has it."""
    inputs = sorted_inputs(name, arguments, device=device_type())
    inputs = Inputs(inputs.settings, {**inputs.digests, **(read or {})}, inputs.arguments)
    return inputs, stage_key(name, inputs, compute=compute, source=source)


def made_alone(paths: Paths, name: str, compute: str, /, *, say: Say, begins: str = "", **arguments: Any) -> Artifact:
    """Return the artifact of a stage of no pipeline, which has no run in the ledger: the one that is there, or a new one.

    Args:
        paths: of the repository.
        name: of the stage.
        compute: `module:function`, as `Run.stage` takes it.
        say: prints one line for the user.
        begins: a line that is said where there is something to make; "" for none.
        arguments: of the stage, which are its key.
    """
    inputs, key = keyed(name, compute, read=None, arguments=arguments)

    def computing(out: Path, log: Log) -> Outcome:
        if begins:
            say(begins)
        return called(compute, out, log, inputs.arguments)

    artifact, _ = make(paths, name, key, computing, settings=inputs.settings, inputs=inputs.digests, say=say)
    return artifact


def called(compute: str, out: Path, log: Log, arguments: Mapping[str, Any]) -> Outcome:
    """Import the function of a stage, and return what it gives."""
    module, _, function = compute.partition(":")
    outcome: Outcome = getattr(import_module(module), function)(out, log, **arguments)
    return outcome


def _read(folder: Path) -> Artifact:
    kept = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
    names = ("stage", "key", "seconds", "metrics", "costs", "digest")
    return Artifact(folder=str(folder), **{name: kept[name] for name in names})
