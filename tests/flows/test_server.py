"""Prefect's server beside a pipeline: whose it is, how long it lives, what is said where it does not start.

The server is Python's file server in a folder where `api/health` lies: it answers in a moment.
"""

import errno
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from flows import server as subject
from flows.server import CALM, server_command, server_environment, starting_server
from posttrain.errors import RequestError, StorageError
from tasks.services import processes
from tasks.workspace.paths import Paths
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A repository's root; what is set in the environment is undone, and what was started is ended."""
    before = dict(os.environ)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    yield Paths(tmp_path)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def answering(tmp_path, monkeypatch):
    """Make every server that is started one that answers at once."""
    site = tmp_path / "site"
    (site / "api").mkdir(parents=True)
    (site / "api" / "health").write_text("true")
    words = f"-m http.server --bind 127.0.0.1 --directory {site}"
    monkeypatch.setattr(subject, "server_command", lambda port, host="": [sys.executable, *words.split(), str(port)])
    return words


def has_ended(pid, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_the_command_and_the_environment_of_a_server(monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "*")
    command = " ".join(server_command(4242, host="0.0.0.0"))
    assert "--factory flows.guard:create_app" in command and command.endswith("--host 0.0.0.0 --port 4242")
    told = server_environment(4242, names=["x"])
    assert told["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert told["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(",")[:3] == [
        "http://127.0.0.1:4242",
        "http://localhost:4242",
        "http://x:4242",
    ]
    assert told["PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY"] == "PT60S"
    monkeypatch.setenv("PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY", "PT5S")
    assert server_environment(4242)["PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY"] == "PT5S", "the user's own goes first"


def test_prefect_takes_each_of_the_settings_of_a_calm_server(monkeypatch):
    from prefect.settings import Settings

    usual, seconds = Settings().server, []
    for name, value in CALM.items():
        monkeypatch.setenv(name, value)
    calm = Settings().server
    for one in ("late_runs", "pause_expirations", "cleanup_reconciler", "repossessor", "cancellation_cleanup", "foreman"):
        before, after = (getattr(found.services, one).loop_seconds for found in (usual, calm))
        assert after > before, one
        seconds.append(after)
    assert sorted(seconds) == [15, 30, 60, 60, 60, 60] and calm.events.proactive_granularity.total_seconds() == 60
    before, after = usual.services.scheduler, calm.services.scheduler
    assert (before.recent_deployments_loop_seconds, after.recent_deployments_loop_seconds) == (5, 15)
    assert after.model_copy(update={"recent_deployments_loop_seconds": 5}) == before, "runs are made as soon as ever"


def started_server(words, port):
    return subprocess.Popen([sys.executable, *words.split(), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_server_that_is_named_is_used_and_none_started(paths, answering, monkeypatch):
    port = free_port()
    with started_server(answering, port) as named:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
        monkeypatch.setattr(subject, "start", lambda *_, **__: pytest.fail("it started another"))
        with starting_server(paths) as ours:
            assert ours is None
        named.kill()


def test_a_server_that_ends_at_once_is_quoted(paths, monkeypatch):
    monkeypatch.setattr(subject, "server_command", lambda port, host="": [sys.executable, "-m", "no_such_module_of_ours"])
    log = paths.store / "prefect" / "ephemeral.log"
    with pytest.raises(StorageError) as told, starting_server(paths):
        pass
    assert str(told.value) == (
        f"Prefect's server does not answer at {os.environ['PREFECT_API_URL']}/health: "
        f"{sys.executable}: No module named no_such_module_of_ours. See {log}, then run again"
    )


def test_a_server_that_ends_without_a_word_on_a_full_disk(paths, monkeypatch):
    monkeypatch.setattr(subject, "server_command", lambda port, host="": [sys.executable, "-c", "raise(SystemExit(3))"])

    def refuse(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError) as told, starting_server(paths):
        pass
    assert str(told.value).startswith(f"Prefect's server: the disk is full ({paths.store / 'prefect'}). ")


def test_a_server_that_never_answers_is_told_in_time(paths, monkeypatch):
    monkeypatch.setattr(subject, "server_command", lambda port, host="": [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(processes, "LONGEST_START", 0.3)
    with pytest.raises(StorageError, match="Connection refused"), starting_server(paths) as ours:
        begun = ours
    assert has_ended(begun.server.pid) and has_ended(begun.shell.pid)


def test_a_server_that_is_named_and_does_not_answer(paths, monkeypatch):
    address = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", address)
    monkeypatch.setattr(subject, "LONGEST_ANSWER", 0.3)
    with pytest.raises(RequestError) as told, starting_server(paths):
        pass
    assert str(told.value) == (
        f"PREFECT_API_URL must be the address of a server that runs, but {address} does not answer: "
        "[Errno 111] Connection refused. Start that one, or unset PREFECT_API_URL for a server of our own"
    )


SCRIPT = """
import os, sys, time
from pathlib import Path
from flows import server
from tasks.workspace.paths import Paths

server.server_command = lambda port: [sys.executable, *sys.argv[1].split(), str(port)]
with server.starting_server(Paths(Path.cwd())) as ours:
    pass
print(ours.server.pid, os.environ["PREFECT_API_URL"], flush=True)
time.sleep(60 if sys.argv[2] == "wait" else 0)
if sys.argv[2] == "leave":
    os._exit(130)
"""


@pytest.mark.parametrize("how", ["end", "leave", "wait"])
def test_however_we_end_the_ephemeral_server_ends_too(paths, answering, how):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, answering, how],
        cwd=paths.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    pid, address = process.stdout.readline().split()
    if how == "wait":
        with urllib.request.urlopen(f"{address}/health") as answer:
            assert answer.read() == b"true"
        process.kill()
    process.communicate()
    assert has_ended(int(pid))
