"""Runs of Prefect that nobody works at any more: their worker ended, and the server believes that they go on.

Prefect leaves them `Running` for ever, and the place that they hold in a schedule's limit stays taken, so that every later run of
it is refused. `make down` marks those that the worker's end takes along, `make up` those that a kill or a power cut left.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flows.aftermath import OPEN_RUNS, crash_run
from flows.service_plans import WORK_POOL

YOUNG = timedelta(seconds=60)
"""A run that changed later than this may be on its way from a worker to its process."""
STOPPED = "The worker was stopped (make down) while this ran. Finished stages are kept: run it again, or wait for its next time"
LOST = "Its process ended without a word (kill, memory, power). Finished stages are kept: run it again, or wait for its next time"


def mark_stopped(client: Any, ids: Collection[str]) -> list[str]:
    """Mark the runs that a worker's end took along; returns the names of those that were open."""
    from prefect.exceptions import ObjectNotFound

    names = []
    for run_id in sorted(ids):
        try:
            run = client.read_flow_run(UUID(run_id))
        except (ObjectNotFound, ValueError):
            continue
        if crash_run(client, run, STOPPED):
            names.append(str(run.name))
    return names


def mark_lost(client: Any, *, living: Collection[str], is_process: Callable[[int], bool]) -> list[str]:
    """Mark the runs of our pool that no process of this machine executes; returns their names.

    Only for a server that this machine alone reaches: elsewhere they may be another machine's.
    """
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
        WorkPoolFilter,
        WorkPoolFilterName,
    )
    from prefect.client.schemas.objects import StateType

    is_open = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=is_open)),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[WORK_POOL])),
        limit=OPEN_RUNS,
    )
    lost = lost_among(runs, living=living, is_process=is_process, now=datetime.now(UTC))
    return [str(run.name) for run in lost if crash_run(client, run, LOST)]


def lost_among(runs: Iterable[Any], *, living: Collection[str], is_process: Callable[[int], bool], now: datetime) -> list[Any]:
    """Return the open runs that are certainly lost.

    Args:
        runs: open ones of our pool, as Prefect's client gives them.
        living: ids of the runs that processes of this machine execute.
        is_process: tells whether a process id is taken by one that we may not look into.
        now: the time.
    """
    found = []
    for run in runs:
        is_young = run.state is None or now - run.state.timestamp < YOUNG
        pid = str(run.infrastructure_pid or "")
        may_be_hidden = pid.isdecimal() and is_process(int(pid))
        if str(run.id) not in living and not is_young and not may_be_hidden:
            found.append(run)
    return found
