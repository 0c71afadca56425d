"""Prefect's database: looked at before a server starts on it, since Prefect's own server dies of a damaged one without a word."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from flows.environment import prefect_home
from tasks.workspace.databases import WAIT, Database, check, schema_of
from tasks.workspace.paths import Paths

SETTINGS = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
"""Where one of them names a database, that is not ours to judge."""
READ_WHOLE = 64 * 2**20
"""Bytes up to which every page is read before each start: a tenth of a second."""


def prefect_database(home: Path) -> Database:
    """Return what is said of the database in Prefect's folder."""
    return Database(
        file=Path(os.environ.get("PREFECT_HOME") or home) / "prefect.db",
        what="Prefect's database",
        loses="Prefect's history of runs, and its schedules",
        keeps="data, finished stages, models, and everything in MLflow",
        schema="prefect/server/database/_migrations/versions/sqlite",
    )


def check_database(paths: Paths) -> None:
    """Refuse to start a server on a database that cannot be used.

    A database that never served is made again in silence where it is empty or half-made: its first server was killed.

    Raises:
        StorageError: it is empty, damaged, locked, read-only or of a newer version; with the command that sets it right.
    """
    database = prefect_database(prefect_home(paths))
    if any(name in os.environ for name in SETTINGS) or not database.file.exists():
        _served(database).unlink(missing_ok=True)
        return
    if not _served(database).exists() and _is_half_made(database):
        for file in database.file.parent.glob(f"{database.file.name}*"):
            file.unlink(missing_ok=True)
        return
    check(database, every_page=database.file.stat().st_size <= READ_WHOLE)


def has_answered(paths: Paths) -> None:
    """Remember that a server came up on the database, so that it is whole."""
    database = prefect_database(prefect_home(paths))
    if database.file.exists():
        _served(database).touch()


def why_it_failed(home: Path) -> None:
    """Tell what is wrong with the database of a server that did not come up, every page of it; return where that is sound.

    Raises:
        StorageError: the database is the reason.
    """
    database = prefect_database(home)
    if database.file.exists() and _served(database).exists():
        check(database, every_page=True)


def _served(database: Database) -> Path:
    return database.file.with_name("served")


def _is_half_made(database: Database) -> bool:
    """Tell whether a database that never served has no schema yet, so that nothing can be in it."""
    if not database.file.stat().st_size:
        return True
    try:
        with closing(sqlite3.connect(database.file, timeout=WAIT)) as opened:
            return schema_of(opened) is None
    except sqlite3.Error:
        return False
