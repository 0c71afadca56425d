"""MLflow's own server, which shows the local store."""

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from posttrain.errors import RequestError
from tasks.tracking.store import artifacts_folder, store_uri
from tasks.workspace.disk import write_whole
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

UI_PORT = 5000
PORTS_TRIED = 20
"""From the usual one on, where that is taken and no other was asked for."""


def running_port(paths: Paths) -> int | None:
    """Return the port of the page that `make ui` serves from this store now, on this machine; None where it does not run."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        note = json.loads(_note(paths).read_text(encoding="utf-8"))
        process = Process.from_name(note["process"], host=note["host"])
        if process and process.host == socket.gethostname() and process.may_live():
            return int(note["port"])
    return None


def remember_port(paths: Paths, port: int) -> None:
    """Note that this very process serves the page at a port; the note counts while the process lives, whatever it becomes."""
    process = Process.current()
    note = {"process": process.name, "host": process.host, "port": port}
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


def is_free(port: int) -> bool:
    """Return whether a server could listen at a port of this machine now."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _note(paths: Paths) -> Path:
    return paths.ledger / "ui.json"


def server_command(paths: Paths, port: int = UI_PORT) -> list[str]:
    """Return the command that serves the UI of the local store on this machine only; run it with `server_environment`."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store_uri(paths)]
    command += ["--artifacts-destination", str(artifacts_folder(paths))]
    own = [f"{name}:{port}" for name in ("127.0.0.1", "localhost")]  # MLflow's own list takes any name that starts with "10."
    command += ["--allowed-hosts", ",".join(own), "--cors-allowed-origins", ",".join(f"http://{name}" for name in own)]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def server_environment() -> dict[str, str]:
    """Return the environment of the server: one worker without job runners takes 0.5 GB of memory, the default 2.6 GB.

    Nothing in it turns off the check of hosts and origins, which keeps foreign pages from the store.
    """
    opening = ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_GUNICORN_OPTS")
    kept = {name: value for name, value in os.environ.items() if name not in opening}
    return {**kept, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
