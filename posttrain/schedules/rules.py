"""What a schedule is: what it runs, when, and when it ends. Its record is kept in Prefect's deployment, in the parameters."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, time, timedelta, tzinfo
from shlex import quote
from typing import Any

from posttrain.errors import RequestError

RETRAIN, MONITOR = "retrain", "monitor"
TIMES, DATA, DRIFT = "times", "data", "drift"
"""What starts a run: times of the clock, a new version of the data, a drift alarm."""
EVENTS = {DATA: "dataset.updated", DRIFT: "posttrain.drift"}
"""The event of Prefect that each trigger waits for; its resource is `dataset.<name>`."""
OWN = ("method=", "file=", "format=", "map=")
"""Words of the verbs themselves among the settings."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,59}")


@dataclass(frozen=True)
class Schedule:
    """A schedule or a trigger.

    Attributes:
        name: of it, and of its deployment.
        verb: that it runs: "retrain" or "monitor".
        dataset: of which; one retraining of a dataset runs at a time.
        words: of the verb, as `python -m flows` takes them: settings, and what a check reads ("file=prompts.jsonl").
        on: what starts it: "times", "data" or "drift".
        cron: its five fields; "" for a trigger.
        zone: name of the time zone in which it is read.
        until: no run starts later than this moment, ISO 8601; "" for no end.
        runs: how many runs it makes in all; 0 for no end. A run that is skipped is none.
        is_caught_up: whether runs whose time is long over are made up for.
        pool: the work pool whose workers run it; "" for that of the worker of this machine.
    """

    name: str
    verb: str
    dataset: str
    words: tuple[str, ...]
    on: str = TIMES
    cron: str = ""
    zone: str = "UTC"
    until: str = ""
    runs: int = 0
    is_caught_up: bool = False
    pool: str = ""

    def as_record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "words": list(self.words)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Schedule":
        """Return the schedule that a record tells; fields that a later version may add are left out.

        Raises:
            TypeError: a field is missing.
        """
        known = {name: value for name, value in record.items() if name in cls.__dataclass_fields__}
        made = cls(**known)
        return replace(made, words=tuple(made.words))

    @property
    def command(self) -> str:
        """Return what it runs, as one types it."""
        own = [word.partition("=") for word in self.words if word.startswith(OWN)]
        rest = [word for word in self.words if not word.startswith((*OWN, "data.name="))]
        told = [f"{name.upper()}={quote(value)}" for name, _, value in own if value]
        settings = [f"SET={quote(' '.join(rest))}"] if rest else []
        return " ".join([f"make {self.verb}", *told, f"DATA={self.dataset}", *settings])

    def end(self, *, at: datetime | None, done: int) -> str:
        """Return why no further run starts, "" where one may.

        Args:
            at: the moment of the next one; None where there is none.
            done: how many runs it has made.
        """
        if self.runs and done >= self.runs:
            return f"it has made its {self.runs} run{'s' if self.runs > 1 else ''} (RUNS={self.runs})"
        if self.until and at is not None and at > datetime.fromisoformat(self.until):
            return f"its end is over (UNTIL={self.until})"
        return "it has no further time" if at is None and self.on == TIMES else ""


def default_name(verb: str, dataset: str, method: str, on: str) -> str:
    """Return the name of a schedule that is given none: one a dataset, method and kind, so that making it again replaces it."""
    return "-".join([dataset, verb if verb == MONITOR else method, *([f"on-{on}"] if on != TIMES else [])])


def checked_name(name: str) -> str:
    """Return a name that can be one of a schedule.

    Raises:
        RequestError: it cannot.
    """
    if not NAME.fullmatch(name):
        raise RequestError(f"NAME must be of letters, digits and ._-, at most 60, and begin with a letter or digit, got {name!r}")
    return name


def checked_runs(text: str) -> int:
    """Return how many runs a schedule makes, 0 for no end.

    Raises:
        RequestError: it is no whole number from 1 to a million.
    """
    if not text:
        return 0
    if not text.isdecimal() or not 1 <= int(text[:9]) <= 1_000_000:
        raise RequestError(f"RUNS must be a whole number from 1 to 1,000,000, got {text}")
    return int(text)


def checked_until(text: str, zone: tzinfo, *, now: datetime) -> str:
    """Return the last moment at which a run may start, with its offset from UTC; "" for no end.

    Args:
        text: a date, whose whole day counts, or a date and a time: 2027-01-01T12:00. Both are of the zone.
        zone: of the schedule.
        now: the moment; an end before it is refused.

    Raises:
        RequestError: it is neither, or over.
    """
    if not text:
        return ""
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise RequestError(f"UNTIL must be a date, or a date and a time: 2027-01-01 or 2027-01-01T12:00, got {text}") from None
    if re.fullmatch(r"[\d-]+", text) and end.time() == time():
        end += timedelta(days=1, seconds=-1)
    if end.tzinfo is None:
        end = end.replace(tzinfo=zone)
    if end <= now:
        raise RequestError(f"UNTIL must lie in the future, got {text}, which is {end.isoformat(timespec='seconds')}")
    return end.isoformat(timespec="seconds")


def with_settings(words: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Return words with settings in front that none of them names: what is left out now may have another default later."""
    named = {word.partition("=")[0] for word in words}
    return (*(f"{name}={value}" for name, value in values.items() if name not in named), *words)
