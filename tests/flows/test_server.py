"""Prefect's server beside us: whose it is, how long it lives, what is said where it does not start.

But for one slow test the server is Python's file server in a folder where `api/health` lies: it answers in a moment.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from flows import server as subject
from flows.environment import LastingServer, forget, lasting_server, prepare, remember
from flows.server import down, starting_server, up
from posttrain.errors import RequestError, StorageError
from tasks.workspace.paths import Paths
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A repository's root; what is set in the environment is undone, and what was started is ended."""
    before = dict(os.environ)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    paths = Paths(tmp_path)
    yield paths
    down(paths)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def answering(tmp_path, monkeypatch):
    """Make every server that is started one that answers at once."""
    site = tmp_path / "site"
    (site / "api").mkdir(parents=True)
    (site / "api" / "health").write_text("true")
    monkeypatch.setattr(subject, "UVICORN", f"-m http.server --bind 127.0.0.1 --directory {site}")
    return subject.UVICORN


def has_ended(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def is_free(port, seconds=10.0):
    """Wait for a killed process to let its port go: a thread of it may end after the process is told to be dead."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                time.sleep(0.05)
            else:
                return True
    return False


# --- whose process a note means ---------------------------------------------------------------------------------------


def note(paths, **changes):
    told = {"pid": os.getpid(), "started": psutil.Process().create_time(), "site": "http://127.0.0.1:4200"} | changes
    (paths.store / "prefect").mkdir(parents=True, exist_ok=True)
    remember(paths, LastingServer(**told))
    return told


def test_a_note_of_a_living_process_is_found_and_forgotten(paths):
    told = note(paths)
    assert lasting_server(paths) == LastingServer(**told)
    forget(paths)
    assert lasting_server(paths) is None
    forget(paths)


def test_a_process_id_that_is_somebody_elses_by_now_is_no_server(paths):
    note(paths, started=psutil.Process().create_time() - 2.0)
    assert lasting_server(paths) is None


def test_a_process_that_has_ended_is_no_server(paths):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    note(paths, pid=process.pid, started=psutil.Process(process.pid).create_time())
    assert lasting_server(paths) is not None
    process.kill()
    assert has_ended(process.pid)
    assert lasting_server(paths) is None, "it is a zombie"
    process.communicate()
    assert lasting_server(paths) is None, "it is gone"


@pytest.mark.parametrize("text", ["", "12", "[]", "{}", '{"pid": 1}', '{"pid": 1, "started": 0, "site": "", "more": 1}'])
def test_a_note_that_says_nothing_is_no_server(paths, text):
    note(paths)
    (paths.store / "prefect" / "lasting-server.json").write_text(text)
    assert lasting_server(paths) is None


# --- up and down ------------------------------------------------------------------------------------------------------


def test_up_twice_then_down_twice(paths, answering):
    port = free_port()
    site = f"http://127.0.0.1:{port}"
    assert up(paths, port=port) == f"Prefect: {site}   (make down ends it)"
    server = lasting_server(paths)
    assert up(paths, port=port) == f"Prefect: {site}   (it was running already; make down ends it)"
    assert lasting_server(paths) == server
    assert os.getsid(server.pid) == server.pid != os.getsid(0), "our terminal's end would be its own"
    prepare(paths, is_tiny=True)
    assert os.environ["PREFECT_API_URL"] == f"{site}/api"

    assert down(paths) == "Prefect's server is stopped"
    assert has_ended(server.pid, 0.1)
    assert down(paths) == "Prefect's server is not running"
    assert lasting_server(paths) is None


def test_up_again_after_the_server_was_killed(paths, answering):
    port = free_port()
    up(paths, port=port)
    first = lasting_server(paths)
    os.kill(first.pid, signal.SIGKILL)
    assert has_ended(first.pid) and is_free(port)
    assert down(paths) == "Prefect's server is not running"
    up(paths, port=port)
    assert lasting_server(paths).pid != first.pid


def test_a_second_clone_is_not_given_the_first_ones_server(paths, tmp_path, answering):
    port = free_port()
    up(paths, port=port)
    other = Paths(tmp_path / "other")
    with pytest.raises(RequestError) as told:
        up(other, port=port)
    assert str(told.value) == (
        f"port {port} must be free for Prefect's server, but another program listens there, perhaps the server of another "
        f"clone. End that one (make down in its folder), or take another port: make up PORT={port + 1}"
    )
    assert lasting_server(other) is None
    assert lasting_server(paths) is not None
    free = free_port()
    assert f":{free} " in up(other, port=free)
    assert down(other) == "Prefect's server is stopped"
    assert lasting_server(paths) is not None


def test_a_server_that_does_not_start_is_quoted(paths, monkeypatch):
    monkeypatch.setattr(subject, "UVICORN", "-m no_such_module_of_ours")
    port = free_port()
    log = paths.store / "prefect" / "server.log"
    with pytest.raises(StorageError) as told:
        up(paths, port=port)
    assert str(told.value) == (
        f"Prefect's server does not answer at http://127.0.0.1:{port}/api: "
        f"{sys.executable}: No module named no_such_module_of_ours. See {log}, then run again"
    )
    assert lasting_server(paths) is None


def test_a_server_that_ends_without_a_word_on_a_full_disk(paths, monkeypatch):
    monkeypatch.setattr(subject, "UVICORN", "-c raise(SystemExit(3))")

    def refuse(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError) as told:
        up(paths, port=free_port())
    assert str(told.value).startswith(f"Prefect's server: the disk is full ({paths.store / 'prefect'}). ")


def test_a_server_that_never_answers_is_ended(paths, monkeypatch):
    monkeypatch.setattr(subject, "UVICORN", "-c __import__('time').sleep(60)")
    monkeypatch.setattr(subject, "LONGEST_START", 0.3)
    started = []
    start = subject._start
    monkeypatch.setattr(subject, "_start", lambda *args, **settings: started.append(start(*args, **settings)) or started[0])
    with pytest.raises(StorageError, match="Connection refused"):
        up(paths, port=free_port())
    assert has_ended(started[0].pid, 0.1)


# --- the ephemeral one ------------------------------------------------------------------------------------------------


def test_a_server_that_is_named_is_used_and_none_started(paths, answering, monkeypatch):
    port = free_port()
    up(paths, port=port)
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
    monkeypatch.setattr(subject, "_start", lambda *_, **__: pytest.fail("it started another"))
    with starting_server(paths):
        pass


def test_a_server_that_is_named_and_does_not_answer(paths, monkeypatch):
    address = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", address)
    monkeypatch.setattr(subject, "LONGEST_ANSWER", 0.3)
    with pytest.raises(RequestError) as told, starting_server(paths):
        pass
    assert str(told.value) == (
        f"PREFECT_API_URL must be the address of a server that runs, but {address} does not answer: "
        "<urlopen error [Errno 111] Connection refused>. Start that one, or unset PREFECT_API_URL for a server of our own"
    )


SCRIPT = """
import os, sys, time
from pathlib import Path
from flows import server
from tasks.workspace.paths import Paths

server.UVICORN = sys.argv[1]
started = []
start = server._start
server._start = lambda *args, **settings: started.append(start(*args, **settings)) or started[0]
with server.starting_server(Paths(Path.cwd())):
    pass
print(started[0].pid, os.environ["PREFECT_API_URL"], flush=True)
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


@pytest.mark.slow
def test_prefect_itself_answers_and_serves_its_page(paths):
    prepare(paths, is_tiny=True)
    port = free_port()
    up(paths, port=port)
    site = lasting_server(paths).site
    with urllib.request.urlopen(f"{site}/ui-settings") as answer:
        assert json.load(answer)["api_url"] == f"{site}/api"
    assert down(paths) == "Prefect's server is stopped"
