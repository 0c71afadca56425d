"""Our SQLite files: what is wrong with one, what that loses, and the command that sets it right.

MLflow's ledger, Prefect's database and the judge's cache are looked at by one function before they are opened, since each
library tells the same damage in its own words, or not at all. Nothing is mended in silence: a damaged file is moved into a
folder beside it by the command that the sentence gives, and the next run makes a new one.
"""

import os
import re
import shlex
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

from posttrain.errors import StorageError

MAGIC = b"SQLite format 3\0"
HEADER = 100
"""Bytes of SQLite's header: the page size stands at 16, the number of pages at 28, both big-endian."""
WAIT = 30.0
"""Seconds to wait for another process that writes."""


@dataclass(frozen=True)
class Database:
    """One of our SQLite files, and what is said of it.

    Attributes:
        file: where it lies.
        what: its name in a sentence, such as "MLflow's database".
        loses: what is gone with it.
        keeps: what is not.
        schema: the package folder with the migrations of its owner, such as "mlflow/store/db_migrations/versions"; "" for ours.
        upgrade: the command that brings an older schema up to date; "" where its owner does that by itself.
        version: of our own schema, as PRAGMA user_version has it; 0 where `schema` tells.
    """

    file: Path
    what: str
    loses: str
    keeps: str
    schema: str = ""
    upgrade: str = ""
    version: int = 0

    def say(self, trouble: str, remedy: str) -> StorageError:
        """Return the sentence as an error."""
        return StorageError(f"{self.what} ({short(self.file)}) {trouble}. {remedy}")

    def put_aside(self) -> str:
        """Return the command that moves the file, and SQLite's files that belong to it, into a new folder beside it."""
        aside = self.file.parent / f"damaged-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        return f"mkdir {quoted(aside)} && mv {quoted(self.file)}* {quoted(aside)}/"

    def lost(self, trouble: str) -> StorageError:
        """Return the sentence for a file that cannot be read any more."""
        remedy = (
            f"Lost: {self.loses}; not touched: {self.keeps}. Restore the file from a backup, or put it aside and start a new "
            f"one: {self.put_aside()}; then run again"
        )
        return self.say(trouble, remedy)


def check(database: Database, *, wait: float = WAIT, every_page: bool = False) -> None:
    """See that a database can be read and written, and that its schema is one that we know; none at all is fine.

    Args:
        database: which.
        wait: seconds to wait for another process that writes.
        every_page: read all of it, and not only where its head lies; about a second for 200 MB.

    Raises:
        StorageError: it is empty, damaged, locked, read-only, or of another version; with the command that sets it right.
    """
    file = database.file
    if not file.exists():
        return
    try:
        trouble = _trouble_of_the_bytes(file)
    except OSError as error:
        raise explained(database, error) from error
    if trouble:
        raise database.lost(trouble)
    try:
        with closing(sqlite3.connect(file, timeout=wait, isolation_level=None)) as opened:
            opened.execute("BEGIN IMMEDIATE")
            opened.execute("ROLLBACK")
            _check_version(database, opened)
            found = opened.execute("PRAGMA quick_check(1)").fetchone()[0] if every_page else "ok"
    except sqlite3.Error as error:
        raise explained(database, error) from error
    if found != "ok":
        raise database.lost(f"is damaged: {' '.join(found.split())}")


def explained(database: Database, error: BaseException) -> StorageError:
    """Return what an error of SQLite or of the disk means for a database, and what to do; read-only, full, locked or damaged."""
    words = (str(error).splitlines() or [type(error).__name__])[0]  # sqlalchemy adds the statement below
    low = words.lower()
    if "locked" in low or "busy" in low:
        holder = holder_of(database.file)
        whose = f"is locked by {holder.told}" if holder else "is locked by another program"
        end = f"end it: kill {holder.pid}" if holder else "end that program"
        return database.say(whose, f"Wait until it is done, or {end}; then run again. Nothing is lost")
    if "readonly" in low or "read-only" in low or "permission" in low or "unable to open" in low:
        folder = database.file.parent
        remedy = f"Make it and its folder writable: chmod u+rw {quoted(database.file)} && chmod u+rwx {quoted(folder)}"
        return database.say(f"cannot be written: {words}", f"{remedy}; then run again. Nothing is lost")
    if "full" in low or "no space" in low or "quota" in low:
        remedy = f"Make room on the disk of {short(database.file.parent)}, then run again. What was finished before is kept"
        return database.say(f"cannot grow: {words}", remedy)
    if "malformed" in low or "not a database" in low or "no such table" in low or "no such column" in low:
        return database.lost(f"is damaged: {words}")
    return database.say(f"refused a request: {words}", "Nothing that was finished before is lost. Run again")


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock."""

    pid: int
    told: str


def holder_of(file: Path) -> Holder | None:
    """Return which process of this machine holds SQLite's lock on a file, as the kernel lists it; None where it does not tell."""
    inodes = set()
    for one in (file, file.with_name(f"{file.name}-shm")):  # with a write-ahead log the lock lies on the second
        with suppress(OSError):
            state = one.stat()
            inodes.add(f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}")
    with suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines():
            kind, owner, where = (line.split() + [""] * 6)[3:6]
            if kind != "WRITE" or where not in inodes or int(owner) in (os.getpid(), 0, -1):
                continue
            with suppress(psutil.Error):
                command = "".join(one if one.isprintable() else " " for one in " ".join(psutil.Process(int(owner)).cmdline()))
                return Holder(int(owner), f"process {owner} ({' '.join(command.split())[:80]})")
            return Holder(int(owner), f"process {owner}")
    return None


def _trouble_of_the_bytes(file: Path) -> str:
    """Return what is wrong with a file before SQLite reads it, or ""."""
    size = file.stat().st_size
    if size == 0:
        return "is empty"
    with file.open("rb") as opened:
        head = opened.read(HEADER)
    if not head.startswith(MAGIC):
        return "is no SQLite database"
    page = int.from_bytes(head[16:18], "big")
    whole = (65536 if page == 1 else page) * int.from_bytes(head[28:32], "big")
    # a log that is waiting holds the pages that the file lacks
    waiting = file.with_name(f"{file.name}-wal")
    if size < whole and not (waiting.exists() and waiting.stat().st_size):
        return f"is cut off: {size:,} of {whole:,} bytes are there"
    return ""


def _check_version(database: Database, opened: sqlite3.Connection) -> None:
    if database.version:
        number = int(opened.execute("PRAGMA user_version").fetchone()[0])
        if number > database.version:
            raise _of_a_newer(database, f"version {number}, and this posttrain knows {database.version}")
    if not database.schema:
        return
    found, known = schema_of(opened), migrations(database.schema)
    owner = database.schema.split("/")[0]
    if found is None:
        raise database.lost(f"is emptied: it holds none of {owner}'s tables")
    if known and found not in known:
        raise _of_a_newer(database, f"schema {found}, which the {owner} installed here does not know")
    if database.upgrade and found in known.values():
        backup = f"cp {quoted(database.file)} {quoted(database.file)}.backup"
        raise database.say(
            f"has the schema {found} of an older {owner}", f"Bring it up to date: {backup} && {database.upgrade}; then run again"
        )


def schema_of(opened: sqlite3.Connection) -> str | None:
    """Return the schema version that alembic left in a database, None where there is none."""
    names = {row[0] for row in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    row = opened.execute("SELECT version_num FROM alembic_version").fetchone() if "alembic_version" in names else None
    return str(row[0]) if row else None


def _of_a_newer(database: Database, what: str) -> StorageError:
    remedy = (
        f"Nothing is lost. Update this repository: git pull && make setup; or go on without it: {database.put_aside()}; then run "
        f"again (you then do not see {database.loses}; not touched: {database.keeps})"
    )
    return database.say(f"was written by a newer version: it has {what}", remedy)


def migrations(folder: str) -> dict[str, str]:
    """Return the schema versions that an installed library knows, each with the one before it ("" for the first).

    Read from the text of its migrations: to ask alembic would import the whole library.
    """
    package, _, rest = folder.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return {}
    told = re.compile(r"^(revision|down_revision)(?:\s*:[^=]*)?\s*=\s*(?:[\"'](\w+)[\"'])?", flags=re.MULTILINE)
    known: dict[str, str] = {}
    for file in (Path(spec.origin).parent / rest).glob("*.py"):
        found = dict(told.findall(file.read_text(encoding="utf-8")))
        if found.get("revision"):
            known[found["revision"]] = found.get("down_revision", "")
    return known


def short(path: Path) -> str:
    """Return a path as one would type it from where the command was started."""
    with suppress(ValueError, OSError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def quoted(path: Path) -> str:
    """Return the same for a shell."""
    return shlex.quote(short(path))
