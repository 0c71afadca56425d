"""The flows that a schedule's deployment runs: a retraining, or a check of new prompts. Their state's message says how it went.

A worker starts each in a process of its own, in the root of the checkout. What is dropped, merged with another run or comes after
the schedule's end is a completed run named Skipped, with the reason. A drift and a refusal by the gate are completed runs too,
since they are answers.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.data_events import announce_versions, named_server
from flows.disk import check_disk
from flows.environment import prepare
from flows.schedule_runs import (
    ThisRun,
    as_now,
    asked_by,
    cause_of,
    pause_if_last,
    sentence,
    start_wanted,
    utc_now,
    why_skipped,
)
from flows.schedules import connected
from posttrain.errors import ContractError, PosttrainError
from posttrain.printable import printable
from posttrain.schedules.rules import Schedule
from posttrain.settings.config import Config
from tasks.base_model.identity import TINY
from tasks.schedules.counts import count_run
from tasks.schedules.turns import turn_or_request
from tasks.workspace.disk import storage_errors
from tasks.workspace.paths import Paths

Say = Callable[[str], None]
Answer = tuple[str, str]
"""The name of the state that a run ends in, and its message."""
SKIPPED = "Skipped"


def run_name() -> str:
    """Return the name of a run: its schedule and its time, UTC."""
    from prefect.runtime import flow_run

    schedule = (flow_run.parameters or {}).get("schedule") or {}
    return f"{schedule.get('name', flow_run.flow_name)}-{flow_run.scheduled_start_time.astimezone(UTC):%Y%m%d-%H%M%S}"


@flow(name="retraining", flow_run_name=run_name, validate_parameters=False, persist_result=False)
def retraining(
    words: list[str], cause: str = "schedule", event: dict[str, Any] | None = None, schedule: dict[str, Any] | None = None
) -> State[Any]:
    """Retrain a dataset's model, if it is this run's turn.

    Args:
        words: settings of the retraining, as `python -m flows retrain` takes them.
        cause: "schedule", "data", "drift", or a few words of whoever starts it.
        event: what the event of a trigger says.
        schedule: record of the schedule; None where somebody starts the flow without one.
    """
    return _run(words, cause, event, schedule, _retrain)


@flow(name="monitoring", flow_run_name=run_name, validate_parameters=False, persist_result=False)
def monitoring(words: list[str], cause: str = "schedule", schedule: dict[str, Any] | None = None) -> State[Any]:
    """Check new prompts for drift, as `make monitor` does; a drift sends the event that triggers wait for.

    Args:
        words: of `python -m flows monitor`: "file=prompts.jsonl", and settings.
        cause: "schedule", or a few words.
        schedule: record of the schedule; None where somebody starts the flow without one.
    """
    return _run(words, cause, None, schedule, _monitor)


def _last(paths: Paths, schedule: Schedule | None, this: ThisRun, say: Say) -> str:
    """Pause a schedule that has made its last run, and return what to say of it. Without the server the next run does that."""
    if schedule is None:
        return ""
    try:
        with connected(paths) as server:
            why = pause_if_last(paths, schedule, this, now=utc_now(), server=server)
    except PosttrainError as error:
        say(f"note: {error}")
        return ""
    return f". It was the last run: {why}" if why else ""


@dataclass(frozen=True)
class Start:
    """What a run was started with.

    Attributes:
        paths: of the checkout.
        words: of the verb.
        this: the run.
        schedule: that it belongs to, as it is now; None where somebody started the flow without one.
        cause: "schedule", "data", "drift", or a few words.
        event: what the event of a trigger says.
    """

    paths: Paths
    words: list[str]
    this: ThisRun
    schedule: Schedule | None
    cause: str
    event: dict[str, Any] | None

    def count(self) -> None:
        """Count this as a run of its schedule."""
        if self.schedule:
            count_run(self.paths, self.schedule.name)


Work = Callable[[Start, Say], Answer]


def _run(words: list[str], cause: str, event: dict[str, Any] | None, record: dict[str, Any] | None, work: Work) -> State[Any]:
    """Do the work unless the run is skipped, and return the state that it ends in."""
    paths, say, named = Paths(Path.cwd()), _say(), named_server()
    this = _this_run()
    try:
        schedule = Schedule.from_record(record) if record else None
        if schedule:
            with connected(paths) as server:
                schedule = as_now(server, this, schedule) or schedule
                if why := why_skipped(paths, schedule, this, cause, now=utc_now(), server=server):
                    return Completed(name=SKIPPED, message=why)
        try:
            name, message = work(Start(paths, words, this, schedule, cause, event), say)
        finally:
            announce_versions(paths, say, named=named)
        return Completed(name=name, message=printable(f"{message}{_last(paths, schedule, this, say)}"))
    except PosttrainError as error:
        say(sentence(error))
        return Failed(message=printable(sentence(error)))


def _retrain(start: Start, say: Say) -> Answer:
    """Retrain, or leave a request with whoever retrains the dataset now."""
    from flows.__main__ import configuration

    paths, config = start.paths, configuration(start.paths, start.words)
    dataset = config.data.name
    try:
        with turn_or_request(paths, dataset, start.this.name, asked_by(start.this, start.cause, start.event)) as holder:
            if holder:
                later = (
                    "merged into one more run, which starts after that one" if start.this.deployment else "nothing starts later"
                )
                return SKIPPED, f"{dataset} is being retrained by {holder}; {later}"
            start.count()
            with _ready(paths, config, say):
                from flows.retrain import retrain

                done = retrain(paths, config, say, cause=cause_of(start.schedule, start.cause, start.event))
    finally:  # also after a failure: who asked meanwhile may have newer data
        start_wanted(paths, say, dataset=dataset)
    return done.outcome.capitalize(), done.says


def _monitor(start: Start, say: Say) -> Answer:
    """Check the prompts; a drift is an answer, and not a failure."""
    from flows.__main__ import configuration, given_and_settings
    from flows.monitor import asked, monitor

    given, settings = given_and_settings(start.words, ("file", "format", "map"))
    config = configuration(start.paths, settings)
    start.count()
    with _ready(start.paths, config, say):
        try:
            record = monitor(start.paths, config, asked(given, settings), say)
        except ContractError as error:
            return "Drift", f"drift: {error}"
    return "No drift", str(record["verdict"])


@contextmanager
def _ready(paths: Paths, config: Config, say: Say) -> Iterator[None]:
    """Do what every command does before it works: environment, disk, and what killed runs left."""
    from flows.aftermath import settle

    check_disk(paths)
    prepare(paths, is_tiny=config.model.base == TINY, password=config.servers.password)
    if not os.environ.get("PYTHONWARNINGS"):
        warnings.filterwarnings("ignore")
    settle(paths, say)
    with storage_errors("the scheduled run", paths.root):
        yield


def _this_run() -> ThisRun:
    from prefect.runtime import deployment, flow_run

    return ThisRun(str(flow_run.name), flow_run.scheduled_start_time.astimezone(UTC), str(deployment.id or ""))


def _say() -> Say:
    """Return what prints a note: the log of the run, which Prefect's page shows."""
    from prefect import get_run_logger

    logger: logging.LoggerAdapter[Any] | logging.Logger = get_run_logger()
    return lambda line: logger.info("%s", printable(line))
