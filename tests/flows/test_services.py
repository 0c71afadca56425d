"""`make up`, `make down` and `make status` with servers that answer in a moment: who is started, noted, found dead, ended.

Every service is Python's file server in a folder where its health lies. The real ones: test_services_real.py.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from flows import services as subject
from flows.services import down, status, up
from posttrain.errors import ContractError, RequestError, StorageError
from posttrain.settings.config import Config, merge
from tasks.services import processes
from tasks.services.notes import NAMES, note_of, remember, running
from tasks.services.processes import is_free
from tasks.workspace.paths import Paths
from tests import ports
from tests.ports import free_port
from tests.processes import has_ended


class House:
    """A repository's root with services that answer at once."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root)
        self.said: list[str] = []
        self.config = self.settings()

    def settings(self, *words: str) -> Config:
        return merge({}, [*(f"servers.{name}_port={free_port()}" for name in NAMES), *words])

    def up(self, **asked: object) -> list[str]:
        return up(self.paths, self.config, self.said.append, **asked)  # type: ignore[arg-type]

    def down(self) -> list[str]:
        return down(self.paths, self.said.append)

    def pid(self, name: str) -> int:
        note = note_of(self.paths, name)
        assert note
        return note.process.pid

    def kill(self, name: str) -> None:
        process = psutil.Process(self.pid(name))
        process.kill()
        process.wait(30)
        port = getattr(self.config.servers, f"{name}_port")
        deadline = time.monotonic() + 30
        while not is_free(port) and time.monotonic() < deadline:
            time.sleep(0.05)


@pytest.fixture
def house(tmp_path, monkeypatch):
    before = dict(os.environ)
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    site = tmp_path / "site"
    (site / "api").mkdir(parents=True)
    (site / "health").write_text("OK")
    (site / "api" / "health").write_text("true")
    plan_of = subject.plan_of

    def plan(name, paths, settings, **told):
        real = plan_of(name, paths, settings, **told)
        words = f"-m http.server --bind 127.0.0.1 --directory {site} {real.port}"
        return replace(real, command=[sys.executable, *words.split()])

    monkeypatch.setattr(subject, "plan_of", plan)
    monkeypatch.setattr(subject, "check_stores", lambda *_: None)
    monkeypatch.setattr(subject, "make_ledger", lambda *_: None)
    monkeypatch.setattr(subject, "trouble_of_worker", lambda paths, settings, health: processes.trouble_at(health))
    monkeypatch.setattr(subject, "_mark_lost", lambda *_: None)
    made = House(tmp_path)
    yield made
    made.down()
    os.environ.clear()
    os.environ.update(before)


def test_no_port_is_drawn_twice(monkeypatch):
    monkeypatch.setattr(ports, "BELOW_EPHEMERAL", range(31_000, 31_040))
    drawn = []
    with pytest.raises(AssertionError, match="none of fifty ports is free"):
        while True:
            drawn.append(free_port())
    assert len(drawn) > 20 and len(set(drawn)) == len(drawn)


def test_up_twice_then_down_twice(house):
    servers = house.config.servers
    site, logs = "http://127.0.0.1", house.paths.store / "services"
    first = house.up()
    assert first == [
        f"Prefect  {site}:{servers.prefect_port:<7} log {logs / 'prefect.log'}",
        f"MLflow   {site}:{servers.mlflow_port:<7} log {logs / 'mlflow.log'}",
        f"worker   work pool posttrain      log {logs / 'worker.log'}",
    ]
    pids = [house.pid(name) for name in NAMES]
    assert all(os.getsid(pid) == pid != os.getsid(0) for pid in pids), "our terminal's end would be theirs"
    assert house.up() == [f"{line}   (it was running already)" for line in first]
    assert [house.pid(name) for name in NAMES] == pids
    lines = status(house.paths)
    assert [(line.is_running, line.is_down, line.trouble) for line in lines] == [(True, False, "")] * 3
    assert all(line.memory_mb > 1 for line in lines)

    assert house.down() == ["The worker is stopped", "MLflow's server is stopped", "Prefect's server is stopped"]
    assert all(has_ended(pid, 0) for pid in pids)
    assert house.down() == ["The worker is not running", "MLflow's server is not running", "Prefect's server is not running"]
    assert [line.note for line in status(house.paths)] == [None, None, None]
    assert house.said == []


def test_one_that_was_killed_is_told_and_mended_and_the_others_go_on(house):
    house.up()
    kept = {name: house.pid(name) for name in ("prefect", "worker")}
    killed = house.pid("mlflow")
    house.kill("mlflow")
    by_name = {line.name: line for line in status(house.paths)}
    assert [name for name, line in by_name.items() if line.is_down] == ["mlflow"]
    assert f"down: it ended without a word (process {killed}, started " in by_name["mlflow"].as_text(by_name["mlflow"].note.since)
    lines = house.up()
    assert [line.endswith("(it was running already)") for line in lines] == [True, False, True]
    (said,) = house.said
    assert said.startswith(f"note: MLflow ended without a word (process {killed}, ") and said.endswith("; it is started again")
    assert {name: house.pid(name) for name in kept} == kept and house.pid("mlflow") != killed
    house.kill("worker")
    assert house.down()[0].startswith("The worker ended without a word (process ")


def test_a_port_that_is_taken_is_refused_before_anything_starts(house, tmp_path):
    house.up()
    other = House(tmp_path / "other")
    for name, remedy in (
        ("prefect", "make up PORT={}"),
        ("mlflow", 'make up SET="servers.mlflow_port={}"'),
        ("worker", 'make up SET="servers.worker_port={}"'),
    ):
        port = getattr(house.config.servers, f"{name}_port")
        other.config = other.settings(f"servers.{name}_port={port}")
        with pytest.raises(RequestError) as told:
            other.up()
        assert str(told.value).startswith(f"port {port} must be free for ")
        assert str(told.value).endswith(f"End that one, or take another port: {remedy.format(port + 1)}")
        assert not any(note_of(other.paths, name) for name in NAMES)
    assert all(running(house.paths, name) for name in NAMES)


def test_one_that_does_not_come_up_is_ended_and_quoted_and_those_that_are_well_stay(house, monkeypatch):
    plan_of = subject.plan_of

    def plan(name, *told, **more):
        made = plan_of(name, *told, **more)
        return replace(made, command=[sys.executable, "-c", "raise SystemExit('no luck')"]) if name == "worker" else made

    monkeypatch.setattr(subject, "plan_of", plan)
    with pytest.raises(StorageError) as told:
        house.up()
    log = house.paths.store / "services" / "worker.log"
    health = f"http://127.0.0.1:{house.config.servers.worker_port}/health"
    assert str(told.value) == f"The worker does not answer at {health}: no luck. See {log}, then run again"
    assert running(house.paths, "prefect") and running(house.paths, "mlflow") and note_of(house.paths, "worker") is None


def test_one_that_never_answers_leaves_no_process(house, monkeypatch):
    monkeypatch.setattr(processes, "LONGEST_START", 0.3)
    plan_of, begun = subject.plan_of, []

    def plan(name, *told, **more):
        return replace(plan_of(name, *told, **more), command=[sys.executable, "-c", "import time; time.sleep(60)"])

    start = subject.start
    monkeypatch.setattr(subject, "plan_of", plan)
    monkeypatch.setattr(subject, "start", lambda *given, **told: begun.append(start(*given, **told)) or begun[-1])
    with pytest.raises(StorageError, match="Connection refused"):
        house.up()
    assert len(begun) == 3 and all(process.poll() is not None for process in begun)
    assert not any(note_of(house.paths, name) for name in NAMES)


def test_a_store_that_cannot_be_made_leaves_no_process_that_was_not_up(house, monkeypatch):
    plan_of, begun, start = subject.plan_of, [], subject.start

    def plan(name, *told, **more):
        return replace(plan_of(name, *told, **more), command=[sys.executable, "-c", "import time; time.sleep(60)"])

    def full(*_):
        raise StorageError("the disk is full")

    monkeypatch.setattr(subject, "plan_of", plan)
    monkeypatch.setattr(subject, "make_ledger", full)
    monkeypatch.setattr(subject, "start", lambda *given, **told: begun.append(start(*given, **told)) or begun[-1])
    with pytest.raises(StorageError, match="the disk is full"):
        house.up()
    assert len(begun) == 2 and all(process.poll() is not None for process in begun)
    assert not any(note_of(house.paths, name) for name in NAMES)


def test_one_that_runs_and_does_not_answer_is_an_error_and_is_not_ended(house):
    house.up()
    pid = house.pid("mlflow")
    note = note_of(house.paths, "mlflow")
    remember(house.paths, replace(note, health=f"{note.site}/no-such-page"))
    with pytest.raises(ContractError) as told:
        house.up()
    assert str(told.value) == (
        f"mlflow runs but does not answer at {note.site}/no-such-page: it answers 404 File not found. See its log, then: "
        "make down && make up"
    )
    assert house.pid("mlflow") == pid and running(house.paths, "mlflow")


def test_some_of_them_alone(house):
    assert len(house.up(names=["prefect"])) == 1
    assert [name for name in NAMES if running(house.paths, name)] == ["prefect"]


def test_a_worker_that_is_started_later_serves_the_server_that_runs_with_its_password(house, monkeypatch):
    monkeypatch.setenv("THEIR_LOGIN", "ann:s3cret")
    running_at = house.config.servers.prefect_port
    house.config = house.settings(f"servers.prefect_port={running_at}", "servers.password=env:THEIR_LOGIN")
    house.up(names=["prefect"])
    assert note_of(house.paths, "prefect").password == "env:THEIR_LOGIN"
    asked, plan_of = [], subject.plan_of

    def plan(name, paths, settings, **told):
        asked.append((settings.password, told["api"]))
        return plan_of(name, paths, settings, **told)

    monkeypatch.setattr(subject, "plan_of", plan)
    house.config = house.settings()  # neither that port nor that password
    house.up(names=["worker"])
    assert asked == [("env:THEIR_LOGIN", f"http://127.0.0.1:{running_at}/api")]


def test_runs_of_a_worker_are_marked_when_it_is_stopped(house, monkeypatch):
    house.up()
    marked = []
    monkeypatch.setattr(subject, "flow_runs_below", lambda pid: {"run"} if pid == house.pid("worker") else set())
    monkeypatch.setattr(subject, "_mark_stopped", lambda paths, runs, say: marked.append((runs, bool(running(paths, "prefect")))))
    house.down()
    assert marked == [({"run"}, True)], "while Prefect's server still runs"


def test_a_server_that_answers_strangely_does_not_keep_services_from_ending(house, monkeypatch):
    def strange(server, runs):
        raise ValueError("no such answer")

    house.up(names=["prefect"])
    monkeypatch.setattr("flows.lost_runs.mark_stopped", strange)
    subject._mark_stopped(house.paths, {"run"}, house.said.append)
    assert house.said == ["note: runs of the worker cannot be marked now: ValueError: no such answer. make up tries again"]


def test_runs_cannot_be_marked_without_a_server(house):
    subject._mark_stopped(house.paths, {"a", "b"}, house.said.append)
    assert house.said == ["note: 2 runs of the worker cannot be marked, since Prefect's server does not run; make up marks them"]


def test_a_note_of_another_machine_is_told_and_replaced(house):
    house.up(names=["prefect"])
    note = note_of(house.paths, "prefect")
    remember(house.paths, replace(note, name="mlflow", process=replace(note.process, host="elsewhere")))
    house.up(names=["prefect", "mlflow"])
    assert house.said == ["note: MLflow was started on elsewhere before; it is started here"]


def test_a_service_stops_at_a_signal_even_where_ours_ignores_it(house, monkeypatch):
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        house.up(names=["mlflow"])
        process = psutil.Process(house.pid("mlflow"))
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        signal.signal(signal.SIGINT, before)
