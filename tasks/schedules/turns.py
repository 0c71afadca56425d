"""One retraining of a dataset at a time, over all schedules and commands; who comes meanwhile is remembered, once a schedule.

The lock is the system's, which lets go of it when its holder dies. So nothing stays taken after a kill, as a slot of Prefect's
own limits does. A request is written before its writer looks at the lock once more, and read after the holder let go of it: none
is lost between the two.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.workspace.disk import cannot_write, try_unlink, write_whole
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths


@dataclass(frozen=True)
class Holder:
    """Who retrains a dataset now.

    Attributes:
        name: of the run, or the command.
        since: when it began, UTC.
    """

    name: str
    since: datetime

    def __str__(self) -> str:
        """Name it as a sentence has it."""
        return f"{self.name} (since {self.since:%Y-%m-%d %H:%M} UTC)"


@dataclass(frozen=True)
class Wanted:
    """A retraining that is wanted once the one at work has ended.

    Attributes:
        deployment: id of the schedule's deployment, which will run it.
        cause: of the last request.
        event: that caused it, if any.
        runs: names of the runs that asked for it.
    """

    deployment: str
    cause: str
    event: dict[str, Any] = field(default_factory=dict)
    runs: tuple[str, ...] = ()


def folder_of(paths: Paths) -> Path:
    """Return where it is kept."""
    return paths.store / "schedules"


@contextmanager
def turn(paths: Paths, dataset: str, name: str) -> Iterator[bool]:
    """Have the turn to retrain a dataset; yields whether it is ours. Nobody waits."""
    with exclusive(paths, f"retraining-{dataset}", wait=False) as is_ours:
        if not is_ours:
            yield False
            return
        file = _holder(paths, dataset)
        _write(file, {"name": name, "since": datetime.now(UTC).isoformat(timespec="seconds")})
        try:
            yield True
        finally:
            try_unlink(file)


@contextmanager
def turn_or_request(paths: Paths, dataset: str, name: str, request: Wanted) -> Iterator[Holder | None]:
    """Have the turn, or leave a request with whoever has it.

    Args:
        paths: of the repository.
        dataset: which.
        name: of this run.
        request: what is left where somebody else has the turn; nothing for one without a deployment, which nobody could start.

    Yields:
        None where the turn is ours, and with it what this schedule had asked for before; else who has it.
    """
    with ExitStack() as stack:
        is_ours = stack.enter_context(turn(paths, dataset, name))
        holder = None if is_ours else holder_of(paths, dataset)
        if not is_ours and request.deployment:
            ask(paths, dataset, request)
            is_ours = stack.enter_context(turn(paths, dataset, name))  # it may have ended before it could read the request
        if is_ours:
            take_wanted(paths, dataset, deployment=request.deployment)
            yield None
        else:
            yield holder or holder_of(paths, dataset) or Holder("another run", datetime.now(UTC))


def holder_of(paths: Paths, dataset: str) -> Holder | None:
    """Return who retrains a dataset, None where nobody is noted. Only the lock says whether that one still lives."""
    told = _read(_holder(paths, dataset))
    with suppress(KeyError, ValueError, TypeError):
        return Holder(str(told["name"]), datetime.fromisoformat(told["since"]))
    return None


def wanted_of(paths: Paths, dataset: str) -> list[Wanted]:
    """Return the requests that wait, one a schedule."""
    found = []
    for deployment, told in _read(_requests(paths, dataset)).items():
        with suppress(KeyError, TypeError, ValueError):
            found.append(Wanted(str(deployment), str(told["cause"]), dict(told["event"]), tuple(told["runs"])))
    return found


def take_wanted(paths: Paths, dataset: str, *, deployment: str = "") -> list[Wanted]:
    """Return the requests that wait and take them away; call it once the turn is over, or is ours.

    Args:
        paths: of the repository.
        dataset: which.
        deployment: whose; "" for all.
    """
    with exclusive(paths, f"retraining-{dataset}-wanted"):
        wanted = wanted_of(paths, dataset)
        taken = [one for one in wanted if deployment in ("", one.deployment)]
        if taken:
            _keep(paths, dataset, [one for one in wanted if one not in taken])
    return taken


def ask(paths: Paths, dataset: str, request: Wanted) -> None:
    """Leave a request; one of the same schedule becomes part of it."""
    with exclusive(paths, f"retraining-{dataset}-wanted"):
        before = {one.deployment: one for one in wanted_of(paths, dataset)}
        runs = (*(before[request.deployment].runs if request.deployment in before else ()), *request.runs)
        before[request.deployment] = replace(request, runs=tuple(dict.fromkeys(runs)))
        _keep(paths, dataset, list(before.values()))


def datasets_wanted(paths: Paths) -> list[str]:
    """Return the datasets for which another retraining is wanted."""
    return sorted(file.name.removesuffix(".wanted.json") for file in folder_of(paths).glob("*.wanted.json"))


def _keep(paths: Paths, dataset: str, wanted: list[Wanted]) -> None:
    """Write what waits now; the caller holds the lock of the requests."""
    if not wanted:
        try_unlink(_requests(paths, dataset))
        return
    told = {one.deployment: {"cause": one.cause, "event": one.event, "runs": list(one.runs)} for one in wanted}
    _write(_requests(paths, dataset), told)


def _holder(paths: Paths, dataset: str) -> Path:
    return folder_of(paths) / f"{dataset}.turn.json"


def _requests(paths: Paths, dataset: str) -> Path:
    return folder_of(paths) / f"{dataset}.wanted.json"


def _read(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        told = json.loads(file.read_text(encoding="utf-8"))
        return told if isinstance(told, dict) else {}
    return {}


def _write(file: Path, told: Mapping[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(dict(told)).encode())
    except OSError as error:
        raise cannot_write(error, file) from None
