"""What the doctor asks of a real server of Prefect: a schedule without a worker, and a run whose process is gone."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.doctor_servers import flow_runs, schedules
from flows.lost_runs import LOST
from flows.prefect_client import client_of
from flows.schedules import save
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
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("PREFECT_API_URL", READY.address())
    with client_of(os.environ["PREFECT_API_URL"]) as opened:
        yield opened


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(Paths(tmp_path), Config())


def test_a_schedule_that_nobody_would_start(client: Any, stores: Stores) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate

    client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
    deployment = save(client, stores.paths, nightly(zone="Europe/Berlin"), stores.config)
    try:
        # its next run may not be made yet, for which the scheduler has two minutes
        (found,) = schedules(stores)
        assert (found.severity, found.says) == (
            Severity.WRONG,
            "1 schedule and no worker: there never was one. Start one: make up",
        )
        client.pause_deployment(deployment)
        assert [one.says for one in schedules(stores)] == ["no schedules with a next run"]
    finally:
        client.delete_deployment(deployment)
        client.delete_work_pool(WORK_POOL)


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
