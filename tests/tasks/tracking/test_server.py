"""The port of MLflow's page: chosen, refused, and remembered while the process that serves there lives."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from posttrain.errors import RequestError
from tasks.services.guard import FURTHER_NAMES, LOGIN
from tasks.services.notes import Service, remember
from tasks.services.processes import is_free
from tasks.tracking import server
from tasks.tracking.app import ARTIFACTS, STORE
from tasks.tracking.browser import open_when_ready
from tasks.tracking.server import choose_port, remember_port, running_port
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
    for changes in ({"process": dead}, {"host": "another-machine"}, {"folder": "1:1"}, {"process": "x"}, {"port": None}):
        note.write_text(json.dumps(json.loads(note.read_text()) | changes))
        assert running_port(paths) is None, changes
        remember_port(paths, 5004)
    told = json.loads(note.read_text())
    del told["folder"]
    note.write_text(json.dumps(told))
    assert running_port(paths) == 5004, "an older version wrote none"
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


def test_the_server_of_make_up_comes_before_a_page_of_make_ui(paths: Paths) -> None:
    remember_port(paths, 5004)
    note = Service("mlflow", Process.current(), "http://127.0.0.1:5010", "x", "log", datetime.now(UTC))
    remember(paths, note)
    assert running_port(paths) == 5010
    gone = replace(Process.current(), started=1)
    remember(paths, replace(note, process=gone))
    assert running_port(paths) == 5004


def test_pages_are_addressed_as_the_command_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "true")
    monkeypatch.setenv(LOGIN, "left:over")
    assert server.server_command(5007)[-1] == "5007"
    told = server.server_environment(Paths(Path("/x")), 5007)
    assert told["MLFLOW_SERVER_ALLOWED_HOSTS"] == "127.0.0.1:5007,localhost:5007"
    assert told["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:5007,http://localhost:5007"
    assert told[STORE] == "sqlite:////x/mlflow/store/mlflow.db" and told[ARTIFACTS] == "/x/mlflow/store/artifacts"
    assert not {"MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", LOGIN, FURTHER_NAMES} & told.keys()


def test_another_store_names_and_a_password_are_in_the_environment_alone() -> None:
    address, secret = "postgresql+psycopg2://ann@db/mlflow", "ann:s3cret"
    told = server.server_environment(
        Paths(Path("/x")), 5007, names=["mlflow"], login=secret, store=address, artifacts="s3://bucket"
    )
    assert (told[STORE], told[ARTIFACTS], told[LOGIN], told[FURTHER_NAMES]) == (address, "s3://bucket", secret, "mlflow")
    assert "mlflow:5007" in told["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert not {address, secret} & {*server.server_command(5007)}
