"""Addresses of PostgreSQL: their form, what is refused, and what is said of one that cannot be used."""

import asyncio
from typing import Any

import pytest

from posttrain.errors import RequestError, StorageError
from tasks.services import postgres
from tasks.services.postgres import MLFLOW_DRIVER, PREFECT_DRIVER, Address, check_postgres, require_driver, require_two
from tasks.workspace.databases import migrations
from tests.ports import free_port

SCHEMA = "mlflow/store/db_migrations/versions"
UPGRADE = "mlflow db upgrade …"


def address(text: str = "postgresql+asyncpg://ann@db.example:5433/prefect", driver: str = PREFECT_DRIVER) -> Address:
    return Address.read(text, setting="servers.prefect_database", driver=driver)


def test_an_address_is_read() -> None:
    found = address()
    assert (found.user, found.host, found.port, found.database) == ("ann", "db.example", 5433, "prefect")
    assert address("postgresql+asyncpg://ann@db/prefect").port == 5432
    assert address("postgresql+asyncpg://a%40b@db/my%20data").place == ("db", 5432, "my data")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann@db/prefect", "postgresql://ann@db/prefect"),
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("postgresql+asyncpg://db/prefect", "postgresql+asyncpg://db/prefect"),
        ("postgresql+asyncpg://ann@db", "postgresql+asyncpg://ann@db"),
        ("postgresql+asyncpg://ann@/prefect", "postgresql+asyncpg://ann@/prefect"),
        ("postgresql+asyncpg://ann@db:x/prefect", "postgresql+asyncpg://ann@db:x/prefect"),
        ("postgresql+asyncpg://ann@db/a/b", "postgresql+asyncpg://ann@db/a/b"),
        ("db", "db"),
        ("ann:s3cret@db/prefect", "another one"),
    ],
)
def test_another_form_is_refused(text: str, shown: str) -> None:
    with pytest.raises(RequestError) as told:
        address(text)
    assert str(told.value) == (
        f"servers.prefect_database must have the form postgresql+asyncpg://user@host:5432/database, got {shown}"
    )


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(RequestError) as told:
        address("postgresql+asyncpg://ann:s3cret@db/prefect")
    assert str(told.value) == (
        "servers.prefect_database must not hold a password: command lines and notes are read by others. Leave it out, and let "
        "servers.database_password say where it is, env:NAME or file:PATH"
    )


def test_one_database_for_both_is_refused() -> None:
    prefect = address("postgresql+asyncpg://ann@db/one")
    mlflow = Address.read("postgresql+psycopg2://bob@db:5432/one", setting="servers.mlflow_database", driver=MLFLOW_DRIVER)
    with pytest.raises(RequestError) as told:
        require_two(prefect, mlflow)
    assert str(told.value) == (
        "servers.prefect_database and servers.mlflow_database must name two databases, since both keep a table alembic_version, "
        "got one for both. Make another: createdb -O bob mlflow"
    )
    require_two(prefect, None)
    require_two(address("postgresql+asyncpg://ann@db:5433/one"), mlflow)
    require_two(address("postgresql+asyncpg://ann@db/two"), mlflow)


def test_a_driver_that_is_missing_is_named() -> None:
    require_driver("json", setting="servers.mlflow_database")
    with pytest.raises(RequestError) as told:
        require_driver("no_such_driver", setting="servers.mlflow_database")
    assert str(told.value) == (
        "servers.mlflow_database needs no_such_driver, which is not installed: "
        ".venv/bin/pip install -c constraints.txt -e '.[postgres]'"
    )


def found(monkeypatch: pytest.MonkeyPatch, version: str | Exception) -> None:
    async def version_of(*_: Any) -> str:
        if isinstance(version, Exception):
            raise version
        return version

    monkeypatch.setattr(postgres, "_version_of", version_of)


def check(upgrade: str = UPGRADE) -> None:
    check_postgres(address(), "s3cret", what="MLflow's database", schema=SCHEMA, upgrade=upgrade)


def test_the_version_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    known = migrations(SCHEMA)
    (newest,) = set(known) - set(known.values())
    for fine in ("", newest):
        found(monkeypatch, fine)
        check()
    older = known[newest]
    found(monkeypatch, older)
    check(upgrade="")  # its owner does it
    with pytest.raises(StorageError) as told:
        check()
    assert str(told.value) == (
        f"MLflow's database (postgresql+asyncpg://ann@db.example:5433/prefect) has the schema {older} of an older mlflow. "
        f"Back it up, then bring it up to date: {UPGRADE}; then run again"
    )
    found(monkeypatch, "ffff00001111")
    with pytest.raises(
        StorageError, match=r"was written by a newer version: it has schema ffff00001111, which the mlflow installed"
    ):
        check()


def named(name: str, parent: type[Exception] = Exception) -> Exception:
    return type(name, (parent,), {})("no\nsuch thing")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (named("InvalidPasswordError"), "Say where its password is: servers.database_password=env:NAME or file:PATH"),
        (named("InvalidCatalogNameError"), "Make the database: createdb -O ann prefect"),
        (
            named("LockNotAvailableError"),
            "Another program holds its tables, perhaps an upgrade. Wait until it is done, then run again",
        ),
        (
            OSError("no such thing"),
            "Start that PostgreSQL, or correct the address in servers.prefect_database; leave it empty for the SQLite file here",
        ),
    ],
)
def test_what_a_database_refuses_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str) -> None:
    found(monkeypatch, error)
    with pytest.raises(StorageError) as told:
        check()
    assert str(told.value) == (
        f"MLflow's database (postgresql+asyncpg://ann@db.example:5433/prefect) cannot be used: no such thing. {remedy}"
    )


def test_one_that_does_not_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, TimeoutError())
    with pytest.raises(StorageError, match=r"cannot be used: no answer within 10 s\. Look at the address and at a firewall"):
        check()


def test_remedies_are_for_errors_that_the_driver_has() -> None:
    import asyncpg

    missing = [name for name in postgres.REMEDIES if name != "TimeoutError" and not hasattr(asyncpg, name)]
    assert not missing


def test_nobody_listens() -> None:
    nowhere = address(f"postgresql+asyncpg://ann@127.0.0.1:{free_port()}/prefect")
    with pytest.raises(OSError, match=r"Connect call failed|Connection refused"):
        asyncio.run(postgres._version_of(nowhere, ""))
    with pytest.raises(StorageError, match=r"cannot be used: .*Start that PostgreSQL, or correct the address"):
        check_postgres(nowhere, "", what="Prefect's database", schema=SCHEMA)
