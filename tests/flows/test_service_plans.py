"""The commands, environments and addresses of the services, and what is refused before one starts."""

import os
from pathlib import Path

import pytest

from flows import service_plans as subject
from flows.service_plans import (
    WORK_POOL,
    Databases,
    Plan,
    check_stores,
    is_of_this_machine,
    make_ledger,
    names_of,
    plan_of,
    require_password_beyond,
)
from posttrain.errors import RequestError
from posttrain.settings.config import merge
from posttrain.settings.evaluation import TrackingSettings
from posttrain.settings.servers import ServersSettings
from tasks.services.guard import FURTHER_NAMES, LOGIN
from tasks.services.notes import NAMES
from tasks.tracking.app import STORE
from tasks.workspace.paths import Paths

SECRET = "ann:s3cret"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine that runs the tests decides."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_", "PG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THEIR_LOGIN", SECRET)
    monkeypatch.setenv("DB_PASSWORD", "dbs3cret")


def settings(*words: str) -> ServersSettings:
    return merge({}, [f"servers.{word}" for word in words]).servers


def plans(tmp_path: Path, *words: str) -> dict[str, Plan]:
    return {name: plan_of(name, Paths(tmp_path), settings(*words)) for name in NAMES}


def test_by_default_all_listen_on_this_machine_alone_and_ask_for_no_password(tmp_path: Path) -> None:
    found = plans(tmp_path)
    assert [plan.site for plan in found.values()] == [f"http://127.0.0.1:{port}" for port in (4200, 5000, 4280)]
    assert [plan.health.rpartition(":")[2] for plan in found.values()] == ["4200/api/health", "5000/health", "4280/health"]
    assert [plan.log.name for plan in found.values()] == ["prefect.log", "mlflow.log", "worker.log"]
    for name in ("prefect", "mlflow"):
        command = found[name].command
        assert command[command.index("--host") + 1] == "127.0.0.1"
    told = found["prefect"].environment
    assert told["PREFECT_UI_API_URL"] == "http://127.0.0.1:4200/api" and told["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert not {"PREFECT_SERVER_API_AUTH_STRING", "PREFECT_SERVER_DATABASE_CONNECTION_URL", "PGPASSWORD"} & told.keys()
    assert LOGIN not in found["mlflow"].environment
    worker = found["worker"].environment
    assert worker["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert (worker["PREFECT_WORKER_WEBSERVER_HOST"], worker["PREFECT_WORKER_WEBSERVER_PORT"]) == ("127.0.0.1", "4280")
    assert "PREFECT_API_AUTH_STRING" not in worker


def test_the_worker_serves_our_pool_and_executes_as_many_runs_as_the_setting_says(tmp_path: Path) -> None:
    command = " ".join(plans(tmp_path, "concurrent_runs=3")["worker"].command)
    assert f"-m flows.worker --pool {WORK_POOL} --type process " in command
    assert "--limit 3 " in command and "--install-policy never" in command and "--with-healthcheck" in command
    served = plan_of("worker", Paths(tmp_path), settings(), api="http://prefect:4200/api")
    assert served.environment["PREFECT_API_URL"] == "http://prefect:4200/api"


def test_a_password_is_in_environments_and_nowhere_else(tmp_path: Path) -> None:
    found = plans(tmp_path, "password=env:THEIR_LOGIN")
    assert found["prefect"].environment["PREFECT_SERVER_API_AUTH_STRING"] == SECRET
    assert found["mlflow"].environment[LOGIN] == SECRET
    told = found["worker"].environment
    assert (told["PREFECT_API_AUTH_STRING"], told["MLFLOW_TRACKING_USERNAME"], told["MLFLOW_TRACKING_PASSWORD"]) == (
        SECRET,
        "ann",
        "s3cret",
    )
    for plan in found.values():
        assert "s3cret" not in " ".join([*plan.command, plan.site, plan.health, str(plan.log)])


def test_what_a_client_was_told_is_not_taken_by_a_server_for_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "old:one")
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "old:one")
    found = plans(tmp_path)
    assert not {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING"} & found["prefect"].environment.keys()
    assert "PREFECT_SERVER_API_AUTH_STRING" not in found["worker"].environment


def test_databases_are_addresses_without_a_password_and_the_password_is_beside_them(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(subject, "require_driver", lambda *_, **__: None)
    prefect, mlflow = "postgresql+asyncpg://ann@db/prefect", "postgresql+psycopg2://ann@db/mlflow"
    words = (f"prefect_database={prefect}", f"mlflow_database={mlflow}", "database_password=env:DB_PASSWORD")
    found = plans(tmp_path, *words)
    assert found["prefect"].environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == prefect
    assert found["mlflow"].environment[STORE] == mlflow
    assert [plan.environment.get("PGPASSWORD") for plan in found.values()] == ["dbs3cret", "dbs3cret", None]
    assert "dbs3cret" not in str([plan.command for plan in found.values()])


def test_the_driver_of_mlflow_is_asked_for_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(subject, "require_driver", lambda module, setting: asked.append((module, setting)))
    Databases.of(settings("prefect_database=postgresql+asyncpg://ann@db/prefect"))
    assert asked == []
    Databases.of(settings("mlflow_database=postgresql+psycopg2://ann@db/mlflow"))
    assert asked == [("psycopg2", "servers.mlflow_database")]


@pytest.mark.parametrize(
    ("words", "site", "names"),
    [
        ((), "http://127.0.0.1:4200", ()),
        (("host=localhost",), "http://127.0.0.1:4200", ()),
        (
            ("host=0.0.0.0", "password=env:THEIR_LOGIN", "names=Prefect, x.org:443"),
            "http://127.0.0.1:4200",
            ("prefect", "x.org:443"),
        ),
        (("host=10.0.0.5", "password=env:THEIR_LOGIN"), "http://10.0.0.5:4200", ("10.0.0.5",)),
    ],
)
def test_an_address_that_is_listened_on_is_a_name_as_well(
    tmp_path: Path, words: tuple[str, ...], site: str, names: tuple[str, ...]
) -> None:
    assert names_of(settings(*words)) == names
    plan = plan_of("prefect", Paths(tmp_path), settings(*words))
    assert plan.site == site and plan.environment[FURTHER_NAMES] == ",".join(names)
    assert plan_of("worker", Paths(tmp_path), settings(*words)).site == "http://127.0.0.1:4280", (
        "it is never reached from elsewhere"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("host=0.0.0.0",),
            "servers.host is 0.0.0.0, which other machines reach, so servers.password must say where user:password is: "
            "env:NAME or file:PATH. Or leave servers.host at 127.0.0.1",
        ),
        (("host=::1",), "servers.host must be an IPv4 address or a name, got '::1'"),
        (("mlflow_port=4200",), "servers.prefect_port and servers.mlflow_port must be two ports, got 4200 for both"),
        (("worker_port=5000",), "servers.mlflow_port and servers.worker_port must be two ports, got 5000 for both"),
    ],
)
def test_what_is_refused(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(RequestError) as told:
        require_password_beyond(settings(*words))
    assert str(told.value) == sentence
    with pytest.raises(RequestError):
        plan_of("prefect", Paths(tmp_path), settings(*words))


def test_each_store_is_looked_at_by_who_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(subject, "require_driver", lambda *_, **__: None)
    monkeypatch.setattr(subject, "check_database", lambda paths: looked.append("sqlite of prefect"))
    monkeypatch.setattr(subject, "settle_store", lambda paths: looked.append("sqlite of mlflow"))
    monkeypatch.setattr(
        subject.Ledger, "open", lambda paths, tracking: looked.append(f"made {tracking.experiment} {tracking.uri}")
    )
    monkeypatch.setattr(
        subject,
        "check_postgres",
        lambda address, password, **told: looked.append(f"{address.database} {password} {told.get('upgrade', '')}"),
    )
    paths, tracking = Paths(tmp_path), TrackingSettings(experiment="mine", uri="http://elsewhere")
    words = ("prefect_database=postgresql+asyncpg://ann@db/prefect", "mlflow_database=postgresql+psycopg2://ann@db/mlflow")
    check_stores(paths, settings())
    assert looked == ["sqlite of prefect"]
    looked.clear()
    make_ledger(paths, settings(*words), tracking)
    make_ledger(paths, settings(), tracking)
    assert looked == ["made mine "], "a store that a server makes has addresses that only it reads"
    looked.clear()
    paths.ledger.mkdir(parents=True)
    (paths.ledger / "mlflow.db").touch()
    check_stores(paths, settings())
    check_stores(paths, settings(), ["worker"])
    make_ledger(paths, settings(), tracking)
    assert looked == ["sqlite of prefect", "sqlite of mlflow"]
    looked.clear()
    check_stores(paths, settings(*words, "database_password=env:DB_PASSWORD"))
    assert looked == ["prefect dbs3cret ", f"mlflow dbs3cret {subject.UPGRADE}"]


@pytest.mark.parametrize(
    ("words", "is_alone"),
    [
        ((), True),
        (("prefect_database=postgresql+asyncpg://ann@localhost/prefect",), True),
        (("prefect_database=postgresql+asyncpg://ann@db/prefect",), False),
        (("host=10.0.0.5", "password=env:THEIR_LOGIN"), False),
    ],
)
def test_runs_may_be_another_machines_where_it_reaches_the_server_or_the_database(words: tuple[str, ...], is_alone: bool) -> None:
    assert is_of_this_machine(settings(*words)) is is_alone


def test_a_database_that_the_environment_names_is_not_ours_to_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:///x.db")
    monkeypatch.setattr(subject, "check_database", lambda paths: pytest.fail("it was looked at"))
    check_stores(Paths(tmp_path), settings(), ["prefect"])
