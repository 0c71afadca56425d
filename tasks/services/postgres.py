"""A PostgreSQL that a server keeps its tables in: its address in the settings, and whether it can be used, asked before a start.

Prefect speaks to it by asyncpg, MLflow by psycopg2 (the extra `postgres`). Both take the password from `PGPASSWORD` in their own
environment, so that it stands in no address.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from posttrain.errors import RequestError, StorageError
from tasks.workspace.databases import migrations

PREFECT_DRIVER, MLFLOW_DRIVER = "postgresql+asyncpg", "postgresql+psycopg2"
PASSWORD = "PGPASSWORD"
"""In a server's environment; both drivers read it (section 34.15 of PostgreSQL's manual)."""
LONGEST = 10.0
"""Seconds that a database may take to let us in."""


@dataclass(frozen=True)
class Address:
    """Where a database is.

    Attributes:
        setting: that names it.
        text: the whole address, without a password.
        user: who asks.
        host: the machine.
        port: of the server.
        database: its name.
    """

    setting: str
    text: str
    user: str
    host: str
    port: int
    database: str

    @classmethod
    def read(cls, text: str, *, setting: str, driver: str) -> "Address":
        """Return the address in a setting.

        Raises:
            RequestError: it is not of the form driver://user@host:port/database, or it holds a password.
        """
        form = f"{driver}://user@host:5432/database"
        parts = urlsplit(text)
        try:
            port = parts.port or 5432
        except ValueError:
            port = 0
        if parts.password is not None:
            raise RequestError(
                f"{setting} must not hold a password: command lines and notes are read by others. Leave it out, and let "
                "servers.database_password say where it is, env:NAME or file:PATH"
            )
        database = unquote(parts.path.lstrip("/"))
        if not (parts.scheme == driver and parts.username and parts.hostname and port and database and "/" not in database):
            raise RequestError(f"{setting} must have the form {form}, got {_shown(parts, text)}")
        return cls(setting, text, unquote(parts.username), parts.hostname, port, database)

    @property
    def place(self) -> tuple[str, int, str]:
        """What makes two databases one."""
        return self.host, self.port, self.database


def _shown(parts: SplitResult, text: str) -> str:
    """Return an address that is wrong, unless it may hold a password that we do not find."""
    return text if "@" not in text or parts.username else "another one"


def require_two(prefect: Address | None, mlflow: Address | None) -> None:
    """Refuse one database for both servers: each keeps the version of its tables in a table `alembic_version`.

    Raises:
        RequestError: they are one.
    """
    if prefect and mlflow and prefect.place == mlflow.place:
        raise RequestError(
            f"{prefect.setting} and {mlflow.setting} must name two databases, since both keep a table alembic_version, got "
            f"{mlflow.database} for both. Make another: createdb -O {mlflow.user} mlflow"
        )


def require_driver(module: str, *, setting: str) -> None:
    """Refuse a database whose driver is not installed.

    Raises:
        RequestError: it is not.
    """
    if find_spec(module) is None:
        command = ".venv/bin/pip install -c constraints.txt -e '.[postgres]'"
        raise RequestError(f"{setting} needs {module}, which is not installed: {command}")


def check_postgres(address: Address, password: str, *, what: str, schema: str, upgrade: str = "") -> None:
    """See that a PostgreSQL lets us in, that nobody holds its tables, and that they are of a version that we know.

    Args:
        address: of the database.
        password: of the user; "" where it lets us in without.
        what: its name in a sentence, "Prefect's database".
        schema: the package folder with the migrations of its owner.
        upgrade: the command that brings an older version up to date; "" where its owner does it by itself.

    Raises:
        StorageError: it cannot be reached or used; with what to do.
    """
    try:
        found = asyncio.run(_version_of(address, password))
    except Exception as error:  # asyncpg has an exception for each of PostgreSQL's 250 conditions
        raise explained(address, what, error) from error
    known = migrations(schema)
    owner = schema.partition("/")[0]
    if found and known and found not in known:
        raise StorageError(
            f"{what} ({address.text}) was written by a newer version: it has schema {found}, which the {owner} installed here "
            f"does not know. Nothing is lost. Update this repository: git pull && make setup; or name another database: "
            f"{address.setting}"
        )
    if found and upgrade and found in known.values():
        raise StorageError(
            f"{what} ({address.text}) has the schema {found} of an older {owner}. Back it up, then bring it up to date: "
            f"{upgrade}; then run again"
        )


@asynccontextmanager
async def connection(address: Address, password: str, *, longest: float | None = LONGEST) -> AsyncIterator[Any]:
    """Have a connection of asyncpg; who holds a table for long makes a statement fail, and not wait for ever.

    Args:
        address: of the database.
        password: of the user; "" where it lets us in without.
        longest: seconds that one statement may take; None for any time.
    """
    import asyncpg

    opened = await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=password or None,
        database=address.database,
        timeout=LONGEST,
        command_timeout=longest,
        server_settings={"lock_timeout": f"{int(LONGEST * 500)}ms"},
    )
    try:
        yield opened
    finally:
        await opened.close(timeout=LONGEST)


async def _version_of(address: Address, password: str) -> str:
    """Return the schema version in a database, "" where there is none yet."""
    async with connection(address, password) as opened:
        if not await opened.fetchval("SELECT to_regclass('alembic_version')"):
            return ""
        return str(await opened.fetchval("SELECT version_num FROM alembic_version") or "")


REMEDIES: Mapping[str, str] = {
    "InvalidPasswordError": "Say where its password is: servers.database_password=env:NAME or file:PATH",
    "InvalidAuthorizationSpecificationError": "Make the user: createuser {user}; or let it in, in pg_hba.conf",
    "InvalidCatalogNameError": "Make the database: createdb -O {user} {database}",
    "TooManyConnectionsError": "Raise max_connections of the PostgreSQL, or end what holds them",
    "CannotConnectNowError": "It starts or stops; run again in a moment",
    "InsufficientPrivilegeError": "Let {user} read and write there: ALTER DATABASE {database} OWNER TO {user}",
    "LockNotAvailableError": "Another program holds its tables, perhaps an upgrade. Wait until it is done, then run again",
    "TimeoutError": "Look at the address and at a firewall between, then run again",
}
"""By the name of what asyncpg or Python raises: what to do."""
UNREACHED = "Start that PostgreSQL, or correct the address in {setting}; leave it empty for the SQLite file here"


def explained(address: Address, what: str, error: Exception) -> StorageError:
    """Return an error of asyncpg in our words, with what to do."""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    remedy = next((REMEDIES[kind] for kind in kinds if kind in REMEDIES), UNREACHED)
    facts: dict[str, Any] = {"user": address.user, "database": address.database, "setting": address.setting}
    reason = " ".join(str(error).split()) or f"no answer within {LONGEST:g} s"
    return StorageError(f"{what} ({address.text}) cannot be used: {reason}. {remedy.format(**facts)}")
