"""One service in the foreground: which program it becomes, and what it refuses."""

import os
from pathlib import Path

import pytest

from flows import serve as subject
from flows.serve import main


@pytest.fixture
def became(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The command and the environment of what the process would have become."""
    before, found = dict(os.environ), []
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("")
    monkeypatch.setattr("flows.service_plans.check_stores", lambda *told: found.append(told[-1]))
    monkeypatch.setattr("flows.service_plans.make_ledger", lambda *told: found.append("made"))
    monkeypatch.setattr("os.execvpe", lambda program, command, environment: found.append((command, environment)))
    yield found
    os.environ.clear()
    os.environ.update(before)


def test_it_becomes_the_service_after_its_store_was_looked_at(became, monkeypatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("THEIR_LOGIN", "ann:s3cret")
    assert main(["mlflow", "servers.host=0.0.0.0", "servers.names=mlflow", "servers.password=env:THEIR_LOGIN"]) == 0
    looked, made, (command, environment) = became
    assert looked == ["mlflow"] and made == "made"
    assert command[command.index("--host") + 1] == "0.0.0.0" and environment["POSTTRAIN_SERVER_NAMES"] == "mlflow"


def test_a_worker_serves_the_server_that_is_named(became, monkeypatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    assert main(["worker"]) == 0
    assert became[1][1]["PREFECT_API_URL"] == "http://prefect:4200/api"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "request: say which service: python -m flows.serve prefect|mlflow|worker [servers.…=…]\n"),
        (["mlfow"], 2, "request: there is no service mlfow; did you mean mlflow?; services are prefect, mlflow, worker\n"),
        (["mlflow", "servers.hst=x"], 2, "request: there is no setting servers.hst; did you mean servers.host?\n"),
    ],
)
def test_what_is_refused(became, capsys, words, code, said):  # type: ignore[no-untyped-def]
    assert main(words) == code and capsys.readouterr().err == said and became == []


def test_it_needs_the_repository(became, capsys, tmp_path):  # type: ignore[no-untyped-def]
    (tmp_path / "params.yaml").unlink()
    assert main(["mlflow"]) == 2 and capsys.readouterr().err.startswith("request: params.yaml is not in ")
    assert subject.NAMES == ("prefect", "mlflow", "worker")
