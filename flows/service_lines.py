"""What `make up` and `make status` print of each service."""

import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.service_plans import TITLES, WORK_POOL
from tasks.services.notes import WORKER, Service
from tasks.workspace.databases import short


@dataclass(frozen=True)
class StatusLine:
    """How a service is.

    Attributes:
        name: of the service.
        note: what was noted when it was started; None where it was not.
        is_running: its process is there.
        trouble: why it does not answer; "" where it does.
        memory_mb: of it and of what it started.
        last: of its log, where it is down.
    """

    name: str
    note: Service | None
    is_running: bool = False
    trouble: str = ""
    memory_mb: int = 0
    last: str = ""

    @property
    def is_down(self) -> bool:
        """It was started here, and is not well."""
        return self.note is not None and not self.is_elsewhere and not (self.is_running and not self.trouble)

    @property
    def is_elsewhere(self) -> bool:
        """It was started on another machine that shares this folder, of which we know nothing."""
        return self.note is not None and self.note.process.host != socket.gethostname()

    def as_text(self, now: datetime) -> str:
        """Return the line."""
        title = f"{TITLES[self.name]:<8}"
        if self.note is None:
            return f"{title} not started"
        if self.is_elsewhere:
            return f"{title} was started on {self.note.process.host}; ask there"
        log = f"log {_short(self.note.log)}"
        if not self.is_running:
            last = f": {self.last}" if self.last else ""
            return f"{title} down: it {ended_before(self.note)}; make up starts it again; {log}{last}"
        since = f"since {self.note.since.astimezone():%Y-%m-%d %H:%M} ({duration((now - self.note.since).total_seconds())})"
        how = f"does not answer: {self.trouble}; make down && make up starts it anew" if self.trouble else "up"
        return f"{title} {address_of(self.note):<24} {how} {since}, {self.memory_mb:,} MB, {log}"


def address_of(service: Service) -> str:
    """Return where a service is found: its page, or the pool that the worker serves."""
    return f"work pool {WORK_POOL}" if service.name == WORKER else service.site


def started_line(title: str, service: Service, *, was_there: bool) -> str:
    """Return what `make up` says of a service that is up."""
    return f"{title:<8} {address_of(service):<24} log {_short(service.log)}{'   (it was running already)' if was_there else ''}"


def ended_before(note: Service) -> str:
    """Return what a note tells of a process that is gone."""
    return (
        f"ended without a word (process {note.process.pid}, started {note.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC): "
        "kill, memory or power"
    )


def duration(seconds: float) -> str:
    """Return a time as one says it: "40 s", "5 min", "3 h 10 min", "2 d 4 h"."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if minutes < 1:
        return f"{max(int(seconds), 0)} s"
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days < 1 else f"{days} d {hours % 24} h"


def _short(log: str) -> str:
    return short(Path(log))
