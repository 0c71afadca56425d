"""What a schedule is, when it ends, and its record."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from posttrain.errors import RequestError
from posttrain.schedules.rules import Schedule, checked_name, checked_runs, checked_until, default_name, with_settings

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def schedule(**other):
    told = {
        "name": "nightly",
        "verb": "retrain",
        "dataset": "mine",
        "words": ("method=dpo", "data.name=mine"),
        "cron": "0 3 * * *",
    }
    return Schedule(**(told | other))


def test_a_record_gives_the_schedule_again():
    made = schedule(until="2027-01-01T23:59:59+01:00", runs=3, is_caught_up=True, zone="Europe/Berlin")
    assert Schedule.from_record(made.as_record()) == made
    assert Schedule.from_record(made.as_record() | {"later": 1}) == made
    assert made.as_record()["words"] == ["method=dpo", "data.name=mine"]
    with pytest.raises(TypeError):
        Schedule.from_record({"name": "x"})


@pytest.mark.parametrize(
    ("words", "verb", "command"),
    [
        (("method=dpo", "data.name=mine"), "retrain", "make retrain METHOD=dpo DATA=mine"),
        (
            ("method=dpo", "data.name=mine", "dpo.beta=0.2", "seed=1"),
            "retrain",
            "make retrain METHOD=dpo DATA=mine SET='dpo.beta=0.2 seed=1'",
        ),
        (("file=my prompts.txt", "data.name=mine"), "monitor", "make monitor FILE='my prompts.txt' DATA=mine"),
    ],
)
def test_its_command_is_as_one_types_it(words, verb, command):
    assert schedule(words=words, verb=verb).command == command


def test_it_ends_after_its_runs_or_its_last_moment():
    later = NOW + timedelta(days=1)
    assert schedule().end(at=later, done=10_000) == ""
    assert schedule(runs=2).end(at=later, done=1) == ""
    assert schedule(runs=2).end(at=later, done=2) == "it has made its 2 runs (RUNS=2)"
    assert schedule(runs=1).end(at=later, done=1) == "it has made its 1 run (RUNS=1)"
    until = later.isoformat()
    assert schedule(until=until).end(at=later, done=0) == ""
    assert schedule(until=until).end(at=later + timedelta(seconds=1), done=0) == f"its end is over (UNTIL={until})"
    assert schedule().end(at=None, done=0) == "it has no further time"
    assert schedule(on="data", cron="").end(at=None, done=0) == ""


def test_names():
    assert default_name("retrain", "mine", "dpo", "times") == "mine-dpo"
    assert default_name("retrain", "mine", "dpo", "data") == "mine-dpo-on-data"
    assert default_name("monitor", "mine", "dpo", "times") == "mine-monitor"
    assert checked_name("a.b-c_9") == "a.b-c_9"
    for name in ("", "-a", "a b", "a/b", "x" * 61):
        with pytest.raises(RequestError, match="NAME must be of letters"):
            checked_name(name)


def test_runs():
    assert checked_runs("") == 0 and checked_runs("10") == 10 and checked_runs("1000000") == 1_000_000
    for text in ("0", "-1", "1.5", "many", "1000001", "9" * 30):
        with pytest.raises(RequestError) as error:
            checked_runs(text)
        assert str(error.value) == f"RUNS must be a whole number from 1 to 1,000,000, got {text}"


def test_a_date_counts_with_its_whole_day_in_the_zone():
    assert checked_until("", BERLIN, now=NOW) == ""
    assert checked_until("2027-01-01", BERLIN, now=NOW) == "2027-01-01T23:59:59+01:00"
    assert checked_until("2027-07-01", BERLIN, now=NOW) == "2027-07-01T23:59:59+02:00"
    assert checked_until("2027-01-01T12:00", BERLIN, now=NOW) == "2027-01-01T12:00:00+01:00"
    assert checked_until("2027-01-01T00:00", BERLIN, now=NOW) == "2027-01-01T00:00:00+01:00"
    assert checked_until("2027-01-01T12:00+00:00", BERLIN, now=NOW) == "2027-01-01T12:00:00+00:00"
    assert checked_until("2026-11-29", BERLIN, now=NOW) == "2026-11-29T23:59:59+01:00", "the rest of today"


def test_an_end_that_is_over_or_none_is_refused():
    with pytest.raises(RequestError) as error:
        checked_until("2026-11-28", BERLIN, now=NOW)
    assert str(error.value) == "UNTIL must lie in the future, got 2026-11-28, which is 2026-11-28T23:59:59+01:00"
    with pytest.raises(RequestError) as error:
        checked_until("tomorrow", BERLIN, now=NOW)
    assert str(error.value) == "UNTIL must be a date, or a date and a time: 2027-01-01 or 2027-01-01T12:00, got tomorrow"


def test_defaults_of_today_are_written_out():
    assert with_settings(("seed=1",), {"method": "dpo"}) == ("method=dpo", "seed=1")
    assert with_settings(("method=sft",), {"method": "dpo"}) == ("method=sft",)
