"""`make schedule`: each schedule with its next run in its zone, how the last one went, what was skipped and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from flows.prefect_server import SCHEDULED, STATES, Server, online
from flows.schedule_runs import following, utc_now
from flows.schedules import Kept, all_kept, of_checkout, pool_of
from flows.service_lines import duration
from posttrain.printable import printable
from posttrain.schedules.rules import EVENTS, TIMES
from posttrain.schedules.standing import trouble_of
from tasks.schedules.counts import done_by
from tasks.schedules.turns import wanted_of
from tasks.schedules.zones import zone_of
from tasks.workspace.paths import Paths

SKIPPED = "Skipped"
SHOWN_SKIPS = 3
LOOKED_AT = 20
"""Runs of a schedule that are read to find its last one and what was skipped since."""


@dataclass(frozen=True)
class Past:
    """A run that has ended or is at work.

    Attributes:
        at: when it should have started, UTC.
        state: its name: "Promoted", "Unchanged", "Failed", "Running", "Skipped", …
        says: the message of its state: the result, or the reason.
    """

    at: datetime
    state: str
    says: str


@dataclass(frozen=True)
class Entry:
    """A schedule as the list shows it.

    Attributes:
        kept: what it is, and whether it is paused.
        now: the moment of the list, UTC: two times of one zone are subtracted by what the clock shows.
        expected: its next time by its own cron; None for a trigger, or where there is none.
        found: when Prefect will start its next run; None where there is none.
        runs: its past runs, the newest first.
        done: how many count for RUNS.
        wanted: names of its runs that were merged into one more, which has not started.
        is_served: whether a worker asks for its runs.
        is_busy: whether that worker runs something.
    """

    kept: Kept
    now: datetime
    expected: datetime | None
    found: datetime | None
    runs: tuple[Past, ...] = ()
    done: int = 0
    wanted: tuple[str, ...] = ()
    is_served: bool = True
    is_busy: bool = False

    @property
    def end(self) -> str:
        """Why it makes no further run; "" where it does, or may."""
        at = self.expected if self.kept.schedule.on == TIMES else self.now
        return self.kept.schedule.end(at=at, done=self.done)

    @property
    def trouble(self) -> str:
        """Why it should run and will not; "" where it will, is paused, or has ended."""
        if self.kept.is_paused or self.end:
            return ""
        return trouble_of(
            self.kept.schedule,
            expected=self.expected,
            found=self.found,
            now=self.now,
            age=self.now - self.kept.changed,
            is_served=self.is_served,
            is_busy=self.is_busy,
        )


def entries(server: Server, paths: Paths) -> list[Entry]:
    """Return every schedule of this checkout as it stands; three requests each, and two for each pool."""
    kept = of_checkout(all_kept(server), paths)
    if not kept:
        return []
    now = utc_now()
    workers = {pool: _worker(server, pool) for pool in {pool_of(one.schedule) for one in kept}}
    made = []
    for one in kept:
        is_served, is_busy = workers[pool_of(one.schedule)]
        made.append(_entry(server, paths, one, now=now, is_served=is_served, is_busy=is_busy))
    return made


def _entry(server: Server, paths: Paths, kept: Kept, *, now: datetime, is_served: bool, is_busy: bool) -> Entry:
    schedule = kept.schedule
    later = following(schedule, now)
    ahead, past = runs_of(server, kept)
    zone = zone_of(schedule.zone)
    wanted = [run for one in wanted_of(paths, schedule.dataset) if one.deployment == str(kept.deployment) for run in one.runs]
    return Entry(
        kept=kept,
        now=now,
        expected=later.at if later else None,
        found=ahead.astimezone(zone) if ahead else None,
        runs=past,
        done=done_by(paths, schedule.name),
        wanted=tuple(wanted),
        is_served=is_served,
        is_busy=is_busy,
    )


def runs_of(server: Server, kept: Kept) -> tuple[datetime | None, tuple[Past, ...]]:
    """Return when the next run of a schedule starts, and its past runs, the newest first."""
    ahead = server.read_flow_runs(deployment=kept.deployment, states=[SCHEDULED], sort="NEXT_SCHEDULED_START_TIME_ASC", limit=1)
    past = server.read_flow_runs(
        deployment=kept.deployment,
        states=[state for state in STATES if state != SCHEDULED],
        sort="EXPECTED_START_TIME_DESC",
        limit=LOOKED_AT,
    )
    told = (
        Past(run.expected_start_time, run.state.name, run.state.message) for run in past if run.state and run.expected_start_time
    )
    return (ahead[0].next_scheduled_start_time if ahead else None), tuple(told)


def _worker(server: Server, pool: str) -> tuple[bool, bool]:
    """Return whether a worker asks for runs of a pool, and whether it has one at work."""
    workers = server.read_workers(pool)
    if workers is None:  # no worker has made the pool yet
        return False, False
    return online(workers), bool(server.read_flow_runs(pool=pool, states=["RUNNING", "PENDING"], limit=1))


# --- what is printed --------------------------------------------------------------------------------------------------


def as_lines(found: Sequence[Entry]) -> list[str]:
    """Return the list as text; a line that begins with "!" tells of something wrong."""
    if not found:
        return ['there is no schedule yet. Make one: make schedule METHOD=dpo CRON="0 3 * * *" DATA=mine']
    return [line for entry in found for line in _lines(entry)]


def _lines(entry: Entry) -> list[str]:
    schedule = entry.kept.schedule
    zone = zone_of(schedule.zone)
    lines = [f"{schedule.name}: {schedule.command}", f"  {_starts(entry)}; {_next(entry)}"]
    lines += [f"  ! {entry.trouble}"] if entry.trouble else []
    last = next((run for run in entry.runs if run.state != SKIPPED), None)
    lines.append(f"  last: {_past(last, zone)}" if last else "  last: none yet")
    skipped = [run for run in entry.runs if run.state == SKIPPED and (last is None or run.at > last.at)]
    lines += [f"  skipped: {_past(run, zone, with_state=False)}" for run in skipped[:SHOWN_SKIPS]]
    if len(skipped) > SHOWN_SKIPS:
        lines.append(f"  skipped: {len(skipped) - SHOWN_SKIPS} more since the last one")
    if entry.wanted:
        lines.append(f"  wanted: one more run, for {', '.join(entry.wanted)}; it starts when the one at work has ended")
    return [printable(line) for line in lines]


def _starts(entry: Entry) -> str:
    schedule = entry.kept.schedule
    if schedule.on == TIMES:
        how = f'"{schedule.cron}" in {schedule.zone}'
    else:
        how = f"on {EVENTS[schedule.on]} of dataset.{schedule.dataset}"
    ends = [f"until {schedule.until}"] if schedule.until else []
    ends += [f"{entry.done} of {schedule.runs} runs made"] if schedule.runs else []
    ends += [f"on work pool {schedule.pool}"] if schedule.pool else []
    ends += ["missed times are caught up"] if schedule.is_caught_up else []
    return "; ".join([how, *ends])


def _next(entry: Entry) -> str:
    """Say when the next run starts: by Prefect, else by the cron, where Prefect has not made the run yet."""
    if entry.end:
        return f"ended: {entry.end}"
    if entry.kept.is_paused:
        return f"paused; to go on: make schedule RESUME={entry.kept.schedule.name}"
    if entry.kept.schedule.on != TIMES:
        return "waits for its event"
    at = entry.found or entry.expected
    if at is None:
        return "no next run"
    if at <= entry.now:
        return f"next {at:%a %Y-%m-%d %H:%M %Z}, which is now"
    return f"next {at:%a %Y-%m-%d %H:%M %Z}, in {duration((at - entry.now).total_seconds())}"


def _past(run: Past, zone: ZoneInfo, *, with_state: bool = True) -> str:
    told = [run.state] if with_state else []
    return ": ".join([f"{run.at.astimezone(UTC).astimezone(zone):%Y-%m-%d %H:%M %Z}", *told, *([run.says] if run.says else [])])
