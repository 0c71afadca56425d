"""Prefect's server: an ephemeral one a pipeline, or the lasting one of `make up`, which also schedules."""

import fcntl
import os
import subprocess
import sys

import psutil

from flows.environment import SERVER, prefect_home, server_pid
from posttrain.errors import StorageError
from tasks.places import Places


def ready_server(places: Places) -> None:
    """Have a server that answers, one process at a time: several would race in making a fresh database.

    The ephemeral server is a child of this process and ends with it.
    """
    from prefect.client.orchestration import get_client

    home = prefect_home(places)
    home.mkdir(parents=True, exist_ok=True)
    with (home / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with get_client(sync_client=True) as client:
            trouble = client.api_healthcheck()
        _end_with_us()
    if trouble:
        raise StorageError(f"Prefect's server does not answer ({os.environ.get('PREFECT_API_URL', 'ephemeral')}): {trouble}")


def _end_with_us() -> None:
    """See to it that the ephemeral server ends even if this process is killed with -9.

    A shell waits for the end of a pipe whose other end only we hold. It is never closed here: the system does it, however we end.
    """
    for child in psutil.Process().children():
        if "uvicorn" in " ".join(child.cmdline()):
            ours_ends, _kept_open = os.pipe()
            quiet = subprocess.DEVNULL
            command = ["sh", "-c", f"read _; kill {child.pid}"]
            subprocess.Popen(command, stdin=ours_ends, stdout=quiet, stderr=quiet, start_new_session=True)
            os.close(ours_ends)


def up(places: Places) -> str:
    """Start the lasting server in the background, unless it runs."""
    if server_pid(places) is None:
        ready_server(places)
        command = [sys.executable, "-m", "prefect", "server", "start", "--background"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StorageError(f"Prefect's server did not start: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return f"Prefect: {SERVER}   (make down ends it)"


def down(places: Places) -> str:
    """Stop the lasting server."""
    if server_pid(places) is None:
        return "Prefect's server is not running"
    subprocess.run([sys.executable, "-m", "prefect", "server", "stop"], capture_output=True, check=False)
    return "Prefect's server is stopped"
