"""Who may label: personal links, of which the disk holds digests alone."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from posttrain.errors import DataError, RequestError, did_you_mean
from tasks.labelling.batches import PEOPLE, Batch, utc_now
from tasks.labelling.log import locked
from tasks.workspace.disk import cannot_write

DAYS = 14
"""That a link holds."""
LONGEST_NAME = 60


class Refused(Exception):  # noqa: N818 - it is no error of ours: the page says why, and goes on
    """Somebody without a link that holds.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: Literal["no_token", "wrong", "revoked", "expired", "finished"]) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Link:
    """A personal link, which is shown once.

    Attributes:
        name: of the person.
        token: 192 bits of chance; who has it is the person.
    """

    name: str
    token: str


@dataclass(frozen=True)
class Person:
    """Somebody who has, or had, a link.

    Attributes:
        name: of the person.
        digest: sha256 of the token.
        added_at: when the link was made.
        expires: when it ends.
        is_revoked: whether it was taken back.
    """

    name: str
    digest: str
    added_at: datetime
    expires: datetime
    is_revoked: bool = False

    def holds(self, now: datetime) -> bool:
        """Return whether the link may be used."""
        return not self.is_revoked and now < self.expires


def add_person(batch: Batch, name: str, *, days: float = DAYS, now: Callable[[], datetime] = utc_now) -> Link:
    """Make a personal link; one that the person had before holds no longer.

    Raises:
        RequestError: the name is empty, too long or unprintable, or the link would end at once.
        StorageError: the disk refused.
    """
    name = _checked(name)
    if not 0 < days <= 3650:
        raise RequestError(f"days must be greater than 0 and at most 3650, got {days:g}. A link holds {DAYS} days by default")
    token, at = secrets.token_urlsafe(24), now()
    told = {"name": name, "token": _digest(token), "at": at.isoformat(), "expires": (at + timedelta(days=days)).isoformat()}
    _append(batch, told)
    return Link(name, token)


def revoke_person(batch: Batch, name: str, *, now: Callable[[], datetime] = utc_now) -> None:
    """Take a person's link back; what he answered stays.

    Raises:
        RequestError: nobody of that name has a link.
        StorageError: the disk refused.
    """
    known = [person.name for person in people_of(batch) if not person.is_revoked]
    if name not in known:
        raise RequestError(
            f"nobody called {name} has a link to batch {batch.name}{did_you_mean(name, known)}; "
            f"links have {', '.join(known) or 'none'}"
        )
    _append(batch, {"name": name, "revoked": now().isoformat()})


def people_of(batch: Batch) -> list[Person]:
    """Return each person who has, or had, a link, with the newest one, in the order of their first ones.

    Raises:
        DataError: the file is damaged.
    """
    found: dict[str, Person] = {}
    for told in _records(batch.folder / PEOPLE):
        person = _person(told, found)
        found[person.name] = person
    return list(found.values())


class Door:
    """Tells who a token belongs to; links that are made or taken back meanwhile count at once."""

    def __init__(self, batch: Batch) -> None:
        self._path = batch.folder / PEOPLE
        self._batch = batch
        self._mark: tuple[int, ...] = ()
        self._by_digest: dict[str, str] = {}
        self._people: dict[str, Person] = {}

    def who(self, token: str, now: datetime) -> str:
        """Return whose token it is.

        Raises:
            Refused: nobody's, or it holds no longer.
        """
        if not token:
            raise Refused("no_token")
        self._look()
        digest = _digest(token)
        name = self._by_digest.get(digest)
        if name is None:
            raise Refused("wrong")
        person = self._people[name]
        if person.is_revoked or person.digest != digest:
            raise Refused("revoked")
        if now >= person.expires:
            raise Refused("expired")
        return name

    def holding(self, now: datetime) -> set[str]:
        """Return the names of those whose links hold."""
        self._look()
        return {name for name, person in self._people.items() if person.holds(now)}

    def _look(self) -> None:
        """Read the file again where it changed."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise DataError(f"cannot read {self._path}: {error.strerror or error}. Restore it from a backup") from None
        mark = (found.st_size, found.st_mtime_ns, found.st_ino)
        if mark != self._mark:
            people: dict[str, Person] = {}
            digests: dict[str, str] = {}
            for told in _records(self._path):
                person = _person(told, people)
                people[person.name], digests[person.digest] = person, person.name
            self._people, self._by_digest, self._mark = people, digests, mark


def _person(told: Mapping[str, Any], before: Mapping[str, Person]) -> Person:
    name = str(told["name"])
    if "revoked" in told:
        person = before[name]
        return Person(name, person.digest, person.added_at, person.expires, is_revoked=True)
    return Person(
        name, str(told["token"]), datetime.fromisoformat(told["at"]), datetime.fromisoformat(told["expires"]), is_revoked=False
    )


def _records(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of the file of people; half a line was never told to anybody."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}. Restore it from a backup") from None
    records: list[dict[str, Any]] = []
    seen: dict[str, Person] = {}
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            told = json.loads(line)
            seen[told["name"]] = _person(told, seen)
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path} line {number} names no person with a link. Restore it from a backup") from None
        records.append(told)
    return records


def _append(batch: Batch, told: Mapping[str, str]) -> None:
    path = batch.folder / PEOPLE
    try:
        with locked(path), path.open("r+b") as file:
            content = file.read()
            length = content.rfind(b"\n") + 1
            try:
                file.truncate(length)
                file.seek(length)
                file.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), length)
                raise
    except OSError as error:
        raise cannot_write(error, path) from None


def _checked(name: str) -> str:
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise RequestError(f"a name must be 1 to {LONGEST_NAME} printable characters, got {name!r}. Give another one")
    return name


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
