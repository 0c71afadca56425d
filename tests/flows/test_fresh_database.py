"""The database that is made before a server starts is the one that Prefect's own migrations make, or none."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

from flows import fresh_database as subject
from flows.fresh_database import make_database

MAKE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


def made_at(url: str) -> None:
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: url}):
        make_database()


def schema(file: Path) -> dict[tuple[str, str], list[str]]:
    """Each table, index and trigger: its lines, sorted, since the order of a table's constraints is that of a set."""
    with closing(sqlite3.connect(file)) as opened:
        found = opened.execute("select type, name, sql from sqlite_master").fetchall()
        version = opened.execute("select version_num from alembic_version").fetchall()
    lines = {(kind, name): sorted(line.strip().rstrip(",") for line in (sql or "").splitlines()) for kind, name, sql in found}
    return {**lines, ("version", ""): [str(version)]}


def test_it_has_the_schema_that_prefect_makes(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "new folder" / "ours.db", tmp_path / "theirs.db"
    ours.parent.mkdir()
    kept = {f"ours.db.draft-{os.getppid()}", "ours.db.20261130", "ours.db.draft-mine"}
    for left in ("ours.db.draft-99999999", "ours.db.draft-99999999-journal", *kept):
        (ours.parent / left).touch()
    made_at(f"sqlite+aiosqlite:///{ours}")
    left = {file.name for file in ours.parent.iterdir()}
    assert left == {"ours.db", *kept}, "a start that goes on keeps its draft, and a copy of a user's is no draft"
    told = {"PREFECT_HOME": str(tmp_path / "home"), "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{theirs}"}
    subprocess.run([sys.executable, "-c", MAKE], env={**os.environ, **told}, check=True)
    assert schema(ours) == schema(theirs) and len(schema(ours)) > 100


def test_one_that_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_migrate", lambda file: pytest.fail("it was made"))
    there = tmp_path / "prefect.db"
    there.touch()
    made_at(f"sqlite+aiosqlite:///{there}")
    assert there.stat().st_size == 0


@pytest.mark.parametrize(
    "url",
    [
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true",
        "postgresql+asyncpg://ann@db/prefect",
    ],
)
def test_what_is_no_file_is_prefects_to_make(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subject, "_migrate", lambda file: pytest.fail("it was made"))
    made_at(url)
    assert list(tmp_path.iterdir()) == []


def test_one_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path) -> None:
        file.write_text("half")
        file.with_name(f"{file.name}-journal").touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(subject, "_migrate", full)
    home = tmp_path / "new folder"
    with pytest.raises(OSError, match="No space"):
        made_at(f"sqlite+aiosqlite:///{home / 'prefect.db'}")
    assert list(home.iterdir()) == []
