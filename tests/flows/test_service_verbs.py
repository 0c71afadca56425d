"""What `make up`, `make down` and `make status` print, and how they end; the services themselves are not started."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows import service_verbs as subject
from flows.service_lines import StatusLine
from flows.service_verbs import print_unit, show_services, start_services, stop_services
from posttrain.errors import ContractError, RequestError
from posttrain.settings.config import merge
from tasks.services.notes import Service, remember
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

SITE = "http://127.0.0.1:4200"
NOTE = Service("prefect", Process.current(), SITE, f"{SITE}/api/health", "p.log", datetime.now(UTC))
LAST = "pipelines use them from now on; make status shows them, make down ends them\n"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(subject, "up", lambda *_: ["Prefect  there"])
    monkeypatch.setattr(subject, "down", lambda *_: ["The worker is stopped"])
    return Paths(tmp_path)


def said_by_up(paths: Paths, *words: str) -> list[str]:
    said: list[str] = []
    start_services(paths, merge({}, words), said.append)
    return said


def test_up_prints_its_lines(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert said_by_up(paths) == []
    assert capsys.readouterr().out == f"Prefect  there\n{LAST}"


def test_up_starts_what_a_killed_retraining_left_wanted(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import schedule_runs
    from tasks.schedules.turns import Wanted, ask

    monkeypatch.setattr(schedule_runs, "start_wanted", lambda paths, say: ["again-1"])
    assert said_by_up(paths) == [], "nothing is looked for where nothing is wanted"
    ask(paths, "mine", Wanted("7", "data", {}, ("nightly-1",)))
    assert said_by_up(paths) == ["note: run again-1 starts, which was wanted while another retraining ran"]


def test_up_tells_where_pipelines_go_on_writing(paths: Paths) -> None:
    database = "servers.mlflow_database=postgresql+psycopg2://ann@db/mlflow"
    assert said_by_up(paths, database, "servers.mlflow_port=5001") == [
        "note: pipelines still write to mlflow/store; to have them write to this server: tracking.uri=http://127.0.0.1:5001"
    ]
    assert said_by_up(paths, database, "tracking.uri=http://127.0.0.1:5000") == []


def test_up_tells_of_a_variable_that_names_another_server(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(paths, NOTE)
    monkeypatch.setenv("PREFECT_API_URL", f"{SITE}/api")
    assert said_by_up(paths) == []
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere:4200/api")
    assert said_by_up(paths) == [
        "note: PREFECT_API_URL is http://elsewhere:4200/api, so commands of this shell use that server; "
        "unset it to use the one here"
    ]


@pytest.mark.parametrize(("asked", "is_printed"), [("", False), ("0", False), ("1", True)])
def test_the_unit_is_printed_where_it_is_asked_for(paths: Paths, capsys: Any, asked: str, is_printed: bool) -> None:
    assert print_unit(paths, asked, ["servers.prefect_port=4201"]) is is_printed
    assert ("-m flows up servers.prefect_port=4201\n" in capsys.readouterr().out) is is_printed


def test_another_word_for_the_unit_is_refused(paths: Paths) -> None:
    with pytest.raises(RequestError, match=r"^UNIT must be 1 \(print a unit of systemd\) or 0, got yes$"):
        print_unit(paths, "yes", [])


def test_services_end_also_where_the_password_is_gone(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    def prepare() -> None:
        raise RequestError("the password of make up is env:X, but the environment's variable X is not set")

    said: list[str] = []
    stop_services(paths, prepare, said.append)
    assert said == ["note: the password of make up is env:X, but the environment's variable X is not set"]
    assert capsys.readouterr().out == "The worker is stopped\n"


def test_status_is_an_error_where_something_that_was_started_is_not_well(
    paths: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    well = StatusLine("prefect", NOTE, is_running=True)
    never = StatusLine("worker", None)
    monkeypatch.setattr(subject, "status", lambda paths: [well, never])
    show_services(paths)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["Prefect", "worker"]
    silent = replace(well, trouble="it answers 503")
    gone = StatusLine("mlflow", replace(NOTE, name="mlflow"))
    monkeypatch.setattr(subject, "status", lambda paths: [silent, gone, never])
    with pytest.raises(ContractError) as told:
        show_services(paths)
    assert str(told.value) == "not well, though started: prefect, mlflow. To start what is down: make up"
    assert told.value.exit_code == 3
