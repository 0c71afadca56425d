"""The worker waits for its server, then becomes Prefect's own with the options given."""

import socket
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from flows import worker as subject
from tests.ports import free_port


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was done, in order: modules loaded, the command."""
    found: list[Any] = []
    monkeypatch.setattr(subject, "import_module", lambda name: found.append(name))
    monkeypatch.setattr("prefect.cli.app", lambda: found.append(sys.argv))
    monkeypatch.setattr(sys, "argv", ["flows.worker"])
    return found


def test_it_loads_then_waits_then_becomes_prefects(done: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    port, waits = free_port(), []
    with socket.socket() as server:

        def sleep(_: float) -> None:
            waits.append([*done])
            if len(waits) == 3:
                server.bind(("127.0.0.1", port))
                server.listen()

        monkeypatch.setattr(subject.time, "sleep", sleep)
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
        assert subject.main(["--pool", "posttrain", "--limit", "2"]) == 0
    assert waits == [[*subject.LOADED]] * 3, "it does not begin before something listens"
    assert done == [*subject.LOADED, ["prefect", "worker", "start", "--pool", "posttrain", "--limit", "2"]]


def test_it_gives_up_on_a_server_that_does_not_come(
    done: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subject, "LONGEST_START", -1.0)
    port = free_port()
    monkeypatch.setenv("PREFECT_API_URL", f"http://ann:secret@127.0.0.1:{port}/api")
    assert subject.main(["--pool", "posttrain"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"nothing listens at 127.0.0.1:{port}: ") and "refused" in said and "secret" not in said
    assert done == [*subject.LOADED]


@pytest.mark.parametrize(
    ("api", "place"),
    [
        ("https://prefect.example/api", ("prefect.example", 443)),
        ("http://prefect.example/api", ("prefect.example", 80)),
        ("https://ann:secret@prefect.example:8443/api", ("prefect.example", 8443)),
    ],
)
def test_where_it_knocks(done: list[Any], api: str, place: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setenv("PREFECT_API_URL", api)
    monkeypatch.setattr(subject.socket, "create_connection", lambda where, _: asked.append(where) or socket.socket())
    assert subject.main([]) == 0 and asked == [place]


def test_the_modules_that_it_loads_early_are_there() -> None:
    assert all(find_spec(name) for name in subject.LOADED)
