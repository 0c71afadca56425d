"""The worker waits for its server, then becomes Prefect's own with the options given."""

import sys
from typing import Any

import pytest

from flows import worker as subject

HEALTH = "http://127.0.0.1:4200/api/health"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was done, in order: modules loaded, the server asked, the command."""
    found: list[Any] = []
    monkeypatch.setattr(subject, "import_module", lambda name: found.append(name))
    monkeypatch.setattr(subject.time, "sleep", lambda _: None)
    monkeypatch.setattr("prefect.cli.app", lambda: found.append(sys.argv))
    monkeypatch.setattr(sys, "argv", ["flows.worker"])
    return found


def test_it_loads_then_waits_then_becomes_prefects(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    troubles = ["Connection refused", "it answers 503", ""]
    monkeypatch.setattr(subject, "trouble_at", lambda address: asked.append(address) or troubles.pop(0))
    assert subject.main([HEALTH, "--pool", "posttrain", "--limit", "2"]) == 0
    assert asked == [
        *subject.LOADED,
        HEALTH,
        HEALTH,
        HEALTH,
        ["prefect", "worker", "start", "--pool", "posttrain", "--limit", "2"],
    ]


def test_it_gives_up_on_a_server_that_does_not_come(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subject, "LONGEST_START", -1.0)
    monkeypatch.setattr(subject, "trouble_at", lambda address: "Connection refused")
    assert subject.main([HEALTH, "--pool", "posttrain"]) == 1
    assert capsys.readouterr().err == f"Prefect's server does not answer at {HEALTH}: Connection refused\n"
    assert asked == [*subject.LOADED]


def test_the_modules_that_it_loads_early_are_there() -> None:
    from importlib.util import find_spec

    assert all(find_spec(name) for name in subject.LOADED)
