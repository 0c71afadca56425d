"""Prefect's server beside a pipeline: the one that runs already (flows/services.py), or an ephemeral one that ends with it."""

import atexit
import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.environment import prefect_home
from flows.prefect_database import SETTINGS, check_database, has_answered, why_it_failed
from posttrain.errors import RequestError, StorageError
from tasks.services.guard import own_origins
from tasks.services.processes import LONGEST_ANSWER, end, start, trouble_at, wait_until_well
from tasks.workspace.disk import storage_errors
from tasks.workspace.interrupts import uninterrupted
from tasks.workspace.paths import Paths

UVICORN = "-m uvicorn --factory flows.guard:create_app --log-level error --lifespan on"
NEEDED_BY_A_PIPELINE = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
}
"""Neither pages nor block types: a server without them starts sooner."""


CALM = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "15",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "15",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "30",
    "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT60S",
}
"""How often an idle server looks for work of kinds that we have seldom or never. Prefect's own are 5 to 20 s, and each look costs
processor time while nothing happens (`python -m benchmarks.services`). Proactive triggers fire of an event that does not come;
ours are all reactive, and those are not slowed. The look for new or changed schedules is the most frequent one of all; a schedule
has its next run up to 15 s after it was made. The user's own environment goes before these."""


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
        _require_answer(address)
        return
    with one_at_a_time(paths) as home:
        log = home / "ephemeral.log"
        check_database(paths)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ["PREFECT_API_URL"] = address = f"http://127.0.0.1:{port}/api"
        os.environ.setdefault("PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED", "false")  # it is this very Prefect
        with uninterrupted():
            server = start(server_command(port), environment=server_environment(port) | NEEDED_BY_A_PIPELINE, log=log)
            ours = Ephemeral(server, _end_with_us(server))
        yield ours
        try:
            wait_for_prefect(address, server, log=log, home=home)
        except StorageError:
            ours.end()
            raise
        has_answered(paths)


def server_command(port: int, *, host: str = "127.0.0.1") -> list[str]:
    """Return the command of a Prefect server; run it with `server_environment`."""
    return [sys.executable, *UVICORN.split(), "--host", host, "--port", str(port)]


def server_environment(port: int, *, names: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment of a server that only its own page may use.

    Beside the guard, writing takes a token that no foreign page can read.
    """
    protected = {
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(own_origins(port, names)),
    }
    return {**CALM, **os.environ, "PREFECT__SERVER_FINAL": "1", **protected}


@contextmanager
def one_at_a_time(paths: Paths) -> Iterator[Path]:
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


def _require_answer(address: str) -> None:
    """Refuse a server that somebody else started and that does not answer."""
    deadline = time.monotonic() + LONGEST_ANSWER
    while trouble := trouble_at(f"{address}/health"):
        if time.monotonic() > deadline:
            raise RequestError(
                f"PREFECT_API_URL must be the address of a server that runs, but {address} does not answer: {trouble}. "
                "Start that one, or unset PREFECT_API_URL for a server of our own"
            )
        time.sleep(0.1)


def wait_for_prefect(address: str, server: subprocess.Popen[bytes], *, log: Path, home: Path) -> None:
    """Wait until a server that was just started answers.

    Args:
        address: of its API.
        server: its process.
        log: that it writes to.
        home: the folder of Prefect's database.

    Raises:
        StorageError: it does not answer, with the reason: the disk, the database, or what its log says last.
    """
    try:
        wait_until_well("Prefect's server", f"{address}/health", server, log=log)
    except StorageError:
        with storage_errors("Prefect's server", log.parent):  # on a full disk it cannot even tell so
            probe = log.with_suffix(".probe")
            probe.write_bytes(b"x" * 4096)
            probe.unlink()
        if not any(name in os.environ for name in SETTINGS):
            why_it_failed(home)
        raise
