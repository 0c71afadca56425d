"""MLflow's SQLite file and artifacts below `mlflow/store/`: made once, moved with the repository, said plainly when they refuse.

MLflow records absolute paths. A store that lies elsewhere than its database says, because the repository was moved or copied,
has them rewritten in one transaction when it is opened; from then on plain MLflow finds everything again, from any folder.
"""

import fcntl
import functools
import logging
import shlex
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from posttrain.errors import RequestError, StorageError
from tasks.workspace.databases import Database, check, explained, short
from tasks.workspace.disk import storage_trouble
from tasks.workspace.interrupts import uninterrupted
from tasks.workspace.paths import Paths

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

ABSOLUTE_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def load_store() -> None:
    """Import what opening the local store needs, where that costs no time: while something else is waited for."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def plain_errors(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Turn what the disk, SQLite or the server refused into a StorageError, one sentence instead of a traceback.

    A Ctrl-C waits until the function is done.
    """

    @functools.wraps(function)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        from mlflow.exceptions import MlflowException

        try:
            with uninterrupted(), _quiet("mlflow.store.db.utils"):  # which logs the traceback of what we say in a sentence
                return function(*args, **kwargs)
        except sqlite3.Error as error:
            raise _told(error, args) from error
        except OSError as error:
            trouble = storage_trouble(error) or f"refused: {error}"
            where = error.filename or "mlflow/store"
            raise StorageError(
                f"MLflow's store: the disk {trouble} ({where}). What was finished before is kept; make room (or make it "
                "writable), then run again"
            ) from error
        except MlflowException as error:
            if error.error_code not in ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "BAD_REQUEST"):
                raise
            raise _told(error, args) from error

    return wrapper


def _told(error: Exception, arguments: Sequence[object]) -> StorageError:
    """Return what an error means for the database that a function worked on; a server speaks for its own."""
    database = next((found for found in map(_database_of, arguments) if found), None)
    if database and database.file.exists():
        return explained(database, error)
    reason = " ".join(str(error).splitlines()[:1])
    return StorageError(f"the MLflow server refused a request: {reason}. Its own log says more; then run again")


def _database_of(argument: object) -> Database | None:
    """Return the SQLite file behind a function's argument: a ledger, a stage's run in it, or the paths of the repository."""
    if isinstance(argument, Paths):
        return ledger_database(argument.ledger / "mlflow.db")
    owner = getattr(argument, "_ledger", argument)
    uri = getattr(owner, "uri", "")
    return ledger_database(Path(uri.removeprefix("sqlite:///"))) if isinstance(uri, str) and uri.startswith("sqlite:") else None


def ledger_database(file: Path) -> Database:
    """Return what is said of MLflow's database."""
    return Database(
        file=file,
        what="MLflow's database",
        loses="the history of runs, and the names of registered models",
        keeps="data, finished stages, reports and the files of models",
        schema="mlflow/store/db_migrations/versions",
        upgrade=f".venv/bin/mlflow db upgrade {shlex.quote(f'sqlite:///{short(file)}')}",
    )


def store_uri(paths: Paths) -> str:
    """Return the address of the local store, for MLflow's own tools."""
    return f"sqlite:///{paths.ledger.resolve() / 'mlflow.db'}"


def artifacts_folder(paths: Paths) -> Path:
    """Return where the local store keeps artifacts: absolute, links resolved."""
    return paths.ledger.resolve() / "artifacts"


@contextmanager
def opening(folder: Path) -> Iterator[None]:
    """One process at a time makes, moves or migrates the store; a killed one lets go by itself."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_sure_of(database: Path) -> None:
    """Make the database if there is none, and see that it can be used: MLflow would retry for two minutes.

    Raises:
        StorageError: the path holds a character that means something else in MLflow's addresses; or the database is empty,
            damaged, locked, read-only, or of another version.
        OSError, sqlite3.Error: the disk refuses.
    """
    if set("#?%") & set(str(database)):
        raise StorageError(f"{database.parent} must not have #, ? or % in its path: MLflow cannot open it. Rename the folder")
    if not database.exists():
        _create_store(database)
    check(ledger_database(database))


def _create_store(database: Path) -> None:
    """Make MLflow's tables in memory and rename the finished file into place.

    MLflow itself migrates on the disk, 4 s of fsync instead of 1, and leaves half a database when it is killed.
    """
    import mlflow.store.db.utils as mlflow_tables
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", poolclass=StaticPool)
    unfinished = database.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with _quiet("mlflow.store.db.utils"), closing(sqlite3.connect(unfinished)) as file:
        mlflow_tables._initialize_tables(engine)  # type: ignore[no-untyped-call]
        with engine.connect() as connection:
            connection.connection.driver_connection.backup(file)  # type: ignore[union-attr]
    engine.dispose()
    unfinished.rename(database)


def follow_a_move(database: Path, *, artifacts: Path) -> None:
    """Rewrite the absolute paths in the database if it does not lie where it was last opened.

    MLflow's own experiment "Default", which opening a store creates and nothing here uses, keeps the root that was used last.
    """
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as store:
        row = store.execute("SELECT artifact_location FROM experiments ORDER BY experiment_id LIMIT 1").fetchone()
        if row is None or row[0] == str(artifacts):
            return
        before = row[0]
        store.execute("BEGIN IMMEDIATE")
        for table, column in ABSOLUTE_PATHS:
            store.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (str(artifacts), len(before) + 1, before, len(before) + 1, f"{before}/"),
            )
        store.execute("COMMIT")


@plain_errors
def settle_store(paths: Paths) -> None:
    """Make the local store where there is none, and let it know where it lies; a server is started on it next.

    Raises:
        StorageError: it cannot be used.
    """
    with opening(paths.ledger):
        database = paths.ledger / "mlflow.db"
        make_sure_of(database)
        follow_a_move(database, artifacts=artifacts_folder(paths))


def require_server(uri: str) -> None:
    """MLflow alone would try for minutes before it says that nobody answers."""
    if not uri.startswith(("http://", "https://")):
        raise RequestError(f"tracking.uri must start with http://, https:// or sqlite:///, got {uri}")
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10):
            pass
    except urllib.error.HTTPError:
        pass  # somebody answers; whether it is MLflow shows at the first request
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise RequestError(
            f"tracking.uri must be a running MLflow server, but {uri} does not answer ({reason}). "
            "Start it, or leave tracking.uri empty for the store below mlflow/"
        ) from None


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was
