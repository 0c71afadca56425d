"""Which background services were started here: a note each in `.posttrain/services/`, which says less than the process itself.

A note stays when its process is killed. So whoever reads it asks first whether the process lives: by its id and the moment that
it started, since an id alone may be somebody else's by now (tasks/workspace/presence.py).

A copy of a checkout has copies of its notes, and their services are another checkout's: it would write into that one's stores,
and end its services. So a note names the folder that it was written for, in a way that a move keeps and a copy does not.
"""

import json
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks.workspace.disk import write_whole
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

PREFECT, MLFLOW, WORKER = "prefect", "mlflow", "worker"
NAMES = (PREFECT, MLFLOW, WORKER)
"""In the order in which they start; they end in the other one."""


@dataclass(frozen=True)
class Service:
    """A service that was started.

    Attributes:
        name: "prefect", "mlflow" or "worker".
        process: its own, told apart from every other by its start.
        site: the address of its page; of the worker, that of its health.
        health: the address that answers while it is well.
        log: the file that it writes to.
        since: when it was started, UTC.
        password: where its password is ("env:NAME" or "file:PATH"), never the password; "" where it has none.
    """

    name: str
    process: Process
    site: str
    health: str
    log: str
    since: datetime
    password: str = ""

    @property
    def lives(self) -> bool:
        """Its process is on this machine now. Whether it is well, its health says."""
        return self.process.host == socket.gethostname() and self.process.may_live()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.site.rpartition(":")[2])


def folder_of(paths: Paths) -> Path:
    """Return where notes and logs lie."""
    return paths.store / "services"


def folder_id(folder: Path) -> str:
    """Return what tells a folder from its copies: its device and inode."""
    found = folder.stat()
    return f"{found.st_dev}:{found.st_ino}"


def is_copied(paths: Paths, name: str) -> bool:
    """Return whether the note that lies here was written for another folder, of which this one is a copy."""
    with suppress(OSError, ValueError, TypeError):
        told = json.loads(_file(paths, name).read_text(encoding="utf-8"))
        # a note of an older version does not say
        return "folder" in told and told["folder"] != folder_id(folder_of(paths))
    return False


def note_of(paths: Paths, name: str) -> Service | None:
    """Return what was noted of a service, alive or not; None where nothing was, or the note cannot be read or is a copy's."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        if is_copied(paths, name):
            return None
        told = json.loads(_file(paths, name).read_text(encoding="utf-8"))
        told.pop("folder", None)
        process = Process.from_name(told.pop("process"), host=str(told.pop("host")))
        if process and told["name"] == name:
            service = Service(process=process, since=datetime.fromisoformat(told.pop("since")), **told)
            return service if service.port and service.since.tzinfo else None
    return None


def running(paths: Paths, name: str) -> Service | None:
    """Return a service that runs here; None where it does not, whatever its note says."""
    service = note_of(paths, name)
    return service if service and service.lives else None


def remember(paths: Paths, service: Service) -> None:
    """Note a service for the commands to come."""
    folder_of(paths).mkdir(parents=True, exist_ok=True)
    told = asdict(service) | {
        "process": service.process.name,
        "host": service.process.host,
        "since": service.since.astimezone(UTC).isoformat(timespec="seconds"),
        "folder": folder_id(folder_of(paths)),
    }
    write_whole(_file(paths, service.name), json.dumps(told).encode())


def forget(paths: Paths, name: str) -> None:
    """Take the note away."""
    with suppress(OSError):
        _file(paths, name).unlink()


def _file(paths: Paths, name: str) -> Path:
    return folder_of(paths) / f"{name}.json"
