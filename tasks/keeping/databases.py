"""Copies of our SQLite files as of one moment, while others write: by SQLite's own backup."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from posttrain.errors import StorageError
from tasks.workspace.databases import WAIT, Database, explained, migrations, schema_of
from tasks.workspace.disk import sync

BESIDE = ("", "-wal", "-shm", "-journal")
"""Endings of a SQLite file and of those that SQLite keeps beside it."""
BUSY = (5, 6)
"""SQLITE_BUSY and SQLITE_LOCKED (sqlite.org/rescode.html): another process holds a lock, and the copy waits."""
KILLED = "it was running when the backup was made from which this ledger was restored"
"""Why a run is closed that a backup met in the middle."""
OF_DEPLOYMENTS = ("path", "pull_steps", "infra_overrides", "entrypoint", "parameters")
"""Columns of Prefect's table `deployment` in which the folder of the repository may stand."""


def copy_database(database: Database, target: Path) -> None:
    """Copy a SQLite file as of one moment, also while others write to it; they wait as long as the copy takes.

    In one step: a copy in several starts again whenever somebody has written in between, and may never end. It only reads, so it
    asks for no lock that writers hold.

    Raises:
        StorageError: it is damaged, emptied, or locked for long; or there is no room.
    """
    deadline = time.monotonic() + WAIT

    def progress(status: int, remaining: int, total: int) -> None:
        if status in BUSY and time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(database.file, timeout=WAIT)) as source, closing(sqlite3.connect(target)) as copy:
            copy.execute("PRAGMA synchronous=OFF")
            source.backup(copy, progress=progress)
            # of one file alone, since no log of writes is kept with it
            copy.execute("PRAGMA journal_mode=DELETE")
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            is_emptied = bool(database.schema) and schema_of(copy) is None
    except sqlite3.Error as error:
        raise explained(database, error) from error
    if is_emptied:
        raise database.lost("is empty, or has none of its owner's tables")
    if found != "ok":
        raise database.lost(f"is damaged: {' '.join(found.split())}")
    sync(target)


@contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy to read from."""
    with closing(sqlite3.connect(file)) as opened:
        yield opened


def require_sound(file: Path, database: Database, *, shown: str) -> None:
    """Refuse a database of a backup that cannot be used here.

    Args:
        file: the copy.
        database: what it will be.
        shown: the backup, as errors name it.

    Raises:
        StorageError: it is damaged, or was written by a newer version.
    """
    name = database.file.name
    try:
        with reading(file) as opened:
            found = opened.execute("PRAGMA quick_check(1)").fetchone()[0]
            schema = schema_of(opened) if database.schema else None
            number = int(opened.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise StorageError(f"{shown}: {name} in it cannot be read ({error}). Nothing was touched. Take another backup") from None
    if found != "ok":
        raise StorageError(f"{shown}: {name} in it is damaged ({found}). Nothing was touched. Take another backup")
    known = migrations(database.schema) if database.schema else {}
    is_newer = (schema is not None and known and schema not in known) or (database.version and number > database.version)
    if is_newer:
        raise StorageError(
            f"{shown}: {name} in it was written by a newer version ({schema or number}), which what is installed here does not "
            "know. Nothing was touched. Update this repository: git pull && make setup; then run again"
        )


def close_runs(ledger: Path, *, now_ms: int) -> int:
    """Mark the runs that a copy of MLflow's database met in the middle as KILLED; returns how many.

    A half-done move of aliases stays open: by that it is found, and completed or undone (tasks/promotion/moves.py).
    """
    is_open = (
        "status = 'RUNNING' AND run_uuid NOT IN (SELECT run_uuid FROM tags WHERE key = 'posttrain.kind' AND value = 'promotion')"
    )
    with closing(sqlite3.connect(ledger)) as opened, opened:
        runs = [row[0] for row in opened.execute(f"SELECT run_uuid FROM runs WHERE {is_open}")]
        for run in runs:
            opened.execute("DELETE FROM tags WHERE key = 'posttrain.error' AND run_uuid = ?", (run,))
            opened.execute("INSERT INTO tags (key, value, run_uuid) VALUES ('posttrain.error', ?, ?)", (KILLED, run))
            opened.execute("UPDATE runs SET status = 'KILLED', end_time = ? WHERE run_uuid = ?", (now_ms, run))
    return len(runs)


def move_schedules(prefect: Path, *, before: str, now: str) -> int:
    """Let the deployments in a copy of Prefect's database start in the folder that the repository has now.

    Args:
        prefect: the copy.
        before: the folder of the repository when the backup was made.
        now: the folder now.

    Returns:
        How many there are.
    """
    with closing(sqlite3.connect(prefect)) as opened, opened:
        columns = {row[1] for row in opened.execute("PRAGMA table_info(deployment)")}
        if not columns:
            return 0
        for column in sorted(columns.intersection(OF_DEPLOYMENTS)):
            # whole folders only: /a/b is not the beginning of /a/bc
            for end in ("/", '"'):
                opened.execute(f"UPDATE deployment SET {column} = replace({column}, ?, ?)", (f"{before}{end}", f"{now}{end}"))
            opened.execute(f"UPDATE deployment SET {column} = ? WHERE {column} = ?", (now, before))
        return int(opened.execute("SELECT count(*) FROM deployment").fetchone()[0])
