"""A PostgreSQL in a backup: what is looked up in it, put back as a whole, and told of this folder and this moment."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from posttrain.errors import RequestError, StorageError
from posttrain.keeping.manifest import MLFLOW_DUMP, PREFECT_DUMP
from tasks.keeping import postgres as subject
from tasks.keeping.databases import KILLED
from tasks.keeping.postgres import QUERIES, champions_of, dump_postgres, require_alone, restore_postgres, worth_of
from tasks.services.postgres import Address, connection
from tests.flows.postgres import postgres_or_skip

pytestmark = pytest.mark.slow
SECRET = "dbs3cret"
MLFLOW = """
CREATE TABLE experiments (experiment_id int, artifact_location text);
CREATE TABLE runs (run_uuid text, status text, end_time bigint);
CREATE TABLE tags (key text, value text, run_uuid text);
CREATE TABLE params (key text, value text);
CREATE TABLE registered_models (name text);
CREATE TABLE registered_model_aliases (name text, alias text, version int);
CREATE TABLE logged_models (model_id text, artifact_location text);
CREATE TABLE model_versions (name text, version int, source text, storage_location text, current_stage text);
CREATE TABLE model_version_tags (name text, version int, key text, value text);
INSERT INTO experiments VALUES (1, 'mlflow-artifacts:/1');
INSERT INTO runs VALUES ('done', 'FINISHED', 5), ('open', 'RUNNING', NULL), ('move', 'RUNNING', NULL);
INSERT INTO tags VALUES ('posttrain.kind', 'promotion', 'move'), ('posttrain.error', 'old', 'open');
INSERT INTO tags VALUES ('posttrain.error', 'its own', 'done');
INSERT INTO params VALUES ('labels.file', 'people.jsonl'), ('seed', '0');
INSERT INTO registered_models VALUES ('posttrain-b'), ('posttrain-a');
INSERT INTO registered_model_aliases VALUES ('posttrain-b', 'champion', 7), ('posttrain-a', 'champion', 2);
INSERT INTO registered_model_aliases VALUES ('posttrain-a', 'previous', 1);
INSERT INTO model_versions VALUES ('posttrain-a', 2, 'models:/m-1', NULL, 'None');
INSERT INTO model_version_tags VALUES ('posttrain-a', 2, 'posttrain.weights_sha256', 'w'), ('posttrain-a', 2, 'other', 'x');
"""
PREFECT = """
CREATE TABLE flow_run (id uuid);
CREATE TABLE deployment (id uuid, path varchar, entrypoint varchar, pull_steps json, parameters jsonb);
INSERT INTO deployment VALUES
  (gen_random_uuid(), '/a/b', '/a/b/flows/scheduled.py:retraining', '[{"cwd": "/a/b"}]', '{"words": ["data.name=x"]}'),
  (gen_random_uuid(), '/a/bc', '/a/bc/flows/scheduled.py:retraining', '[{"cwd": "/a/bc"}]', '{}');
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with postgres_or_skip(tmp_path_factory.mktemp("postgres") / "server") as (port, _):
        yield port


def address(port: int, database: str) -> Address:
    return Address(
        f"servers.{database}_database", f"postgresql://ann@127.0.0.1:{port}/{database}", "ann", "127.0.0.1", port, database
    )


def asked(where: Address, query: str) -> list[tuple[Any, ...]]:
    async def ask() -> list[tuple[Any, ...]]:
        async with connection(where, SECRET) as opened:
            return [tuple(row) for row in await opened.fetch(query)]

    return asyncio.run(ask())


def filled(port: int, database: str, tables: str) -> Address:
    where = address(port, database)

    async def fill() -> None:
        async with connection(where, SECRET) as opened:
            await opened.execute(f"DROP SCHEMA public CASCADE; CREATE SCHEMA public; {tables}")

    asyncio.run(fill())
    return where


@pytest.fixture
def mlflow(server: int) -> Address:
    return filled(server, "mlflow", MLFLOW)


@pytest.fixture
def prefect(server: int) -> Address:
    return filled(server, "prefect", PREFECT)


def dumped(where: Address, path: str, folder: Path) -> tuple[Path, Path, bool]:
    target, view = folder / "x.dump", folder / "x.view"
    return target, view, dump_postgres(path, where, SECRET, target, view)


def put_back(where: Address, path: str, source: Path) -> None:
    restore_postgres(path, where, SECRET, source, before="/a/b", now="/new", now_ms=9)


def test_a_backup_looks_up_what_it_needs(mlflow: Address, tmp_path: Path) -> None:
    _, view, is_whole = dumped(mlflow, MLFLOW_DUMP, tmp_path)
    with closing(sqlite3.connect(view)) as opened:
        found = {table: opened.execute(f"SELECT * FROM {table}").fetchall() for table in QUERIES[MLFLOW_DUMP]}
        columns = [row[1] for row in opened.execute("PRAGMA table_info(logged_models)")]
    assert is_whole and columns == ["model_id", "artifact_location"], "a table without rows has its columns"
    assert found["experiments"] == [("1", "mlflow-artifacts:/1")] and found["params"] == [("labels.file", "people.jsonl")]
    assert found["runs"] == [("done",), ("open",), ("move",)] and len(found["registered_model_aliases"]) == 3
    assert found["model_versions"] == [("posttrain-a", "2", "models:/m-1", None, "None")] and found["logged_models"] == []
    assert len(found["model_version_tags"]) == 1


def test_a_database_that_no_server_has_used_has_no_view(server: int, tmp_path: Path) -> None:
    where = filled(server, "mlflow", "")
    target, view, is_whole = dumped(where, MLFLOW_DUMP, tmp_path)
    assert not is_whole and not view.exists() and target.stat().st_size
    assert worth_of(MLFLOW_DUMP, where, SECRET) == "" and champions_of(where, SECRET) == {}
    put_back(where, MLFLOW_DUMP, target)


def test_there_and_back_over_what_came_later(mlflow: Address, tmp_path: Path) -> None:
    target, _, _ = dumped(mlflow, MLFLOW_DUMP, tmp_path)
    asked(mlflow, "INSERT INTO runs VALUES ('later', 'FINISHED', 6)")
    asked(mlflow, "DELETE FROM registered_model_aliases")
    assert worth_of(MLFLOW_DUMP, mlflow, SECRET) == f"{mlflow.text} (6 runs and models)"
    put_back(mlflow, MLFLOW_DUMP, target)
    # what ran is closed; the half-done move stays open, by which it is found and settled
    assert sorted(asked(mlflow, "SELECT run_uuid, status, end_time FROM runs")) == [
        ("done", "FINISHED", 5),
        ("move", "RUNNING", None),
        ("open", "KILLED", 9),
    ]
    errors = asked(mlflow, "SELECT run_uuid, value FROM tags WHERE key = 'posttrain.error'")
    assert sorted(errors) == [("done", "its own"), ("open", KILLED)]
    assert champions_of(mlflow, SECRET) == {"posttrain-a": "2", "posttrain-b": "7"}


def test_schedules_start_where_the_repository_is_now(prefect: Address, tmp_path: Path) -> None:
    target, view, _ = dumped(prefect, PREFECT_DUMP, tmp_path)
    with closing(sqlite3.connect(view)) as opened:
        assert sorted(opened.execute("SELECT parameters FROM deployment").fetchall()) == [
            ('{"words": ["data.name=x"]}',),
            ("{}",),
        ]
    assert worth_of(PREFECT_DUMP, prefect, SECRET) == f"{prefect.text} (2 runs and schedules)"
    put_back(prefect, PREFECT_DUMP, target)
    assert asked(prefect, "SELECT path, entrypoint, pull_steps::text, parameters::text FROM deployment ORDER BY path") == [
        ("/a/bc", "/a/bc/flows/scheduled.py:retraining", '[{"cwd": "/a/bc"}]', "{}"),
        ("/new", "/new/flows/scheduled.py:retraining", '[{"cwd": "/new"}]', '{"words": ["data.name=x"]}'),
    ]


def test_a_database_that_others_use_is_not_replaced(mlflow: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "LEAVING", 0.2)
    require_alone(mlflow, SECRET)

    async def used() -> None:
        async with connection(mlflow, SECRET):
            with pytest.raises(RequestError, match=r"^1 other connection uses .*/mlflow\. Nothing was touched\."):
                await asyncio.to_thread(require_alone, mlflow, SECRET)

    asyncio.run(used())


def test_one_that_is_about_to_leave_is_waited_for(mlflow: Address) -> None:
    async def leaving() -> None:
        async with connection(mlflow, SECRET):
            waiting = asyncio.create_task(asyncio.to_thread(require_alone, mlflow, SECRET))
            await asyncio.sleep(0.5)
        await waiting

    asyncio.run(leaving())


def test_a_dump_that_is_damaged_changes_nothing(mlflow: Address, tmp_path: Path) -> None:
    target, _, _ = dumped(mlflow, MLFLOW_DUMP, tmp_path)
    target.write_bytes(target.read_bytes()[:200])
    with pytest.raises(StorageError, match=r"pg_restore did not finish on .* Nothing has changed"):
        put_back(mlflow, MLFLOW_DUMP, target)
    assert len(asked(mlflow, "SELECT * FROM runs")) == 3


def test_a_wrong_password_is_told(mlflow: Address, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"servers.database_password=env:NAME or file:PATH"):
        dump_postgres(MLFLOW_DUMP, mlflow, "wrong", tmp_path / "x", tmp_path / "y")
    assert list(tmp_path.iterdir()) == []
