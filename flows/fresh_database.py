"""Prefect's SQLite file, made whole before its server starts on it: in half of the time, and never half-made."""

import os
import re
import sqlite3
import warnings
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]
import sqlalchemy as sa

from tasks.workspace.disk import sync


def make_database() -> None:
    """Make the database that Prefect's settings name, where it is a file that is not there yet.

    Prefect makes it through an asynchronous driver, whose thread is asked anew for each of some thousand statements; these are
    the same migrations through Python's own. A killed start leaves nothing, since the file gets its name at the end.
    `EnvironmentContext` is how Alembic is run without an `env.py`
    (https://alembic.sqlalchemy.org/en/latest/api/runtime.html).
    """
    from prefect.settings import get_current_settings

    told = get_current_settings().server.database.connection_url
    url = sa.make_url(told.get_secret_value()) if told else None
    if url is None or url.get_backend_name() != "sqlite" or not url.database or ":memory:" in url.database:
        return
    file = Path(url.database)
    if file.exists() or url.query:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(f"{file.name}.draft-*"):
        number = re.match(r"\d+", left.name.removeprefix(f"{file.name}.draft-"))
        if number and not psutil.pid_exists(int(number[0])):
            left.unlink()  # of a start that was killed
    draft = file.with_name(f"{file.name}.draft-{os.getpid()}")
    try:
        _migrate(draft)
        sync(draft)
        draft.replace(file)
    finally:
        for left in file.parent.glob(f"{draft.name}*"):
            left.unlink()


def _without_waiting(connection: sqlite3.Connection, _: object) -> None:
    """Let no transaction wait for the disk: the draft counts only once it is whole, and is synced then."""
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA journal_mode=MEMORY")


def _migrate(file: Path) -> None:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from prefect.server.database import provide_database_interface
    from prefect.server.database.alembic_commands import alembic_config

    interface, config = provide_database_interface(), alembic_config()
    scripts = ScriptDirectory.from_config(config)
    scripts.version_locations = [str(interface.orm.versions_dir)]
    engine = sa.create_engine(f"sqlite:///{file}")
    sa.event.listen(engine, "connect", _without_waiting)

    def to_the_newest(revision, context):  # type: ignore[no-untyped-def]
        return scripts._upgrade_revs("head", revision)

    with warnings.catch_warnings(), EnvironmentContext(config, scripts, fn=to_the_newest) as environment:
        warnings.filterwarnings("ignore", message="Skipped unsupported reflection", category=sa.exc.SAWarning)
        with engine.connect() as connection:
            environment.configure(
                connection=connection,
                target_metadata=interface.Base.metadata,
                render_as_batch=True,  # SQLite changes a table by making it anew
                transaction_per_migration=True,
            )
            with environment.begin_transaction():
                environment.run_migrations()
    engine.dispose()
