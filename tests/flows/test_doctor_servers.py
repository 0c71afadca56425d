"""Databases, services, schedules and runs of Prefect: broken, seen, mended, and gone. Prefect itself: test_doctor_real.py."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from flows import doctor_servers as subject
from flows.doctor_servers import databases, flow_runs, schedules, services
from posttrain.settings.config import Config, merge
from tasks.judges.cache import FILE, ReplyCache
from tasks.services.notes import Service, folder_of, forget, remember
from tasks.upkeep.findings import Check, Finding, Severity, Stores, examine
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process
from tests.flows.fake_prefect import FakeClient, nightly
from tests.tasks.upkeep.conftest import dead

__all__ = ["dead"]
ONE, TWO = UUID(int=1), UUID(int=2)
CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    for name in ("PREFECT_API_URL", "PREFECT_HOME", *subject.SETTINGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(subject, "WAIT", 0.1)
    return Stores(Paths(tmp_path), Config())


def one(findings: list[Finding]) -> tuple[Severity, str]:
    (found,) = findings
    return found.severity, found.says


# --- databases --------------------------------------------------------------------------------------------------------


@pytest.fixture
def replies(stores: Stores) -> Path:
    folder = stores.paths.store / "judge"
    with closing(ReplyCache(folder)) as cache:
        cache.put({f"{number:064}": {"text": "x" * 200} for number in range(200)})
    return folder / FILE


def test_there_is_no_database_yet(stores: Stores) -> None:
    assert one(databases(stores)) == (Severity.OK, "there is none yet")


def test_a_whole_database(stores: Stores, replies: Path) -> None:
    assert one(databases(stores)) == (Severity.OK, "whole and of a known version: judge.sqlite under 1 MB")


@pytest.mark.parametrize("damage", ["empty", "noise", "cut off", "a page"])
def test_a_damaged_database(stores: Stores, replies: Path, damage: str) -> None:
    whole = replies.read_bytes()
    broken = {
        "empty": b"",
        "noise": b"x" * 4096,
        "cut off": whole[:-4096],
        "a page": whole[:4096] + b"\xff" * 4096 + whole[8192:],
    }
    for beside in replies.parent.glob(f"{FILE}-*"):
        beside.unlink()
    replies.write_bytes(broken[damage])
    severity, says = one(databases(stores))
    assert severity is Severity.WRONG and says.startswith("the cache of the judge's answers (")
    assert "Restore the file from a backup, or put it aside" in says
    replies.write_bytes(whole)
    assert one(databases(stores))[0] is Severity.OK


def test_a_locked_database(stores: Stores, replies: Path) -> None:
    with closing(sqlite3.connect(replies, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        severity, says = one(databases(stores))
    assert severity is Severity.WRONG and "is locked by another program" in says
    assert one(databases(stores))[0] is Severity.OK


@pytest.mark.parametrize(
    ("folder", "name", "is_ledger"), [("mlflow/store", "mlflow.db", True), (".posttrain/prefect", "prefect.db", False)]
)
def test_a_database_of_a_newer_version(stores: Stores, folder: str, name: str, is_ledger: bool) -> None:
    file = stores.paths.root / folder / name
    file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("CREATE TABLE alembic_version (version_num)")
        opened.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
    severity, says = one(databases(stores))
    assert severity is Severity.WRONG and "was written by a newer version: it has schema ffffffffffff" in says
    assert bool(stores.unusable) is is_ledger, "the other checks of the ledger say that they did not look"


def test_a_postgresql_that_the_settings_name_wrongly(stores: Stores) -> None:
    stores.config = merge({}, ["servers.prefect_database=postgresql+asyncpg://ann@127.0.0.1:9/prefect"])
    severity, says = one(databases(stores))
    assert severity is Severity.WRONG and says.startswith("Prefect's database (postgresql+asyncpg://ann@127.0.0.1:9/prefect)")
    stores.config = Config()
    assert one(databases(stores))[0] is Severity.OK


# --- services ---------------------------------------------------------------------------------------------------------


def service(process: Process, name: str = "mlflow") -> Service:
    return Service(name, process, CLOSED, f"{CLOSED}/health", "no.log", datetime(2026, 11, 28, 20, 0, tzinfo=UTC))


def test_no_service_is_needed(stores: Stores) -> None:
    assert one(services(stores)) == (Severity.OK, "none was started; none is needed but for schedules (make up)")


def test_a_service_that_ended_without_a_word(stores: Stores, dead: Process) -> None:
    remember(stores.paths, service(dead))
    assert one(services(stores)) == (
        Severity.WRONG,
        f"MLflow ended without a word (process {dead.pid}, started 2026-11-28 20:00 UTC): kill, memory or power. make up starts "
        "it again; make down forgets it.",
    )
    forget(stores.paths, "mlflow")
    assert one(services(stores))[0] is Severity.OK


def test_a_service_that_does_not_answer(stores: Stores) -> None:
    remember(stores.paths, service(Process.current()))
    severity, says = one(services(stores))
    assert severity is Severity.WRONG and says.startswith(f"MLflow runs and does not answer at {CLOSED}/health: ")
    assert says.endswith("Start it anew: make down && make up")


def test_a_note_that_came_with_a_copied_folder_is_no_trouble(stores: Stores) -> None:
    remember(stores.paths, service(Process.current()))
    file = folder_of(stores.paths) / "mlflow.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"folder": "1:1"}))
    severity, says = one(services(stores))
    assert severity is Severity.OK and says.startswith("none was started")


def test_a_note_that_cannot_be_read(stores: Stores) -> None:
    file = folder_of(stores.paths) / "worker.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"name": "work')
    severity, says = one(services(stores))
    assert severity is Severity.WRONG and says.startswith(f"the note of worker ({file}) cannot be read")
    looked = examine(Check("services", "", services), stores, mends=True)
    assert (looked.severity, looked.mended) == (Severity.OK, ("the note of worker is taken away",)) and not file.exists()


def test_a_service_of_another_machine_is_not_ours_to_judge(stores: Stores, dead: Process) -> None:
    remember(stores.paths, service(replace(dead, host="elsewhere")))
    assert one(services(stores))[0] is Severity.OK


# --- Prefect ----------------------------------------------------------------------------------------------------------

NOW = datetime.now(UTC)
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
THREE = datetime(2026, 11, 30, 3, tzinfo=UTC)


def run(run_id: UUID = ONE, *, tags: tuple[str, ...] = (), pool: str | None = None, age: float = 3600.0) -> Any:
    state = SimpleNamespace(timestamp=NOW - timedelta(seconds=age))
    return SimpleNamespace(
        id=run_id, name=f"run-{run_id.int}", tags=list(tags), work_pool_name=pool, state=state, infrastructure_pid=""
    )


@dataclass
class Client:
    """Prefect's, as far as it is asked here."""

    open_runs: list[Any] = field(default_factory=list)

    def read_flow_runs(self, **_: Any) -> list[Any]:
        return self.open_runs


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A server that answers."""
    ours = Client()

    @contextmanager
    def connected(stores: Stores) -> Iterator[Client]:
        yield ours

    monkeypatch.setattr(subject, "_server", connected)
    return ours


@pytest.fixture
def server(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """A server that answers at noon; `ahead` holds when it will start the next run of each schedule, by name."""
    ours = FakeClient()
    ours.ahead = {}

    def runs(query: dict[str, Any]) -> list[Any]:
        if "deployment" not in query:
            return list(getattr(ours, "at_work", ()))
        key = query["deployment"]
        is_ahead = query["states"] == ["SCHEDULED"]
        at = ours.ahead.get(ours.deployments[key].name) if is_ahead else None
        return [SimpleNamespace(next_scheduled_start_time=at)] if at else []

    @contextmanager
    def connected(stores: Stores) -> Iterator[FakeClient]:
        yield ours

    ours.runs = runs
    monkeypatch.setattr(subject, "_server", connected)
    monkeypatch.setattr("flows.schedule_list.utc_now", lambda: NOON)
    return ours


def schedule(server: FakeClient, stores: Stores, *, paused: bool = False, **told: Any) -> None:
    server.add(nightly(**told), root=stores.paths.root.resolve(), paused=paused)


def test_schedules_that_will_run(stores: Stores, server: FakeClient) -> None:
    server.workers = []  # of which there is no need without a schedule
    assert one(schedules(stores)) == (Severity.OK, "0 schedules with a next run")
    server.workers = [SimpleNamespace(status="OFFLINE"), SimpleNamespace(status="ONLINE")]
    schedule(server, stores)
    schedule(server, stores, name="off", paused=True)
    schedule(server, stores, name="over", until="2026-11-28T12:00:00+00:00")
    schedule(server, stores, name="drifted", on="drift", cron="")
    server.add(nightly(name="theirs"), root="/elsewhere")
    server.ahead = {"nightly": THREE}
    assert one(schedules(stores)) == (Severity.OK, "1 schedule with a next run, 1 trigger waiting for an event")


def test_a_schedule_without_a_next_run(stores: Stores, server: FakeClient) -> None:
    schedule(server, stores)
    severity, says = one(schedules(stores))
    assert severity is Severity.WRONG and says.startswith("schedule nightly: Prefect's scheduler has made no run for it. ")


def test_a_schedule_that_would_start_at_a_wrong_time(stores: Stores, server: FakeClient) -> None:
    schedule(server, stores, zone="Europe/Berlin")
    server.ahead = {"nightly": THREE}  # in UTC: its zone was lost
    severity, says = one(schedules(stores))
    assert severity is Severity.WRONG and says.startswith("schedule nightly: Prefect will start it at 2026-11-30 04:00 CET, but ")
    server.ahead = {"nightly": THREE - timedelta(hours=1)}
    assert one(schedules(stores))[0] is Severity.OK


def test_a_run_that_nobody_started(stores: Stores, server: FakeClient) -> None:
    schedule(server, stores)
    server.ahead = {"nightly": NOON - timedelta(minutes=6)}
    severity, says = one(schedules(stores))
    assert severity is Severity.WRONG and says.endswith("the worker does not take it. Restart it: make down && make up")
    server.at_work = [run()]
    assert one(schedules(stores))[0] is Severity.OK, "it waits behind another one"


@pytest.mark.parametrize("told", [{}, {"on": "drift", "cron": ""}])
def test_a_schedule_without_a_worker(stores: Stores, server: FakeClient, told: dict[str, Any]) -> None:
    schedule(server, stores, **told)  # by a time, or by an event
    server.ahead = {"nightly": THREE}
    server.workers = []
    assert one(schedules(stores)) == (Severity.WRONG, "1 schedule and no worker: there never was one. Start one: make up")
    server.workers = [SimpleNamespace(status="OFFLINE", last_heartbeat_time=NOON)]
    assert f"the last one was seen at {NOON:%Y-%m-%d %H:%M} UTC" in one(schedules(stores))[1]
    server.workers, server.is_pool_paused = [SimpleNamespace(status="ONLINE")], True
    assert "work pool posttrain is paused" in one(schedules(stores))[1]
    server.is_pool_paused = False
    assert one(schedules(stores))[0] is Severity.OK


@pytest.fixture
def of_prefect(stores: Stores) -> Path:
    """A database of Prefect, as far as it is read here, with a schedule that is on."""
    file = stores.paths.store / "prefect" / "prefect.db"
    file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("CREATE TABLE deployment (id, paused)")
        opened.execute("CREATE TABLE deployment_schedule (deployment_id, active)")
        opened.execute("INSERT INTO deployment VALUES ('a', 0), ('b', 1), ('c', 0)")
        opened.execute("INSERT INTO deployment_schedule VALUES ('a', 1), ('a', 1), ('b', 1), ('c', 0)")
    return file


def test_schedules_without_a_server(stores: Stores, of_prefect: Path) -> None:
    # a is on, b is paused, and that of c is off
    assert one(schedules(stores)) == (
        Severity.WRONG,
        "1 schedule and no server of Prefect: nothing runs at its time. Start it: make up",
    )
    with closing(sqlite3.connect(of_prefect)) as opened, opened:
        opened.execute("UPDATE deployment SET paused = 1")
    assert one(schedules(stores)) == (Severity.OK, "no schedule is set")


def test_a_server_that_does_not_answer(stores: Stores, of_prefect: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{CLOSED}/api")
    assert one(schedules(stores))[0] is Severity.WRONG
    severity, says = one(flow_runs(stores))
    assert severity is Severity.NOTE and says.startswith(f"not looked at: Prefect's server at {CLOSED}/api does not answer: ")
    monkeypatch.setenv(subject.SETTINGS[0], "postgresql+asyncpg://db/prefect")
    assert one(schedules(stores)) == (severity, says), "a database elsewhere cannot be read from here"


def test_schedules_where_nothing_was_ever_started(stores: Stores) -> None:
    assert one(schedules(stores)) == (Severity.OK, "no schedule is set")
    assert one(flow_runs(stores)) == (Severity.OK, "no server of Prefect runs here, so none was asked (make up starts it)")


def test_runs_that_no_process_executes(stores: Stores, client: Client, dead: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[str] = []

    def crash(client: Client, run: Any, message: str) -> bool:
        marked.append(run.name)
        client.open_runs.remove(run)
        return True

    monkeypatch.setattr(subject, "crash", crash)
    monkeypatch.setattr(subject, "_knows_all", lambda stores: True)
    here, of_dead = f"process-{Process.current().name}", f"process-{dead.name}"
    lost = [run(UUID(int=1), tags=("a", of_dead)), run(UUID(int=2), pool="posttrain")]
    kept = [
        run(UUID(int=3), tags=(here,)),
        run(UUID(int=4), tags=("process-1-1-ffffffff", "process-nonsense")),  # of another start of a machine, and of nobody
        run(UUID(int=5), pool="posttrain", age=-3600.0),  # young, however long the test takes
        run(UUID(int=6), pool="another"),
    ]
    client.open_runs = [*kept, *lost]
    severity, says = one(flow_runs(stores))
    assert severity is Severity.WRONG and says.startswith("2 runs open in Prefect without a process: run-2 and run-1. ")
    looked = examine(Check("flow runs", "", flow_runs), stores, mends=True)
    assert (looked.severity, looked.mended) == (Severity.OK, ("run-2 and run-1 marked as crashed",))
    assert sorted(marked) == ["run-1", "run-2"] and looked.findings[0].says == "4 runs open, each with its process"


def test_runs_of_a_worker_are_told_only_where_no_other_machine_has_a_part(
    stores: Stores, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.open_runs = [run(pool="posttrain")]
    assert one(flow_runs(stores)) == (
        Severity.OK,
        "1 run open, each with its process; those of other machines cannot be told from here",
    )
    remember(stores.paths, service(Process.current(), "prefect"))
    monkeypatch.setenv("PREFECT_API_URL", f"{CLOSED}/api")
    assert one(flow_runs(stores))[0] is Severity.WRONG
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere:4200/api")
    assert one(flow_runs(stores))[0] is Severity.OK
