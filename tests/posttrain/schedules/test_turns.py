"""Which late run still starts."""

from datetime import UTC, datetime, timedelta

import pytest

from posttrain.schedules.turns import ALLOWED, LATE, REPLACED, why_dropped

DUE = datetime(2026, 11, 29, 3, tzinfo=UTC)


def at(minutes):
    return DUE + timedelta(minutes=minutes)


def dropped(now, *busy, following=24 * 60):
    return why_dropped(
        due=DUE,
        now=at(now),
        following=None if following is None else at(following),
        busy=[(at(begun), at(ended)) for begun, ended in busy],
    )


def test_a_run_that_starts_at_once_or_within_what_is_allowed_is_not_late():
    assert dropped(0) == "" and dropped(5) == ""
    assert dropped(5, following=1) == "", "a schedule of one minute does not starve on a slow machine"


def test_a_run_after_an_outage_is_late():
    assert dropped(5.1) == LATE and dropped(360) == LATE
    assert dropped(360, following=None) == LATE


def test_a_run_that_waited_behind_others_is_not():
    assert dropped(120, (-60, 119)) == ""
    assert dropped(120, (0, 60), (60.2, 119)) == "", "one after the other"
    assert dropped(120, (60.2, 119), (0, 60)) == "", "in any order"
    assert dropped(120, (-60, 30), (0, 118)) == "", "side by side"
    assert dropped(120, (0, 118), (10, 20)) == "", "a short one beside a long one"


def test_an_outage_among_the_others_makes_it_late():
    assert dropped(120, (0, 30)) == LATE, "nobody was there for the last hour and a half"
    assert dropped(120, (60, 119)) == LATE, "nobody was there for the first hour"
    assert dropped(120, (0, 30), (90, 119)) == LATE
    assert dropped(120, (-60, -30)) == LATE, "what ended before its time says nothing"


def test_the_next_time_of_its_own_schedule_replaces_one_that_waited():
    assert dropped(120, (0, 119), following=60) == REPLACED
    assert dropped(120, (0, 119), following=120) == REPLACED
    assert dropped(120, (0, 119), following=121) == ""
    assert dropped(120, (0, 119), following=None) == ""


@pytest.mark.parametrize("gap", [ALLOWED, ALLOWED + timedelta(seconds=1)])
def test_a_gap_of_exactly_what_is_allowed_is_none(gap):
    minutes = gap.total_seconds() / 60
    expected = "" if gap == ALLOWED else LATE
    assert dropped(120, (minutes, 119)) == expected
    assert dropped(120, (0, 120 - minutes)) == expected
