"""`make schedule`: next runs over changes of summer time, as Prefect makes them; results, skips, and what is wrong."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from flows import schedule_list as subject
from flows.schedule_list import as_lines, entries
from flows.schedule_runs import MOVES_BACK
from posttrain.schedules.cron import times
from tasks.schedules.counts import count_run
from tasks.schedules.turns import Wanted, ask
from tasks.workspace.paths import Paths
from tests.flows.fake_prefect import NOW, FakeClient, nightly, past

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Sao_Paulo", "Asia/Kolkata")
CRONS = ("0 3 * * *", "30 2 * * *", "15 * * * *", "*/20 1-3 * * *", "0 6 * * mon-fri", "0 0 1 * 1", "0 22 * * 5-7", "0 0 */2 * *")
CHANGES = (
    datetime(2026, 10, 24, 11, 7, tzinfo=UTC),
    datetime(2026, 10, 31, 19, 7, tzinfo=UTC),
    datetime(2027, 3, 13, 19, 7, tzinfo=UTC),
    datetime(2027, 3, 27, 11, 7, tzinfo=UTC),
    datetime(2027, 4, 3, 3, 7, tzinfo=UTC),
    datetime(2027, 4, 29, 3, 7, tzinfo=UTC),
)
"""Shortly before the clocks of some zone are changed, and not on a time of a schedule."""


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


def prefects(cron, zone, after, count):
    """Return the times that Prefect's own scheduler makes."""
    from prefect.server.schemas.schedules import CronSchedule

    return asyncio.run(CronSchedule(cron=cron, timezone=zone).get_dates(n=count, start=after))


def listed(paths, monkeypatch, *schedules, now=NOW, ahead=None, behind=(), **client_has):
    client = FakeClient()
    for schedule in schedules:
        client.add(schedule, root=paths.root.resolve())
    for name, value in client_has.items():
        setattr(client, name, value)
    by_deployment = dict(zip(client.deployments, schedules, strict=True))

    def runs(query):
        if "pool" in query:
            return []
        key = query["deployment"]
        if query["states"] != ["SCHEDULED"]:
            return list(behind)
        at = ahead(by_deployment[key]) if callable(ahead) else ahead
        return [SimpleNamespace(next_scheduled_start_time=at)] if at else []

    client.runs = runs
    monkeypatch.setattr(subject, "utc_now", lambda: now)
    return entries(client, paths)


@pytest.mark.parametrize("now", CHANGES)
def test_every_schedule_has_a_next_run_whose_time_is_right_in_its_zone_over_a_change_of_summer_time(paths, monkeypatch, now):
    schedules = [nightly(name=f"s{i}-{j}", cron=cron, zone=zone) for i, cron in enumerate(CRONS) for j, zone in enumerate(ZONES)]
    found = listed(paths, monkeypatch, *schedules, now=now, ahead=lambda one: prefects(one.cron, one.zone, now, 1)[0])
    assert len(found) == len(schedules) and [entry.trouble for entry in found if entry.trouble] == []
    for entry in found:
        zone = ZoneInfo(entry.kept.schedule.zone)
        at = prefects(entry.kept.schedule.cron, entry.kept.schedule.zone, now, 1)[0].astimezone(zone)
        assert f"next {at:%a %Y-%m-%d %H:%M %Z}, in " in "\n".join(as_lines([entry]))


@pytest.mark.parametrize("now", CHANGES)
@pytest.mark.parametrize("zone", ZONES)
def test_our_times_are_those_of_prefects_scheduler(now, zone):
    for cron in CRONS:
        ours = [time.at.isoformat() for time in islice(times(cron, ZoneInfo(zone), now, moves_back=MOVES_BACK), 12)]
        theirs = [time.isoformat() for time in prefects(cron, zone, now, 12)]
        assert ours == theirs, f"{cron} in {zone} after {now}"


def test_one_that_prefect_would_start_at_another_time_is_told(paths, monkeypatch):
    wrong = datetime(2026, 11, 30, 4, tzinfo=UTC)  # an hour off, as a zone that was lost would be
    (entry,) = listed(paths, monkeypatch, nightly(), ahead=wrong)
    assert "  ! Prefect will start it at 2026-11-30 04:00 UTC, but its cron says 2026-11-30 03:00 UTC." in "\n".join(
        as_lines([entry])
    )


def test_the_night_of_a_change_is_23_hours_long(paths, monkeypatch):
    saturday = datetime(2027, 3, 27, 2, tzinfo=UTC)  # 03:00 CET; three in the morning comes again after 23 hours
    sunday = datetime(2027, 3, 28, 1, tzinfo=UTC)
    found = listed(paths, monkeypatch, nightly(zone="Europe/Berlin"), now=saturday, ahead=sunday)
    assert as_lines(found)[1].endswith("next Sun 2027-03-28 03:00 CEST, in 23 h 0 min") and found[0].trouble == ""


def test_the_second_of_a_time_that_comes_twice_is_not_the_first(paths, monkeypatch):
    now = datetime(2026, 10, 24, 11, tzinfo=UTC)
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # 02:30 CET, an hour after 02:30 CEST
    (entry,) = listed(paths, monkeypatch, nightly(cron="30 2 * * *", zone="Europe/Berlin"), now=now, ahead=second)
    assert entry.trouble.startswith("Prefect will start it at 2026-10-25 02:30 CET, but its cron says 2026-10-25 02:30 CEST.")


def test_the_list_of_a_schedule(paths, monkeypatch):
    behind = [
        past(NOW - timedelta(hours=1), "Skipped", "its time was over"),
        past(NOW - timedelta(hours=9), "Unchanged", "nothing changed since version 3"),
        past(NOW - timedelta(hours=10), "Skipped", "before the last one"),
    ]
    count_run(paths, "nightly")
    schedule = nightly(zone="Europe/Berlin", runs=10, until="2027-01-01T23:59:59+01:00", is_caught_up=True)
    found = listed(paths, monkeypatch, schedule, ahead=datetime(2026, 11, 30, 2, tzinfo=UTC), behind=behind)
    assert as_lines(found) == [
        "nightly: make retrain METHOD=dpo DATA=mine",
        '  "0 3 * * *" in Europe/Berlin; until 2027-01-01T23:59:59+01:00; 1 of 10 runs made; missed times are caught up; '
        "next Mon 2026-11-30 03:00 CET, in 14 h 0 min",
        "  last: 2026-11-29 04:00 CET: Unchanged: nothing changed since version 3",
        "  skipped: 2026-11-29 12:00 CET: its time was over",
    ]


def test_many_skips_are_counted(paths, monkeypatch):
    behind = [past(NOW - timedelta(hours=hours), "Skipped", f"reason {hours}") for hours in range(1, 6)]
    lines = as_lines(listed(paths, monkeypatch, nightly(), ahead=datetime(2026, 11, 30, 3, tzinfo=UTC), behind=behind))
    assert lines[2] == "  last: none yet" and lines[-1] == "  skipped: 2 more since the last one" and len(lines) == 7


def test_one_that_is_paused_ended_or_waits_for_an_event(paths, monkeypatch):
    (entry,) = listed(paths, monkeypatch, nightly())
    assert entry.trouble.startswith("Prefect's scheduler has made no run for it.")
    paused = subject.Entry(subject.Kept(entry.kept.deployment, nightly(), True, "", NOW), NOW, None, None)
    assert paused.trouble == ""
    (paused,) = [subject.Entry(subject.Kept(entry.kept.deployment, nightly(), True, "", NOW), NOW, NOW + timedelta(days=1), None)]
    assert as_lines([paused])[1] == '  "0 3 * * *" in UTC; paused; to go on: make schedule RESUME=nightly'
    count_run(paths, "nightly")
    (ended,) = listed(paths, monkeypatch, nightly(runs=1))
    assert ended.trouble == "" and as_lines([ended])[1].endswith("ended: it has made its 1 run (RUNS=1)")
    (waits,) = listed(paths, monkeypatch, nightly(name="t", on="data", cron=""))
    assert waits.trouble == "" and as_lines([waits])[1] == "  on dataset.updated of dataset.mine; waits for its event"


def test_without_a_worker(paths, monkeypatch):
    (entry,) = listed(paths, monkeypatch, nightly(), ahead=datetime(2026, 11, 30, 3, tzinfo=UTC), workers=[])
    assert entry.trouble == "no worker asks for its runs. Start one: make up"
    offline = [SimpleNamespace(status="OFFLINE")]
    (entry,) = listed(paths, monkeypatch, nightly(), ahead=datetime(2026, 11, 30, 3, tzinfo=UTC), workers=offline)
    assert entry.trouble == "no worker asks for its runs. Start one: make up"


def test_a_year_ahead_prefect_has_no_run_yet_and_the_list_says_when_it_comes(paths, monkeypatch):
    (entry,) = listed(paths, monkeypatch, nightly(cron="0 3 1 10 *"))
    assert entry.trouble == "" and "next Fri 2027-10-01 03:00 UTC, in 305 d 15 h" in as_lines([entry])[1]


def test_a_request_that_waits_is_told(paths, monkeypatch):
    (entry,) = listed(paths, monkeypatch, nightly(), ahead=datetime(2026, 11, 30, 3, tzinfo=UTC))
    ask(paths, "mine", Wanted(str(entry.kept.deployment), "data", {}, ("nightly-1", "nightly-2")))
    ask(paths, "mine", Wanted("another", "data", {}, ("other-1",)))
    (entry,) = listed(paths, monkeypatch, nightly(), ahead=datetime(2026, 11, 30, 3, tzinfo=UTC))
    last = as_lines([entry])[-1]
    assert last == "  wanted: one more run, for nightly-1, nightly-2; it starts when the one at work has ended"


def test_no_schedule_and_those_of_another_checkout(paths, tmp_path):
    client = FakeClient()
    client.add(nightly(), root=tmp_path / "other")
    assert entries(client, paths) == []
    assert as_lines([]) == ['there is no schedule yet. Make one: make schedule METHOD=dpo CRON="0 3 * * *" DATA=mine']
