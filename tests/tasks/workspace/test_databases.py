"""Each store garbled, cut, emptied, locked and of a newer version: one sentence, and what it says to do works.

The remedy is not compared with a text only: the command is taken out of the sentence, given to a shell, and the store is opened.
"""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows import prefect_database
from flows.prefect_database import check_database, has_answered, why_it_failed
from posttrain.errors import StorageError
from posttrain.settings.evaluation import TrackingSettings
from tasks.judges import cache as judge_cache
from tasks.judges.cache import ReplyCache
from tasks.tracking.ledger import Ledger
from tasks.workspace import databases as subject
from tasks.workspace.databases import Database, check, explained, holder_of, migrations
from tasks.workspace.paths import Paths

PREFECT_SCHEMA = "prefect/server/database/_migrations/versions/sqlite"


@dataclass
class Store:
    """One of the three, made and used once.

    Attributes:
        name: of the parameter.
        paths: of the repository it is in.
        file: where its database lies.
        lost: what its sentence says is lost.
    """

    name: str
    paths: Paths
    file: Path
    lost: str

    def open(self) -> None:
        if self.name == "mlflow":
            Ledger.open(self.paths, TrackingSettings())
        elif self.name == "prefect":
            check_database(self.paths)
        else:
            ReplyCache(self.paths.store).close()


def sqlite(file: Path, *statements: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as opened:
        for statement in statements:
            opened.execute(statement)
        opened.commit()


@pytest.fixture(params=["mlflow", "prefect", "judge"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Store:
    for name in ("PREFECT_HOME", *prefect_database.SETTINGS, "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for module in (subject, judge_cache):
        monkeypatch.setattr(module, "WAIT", 0.2)
    monkeypatch.setattr(subject.check, "__kwdefaults__", {"wait": 0.2, "every_page": False})
    root = tmp_path / "a clone"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    if request.param == "mlflow":
        shutil.copytree(empty_store, root)
    root.mkdir(exist_ok=True)
    monkeypatch.chdir(root)
    paths = Paths(root)
    files = {
        "mlflow": paths.ledger / "mlflow.db",
        "prefect": paths.store / "prefect" / "prefect.db",
        "judge": paths.store / "judge.sqlite",
    }
    lost = {
        "mlflow": "the history of runs, and the names of registered models",
        "prefect": "Prefect's history of runs, and its schedules",
        "judge": "the answers in it, which the judge is asked for again",
    }
    store = Store(request.param, paths, files[request.param], lost[request.param])
    if store.name == "prefect":  # its head alone: a server takes seconds to make the rest
        head = next(name for name in migrations(PREFECT_SCHEMA) if name not in migrations(PREFECT_SCHEMA).values())
        rows = ", ".join(f"('{number:0200}')" for number in range(500))
        sqlite(
            store.file,
            "CREATE TABLE alembic_version (version_num TEXT)",
            f"INSERT INTO alembic_version VALUES ('{head}')",
            "CREATE TABLE flow_run (name TEXT)",
            f"INSERT INTO flow_run VALUES {rows}",
        )
        has_answered(paths)
    if store.name == "judge":
        cache = ReplyCache(paths.store)
        cache.put({str(number): {"text": "A" * 200} for number in range(500)})
        cache.close()
    if store.name != "mlflow":  # whose library would keep the file open that is put aside
        store.open()
    return store


def refusal(store: Store) -> str:
    with pytest.raises(StorageError) as told:
        store.open()
    sentence = str(told.value)
    assert "\n" not in sentence and "Traceback" not in sentence
    assert str(store.file.relative_to(store.paths.root)) in sentence, "it names the file"
    return sentence


def follow(store: Store, sentence: str) -> None:
    """Do what a sentence says, and see that the store opens, and that the damaged file is kept."""
    content = store.file.read_bytes()
    command = re.search(r"(mkdir .*?/); then", sentence)
    assert command, sentence
    subprocess.run(command[1], shell=True, check=True, cwd=store.paths.root)
    (kept,) = store.file.parent.glob(f"damaged-*/{store.file.name}")
    assert kept.read_bytes() == content
    store.open()


def fill_with_noise(file: Path) -> None:
    file.write_bytes(os.urandom(40_000))


def cut_in_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_to_its_head(file: Path) -> None:
    os.truncate(file, 1000)


def empty(file: Path) -> None:
    os.truncate(file, 0)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (fill_with_noise, "is no SQLite database"),
        (cut_in_half, "is cut off: "),
        (cut_to_its_head, "is cut off: 1,000 of "),
        (empty, "is empty"),
    ],
)
def test_a_damaged_store_is_told_and_put_aside_by_the_command_that_is_given(store: Store, damage, words: str) -> None:
    damage(store.file)
    before = store.file.read_bytes()
    sentence = refusal(store)
    assert words in sentence
    assert f"Lost: {store.lost}; not touched: " in sentence
    assert store.file.read_bytes() == before, "nothing is mended in silence"
    follow(store, sentence)


def test_a_store_without_its_tables_is_not_filled_in_silence(store: Store) -> None:
    store.file.unlink()
    sqlite(store.file, "CREATE TABLE something_else (a)")
    sentence = refusal(store)
    assert ("no such table" if store.name == "judge" else f"it holds none of {store.name}'s tables") in sentence
    follow(store, sentence)


def test_a_store_of_a_newer_version_is_not_called_damaged(store: Store) -> None:
    newer = "PRAGMA user_version=7" if store.name == "judge" else "UPDATE alembic_version SET version_num = 'abcdef012345'"
    sqlite(store.file, newer)
    sentence = refusal(store)
    version = "version 7" if store.name == "judge" else "schema abcdef012345"
    assert f"was written by a newer version: it has {version}" in sentence
    assert "Nothing is lost. Update this repository: git pull && make setup" in sentence
    follow(store, sentence)


HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
print("held", flush=True)
input()
"""


def test_a_locked_store_names_the_process_that_holds_it(store: Store) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    sentence = refusal(store)
    assert f"is locked by process {holder.pid} (" in sentence
    assert "Nothing is lost" in sentence and "damaged-" not in sentence
    command = re.search(r"end it: (kill \d+);", sentence)
    assert command
    subprocess.run(command[1], shell=True, check=True)
    holder.communicate()
    store.open()


def test_a_store_that_is_locked_by_nobody_that_we_see() -> None:
    about = Database(file=Path("somewhere.db"), what="A store", loses="all", keeps="nothing")
    assert str(explained(about, sqlite3.OperationalError("database is locked"))) == (
        "A store (somewhere.db) is locked by another program. Wait until it is done, or end that program; then run again. "
        "Nothing is lost"
    )
    assert holder_of(Path("somewhere.db")) is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("database or disk is full", "cannot grow: database or disk is full. Make room on the disk of "),
        (
            "attempt to write a readonly database",
            "cannot be written: attempt to write a readonly database. Make it and its folder",
        ),
        ("unable to open database file", "cannot be written: unable to open database file. Make it and its folder writable"),
        ("database disk image is malformed", "is damaged: database disk image is malformed. Lost: all; not touched: the rest"),
        ("something else\n[SQL: SELECT 1]", "refused a request: something else. Nothing that was finished before is lost"),
    ],
)
def test_what_sqlite_says_gets_its_own_remedy(words: str, sentence: str) -> None:
    about = Database(file=Path("a", "b.db"), what="A store", loses="all", keeps="the rest")
    told = str(explained(about, sqlite3.DatabaseError(words)))
    assert told.startswith(f"A store (a/b.db) {sentence}")
    assert "SQL:" not in told


def test_noise_in_the_middle_is_found_where_every_page_is_read(tmp_path: Path) -> None:
    file = tmp_path / "some.db"
    rows = ", ".join(f"('{number:0300}')" for number in range(900))
    sqlite(file, "CREATE TABLE t (a TEXT)", "CREATE INDEX i ON t (a)", f"INSERT INTO t VALUES {rows}")
    about = Database(file=file, what="A store", loses="all", keeps="the rest")
    check(about, every_page=True)
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        opened.write(os.urandom(20_000))
    check(about)
    with pytest.raises(StorageError, match="is damaged"):
        check(about, every_page=True)


def test_pages_that_wait_in_the_log_are_not_missing(tmp_path: Path) -> None:
    file = tmp_path / "some.db"
    with closing(sqlite3.connect(file)) as opened:
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("CREATE TABLE t (a)")
        opened.execute("INSERT INTO t VALUES (randomblob(100000))")
        opened.commit()
        shutil.copy(file, tmp_path / "copy.db")
        shutil.copy(f"{file}-wal", tmp_path / "copy.db-wal")
    check(Database(file=tmp_path / "copy.db", what="A store", loses="all", keeps="the rest"))


def test_an_older_schema_of_mlflow_is_brought_up_to_date_with_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.tracking.store import ledger_database

    monkeypatch.chdir(tmp_path)
    about = ledger_database(tmp_path / "mlflow.db")
    known = migrations(about.schema)
    older = known[next(name for name in known if name not in known.values())]
    sqlite(about.file, "CREATE TABLE alembic_version (version_num TEXT)", f"INSERT INTO alembic_version VALUES ('{older}')")
    with pytest.raises(StorageError) as told:
        check(about)
    assert str(told.value) == (
        f"MLflow's database (mlflow.db) has the schema {older} of an older mlflow. Bring it up to date: "
        "cp mlflow.db mlflow.db.backup && .venv/bin/mlflow db upgrade sqlite:///mlflow.db; then run again"
    )


def test_prefects_older_schema_is_its_servers_business(tmp_path: Path) -> None:
    known = migrations(PREFECT_SCHEMA)
    older = next(before for before in known.values() if before)
    file = tmp_path / "prefect.db"
    sqlite(file, "CREATE TABLE alembic_version (version_num TEXT)", f"INSERT INTO alembic_version VALUES ('{older}')")
    check(Database(file=file, what="A store", loses="all", keeps="the rest", schema=PREFECT_SCHEMA))


@pytest.mark.parametrize("folder", [PREFECT_SCHEMA, "mlflow/store/db_migrations/versions"])
def test_the_migrations_of_a_library_are_one_line_from_first_to_last(folder: str) -> None:
    known = migrations(folder)
    assert len(known) > 50
    assert len(set(known) - set(known.values())) == 1, "one newest"
    assert set(known.values()) - set(known) == {""}, "every other one is known too"


# --- Prefect's, which a server makes by itself ------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PREFECT_HOME", *prefect_database.SETTINGS):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / ".posttrain" / "prefect"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("statements", [(), ("CREATE TABLE alembic_version (version_num TEXT)",)])
def test_what_a_first_server_left_that_was_killed_is_made_again(home: Path, statements: tuple[str, ...]) -> None:
    file = home / "prefect.db"
    file.touch()
    if statements:
        sqlite(file, *statements)
    check_database(Paths(home.parents[1]))
    assert not file.exists()
    why_it_failed(home)


def test_noise_where_no_server_ever_answered_is_told_and_kept(home: Path) -> None:
    (home / "prefect.db").write_bytes(os.urandom(2_000))
    with pytest.raises(StorageError, match="is no SQLite database"):
        check_database(Paths(home.parents[1]))
    assert (home / "prefect.db").exists()


def test_a_database_that_is_named_elsewhere_is_not_ours_to_judge(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "prefect.db").write_bytes(os.urandom(2_000))
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://somewhere/prefect")
    check_database(Paths(home.parents[1]))


def test_a_database_that_was_put_aside_is_made_again_without_a_word(home: Path) -> None:
    has_answered(Paths(home.parents[1]))
    check_database(Paths(home.parents[1]))
    (home / "prefect.db").touch()  # the new server is killed at once
    check_database(Paths(home.parents[1]))
