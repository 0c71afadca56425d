"""A PostgreSQL in a backup: dumped as of one moment, looked into as of that moment, and put back in one transaction."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from posttrain.errors import PosttrainError, RequestError, StorageError
from posttrain.keeping.manifest import MLFLOW_DUMP, PREFECT_DUMP
from tasks.keeping.databases import KILLED, OF_DEPLOYMENTS
from tasks.services.postgres import PASSWORD, Address, connection, explained
from tasks.tracking.registry import WEIGHTS_TAG
from tasks.workspace.disk import sync

QUERIES: Mapping[str, Mapping[str, str]] = {
    MLFLOW_DUMP: {
        "experiments": "SELECT experiment_id, artifact_location FROM experiments",
        "runs": "SELECT run_uuid FROM runs",
        "params": "SELECT key, value FROM params WHERE key = 'labels.file'",
        "registered_model_aliases": "SELECT name, alias, version FROM registered_model_aliases",
        "logged_models": "SELECT model_id, artifact_location FROM logged_models",
        "model_versions": "SELECT name, version, source, storage_location, current_stage FROM model_versions",
        "model_version_tags": f"SELECT name, version, key, value FROM model_version_tags WHERE key = '{WEIGHTS_TAG}'",
    },
    PREFECT_DUMP: {"deployment": "SELECT parameters FROM deployment"},
}
"""By dump and table: what a backup looks up to know which files it takes (tasks/keeping/collect.py)."""
WORTH = {
    MLFLOW_DUMP: ("runs and models", ("runs", "registered_models")),
    PREFECT_DUMP: ("runs and schedules", ("flow_run", "deployment")),
}
"""By dump: what somebody would miss, and the tables that hold it."""
LEAVING = 3.0
"""Seconds that a program which has just ended may still be seen by the database."""


def require_pg(tool: str, address: Address) -> str:
    """Return the path of pg_dump or pg_restore.

    Raises:
        RequestError: it is not installed.
    """
    found = shutil.which(tool)
    if found is None:
        store = address.setting.partition(".")[2].partition("_")[0]
        raise RequestError(
            f"{address.setting} is {address.text}, and {tool} is not here, so {store}'s store cannot be part of this. Install "
            f"PostgreSQL's client programs (package postgresql-client), or leave that store to those who keep it: "
            f'SET="{address.setting}="'
        )
    return found


def dump_postgres(path: str, address: Address, password: str, target: Path, view: Path) -> bool:
    """Write a PostgreSQL as of one moment into a file of pg_dump's own form, and what a backup looks up into a SQLite file.

    Both see the same moment: the dump takes the snapshot of the transaction that looks.

    Args:
        path: of the dump in the backup.
        address: of the database.
        password: of its user.
        target: the dump.
        view: the SQLite file, with the tables of `QUERIES`.

    Returns:
        Whether the database holds those tables; without them there is no view.

    Raises:
        RequestError: pg_dump is not installed.
        StorageError: it failed, or the database does not let us in.
    """
    command = [require_pg("pg_dump", address), "--format=custom", "--no-owner", f"--file={target}", *_where(address)]
    target.parent.mkdir(parents=True, exist_ok=True)

    async def dump() -> dict[str, list[Any]]:
        async with (
            connection(address, password, longest=None) as opened,
            opened.transaction(isolation="repeatable_read", readonly=True),
        ):
            snapshot = await opened.fetchval("SELECT pg_export_snapshot()")
            known = [table for table in QUERIES[path] if await opened.fetchval("SELECT to_regclass($1)", table)]
            rows = {table: await opened.fetch(QUERIES[path][table]) for table in known}
            await asyncio.to_thread(_run, [*command, f"--snapshot={snapshot}"], address, password)
            return rows

    rows = _asked(address, dump())
    sync(target)
    if len(rows) < len(QUERIES[path]):
        return False
    _write_view(view, rows)
    return True


def _write_view(view: Path, rows: Mapping[str, list[Any]]) -> None:
    with closing(sqlite3.connect(view)) as opened, opened:
        for table, found in rows.items():
            columns = list(found[0].keys()) if found else _columns(table)
            opened.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            marks = ", ".join("?" * len(columns))
            told = ([one if one is None else str(one) for one in row.values()] for row in found)
            opened.executemany(f"INSERT INTO {table} VALUES ({marks})", told)


def _columns(table: str) -> list[str]:
    """Return the columns of a query, for a table without rows."""
    query = next(queries[table] for queries in QUERIES.values() if table in queries)
    return query.removeprefix("SELECT ").partition(" FROM ")[0].split(", ")


def worth_of(path: str, address: Address, password: str) -> str:
    """Return what somebody would miss if a dump took the place of what a database holds; "" where that is nothing."""
    what, tables = WORTH[path]

    async def count() -> int:
        total = 0
        async with connection(address, password) as opened:
            for table in tables:
                if await opened.fetchval("SELECT to_regclass($1)", table):
                    total += int(await opened.fetchval(f"SELECT count(*) FROM {table}"))
        return total

    found = _asked(address, count())
    return f"{address.text} ({found:,} {what})" if found else ""


def require_alone(address: Address, password: str) -> None:
    """Refuse to replace what other programs use: pg_restore would wait for them, without end and with half of the tables locked.

    Raises:
        RequestError: somebody is connected.
        StorageError: the database does not let us in.
    """

    async def others() -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() AND usename IS NOT NULL"
        async with connection(address, password) as opened:
            deadline = time.monotonic() + LEAVING
            while (found := int(await opened.fetchval(query, address.database))) and time.monotonic() < deadline:
                await asyncio.sleep(LEAVING / 20)
            return found

    if found := _asked(address, others()):
        raise RequestError(
            f"{found} other connection{'s use' if found > 1 else ' uses'} {address.text}. Nothing was touched. Stop what uses "
            "it, servers of other checkouts and machines too (make down), then run again"
        )


def restore_postgres(path: str, address: Address, password: str, source: Path, *, before: str, now: str, now_ms: int) -> None:
    """Put a dump in the place of what a PostgreSQL holds, in one transaction; then let it speak of this folder and this moment.

    Args:
        path: of the dump in the backup.
        address: of the database.
        password: of its user.
        source: the dump.
        before: the folder of the repository when the backup was made.
        now: the folder now.
        now_ms: when the runs end that the backup met in the middle, ms since 1970.

    Raises:
        RequestError: pg_restore is not installed.
        StorageError: it failed, and nothing has changed.
    """
    how = ["--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error"]
    _run([require_pg("pg_restore", address), *how, *_where(address), str(source)], address, password)

    async def adapt() -> None:
        async with connection(address, password) as opened, opened.transaction():
            if path == MLFLOW_DUMP:
                await _close_runs(opened, now_ms)
            else:
                await _move_schedules(opened, before, now)

    _asked(address, adapt())


async def _close_runs(opened: Any, now_ms: int) -> None:
    """Mark the runs that the backup met in the middle as KILLED, as `close_runs` does in a SQLite file."""
    if not await opened.fetchval("SELECT to_regclass('runs')"):
        return
    found = await opened.fetch(
        "SELECT run_uuid FROM runs WHERE status = 'RUNNING' AND run_uuid NOT IN "
        "(SELECT run_uuid FROM tags WHERE key = 'posttrain.kind' AND value = 'promotion')"
    )
    runs = [row[0] for row in found]
    await opened.execute("DELETE FROM tags WHERE key = 'posttrain.error' AND run_uuid = ANY($1::text[])", runs)
    await opened.executemany(
        "INSERT INTO tags (key, value, run_uuid) VALUES ('posttrain.error', $1, $2)", [(KILLED, run) for run in runs]
    )
    await opened.execute("UPDATE runs SET status = 'KILLED', end_time = $1 WHERE run_uuid = ANY($2::text[])", now_ms, runs)


async def _move_schedules(opened: Any, before: str, now: str) -> None:
    """Let deployments start in the folder of now, as `move_schedules` does in a SQLite file."""
    columns = await opened.fetch(
        "SELECT column_name, udt_name FROM information_schema.columns WHERE table_name = 'deployment' AND "
        "column_name = ANY($1::text[])",
        list(OF_DEPLOYMENTS),
    )
    for column, kind in columns:
        # whole folders only: /a/b is not the beginning of /a/bc
        for end in ("/", '"'):
            await opened.execute(
                f"UPDATE deployment SET {column} = replace({column}::text, $1, $2)::{kind}", f"{before}{end}", f"{now}{end}"
            )
        if kind in ("text", "varchar"):
            await opened.execute(f"UPDATE deployment SET {column} = $1 WHERE {column} = $2", now, before)


def champions_of(address: Address, password: str) -> Mapping[str, str]:
    """Return the version that each registered model's champion is."""

    async def read() -> dict[str, str]:
        async with connection(address, password) as opened:
            if not await opened.fetchval("SELECT to_regclass('registered_model_aliases')"):
                return {}
            query = "SELECT name, version FROM registered_model_aliases WHERE alias = 'champion' ORDER BY name"
            return {str(name): str(number) for name, number in await opened.fetch(query)}

    found: dict[str, str] = _asked(address, read())
    return found


def _asked(address: Address, work: Any) -> Any:
    """Return what a database answers.

    Raises:
        StorageError: it does not.
    """
    try:
        return asyncio.run(work)
    except PosttrainError:
        raise
    except Exception as error:  # asyncpg has an exception for each of PostgreSQL's 250 conditions
        raise explained(address, "the PostgreSQL", error) from error


def _where(address: Address) -> list[str]:
    return [f"--host={address.host}", f"--port={address.port}", f"--username={address.user}", f"--dbname={address.database}"]


def _run(command: list[str], address: Address, password: str) -> None:
    told = {PASSWORD: password} if password else {}
    done = subprocess.run(
        [*command, "--no-password"],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[-600:] or f"exit code {done.returncode}"
        tool = Path(command[0]).name
        raise StorageError(f"{tool} did not finish on {address.text}: {said}. Nothing has changed. Mend it, then run again")
