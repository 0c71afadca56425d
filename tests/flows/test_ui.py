"""`make ui`: which address it prints, what it refuses, what it becomes, and when a browser is opened."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from flows import ui
from posttrain.errors import RequestError
from posttrain.settings.evaluation import TrackingSettings
from tasks.tracking.server import remember_port, running_port
from tasks.tracking.views import PIPELINES
from tasks.workspace.paths import Paths
from tests.ports import free_port

VIEW = f"/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey={PIPELINES}"


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Programs that the process would have become."""
    found: list[list[str]] = []
    monkeypatch.setattr("os.execvpe", lambda program, command, environment: found.append(command))
    monkeypatch.setattr(ui, "open_browser", lambda address: found.append(["browser", address]))
    return found


def test_it_prints_opens_and_serves_the_view_at_the_port_that_it_has(became: Any, tmp_path: Path, capsys: Any) -> None:
    paths, port = Paths(tmp_path), free_port()
    ui.show(paths, TrackingSettings(), port=port, is_opened=True)
    address = f"http://127.0.0.1:{port}{VIEW}"
    assert capsys.readouterr().out == f"MLflow: {address}   (in a few seconds; Ctrl-C ends it)\n"
    (_, opened), command = became
    assert opened == address and command[command.index("--port") + 1] == str(port)
    assert running_port(paths) == port, "pipelines that end meanwhile print this port"


def test_a_page_that_is_served_already_is_shown_instead_of_a_second_one(became: Any, tmp_path: Path, capsys: Any) -> None:
    paths, port = Paths(tmp_path), free_port()
    paths.ledger.mkdir(parents=True)
    remember_port(paths, port)
    for asked in (None, port):
        ui.show(paths, TrackingSettings(), port=asked, is_opened=False)
        assert capsys.readouterr().out.startswith(f"MLflow: http://127.0.0.1:{port}{VIEW}   (it was running already")
    assert became == []


def test_a_ledger_on_a_server_is_not_ours_to_serve_but_has_the_same_view(became: Any, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises(RequestError, match=r"^tracking.uri is sqlite:///.*, whose server is not ours to start\. Open http://127"):
        ui.show(Paths(tmp_path), TrackingSettings(uri=uri), port=None, is_opened=True)
    assert became == []


@pytest.mark.parametrize(
    ("environment", "platform", "has"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"BROWSER": "firefox"}, "linux", True),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "1"}, "darwin", False),
        ({"SSH_CONNECTION": "1", "DISPLAY": "localhost:10"}, "linux", True),
    ],
)
def test_a_browser_needs_somewhere_to_appear(environment: dict[str, str], platform: str, has: bool) -> None:
    assert ui.has_display(environment, platform) is has


def test_nothing_is_opened_from_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a browser"))
    assert not ui.open_browser("http://127.0.0.1:5000")
