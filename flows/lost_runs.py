"""Runs of Prefect that nobody works at any more: their worker ended, and the server believes that they go on.

Prefect leaves them `Running` for ever, and the place that they hold in a schedule's limit stays taken, so that every later run of
it is refused. `make down` marks those that the worker's end takes along, `make up` those that a kill or a power cut left.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from flows.aftermath import OPEN_RUNS, crash_run
from flows.prefect_server import OPEN, FlowRun, Server
from flows.service_plans import WORK_POOL

YOUNG = timedelta(seconds=60)
"""A run that changed later than this may be on its way from a worker to its process."""
STOPPED = "The worker was stopped (make down) while this ran. Finished stages are kept: run it again, or wait for its next time"
LOST = "Its process ended without a word (kill, memory, power). Finished stages are kept: run it again, or wait for its next time"


def mark_stopped(server: Server, ids: Collection[str]) -> list[str]:
    """Mark the runs that a worker's end took along; returns the names of those that were open."""
    names = []
    for run_id in sorted(ids):
        try:
            run = server.read_flow_run(UUID(run_id))
        except ValueError:  # no id of a run
            continue
        if run and crash(server, run, STOPPED):
            names.append(run.name)
    return names


def mark_lost(server: Server, *, living: Collection[str], is_process: Callable[[int], bool]) -> list[str]:
    """Mark the runs of our pool that no process of this machine executes; returns their names.

    Only for a server that this machine alone reaches: elsewhere they may be another machine's.
    """
    runs = server.read_flow_runs(pool=WORK_POOL, states=OPEN, limit=OPEN_RUNS)
    lost = lost_among(runs, living=living, is_process=is_process, now=datetime.now(UTC))
    return [run.name for run in lost if crash(server, run, LOST)]


def crash(server: Server, run: FlowRun, message: str) -> bool:
    """Mark a run as crashed where it is open, which takes Prefect's own client; returns whether it was."""
    return not (run.state and run.state.is_final()) and crash_run(server.client, run, message)


def lost_among(
    runs: Iterable[FlowRun], *, living: Collection[str], is_process: Callable[[int], bool], now: datetime
) -> list[FlowRun]:
    """Return the open runs that are certainly lost.

    Args:
        runs: open ones of our pool.
        living: ids of the runs that processes of this machine execute.
        is_process: tells whether a process id is taken by one that we may not look into.
        now: the time.
    """
    found = []
    for run in runs:
        is_young = run.state is None or now - run.state.timestamp < YOUNG
        pid = run.infrastructure_pid
        may_be_hidden = pid.isdecimal() and is_process(int(pid))
        if str(run.id) not in living and not is_young and not may_be_hidden:
            found.append(run)
    return found
