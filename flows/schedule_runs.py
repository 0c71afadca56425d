"""Around one run of a schedule: is it late, has its schedule ended, whose turn is it, and who wants one more afterwards."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flows.lost_runs import LOST
from flows.prefect_server import Server
from flows.schedules import Kept, connected, kept_of, pool_of, run_again, set_paused
from flows.service_lines import duration
from flows.service_plans import WORK_POOL
from posttrain.errors import PosttrainError, RequestError
from posttrain.schedules.cron import Time, next_time
from posttrain.schedules.rules import DATA, DRIFT, TIMES, Schedule
from posttrain.schedules.turns import ALLOWED, LATE, why_dropped
from tasks.schedules.counts import done_by
from tasks.schedules.turns import Wanted, ask, datasets_wanted, holder_of, take_wanted, turn
from tasks.schedules.zones import zone_of
from tasks.workspace.paths import Paths

Say = Callable[[str], None]
MOVES_BACK = sys.version_info < (3, 13)
"""Whether Prefect moves a time that the change to summer time leaves out back: docs/decisions/0027-schedules.md."""
MOST_RUNS = 200
"""Prefect's largest page."""


@dataclass(frozen=True)
class ThisRun:
    """The run of Prefect that is at work.

    Attributes:
        name: of it.
        due: when it should have started, UTC.
        deployment: id of its schedule's deployment; "" where it was started without one.
    """

    name: str
    due: datetime
    deployment: str = ""


def following(schedule: Schedule, after: datetime) -> Time | None:
    """Return the next time of a schedule; None for a trigger, or where none is left."""
    if schedule.on != TIMES:
        return None
    return next_time(schedule.cron, zone_of(schedule.zone), after, moves_back=MOVES_BACK)


def why_skipped(paths: Paths, schedule: Schedule, this: ThisRun, cause: str, *, now: datetime, server: Server) -> str:
    """Return why a run does not start, as a sentence; "" where it does. A schedule that has ended is paused.

    Args:
        paths: of the repository.
        schedule: whose run it is, as it is now.
        this: the run.
        cause: of the run: "schedule", or of a trigger.
        now: the moment.
        server: of Prefect.
    """
    at = this.due if schedule.on == TIMES else now
    if why := schedule.end(at=at, done=done_by(paths, schedule.name)):
        pause_ended(server, this)
        return f"the schedule has ended: {why}"
    late = now - this.due
    if cause != "schedule" or schedule.is_caught_up or late <= ALLOWED:
        return ""
    later = following(schedule, this.due)
    busy = busy_since(server, this.due, now, pool=pool_of(schedule))
    reason = why_dropped(due=this.due, now=now, following=later.at if later else None, busy=busy)
    if not reason:
        return ""
    due = f"its time was {this.due.astimezone(zone_of(schedule.zone)):%Y-%m-%d %H:%M %Z}, {duration(late.total_seconds())} ago"
    if reason == LATE:
        return f"{due}, when no worker was there. Nothing is caught up unless CATCH_UP=1 asks for it"
    return f"{due}; others ran since, and the next time of the schedule has come, whose run does the same"


def busy_since(server: Server, moment: datetime, now: datetime, *, pool: str = WORK_POOL) -> list[tuple[datetime, datetime]]:
    """Return when the worker was at work since a moment: beginning and end of each run of the pool that ended after it."""
    runs = server.read_flow_runs(
        pool=pool,
        started_before=now,
        ended_after=moment - timedelta(seconds=1),
        sort="END_TIME_DESC",
        limit=MOST_RUNS,
    )
    # the end of a run that lost its process is the moment at which somebody marked it: when it stopped working nobody knows
    known = (run for run in runs if not (run.state and run.state.message == LOST))
    return [(run.start_time, run.end_time) for run in known if run.start_time and run.end_time]


def pause_ended(server: Server, this: ThisRun) -> None:
    """Pause the schedule of a run, so that it makes no further runs, which would only say that it has ended."""
    if kept := _own(server, this):
        set_paused(server, kept, True)


def pause_if_last(paths: Paths, schedule: Schedule, this: ThisRun, *, now: datetime, server: Server) -> str:
    """Pause a schedule that has just made its last run; return why it has ended, "" where it goes on."""
    later = following(schedule, now)
    at = now if schedule.on != TIMES else later.at if later else None
    why = schedule.end(at=at, done=done_by(paths, schedule.name))
    if why:
        pause_ended(server, this)
    return why


def _own(server: Server, this: ThisRun) -> Kept | None:
    return kept_of(server, UUID(this.deployment)) if this.deployment else None


def as_now(server: Server, this: ThisRun, schedule: Schedule | None) -> Schedule | None:
    """Return the schedule as it is now: a run that was made ahead carries it as it was then."""
    kept = _own(server, this)
    return kept.schedule if kept else schedule


def cause_of(schedule: Schedule | None, cause: str, event: dict[str, Any] | None) -> str:
    """Return in a few words why a retraining runs, for its report."""
    told = event or {}
    name = f" {schedule.name}" if schedule else ""
    if cause == DATA:
        return f"trigger{name}: version {str(told.get('md5', ''))[:8]} of the data"
    if cause == DRIFT:
        return f"trigger{name}: drift. {told.get('verdict', '')}".rstrip()
    return f"schedule{name}" if cause == "schedule" else cause


def start_wanted(paths: Paths, say: Say, *, dataset: str = "") -> list[str]:
    """Start the retrainings that were asked for while another one ran; return the runs' names.

    Called once a turn is over, and when services start: a holder that was killed leaves its requests.

    Args:
        paths: of the repository.
        say: prints a note.
        dataset: which; "" for all.
    """
    started = []
    for name in [dataset] if dataset else datasets_wanted(paths):
        with turn(paths, name, "a look for requests") as is_free:
            pass
        # after the turn was let go of: who asks later finds it free, and needs nobody
        for wanted in take_wanted(paths, name) if is_free else ():
            try:
                with connected(paths) as server:
                    run = run_again(server, wanted.deployment, {"cause": wanted.cause, "event": wanted.event})
                started += [run] if run else []
            except PosttrainError as error:
                ask(paths, name, wanted)
                say(f"note: one more retraining of {name} is wanted and cannot start now: {error}")
    return started


def asked_by(this: ThisRun, cause: str, event: dict[str, Any] | None) -> Wanted:
    """Return the request that a run leaves with whoever retrains its dataset now."""
    return Wanted(this.deployment, cause, dict(event or {}), (this.name,))


@contextmanager
def by_hand(paths: Paths, dataset: str, command: str, say: Say) -> Iterator[None]:
    """Have the turn for a retraining by hand, and start afterwards what others asked for meanwhile.

    Raises:
        RequestError: another retraining of the dataset runs.
    """
    try:
        with turn(paths, dataset, command) as is_ours:
            if not is_ours:
                raise RequestError(
                    f"{dataset} is being retrained now, by {holder_of(paths, dataset) or 'another run'}, and one runs at a time. "
                    "Wait for it; make schedule shows it"
                )
            yield
    finally:
        if datasets_wanted(paths):
            start_wanted(paths, say, dataset=dataset)


def utc_now() -> datetime:
    """Return the moment."""
    return datetime.now(UTC)


def sentence(error: PosttrainError) -> str:
    """Return an error as the message of a state: its kind and its text."""
    return f"{type(error).__name__.removesuffix('Error').lower()}: {error}"
