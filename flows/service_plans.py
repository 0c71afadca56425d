"""What each background service is: its command, its environment, its addresses; and what is refused before one is started."""

import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.prefect_database import SETTINGS as PREFECT_DATABASE
from flows.prefect_database import check_database
from flows.server import server_command, server_environment
from posttrain.errors import RequestError
from posttrain.settings.evaluation import TrackingSettings
from posttrain.settings.servers import ServersSettings
from tasks.services.guard import FURTHER_NAMES, split_names
from tasks.services.notes import MLFLOW, NAMES, PREFECT, WORKER, folder_of
from tasks.services.passwords import login_of, secret_of
from tasks.services.postgres import (
    MLFLOW_DRIVER,
    PASSWORD,
    PREFECT_DRIVER,
    Address,
    check_postgres,
    require_driver,
    require_two,
)
from tasks.tracking import server as mlflow
from tasks.tracking.ledger import Ledger
from tasks.tracking.store import settle_store
from tasks.workspace.paths import Paths

WORK_POOL = "posttrain"
"""The pool of processes that schedules put their runs in; the worker makes it where it is missing."""
TITLES = {PREFECT: "Prefect", MLFLOW: "MLflow", WORKER: "worker"}
LOOPBACK = ("127.0.0.1", "localhost")
EVERYWHERE = "0.0.0.0"
UPGRADE = f"PGPASSWORD=… .venv/bin/mlflow db upgrade {MLFLOW_DRIVER}://…"
OF_CLIENTS = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
"""What a client knows of a server, and a server must not take for its own."""


@dataclass(frozen=True)
class Databases:
    """The databases that the settings name, None where a service keeps its SQLite file; and their password."""

    prefect: Address | None
    mlflow: Address | None
    password: str

    @classmethod
    def of(cls, settings: ServersSettings) -> "Databases":
        """Read them.

        Raises:
            RequestError: an address or the password is wrong, both are one, or a driver is missing.
        """
        prefect, mlflow = (
            Address.read(text, setting=setting, driver=driver) if text else None
            for text, setting, driver in (
                (settings.prefect_database, "servers.prefect_database", PREFECT_DRIVER),
                (settings.mlflow_database, "servers.mlflow_database", MLFLOW_DRIVER),
            )
        )
        require_two(prefect, mlflow)
        if mlflow:
            require_driver("psycopg2", setting=mlflow.setting)
        return cls(prefect, mlflow, secret_of(settings.database_password, setting="servers.database_password"))

    def environment(self, address: Address | None) -> dict[str, str]:
        """Return what a server needs for its database beside the address."""
        return {PASSWORD: self.password} if address and self.password else {}


@dataclass(frozen=True)
class Plan:
    """How a service is started.

    Attributes:
        name: "prefect", "mlflow" or "worker".
        command: that becomes it.
        environment: whole.
        site: the address of its page, on this machine; of the worker, that of its health.
        health: the address that answers while it is well.
        port: that it listens at.
        host: that it listens on.
        log: the file that it writes to.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    site: str
    health: str
    port: int
    host: str
    log: Path

    @property
    def title(self) -> str:
        """Its name for people."""
        return TITLES[self.name]


def plan_of(name: str, paths: Paths, settings: ServersSettings, *, api: str = "") -> Plan:
    """Return the plan of a service.

    Args:
        name: which.
        paths: of the repository.
        settings: of the servers.
        api: the address of Prefect's API, for the worker; "": of the server here.

    Raises:
        RequestError: the settings cannot be used.
    """
    require_password_beyond(settings)
    login = login_of(settings.password, setting="servers.password")
    databases = Databases.of(settings)
    port = {PREFECT: settings.prefect_port, MLFLOW: settings.mlflow_port, WORKER: settings.worker_port}[name]
    host = settings.host if name != WORKER else LOOPBACK[0]
    site = f"http://{'127.0.0.1' if host in (*LOOPBACK, EVERYWHERE) else host}:{port}"
    health = f"{site}/api/health" if name == PREFECT else f"{site}/health"
    if name == PREFECT:
        command, environment = server_command(port, host=host), _of_prefect(settings, databases, login)
    elif name == MLFLOW:
        command, environment = mlflow.server_command(port, host=host), _of_mlflow(paths, settings, databases, login)
    else:
        api = api or f"http://127.0.0.1:{settings.prefect_port}/api"
        command, environment = worker_command(settings), _of_worker(api, port, login)
    return Plan(name, command, environment, site, health, port, host, folder_of(paths) / f"{name}.log")


def _of_prefect(settings: ServersSettings, databases: Databases, login: str) -> dict[str, str]:
    names = names_of(settings)
    page = names[0] if names else "127.0.0.1"
    told = {
        "PREFECT_UI_API_URL": f"http://{page if ':' in page else f'{page}:{settings.prefect_port}'}/api",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",  # the server's own troubles belong in its log
        FURTHER_NAMES: ",".join(names),
        **databases.environment(databases.prefect),
    }
    if databases.prefect:
        told["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = databases.prefect.text
    if login:
        told["PREFECT_SERVER_API_AUTH_STRING"] = login
    kept = server_environment(settings.prefect_port, names=names)
    return {name: value for name, value in kept.items() if name not in OF_CLIENTS} | told


def names_of(settings: ServersSettings) -> tuple[str, ...]:
    """Return the names by which the servers are called beside those of this machine: an address that they listen on is one."""
    own = () if settings.host in (*LOOPBACK, EVERYWHERE) else (settings.host.lower(),)
    return (*split_names(settings.names), *own)


def _of_mlflow(paths: Paths, settings: ServersSettings, databases: Databases, login: str) -> dict[str, str]:
    return mlflow.server_environment(
        paths,
        settings.mlflow_port,
        names=names_of(settings),
        login=login,
        store=databases.mlflow.text if databases.mlflow else "",
        artifacts=settings.artifacts,
    ) | databases.environment(databases.mlflow)


def worker_command(settings: ServersSettings) -> list[str]:
    """Return the command of the worker, which waits for the server and makes the work pool where it is missing."""
    named = ["--pool", WORK_POOL, "--type", "process", "--name", f"posttrain-{socket.gethostname()}"]
    told = ["--limit", str(settings.concurrent_runs), "--install-policy", "never", "--with-healthcheck"]
    return [sys.executable, "-m", "flows.worker", *named, *told]


def _of_worker(api: str, port: int, login: str) -> dict[str, str]:
    told = {
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",  # its default is every address of the machine
        "PREFECT_WORKER_WEBSERVER_PORT": str(port),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
        "PYTHONUNBUFFERED": "1",
    }
    if login:
        user, _, secret = login.partition(":")
        told |= {"PREFECT_API_AUTH_STRING": login, "MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": secret}
    kept = {name: value for name, value in os.environ.items() if name != "PREFECT_SERVER_API_AUTH_STRING"}
    return kept | told


def require_password_beyond(settings: ServersSettings) -> None:
    """Refuse to listen beyond this machine without a password, and two services at one port.

    Raises:
        RequestError: it is asked for.
    """
    if not re.fullmatch(r"[\w.-]+", settings.host):
        raise RequestError(f"servers.host must be an IPv4 address or a name, got {settings.host!r}")
    if settings.host not in LOOPBACK and not settings.password:
        raise RequestError(
            f"servers.host is {settings.host}, which other machines reach, so servers.password must say where user:password is: "
            "env:NAME or file:PATH. Or leave servers.host at 127.0.0.1"
        )
    ports = {
        "servers.prefect_port": settings.prefect_port,
        "servers.mlflow_port": settings.mlflow_port,
        "servers.worker_port": settings.worker_port,
    }
    taken: dict[int, str] = {}
    for setting, port in ports.items():
        if port in taken:
            raise RequestError(f"{taken[port]} and {setting} must be two ports, got {port} for both")
        taken[port] = setting


def is_of_this_machine(settings: ServersSettings) -> bool:
    """Tell whether no other machine can have a part in Prefect's runs: it reaches neither the server nor its database."""
    database = Databases.of(settings).prefect
    return settings.host in LOOPBACK and (database is None or database.host in LOOPBACK)


def check_stores(paths: Paths, settings: ServersSettings, names: Sequence[str] = NAMES) -> None:
    """See that the databases of the services can be used, before one starts.

    Raises:
        RequestError: the settings cannot be used.
        StorageError: a database cannot be reached, is damaged, locked or of another version; with what to do.
    """
    databases = Databases.of(settings)
    if PREFECT in names and databases.prefect:
        where = "prefect/server/database/_migrations/versions/postgresql"
        check_postgres(databases.prefect, databases.password, what="Prefect's database", schema=where)
    elif PREFECT in names and not any(name in os.environ for name in PREFECT_DATABASE):
        check_database(paths)
    if MLFLOW in names and databases.mlflow:
        where = "mlflow/store/db_migrations/versions"
        check_postgres(databases.mlflow, databases.password, what="MLflow's database", schema=where, upgrade=UPGRADE)
    elif MLFLOW in names and _has_ledger(paths):
        settle_store(paths)


def make_ledger(paths: Paths, settings: ServersSettings, tracking: TrackingSettings) -> None:
    """Make MLflow's local store where there is none and its server is to use it.

    It is made with our experiment, so that its files lie where pipelines without a server find them: one that a server makes for
    its client has addresses that only the server reads.

    Raises:
        StorageError: it cannot be made.
    """
    if not settings.mlflow_database and not _has_ledger(paths):
        Ledger.open(paths, TrackingSettings(experiment=tracking.experiment))


def _has_ledger(paths: Paths) -> bool:
    return (paths.ledger / "mlflow.db").exists()
