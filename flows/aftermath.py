"""What a killed process left open, closed by the next command of any kind: in MLflow, in Prefect, and among the reports.

A look into one folder where nothing was killed. Where something was, MLflow is opened, and Prefect's server is asked, or one is
started for the moment; that takes some seconds, once.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flows.environment import prefect_home, prepare
from flows.prefect_client import client_of
from flows.prefect_database import prefect_database
from posttrain.errors import PosttrainError
from posttrain.settings.config import Config
from posttrain.settings.evaluation import TrackingSettings
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Note, forget, left_behind, present, words_of

if TYPE_CHECKING:
    from tasks.tracking.killed_runs import KilledRun

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

OPEN_RUNS = 200
"""Prefect's largest page: more runs than one process ever has open."""


@contextmanager
def accountable(paths: Paths, config: Config, words: Sequence[str] | str) -> Iterator[str]:
    """Keep a note of this process while it runs a pipeline or a comparison, and put its name on what it does in Prefect.

    Args:
        paths: of the repository.
        config: says where runs are tracked.
        words: of the pipeline; or the whole command, of anything else.

    Yields:
        The command that runs it again.
    """
    from prefect import tags

    command = words if isinstance(words, str) else words_of(words)
    with present(paths, command=command, tracking=config.tracking.model_dump()) as note, tags(prefect_tag(note)):
        yield command


def untagged(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Keep the tag of a flow's run from its tasks, for which Prefect would ask its server for a limit of that name."""

    @functools.wraps(function)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        from prefect.context import TagsContext

        with TagsContext(current_tags=set()):
            return function(*args, **kwargs)

    return wrapper


def prefect_tag(note: Note) -> str:
    """Return the tag that the runs of a process have in Prefect."""
    return f"process-{note.file.stem}"


def settle(paths: Paths, say: Callable[[str], None]) -> None:
    """Mark what killed processes left open, and say so in a line each; what cannot be marked now is left for the next command."""
    notes = left_behind(paths)
    if not notes:
        return
    try:
        prepare(paths, is_tiny=False)
        killed = _in_mlflow(paths, notes, say)
        _in_prefect(paths, [note for note in notes if note.facts.get("in_prefect", True)])
        _among_reports(paths, notes, killed)
    except PosttrainError as error:
        say(f"note: a run that was killed cannot be marked yet: {error}")
        return
    except Exception as error:  # a server that answers strangely: the command itself is not to fail of it
        say(f"note: a run that was killed cannot be marked yet: {type(error).__name__}: {error}. The next command tries again")
        return
    for note in notes:
        forget(note)
    compared = {run.comparison_id for run in killed if run.kind == "comparison"}
    told: set[str] = set()
    for run in killed:
        # a comparison's command runs its pipelines as well, so theirs are not told beside it; nor the same one twice
        is_told = (run.kind == "comparison" or run.comparison_id not in compared) and run.command not in told
        if run.command and is_told:
            told.add(run.command)
            say(f"{run.name} ended before: {run.error}. To go on: {run.command}")


def _in_mlflow(paths: Paths, notes: Sequence[Note], say: Callable[[str], None]) -> "list[KilledRun]":
    from tasks.promotion.moves import settle_moves
    from tasks.tracking.killed_runs import close_killed, sweep_models
    from tasks.tracking.ledger import Ledger

    closed = []
    for tracking in {_tracking(note) for note in notes}:
        if not tracking.uri and not (paths.ledger / "mlflow.db").exists():
            continue  # it was killed before there was a ledger
        ledger = Ledger.open(paths, tracking)
        closed += close_killed(ledger)
        sweep_models(ledger)
        settle_moves(ledger, say)
    return closed


def _tracking(note: Note) -> TrackingSettings:
    with suppress(ValueError, TypeError):
        return TrackingSettings(**note.facts.get("tracking", {}))
    return TrackingSettings()


def _in_prefect(paths: Paths, notes: Sequence[Note]) -> None:
    if not notes or ("PREFECT_API_URL" not in os.environ and not prefect_database(prefect_home(paths)).file.exists()):
        return
    with _server(paths), client_of(os.environ["PREFECT_API_URL"]) as client:
        for note in notes:
            _crash(client, prefect_tag(note), str(note.facts.get("command", "")))


@contextmanager
def _server(paths: Paths) -> Iterator[None]:
    """Have Prefect's server: the one that runs, or one that is gone after the block."""
    from flows.server import starting_server

    was_named = "PREFECT_API_URL" in os.environ
    with starting_server(paths) as started:
        import prefect  # noqa: F401  # as long as the server's start, and meanwhile
    try:
        yield
    finally:
        if not was_named:
            os.environ.pop("PREFECT_API_URL", None)
        if started:
            started.end()


def _crash(client: Any, tag: str, command: str) -> None:
    """Mark every open run of Prefect that has a tag, and its open tasks, as crashed; force, since nobody else ever will."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    from tasks.tracking.run_notes import WITHOUT_A_WORD

    message = f"{WITHOUT_A_WORD}. To go on: {command}" if command else WITHOUT_A_WORD
    for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])), limit=OPEN_RUNS):
        crash_run(client, run, message)


def crash_run(client: Any, run: Any, message: str) -> bool:
    """Mark a flow run of Prefect and its tasks as crashed where they are open; returns whether the run was."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.objects import State
    from prefect.states import Crashed

    if run.state and run.state.is_final():
        return False
    state: State[Any] = Crashed(message=message)
    of_it = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    for task_run in client.read_task_runs(flow_run_filter=of_it, limit=OPEN_RUNS):
        if not (task_run.state and task_run.state.is_final()):
            client.set_task_run_state(task_run.id, state, force=True)
    client.set_flow_run_state(run.id, state, force=True)
    return True


def _among_reports(paths: Paths, notes: Sequence[Note], killed: "Sequence[KilledRun]") -> None:
    from tasks.comparison.latest import sweep_comparisons
    from tasks.report.latest import sweep

    processes = {note.file.stem for note in notes}
    sweep_comparisons(paths, processes=processes)
    sweep(paths.reports, processes=processes, pipelines={run.pipeline_id for run in killed if run.kind == "pipeline"})
