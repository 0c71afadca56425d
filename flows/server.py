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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped, unused-ignore]

from flows.environment import LastingServer, forget, lasting_server, prefect_home, remember
from flows.guard import own_origins
from flows.prefect_database import check_database, has_answered, why_it_failed
from posttrain.errors import RequestError, StorageError
from tasks.workspace.disk import storage_errors
from tasks.workspace.interrupts import uninterrupted
from tasks.workspace.paths import Paths

UVICORN = "-m uvicorn --factory flows.guard:create_app --log-level error --lifespan on --host 127.0.0.1 --port"
LONGEST_START = 180.0
"""Seconds that a server may take until it answers: a fresh database on a busy machine takes 20 or more."""
LONGEST_END = 10.0
"""Seconds that a server may take to end by itself; then it is killed."""
LONGEST_ANSWER = 10.0
"""Seconds that a server which somebody else started may take."""
PORT = 4200
NEEDED_BY_A_PIPELINE = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
}
"""Neither pages nor block types: a server without them starts sooner."""


@dataclass(frozen=True)
class Ephemeral:
    """A server that ends with this process, or before it."""

    server: subprocess.Popen[bytes]
    shell: subprocess.Popen[bytes]

    def end(self) -> None:
        """End it now, and first the shell that would end whatever has its process id by then."""
        self.shell.kill()
        self.shell.wait()
        end(self.server)


@contextmanager
def starting_server(paths: Paths) -> Iterator[Ephemeral | None]:
    """Have a server that answers by the end of the block, whose imports meanwhile take as long as its start.

    It is the one that PREFECT_API_URL names, else an ephemeral one that ends with this process. Prefect would start one by
    itself, but import the whole server into our process for it (3 s), let it die of a Ctrl-C that was meant for us, and leave
    it running where we are killed. It is yielded; None where the server is not ours.

    Raises:
        StorageError: it does not answer, or its database cannot be used.
    """
    address = os.environ.get("PREFECT_API_URL")
    if address:
        yield None
        _wait_until_it_answers(address, None, log="")
        return
    with _one_at_a_time(paths) as home, (home / "ephemeral.log").open("w+") as log:
        check_database(paths)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ["PREFECT_API_URL"] = address = f"http://127.0.0.1:{port}/api"
        os.environ.setdefault("PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED", "false")  # it is this very Prefect
        with uninterrupted():
            server = _start(port, log, **NEEDED_BY_A_PIPELINE)
            ours = Ephemeral(server, _end_with_us(server))
        yield ours
        _wait_until_it_answers(address, server, log=log.name)
        has_answered(paths)


def _start(port: int, log: IO[str], **settings: str) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, where neither our terminal's Ctrl-C nor its end reaches it.

    Only its own page may use it: beside the guard, writing takes a token that no foreign page can read.
    """
    protected = {
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(own_origins(port)),
    }
    return subprocess.Popen(
        [sys.executable, *UVICORN.split(), str(port)],
        env={**os.environ, "PREFECT__SERVER_FINAL": "1", **protected, **settings},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


@contextmanager
def _one_at_a_time(paths: Paths) -> Iterator[Path]:
    """Let one process at a time start a server: several would race in making a fresh database."""
    home = prefect_home(paths)
    home.mkdir(parents=True, exist_ok=True)
    with (home / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield home


def _end_with_us(server: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """See to it that a server ends when this process does, even if it is killed with -9.

    A shell waits for the end of a pipe whose other end only we hold. It is never closed here: the system does it, however we end.

    Returns:
        The shell.
    """
    atexit.register(server.terminate)
    ours_ends, _kept_open = os.pipe()
    quiet = subprocess.DEVNULL
    command = ["sh", "-c", f"read _; kill {server.pid}"]
    shell = subprocess.Popen(command, stdin=ours_ends, stdout=quiet, stderr=quiet, start_new_session=True)
    os.close(ours_ends)
    return shell


def _wait_until_it_answers(address: str, server: subprocess.Popen[bytes] | None, *, log: str) -> None:
    deadline = time.monotonic() + (LONGEST_START if server else LONGEST_ANSWER)
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
    if server is None:
        raise RequestError(
            f"PREFECT_API_URL must be the address of a server that runs, but {address} does not answer: {trouble}. "
            "Start that one, or unset PREFECT_API_URL for a server of our own"
        )
    with storage_errors("Prefect's server", Path(log).parent):  # on a full disk it cannot even tell so
        probe = Path(log).with_suffix(".probe")
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    why_it_failed(Path(log).parent)
    raise StorageError(f"Prefect's server does not answer at {address}: {trouble}. See {log}, then run again")


def up(paths: Paths, *, port: int = PORT) -> str:
    """Start the lasting server in the background, unless it runs.

    Raises:
        RequestError: another program listens at the port.
        StorageError: the server does not answer.
    """
    with _one_at_a_time(paths) as home:
        running = lasting_server(paths)
        if running:
            return f"Prefect: {running.site}   (it was running already; make down ends it)"
        _require_free(port)
        check_database(paths)
        with (home / "server.log").open("w+") as log:
            site = f"http://127.0.0.1:{port}"
            server = _start(port, log, PREFECT_UI_API_URL=f"{site}/api")
            try:
                _wait_until_it_answers(f"{site}/api", server, log=log.name)
                has_answered(paths)
                remember(paths, LastingServer(pid=server.pid, started=psutil.Process(server.pid).create_time(), site=site))
                server.returncode = 0  # it outlives this object, which would warn of that
            except BaseException:
                end(server)
                raise
    return f"Prefect: {site}   (make down ends it)"


def _require_free(port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            raise RequestError(
                f"port {port} must be free for Prefect's server, but another program listens there, perhaps the server of "
                f"another clone. End that one (make down in its folder), or take another port: make up PORT={port + 1}"
            ) from None


def down(paths: Paths) -> str:
    """Stop the lasting server, and wait until it has ended."""
    running = lasting_server(paths)
    if running:
        with suppress(psutil.NoSuchProcess):
            end(psutil.Process(running.pid))
    forget(paths)
    return "Prefect's server is stopped" if running else "Prefect's server is not running"


def end(server: psutil.Process | subprocess.Popen[bytes]) -> None:
    """End a server, by force where it does not end by itself."""
    server.terminate()
    try:
        server.wait(LONGEST_END)
    except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
        server.kill()
        server.wait(LONGEST_END)
