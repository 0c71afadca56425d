"""MLflow's own server, which shows the local store."""

import json
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from posttrain.errors import RequestError
from tasks.services.guard import FURTHER_NAMES, LOGIN, own_hosts, own_origins
from tasks.services.notes import MLFLOW, folder_id, running
from tasks.services.processes import is_free
from tasks.tracking.app import ARTIFACTS, STORE
from tasks.tracking.store import artifacts_folder, store_uri
from tasks.workspace.disk import write_whole
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

UI_PORT = 5000
PORTS_TRIED = 20
"""From the usual one on, where that is taken and no other was asked for."""


def running_port(paths: Paths) -> int | None:
    """Return the port of MLflow's page on this machine, of `make up` or of `make ui`; None where neither runs."""
    if service := running(paths, MLFLOW):
        return service.port
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        note = json.loads(_note(paths).read_text(encoding="utf-8"))
        process = Process.from_name(note["process"], host=note["host"])
        # a copy of the store shows another store's page; a note of an older version does not say whose it is
        is_ours = "folder" not in note or note["folder"] == folder_id(paths.ledger)
        if is_ours and process and process.host == socket.gethostname() and process.may_live():
            return int(note["port"])
    return None


def remember_port(paths: Paths, port: int) -> None:
    """Note that this very process serves the page at a port; the note counts while the process lives, whatever it becomes."""
    process = Process.current()
    note = {"process": process.name, "host": process.host, "port": port, "folder": folder_id(paths.ledger)}
    write_whole(_note(paths), json.dumps(note).encode())


def choose_port(asked: int | None) -> int:
    """Return the port to serve at: the one asked for, or the first from `UI_PORT` on that is free.

    Raises:
        RequestError: another program listens at the port that was asked for, or at each that was tried.
    """
    if asked is None:
        tried = range(UI_PORT, UI_PORT + PORTS_TRIED)
        found = next((port for port in tried if is_free(port)), None)
        if found is None:
            raise RequestError(
                f"one of the ports {tried[0]} to {tried[-1]} must be free for MLflow's page, and other programs listen at all of "
                "them. Name one that is free: make ui PORT=8080"
            )
        return found
    if not is_free(asked):
        raise RequestError(
            f"port {asked} must be free for MLflow's page, but another program listens there. Leave PORT out for the first free "
            f"one from {UI_PORT} on, or take another: make ui PORT={asked + 1}"
        )
    return asked


def _note(paths: Paths) -> Path:
    return paths.ledger / "ui.json"


def server_command(port: int = UI_PORT, *, host: str = "127.0.0.1") -> list[str]:
    """Return the command that serves MLflow behind our guard; run it with `server_environment`.

    One process: `mlflow server` would be a second one beside it (0.39 GB the two, of mlflow 3.17.2).
    """
    command = [sys.executable, "-m", "uvicorn", "--factory", "tasks.tracking.app:create_app", "--lifespan", "on"]
    return [*command, "--no-access-log", "--host", host, "--port", str(port)]


def server_environment(
    paths: Paths,
    port: int,
    *,
    names: Sequence[str] = (),
    login: str = "",
    store: str = "",
    artifacts: str = "",
) -> dict[str, str]:
    """Return the environment of the server: without job runners it takes less than 0.4 GB of memory, with them 2 GB.

    Nothing in it turns off MLflow's own check of hosts and origins, which stands behind our guard. Its list of hosts takes any
    name that starts with "10.", so it is told the names.

    Args:
        paths: of the repository, whose local store is served.
        port: that it listens at.
        names: by which it is called, beside those of this machine.
        login: `user:password` that each request must bring; "": none is asked for.
        store: the address of another database.
        artifacts: another folder or object store for files.
    """
    opening = ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_GUNICORN_OPTS", LOGIN, FURTHER_NAMES)
    kept = {name: value for name, value in os.environ.items() if name not in opening}
    told = {
        STORE: store or store_uri(paths),
        ARTIFACTS: artifacts or str(artifacts_folder(paths)),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(own_hosts(port, names)),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(own_origins(port, names)),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    asked = {FURTHER_NAMES: ",".join(names), LOGIN: login}
    return kept | told | {name: value for name, value in asked.items() if value}
