"""The port of MLflow's page: chosen, refused, and remembered while the process that serves there lives."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from posttrain.errors import RequestError
from tasks.tracking import server
from tasks.tracking.browser import open_when_ready
from tasks.tracking.server import choose_port, is_free, remember_port, running_port
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process
from tests.ports import free_port


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths(tmp_path)
    found.ledger.mkdir(parents=True)
    return found


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_that_was_asked_for_is_taken_or_refused(taken: int) -> None:
    assert not is_free(taken)
    wanted = free_port()
    assert choose_port(wanted) == wanted
    with pytest.raises(RequestError) as refusal:
        choose_port(taken)
    assert str(refusal.value) == (
        f"port {taken} must be free for MLflow's page, but another program listens there. Leave PORT out for the first free one "
        f"from 5000 on, or take another: make ui PORT={taken + 1}"
    )


def test_the_next_free_one_takes_the_place_of_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "is_free", lambda port: port >= 5003)
    assert choose_port(None) == 5003
    monkeypatch.setattr(server, "is_free", lambda port: port >= 5020)
    with pytest.raises(RequestError, match=r"^one of the ports 5000 to 5019 must be free for MLflow's page, and other programs"):
        choose_port(None)


def test_a_port_is_remembered_while_its_process_lives(paths: Paths) -> None:
    assert running_port(paths) is None
    remember_port(paths, 5004)
    assert running_port(paths) == 5004
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    note = paths.ledger / "ui.json"
    dead = replace(Process.current(), pid=gone.pid).name
    for changes in ({"process": dead}, {"host": "another-machine"}, {"process": "x"}, {"port": None}):
        note.write_text(json.dumps(json.loads(note.read_text()) | changes))
        assert running_port(paths) is None, changes
        remember_port(paths, 5004)
    note.write_text("[]")
    assert running_port(paths) is None


def test_the_note_outlives_the_exec_by_which_the_command_becomes_the_server(paths: Paths) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom tasks.tracking.server import remember_port\n"
        "from tasks.workspace.paths import Paths\nremember_port(Paths(Path(sys.argv[1])), 5005)\nos.execvp('cat', ['cat'])"
    )
    wire = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, str(paths.root)], stdin=wire, stdout=wire, text=True) as process:
        assert process.stdin and process.stdout
        process.stdin.write("hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == "hello\n"  # it is the other program by now
        assert running_port(paths) == 5005
        process.stdin.close()
    assert running_port(paths) is None


def test_the_browser_is_opened_once_somebody_answers(taken: int) -> None:
    opened: list[str] = []
    nowhere = f"http://127.0.0.1:{free_port()}/#/x"
    assert not open_when_ready(nowhere, wait=0.5, browse=lambda address: not opened.append(address))
    assert opened == []
    code = (
        "import http.server as web\nsite = web.HTTPServer(('127.0.0.1', 0), web.SimpleHTTPRequestHandler)\n"
        "print(site.server_port, flush=True)\nsite.handle_request()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as one:
        assert one.stdout
        address = f"http://127.0.0.1:{one.stdout.readline().strip()}/#/experiments/1"
        assert open_when_ready(address, browse=lambda address: not opened.append(address))
    assert opened == [address]


def test_pages_are_addressed_as_the_command_says() -> None:
    command = server.server_command(Paths(Path("/x")), 5007)
    assert re.findall(r"5007", " ".join(command)).count("5007") == 5 and "PORT" not in os.environ
