"""Prefect's server: an ephemeral one a pipeline, or the lasting one of `make up`, which also schedules."""

import atexit
import fcntl
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.environment import SERVER, prefect_home, server_pid
from posttrain.errors import StorageError
from tasks.places import Places

UVICORN = "-m uvicorn --factory prefect.server.api.server:create_app --log-level error --lifespan on --host 127.0.0.1 --port"
LONGEST_START = 180.0
"""Seconds that a server may take until it answers: a fresh database on a busy machine takes 20 or more."""


@contextmanager
def starting_server(places: Places) -> Iterator[None]:
    """Have a server that answers by the end of the block, whose imports meanwhile take as long as its start.

    It is the one that PREFECT_API_URL names, else an ephemeral one that ends with this process. Prefect would start one by
    itself, but import the whole server into our process for it (3 s), let it die of a Ctrl-C that was meant for us, and leave
    it running where we are killed.

    Raises:
        StorageError: it does not answer.
    """
    address = os.environ.get("PREFECT_API_URL")
    if address:
        yield
        _wait_until_it_answers(address, None, log="")
        return
    with _one_at_a_time(places) as home, (home / "ephemeral.log").open("w+") as log:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ["PREFECT_API_URL"] = address = f"http://127.0.0.1:{port}/api"
        server = subprocess.Popen(
            [sys.executable, *UVICORN.split(), str(port)],
            env={**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        _end_with_us(server)
        yield
        _wait_until_it_answers(address, server, log=log.name)


@contextmanager
def _one_at_a_time(places: Places) -> Iterator[Path]:
    """Let one process at a time start a server: several would race in making a fresh database."""
    home = prefect_home(places)
    home.mkdir(parents=True, exist_ok=True)
    with (home / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield home


def _end_with_us(server: subprocess.Popen[bytes]) -> None:
    """See to it that a server ends when this process does, even if it is killed with -9.

    A shell waits for the end of a pipe whose other end only we hold. It is never closed here: the system does it, however we end.
    """
    atexit.register(server.terminate)
    ours_ends, _kept_open = os.pipe()
    quiet = subprocess.DEVNULL
    command = ["sh", "-c", f"read _; kill {server.pid}"]
    subprocess.Popen(command, stdin=ours_ends, stdout=quiet, stderr=quiet, start_new_session=True)
    os.close(ours_ends)


def _wait_until_it_answers(address: str, server: subprocess.Popen[bytes] | None, *, log: str) -> None:
    deadline = time.monotonic() + (LONGEST_START if server else 10.0)
    trouble: object = "no answer"
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=10):
                return
        except OSError as error:
            trouble = error
        if server and server.poll() is not None:
            trouble = " ".join(Path(log).read_text(errors="replace").splitlines()[-1:]) or f"it ended with {server.returncode}"
            break
        time.sleep(0.1)
    raise StorageError(f"Prefect's server does not answer at {address}: {trouble}")


def up(places: Places) -> str:
    """Start the lasting server in the background, unless it runs."""
    if server_pid(places) is None:
        with _one_at_a_time(places):
            command = [sys.executable, "-m", "prefect", "server", "start", "--background"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise StorageError(f"Prefect's server did not start: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
            _wait_until_it_answers(f"{SERVER}/api", None, log="")
    return f"Prefect: {SERVER}   (make down ends it)"


def down(places: Places) -> str:
    """Stop the lasting server."""
    if server_pid(places) is None:
        return "Prefect's server is not running"
    subprocess.run([sys.executable, "-m", "prefect", "server", "stop"], capture_output=True, check=False)
    return "Prefect's server is stopped"
