"""What the doctor asks of a real server of Prefect: a schedule without a worker, and a run whose process is gone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows.doctor_servers import flow_runs, schedules
from flows.lost_runs import LOST
from flows.prefect_server import FINAL, OPEN, SCHEDULED, Server
from flows.schedules import TAG, save
from flows.service_plans import WORK_POOL
from posttrain.settings.config import Config
from tasks.upkeep.findings import Check, Severity, Stores, examine
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process
from tests.flows.fake_prefect import nightly
from tests.flows.houses import READY
from tests.tasks.upkeep.conftest import dead

__all__ = ["dead"]
pytestmark = pytest.mark.slow


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("PREFECT_API_URL", READY.address())
    with Server(READY.address()) as opened:
        yield opened


@pytest.fixture
def client(server: Server) -> Any:
    return server.client


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(Paths(tmp_path), Config())


def test_a_schedule_that_nobody_would_start(server: Server, client: Any, stores: Stores) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate

    client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
    deployment = save(server, stores.paths, nightly(zone="Europe/Berlin"), stores.config)
    try:
        # its next run may not be made yet, for which the scheduler has two minutes
        (found,) = schedules(stores)
        assert (found.severity, found.says) == (
            Severity.WRONG,
            "1 schedule and no worker: there never was one. Start one: make up",
        )
        client.pause_deployment(deployment)
        assert [one.says for one in schedules(stores)] == ["0 schedules with a next run"]
        (kept,) = server.read_deployments(tag=TAG)
        theirs = client.read_deployment(deployment)
        assert kept == server.read_deployment(deployment) and kept.paused
        assert (kept.id, kept.name, kept.parameters, kept.path) == (deployment, "nightly", theirs.parameters, theirs.path)
        assert kept.updated == theirs.updated and server.read_workers(WORK_POOL) == [] and not server.is_paused(WORK_POOL)
        client.update_work_pool(WORK_POOL, WorkPoolUpdate(is_paused=True))
        assert server.is_paused(WORK_POOL)
    finally:
        client.delete_deployment(deployment)
        client.delete_work_pool(WORK_POOL)
    assert server.read_deployment(deployment) is None and server.read_workers(WORK_POOL) is None


def test_a_run_whose_process_is_gone(client: Any, stores: Stores, dead: Process) -> None:
    from prefect import flow
    from prefect.states import Running

    @flow
    def of_the_dead() -> None:
        pass

    made = client.create_flow_run(of_the_dead, tags=[f"process-{dead.name}"], state=Running())
    looked = examine(Check("flow runs", "", flow_runs), stores, mends=True)
    assert (looked.severity, looked.mended) == (Severity.OK, (f"{made.name} marked as crashed",))
    found = client.read_flow_run(made.id)
    assert found.state.is_crashed() and found.state.message == LOST


def test_runs_are_those_that_prefects_own_client_reads(server: Server, client: Any) -> None:
    from prefect import flow
    from prefect.states import Completed, Running, Scheduled

    @flow
    def idle() -> None:
        pass

    at = datetime.now(UTC) + timedelta(days=3)
    states = (Scheduled(scheduled_time=at), Running(), Completed(message="all"))
    made = [client.create_flow_run(idle, tags=["a"], state=state) for state in states]
    found = [server.read_flow_run(one.id) for one in made]
    for ours, theirs in zip(found, (client.read_flow_run(one.id) for one in made), strict=True):
        assert ours and ours.state and (ours.id, ours.name, ours.tags) == (theirs.id, theirs.name, ("a",))
        told = (ours.state.type, ours.state.name, ours.state.message or None, ours.state.timestamp, ours.state.is_final())
        state = theirs.state
        assert told == (state.type.value, state.name, state.message, state.timestamp, state.is_final())
        assert (ours.expected_start_time, ours.start_time) == (theirs.expected_start_time, theirs.start_time)
        assert (ours.end_time, ours.next_scheduled_start_time) == (theirs.end_time, theirs.next_scheduled_start_time)
    assert found[0] and found[0].next_scheduled_start_time == at

    def ids(**asked: Any) -> set[UUID]:
        return {run.id for run in server.read_flow_runs(limit=200, **asked)} & {one.id for one in made}

    now = datetime.now(UTC)
    assert ids() == {one.id for one in made} and ids(pool="nowhere") == ids(deployment=UUID(int=5)) == set()
    assert ids(states=[SCHEDULED]) == {made[0].id} and ids(states=OPEN) == {made[1].id} and ids(states=FINAL) == {made[2].id}
    assert ids(started_before=now) == {made[1].id, made[2].id} and ids(started_before=now - timedelta(hours=1)) == set()
    assert ids(ended_after=now - timedelta(hours=1)) == {made[2].id} and ids(ended_after=now + timedelta(hours=1)) == set()
    client.set_flow_run_state(made[1].id, Completed(), force=True)
    assert server.read_flow_run(UUID(int=6)) is None and len(server.read_flow_runs(limit=1)) == 1
