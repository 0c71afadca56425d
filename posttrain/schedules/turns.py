"""Whether a run whose time is over still starts: Prefect starts every missed run after an outage, and we drop those."""

from collections.abc import Iterable
from datetime import datetime, timedelta

ALLOWED = timedelta(minutes=5)
"""How long after its time a run may start without being late: a worker asks for work every 10 s, and a busy machine takes a while
to start a process."""
LATE, REPLACED = "late", "replaced"


def why_dropped(
    *,
    due: datetime,
    now: datetime,
    following: datetime | None,
    busy: Iterable[tuple[datetime, datetime]],
    allowed: timedelta = ALLOWED,
) -> str:
    """Return "late" or "replaced" where a run does not start, "" where it does.

    It is late where nobody was at work between its time and now, for longer than `allowed`: machine or worker were off. A run
    that waited for others in front of it is not late. But where the next time of its own schedule has come meanwhile, that run
    does the same, and replaces this one.

    Args:
        due: when it should have started.
        now: the moment.
        following: the next time of its own schedule, None for none.
        busy: beginning and end of the runs that the worker was at work on.
        allowed: how long a worker may do nothing before that counts as an outage.
    """
    if now - due <= allowed:
        return ""
    # walk from its time to now, from one run in front of it to the next
    reached = due
    for begun, ended in sorted(busy):
        if begun - reached > allowed:
            break
        reached = max(reached, ended)
    if now - reached > allowed:
        return LATE
    return REPLACED if following is not None and following <= now else ""
