"""`make schedule`: list schedules, make or replace one, pause, resume or delete one."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from flows.prefect_server import Server, online
from flows.schedule_list import as_lines, entries
from flows.schedule_request import Asked, check_runnable, read_asked, schedule_of
from flows.schedule_runs import MOVES_BACK, utc_now
from flows.schedules import connected, delete, named, save, set_paused
from posttrain.schedules.cron import Time, times
from posttrain.schedules.rules import DATA, EVENTS, TIMES, Schedule
from tasks.data.announced import mark_announced
from tasks.schedules.counts import forget_runs
from tasks.schedules.zones import zone_of
from tasks.services.notes import WORKER, running
from tasks.workspace.paths import Paths

if TYPE_CHECKING:
    from flows.start import Start

Say = Callable[[str], None]
SHOWN_TIMES = 5
LOOKED_AHEAD = 800
"""Times that are looked at for changes of summer time: a year and more of a schedule that runs twice a day."""


def schedule(paths: Paths, words: Sequence[str], start: "Start") -> None:
    """Do what the words ask for.

    Raises:
        PosttrainError: they cannot be done, or what they ask for would fail on its first run.
    """
    asked = read_asked(words)
    if asked.given is None:
        start.prepare(start.configuration([]))
        with connected(paths) as server:
            if asked.move:
                print(_moved(server, paths, asked))
            else:
                print("\n".join(as_lines(entries(server, paths))))
        return
    _make(paths, asked, start)


def _moved(server: Server, paths: Paths, asked: Asked) -> str:
    """Pause, resume or delete a schedule, and say so."""
    kept = named(server, paths, asked.name)
    if asked.move == "delete":
        delete(server, kept)
        forget_runs(paths, asked.name)
        return f"schedule {asked.name} is deleted; a run that is at work goes on"
    set_paused(server, kept, asked.move == "pause")
    if asked.move == "pause":
        return f"schedule {asked.name} is paused; a run that is at work goes on. To go on: make schedule RESUME={asked.name}"
    return f"schedule {asked.name} goes on; make schedule shows its next run"


def _make(paths: Paths, asked: Asked, start: "Start") -> None:
    """Check everything, then make the schedule, and print its times."""
    config = start.configuration(asked.settings)
    made = schedule_of(asked, config, now=utc_now(), moves_back=MOVES_BACK)
    start.prepare(config)
    with connected(paths) as server:  # before the checks, which take longer
        is_served = online(server.read_workers(made.pool) or []) if made.pool else bool(running(paths, WORKER))
    md5 = check_runnable(paths, made, config, start.say)
    if made.on == DATA:
        mark_announced(paths, {made.dataset: md5})  # it waits for the next version; this one is no news
    with connected(paths) as server:
        save(server, paths, made, config)
    forget_runs(paths, made.name)
    print("\n".join(_told(made, utc_now())))
    for line in _notes(made, utc_now()):
        start.say(line)
    if not is_served:
        where = f"asks for runs of work pool {made.pool}" if made.pool else "runs in this folder"
        how = "what make deploy printed" if made.pool else "make up"
        start.say(f"note: no worker {where}; without one nothing starts. Start it: {how}")


def _told(made: Schedule, now: datetime) -> list[str]:
    if made.on != TIMES:
        return [f"schedule {made.name}: {made.command}", f"  on {EVENTS[made.on]} of dataset.{made.dataset}"]
    coming = list(islice(_times(made, now), SHOWN_TIMES))
    return [
        f"schedule {made.name}: {made.command}",
        f'  "{made.cron}" in {made.zone}, next:',
        *(f"  {time.at:%a %Y-%m-%d %H:%M %Z}" for time in coming),
    ]


def _notes(made: Schedule, now: datetime) -> list[str]:
    """Tell of the next time that the clock never shows."""
    if made.on != TIMES:
        return []
    moved = next((time for time in islice(_times(made, now), LOOKED_AHEAD) if time.is_moved), None)
    if moved is None:
        return []
    return [
        f"note: {made.zone} has no {moved.asked:%H:%M} on {moved.asked:%Y-%m-%d}, when its clocks are put forward: "
        f"that run starts at {moved.at:%H:%M %Z}"
    ]


def _times(made: Schedule, now: datetime) -> Iterator[Time]:
    """Yield the times until the schedule ends."""
    found = times(made.cron, zone_of(made.zone), now, moves_back=MOVES_BACK)
    until = datetime.fromisoformat(made.until) if made.until else None
    return islice(takewhile(lambda time: until is None or time.at <= until, found), made.runs or None)
