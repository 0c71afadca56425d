"""Times of a cron expression by hand, over changes of summer time, and the expressions that are refused."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.errors import RequestError
from posttrain.schedules.cron import checked_cron, next_time, times

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
SPRING = datetime(2027, 3, 27, 12, tzinfo=UTC)
"""The day before clocks in Berlin go from 02:00 CET (+1) to 03:00 CEST (+2): 2027-03-28 01:00 UTC."""
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)
"""The day before they go from 03:00 CEST back to 02:00 CET: 2026-10-25 01:00 UTC."""


def coming(cron, zone, after, count=3, *, moves_back=True):
    return [time.at.isoformat() for time in islice(times(cron, zone, after, moves_back=moves_back), count)]


def test_three_in_the_morning_is_three_on_the_clock_over_both_changes():
    # the nights are 24 h, 23 h and 25 h long; the clock says three after each
    assert coming("0 3 * * *", BERLIN, SPRING) == [
        "2027-03-28T03:00:00+02:00",
        "2027-03-29T03:00:00+02:00",
        "2027-03-30T03:00:00+02:00",
    ]
    assert coming("0 3 * * *", BERLIN, AUTUMN, 2) == ["2026-10-25T03:00:00+01:00", "2026-10-26T03:00:00+01:00"]
    first, second = islice(times("0 3 * * *", BERLIN, AUTUMN - timedelta(days=1), moves_back=True), 2)
    assert second.at.astimezone(UTC) - first.at.astimezone(UTC) == timedelta(hours=25)


@pytest.mark.parametrize(
    ("moves_back", "at"),
    # half past two is left out: the gap of an hour moves it to half past one, or to half past three
    [(True, "2027-03-28T01:30:00+01:00"), (False, "2027-03-28T03:30:00+02:00")],
)
def test_a_time_that_the_clock_leaves_out_is_moved_by_the_gap(moves_back, at):
    first, second = islice(times("30 2 * * *", BERLIN, SPRING, moves_back=moves_back), 2)
    assert first.at.isoformat() == at and first.is_moved and first.asked == datetime(2027, 3, 28, 2, 30)
    assert second.at.isoformat() == "2027-03-29T02:30:00+02:00" and not second.is_moved


def test_a_time_that_is_moved_forward_is_found_from_within_the_gap():
    # 01:10 UTC is 03:10 CEST, a while after the clock was put forward; 02:30 was never shown and comes at 03:30
    after = datetime(2027, 3, 28, 1, 10, tzinfo=UTC)
    assert coming("30 2 * * *", BERLIN, after, 1, moves_back=False) == ["2027-03-28T03:30:00+02:00"]
    assert coming("30 2 * * *", BERLIN, after, 1, moves_back=True) == ["2027-03-29T02:30:00+02:00"]


def test_a_time_that_comes_twice_runs_once_at_the_first():
    assert coming("30 2 * * *", BERLIN, AUTUMN, 2) == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    # 00:40 UTC is 02:40 CEST, behind the first 02:30 and before the second
    assert coming("30 2 * * *", BERLIN, datetime(2026, 10, 25, 0, 40, tzinfo=UTC), 1) == ["2026-10-26T02:30:00+01:00"]


def test_each_hour_has_one_run_and_a_moved_one_falls_together_with_its_neighbour():
    assert coming("15 * * * *", BERLIN, datetime(2027, 3, 27, 23, 30, tzinfo=UTC)) == [
        "2027-03-28T01:15:00+01:00",  # 02:15 is moved back on this one
        "2027-03-28T03:15:00+02:00",
        "2027-03-28T04:15:00+02:00",
    ]
    assert coming("15 * * * *", BERLIN, datetime(2026, 10, 24, 23, 30, tzinfo=UTC)) == [
        "2026-10-25T02:15:00+02:00",
        "2026-10-25T03:15:00+01:00",  # two hours later: the second 02:15 is not run again
        "2026-10-25T04:15:00+01:00",
    ]


def test_a_gap_of_half_an_hour_and_one_at_midnight():
    # Lord Howe Island: 02:00 +10:30 becomes 02:30 +11. Cairo: 2027-04-30 00:00 +02 becomes 01:00 +03
    assert coming("15 2 * * *", ZoneInfo("Australia/Lord_Howe"), datetime(2026, 10, 3, 12, tzinfo=UTC), 1) == [
        "2026-10-04T01:45:00+10:30"
    ]
    cairo = coming("30 0 * * *", ZoneInfo("Africa/Cairo"), datetime(2027, 4, 28, 12, tzinfo=UTC))
    assert cairo == ["2027-04-29T00:30:00+02:00", "2027-04-29T23:30:00+02:00", "2027-05-01T00:30:00+03:00"]


def test_the_first_time_is_later_than_the_moment():
    three = datetime(2026, 11, 29, 3, tzinfo=UTC)
    assert coming("0 3 * * *", UTC, three, 1) == ["2026-11-30T03:00:00+00:00"]
    assert coming("0 3 * * *", UTC, three - timedelta(seconds=1), 1) == ["2026-11-29T03:00:00+00:00"]


def test_the_29th_of_february_comes_in_leap_years():
    assert coming("0 0 29 2 *", UTC, datetime(2026, 1, 1, tzinfo=UTC), 2) == [
        "2028-02-29T00:00:00+00:00",
        "2032-02-29T00:00:00+00:00",
    ]
    assert next_time("0 0 29 2 *", UTC, datetime(2026, 1, 1, tzinfo=UTC), moves_back=True).at.year == 2028


@given(minute=st.integers(0, 59), hour=st.integers(0, 23), day=st.integers(0, 800), zone=st.sampled_from([BERLIN, NEW_YORK, UTC]))
@settings(max_examples=60, deadline=None)
def test_a_daily_schedule_shows_its_time_on_every_day_but_where_it_is_moved(minute, hour, day, zone):
    after = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)
    found = list(islice(times(f"{minute} {hour} * * *", zone, after, moves_back=True), 4))
    moments = [time.at.astimezone(UTC) for time in found]
    assert moments == sorted(set(moments)) and moments[0] > after
    for time in found:
        assert (time.at.hour, time.at.minute) == (hour, minute) or time.is_moved
    assert all(timedelta(hours=21) < late - early < timedelta(hours=27) for early, late in pairwise(moments))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (" 0  3 * * * ", "0 3 * * *"),
        ("*/15 9-17 * * mon-fri", "*/15 9-17 * * mon-fri"),
        ("0 0 1,15 * *", "0 0 1,15 * *"),
        ("0 0 1 * 1", "0 0 1 * 1"),
        ("0 0 */2 * *", "0 0 */2 * *"),
        ("0 4 * JAN,jul 7", "0 4 * JAN,jul 7"),
    ],
)
def test_what_every_cron_reads_alike_is_taken(text, read):
    assert checked_cron(text) == read


FIVE = 'five fields: minute, hour, day of the month, month, day of the week, e.g. CRON="0 3 * * *" for each night at three'
PLAIN = "must be of numbers, names of months or days, and the signs * , - /"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@weekly", f"CRON must have {FIVE}, got @weekly; write @weekly as 0 0 * * 0"),
        ("@reboot", f"CRON must have {FIVE}, got @reboot"),
        ("0 3 * *", f"CRON must have {FIVE}, got 4 in '0 3 * *'"),
        ("0 0 3 * * *", f"CRON must have {FIVE}, got 6 in '0 0 3 * * *'; there is no field of seconds or years"),
        ("", f"CRON must have {FIVE}, got 0 in ''"),
        ("61 3 * * *", f"CRON must have {FIVE}; the minute of '61 3 * * *' is wrong, or no month has it"),
        ("0 24 * * *", f"CRON must have {FIVE}; the hour of '0 24 * * *' is wrong, or no month has it"),
        ("0 0 31 2 *", f"CRON must have {FIVE}; the day of month of '0 0 31 2 *' is wrong, or no month has it"),
        ("0 0 31 4,6 *", f"CRON must have {FIVE}; the day of month of '0 0 31 4,6 *' is wrong, or no month has it"),
        ("0 0 * 13 *", f"CRON must have {FIVE}; the month of '0 0 * 13 *' is wrong, or no month has it"),
        ("0 0 * * 8", f"CRON must have {FIVE}; the day of week of '0 0 * * 8' is wrong, or no month has it"),
        ("*/0 * * * *", f"CRON must have {FIVE}; the minute of '*/0 * * * *' is wrong, or no month has it"),
        (
            "0 0 L * *",
            f"the day of the month of CRON {PLAIN}, got L in '0 0 L * *'",
        ),
        (
            "0 0 * * 1#2",
            f"the day of the week of CRON {PLAIN}, got 1#2 in '0 0 * * 1#2'",
        ),
        (
            "H 3 * * *",
            f"the minute of CRON {PLAIN}, got H in 'H 3 * * *'",
        ),
        (
            "0 0 */2 * 1",
            "CRON must not have a step (*/2) in one field of days beside another restricted one (1), got '0 0 */2 * 1': "
            "some crons run where both hold, others where either does. Make two schedules, or list the days",
        ),
    ],
)
def test_what_is_no_time_or_is_read_differently_is_refused(text, said):
    with pytest.raises(RequestError) as error:
        checked_cron(text)
    assert str(error.value) == said
