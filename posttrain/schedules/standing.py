"""What is wrong with a schedule that should run and will not: no next run, one at a wrong time, or nobody who serves it."""

from datetime import UTC, datetime, timedelta

from posttrain.schedules.rules import TIMES, Schedule

HORIZON = timedelta(days=100)
"""How far ahead Prefect makes runs (PREFECT_SERVER_SERVICES_SCHEDULER_MAX_SCHEDULED_TIME, its default)."""
YOUNG = timedelta(minutes=2)
"""How long Prefect's scheduler may take for the first run of a schedule that was just made: it looks every 60 s at most."""
WAITING = timedelta(minutes=2)
"""How long a run whose time has come may wait for a worker: it asks for work every 10 s."""
UP = "make up"
NO_WORKER = f"no worker asks for its runs. Start one: {UP}"


def trouble_of(
    schedule: Schedule,
    *,
    expected: datetime | None,
    found: datetime | None,
    now: datetime,
    age: timedelta,
    is_served: bool,
    is_busy: bool,
) -> str:
    """Return why a schedule that is neither paused nor at its end will not run as it should; "" where it will.

    Args:
        schedule: which.
        expected: its next time by its own cron; None for a trigger, or where none is left.
        found: when Prefect will start its next run; None where there is none.
        now: the moment.
        age: since it was made or changed.
        is_served: whether a worker asks for its runs.
        is_busy: whether that worker runs something now, behind which others wait.
    """
    if not is_served:
        return f"no worker asks for runs of work pool {schedule.pool}: start one there" if schedule.pool else NO_WORKER
    if schedule.on != TIMES or expected is None:
        return ""
    if found is None:
        if age <= YOUNG or expected - now > HORIZON:
            return ""
        return f"Prefect's scheduler has made no run for it. See .posttrain/services/prefect.log, then: make down && {UP}"
    if found <= now:
        is_waiting = now - found > WAITING and not is_busy
        how = f"the worker of work pool {schedule.pool}" if schedule.pool else f"it: make down && {UP}"
        return f"its run of {found:%Y-%m-%d %H:%M} waits, and the worker does not take it. Restart {how}" * is_waiting
    # by UTC: two times of one zone are compared by what the clock shows, and it shows some times twice
    if found.astimezone(UTC) != expected.astimezone(UTC):
        return (
            f"Prefect will start it at {found:%Y-%m-%d %H:%M %Z}, but its cron says {expected:%Y-%m-%d %H:%M %Z}. "
            "Make it again, by the same command"
        )
    return ""
