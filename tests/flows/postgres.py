"""A PostgreSQL server of the distribution's packages, for tests; where there is none they are skipped with a word."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port


def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, None where the distribution's package is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def _let_pass(folder: Path) -> None:
    """Let other users through to a folder: pytest's own are for their user alone, and again so when another pytest starts."""
    system = Path(tempfile.gettempdir()).resolve()
    for parent in folder.resolve().parents:
        if parent.is_relative_to(system) and parent != system:
            parent.chmod(parent.stat().st_mode | 0o011)


@contextmanager
def postgres_or_skip(folder: Path) -> Iterator[tuple[int, Path]]:
    """Run a PostgreSQL with a password and a database for each server; yields its port and the file with the password."""
    programs = _programs()
    if not programs:
        pytest.skip("PostgreSQL is not installed here: apt-get install postgresql")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    secret, data, port = folder / "password", folder / "data", free_port()
    secret.write_text("dbs3cret")
    secret.chmod(0o644)

    def run(*command: object) -> None:
        _let_pass(folder)
        subprocess.run([*as_user, *map(str, command)], check=True, capture_output=True, cwd="/")

    run(programs / "initdb", "-D", data, "-U", "ann", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync")
    run(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", f"-p {port} -k {folder} -h 127.0.0.1", "start")
    try:
        for name in ("prefect", "mlflow"):
            environment = {**os.environ, "PGPASSWORD": "dbs3cret"}
            create = [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "ann", name]
            subprocess.run(create, check=True, env=environment)
        yield port, secret
    finally:
        run(programs / "pg_ctl", "-D", data, "-w", "-m", "fast", "stop")


def servers_on(database: tuple[int, Path]) -> dict[str, str]:
    """Return the settings of section `servers` that put both servers on it."""
    port, secret = database
    return {
        "prefect_database": f"postgresql+asyncpg://ann@127.0.0.1:{port}/prefect",
        "mlflow_database": f"postgresql+psycopg2://ann@127.0.0.1:{port}/mlflow",
        "database_password": f"file:{secret}",
    }
