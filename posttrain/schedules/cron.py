"""The times of a cron expression, in a time zone, as Prefect's scheduler makes them; and expressions that it would misread.

Prefect takes more than it can keep: `@weekly`, six fields and the 31st of February are accepted, and the last never comes.
An expression passes here only where every cron reads it alike.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim, CronSimError

from posttrain.errors import RequestError

FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""What crontab(5) says that each stands for."""
LONGEST_GAP = timedelta(hours=3)
"""More than a clock is ever put forward at once; changes of the date line aside."""
_PLAIN = re.compile(r"[\dA-Za-z*,/-]+")
_NAMES = {"month": "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", "day of the week": "SUN MON TUE WED THU FRI SAT"}
_REMEDY = 'five fields: minute, hour, day of the month, month, day of the week, e.g. CRON="0 3 * * *" for each night at three'


@dataclass(frozen=True)
class Time:
    """A moment at which a schedule runs.

    Attributes:
        at: the moment, in the schedule's zone.
        asked: what the clock should show; another time than `at` where the change to summer time leaves that out.
    """

    at: datetime
    asked: datetime

    @property
    def is_moved(self) -> bool:
        """Return whether the clock never shows the time that was asked for on that day."""
        return self.at.replace(tzinfo=None) != self.asked


def checked_cron(text: str) -> str:
    """Return a cron expression with one space between its fields.

    Args:
        text: five fields of numbers, names, `*`, lists, ranges and steps.

    Raises:
        RequestError: it is none, is read differently by different crons, or has no time at all.
    """
    words = text.split()
    if len(words) == 1 and words[0].startswith("@"):
        meant = ALIASES.get(words[0].lower())
        raise RequestError(f"CRON must have {_REMEDY}, got {text}{f'; write {words[0]} as {meant}' if meant else ''}")
    if len(words) != len(FIELDS):
        seconds = "; there is no field of seconds or years" if len(words) > len(FIELDS) else ""
        raise RequestError(f"CRON must have {_REMEDY}, got {len(words)} in {text!r}{seconds}")
    for name, word in zip(FIELDS, words, strict=True):
        letters = set(re.findall("[A-Za-z]+", word.upper())) - set(_NAMES.get(name, "").split())
        if not _PLAIN.fullmatch(word) or letters:
            raise RequestError(
                f"the {name} of CRON must be of numbers, names of months or days, and the signs * , - /, got {word} in {text!r}"
            )
    _refuse_two_readings(text, words[2], words[4])
    expression = " ".join(words)
    try:
        next(CronSim(expression, datetime(2000, 1, 1)))
    except CronSimError as error:
        where = str(error).removeprefix("Bad ").replace("-", " ")
        raise RequestError(f"CRON must have {_REMEDY}; the {where} of {text!r} is wrong, or no month has it") from None
    except StopIteration:
        raise RequestError(f"CRON must come to a time some day, {text!r} never does") from None
    return expression


def _refuse_two_readings(text: str, day: str, weekday: str) -> None:
    """Refuse a step in one field of days beside a restricted other: some crons want both days, some either."""
    for one, other in ((day, weekday), (weekday, day)):
        if one.startswith("*") and one != "*" and other != "*":
            raise RequestError(
                f"CRON must not have a step ({one}) in one field of days beside another restricted one ({other}), got {text!r}: "
                "some crons run where both hold, others where either does. Make two schedules, or list the days"
            )


def times(cron: str, zone: tzinfo, after: datetime, *, moves_back: bool) -> Iterator[Time]:
    """Yield the times of a schedule, in the order in which the clock should show them.

    A time that the change to summer time leaves out is moved by the length of the gap, forward or back. One that comes twice when
    summer time ends is the first of the two, so no schedule runs twice for one time of the clock.

    Args:
        cron: as `checked_cron` returns it.
        zone: whose clock it reads.
        after: a moment; the first time is later.
        moves_back: whether a time in the gap is moved back. Prefect moves it back on Python 3.11 and 3.12 (02:30 becomes 01:30),
            where it has its calendar from pendulum, and forward on 3.13, where it has it from whenever.

    """
    seen: set[datetime] = set()
    # from before `after`: a time that the gap moves forward is shown earlier on the clock that leaves it out
    start = after.astimezone(zone).replace(tzinfo=None, fold=0) - LONGEST_GAP
    for asked in CronSim(cron, start):
        at = _on_the_clock(asked, zone, moves_back=moves_back)
        moment = at.astimezone(UTC)
        if moment > after and moment not in seen:
            seen.add(moment)
            yield Time(at, asked)


def next_time(cron: str, zone: tzinfo, after: datetime, *, moves_back: bool) -> Time | None:
    """Return the first time after a moment; None where there is none any more. Arguments as `times`."""
    return next(times(cron, zone, after, moves_back=moves_back), None)


def _on_the_clock(asked: datetime, zone: tzinfo, *, moves_back: bool) -> datetime:
    """Return the moment at which a clock shows a time; in a gap, the time moved by the gap's length.

    fold=0 reads a time in the gap with the offset before it, which lies behind the gap; fold=1 with the one after it (PEP 495).
    """
    at = asked.replace(tzinfo=zone, fold=0)
    forward = at.astimezone(UTC).astimezone(zone)
    if forward.replace(tzinfo=None, fold=0) == asked or not moves_back:
        return forward
    return asked.replace(tzinfo=zone, fold=1).astimezone(UTC).astimezone(zone)
