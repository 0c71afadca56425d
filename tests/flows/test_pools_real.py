"""A schedule on a work pool: made in one checkout, and run by a worker in another one, which `make deploy`'s script starts."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from flows.prefect_client import client_of
from tests.flows.houses import QUICK_SERVERS, READY, environment, fork, new_house
from tests.flows.test_schedules_real import RETRAIN
from tests.flows.test_services_real import wait_for

pytestmark = pytest.mark.slow
POOL = "pool-of-a-test"


def said(house, *words):
    out, err = fork(house, *words).communicate(timeout=400)
    assert "Traceback" not in err, err
    return out + err


@pytest.fixture
def houses(tmp_path):
    """Two checkouts, each with an environment at its usual place, where a retraining is a stand-in that tells its folder."""
    made = []
    for name in ("here", "there"):
        house = new_house(tmp_path / name)
        told = RETRAIN.replace("by {cause}", "in {paths.root.name}")
        (house / "flows" / "retrain.py").write_text(told)
        (house / ".venv").symlink_to(Path(sys.executable).parents[1])
        made.append(house)
    return made


@pytest.fixture
def worker(houses):
    """Start the script in the other checkout; end it and what it runs."""
    running = []

    def start():
        shutil.copytree(houses[0] / "deploy", houses[1] / "deploy")
        told = environment() | QUICK_SERVERS | {"PREFECT_API_URL": READY.address()}
        command = ["sh", f"deploy/{POOL}/worker.sh"]
        with (houses[1] / "worker.log").open("wb") as log:
            how = {"cwd": houses[1], "env": told, "stdout": log, "stderr": log, "start_new_session": True}
            running.append(subprocess.Popen(command, **how))
        return houses[1] / "worker.log"

    yield start
    for process in running:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        os.killpg(process.pid, signal.SIGTERM)
        for one in psutil.wait_procs(family, timeout=60)[1]:
            one.kill()
        process.wait(60)


def test_a_worker_elsewhere_takes_a_run(houses, worker):
    here = houses[0]
    made = said(here, "deploy", "POOL=process", f"NAME={POOL}")
    assert f"deploy/{POOL}/worker.sh" in made and "note: tracking.uri in params.yaml is empty" in made
    refused = said(here, "schedule", "METHOD=sft", "CRON=0 3 * * *", f"POOL={POOL}", "NAME=far")
    assert f"there is no work pool {POOL}: no worker has run yet. Make and start it: make deploy NAME={POOL}" in refused
    log = worker()
    with client_of(READY.address()) as client:
        pool = wait_for(lambda: next((one for one in client.read_work_pools() if one.name == POOL), None), 200)
        assert pool and pool.type == "process", log.read_text()
        assert wait_for(lambda: client.read_workers_for_work_pool(POOL), 200), log.read_text()
        made = said(here, "schedule", "METHOD=sft", "CRON=0 3 * * *", f"POOL={POOL}", "NAME=far")
        assert "note: no worker" not in made
        deployment = next(one for one in client.read_deployments() if one.name == "far")
        run = client.create_flow_run_from_deployment(UUID(str(deployment.id)))
        try:
            look = lambda: (state := client.read_flow_run(run.id).state) and state.is_final() and state  # noqa: E731
            state = wait_for(look, 300)
            assert state, log.read_text()
            assert (state.name, state.message) == ("Unchanged", "sft of world in there"), log.read_text()
            assert f"on work pool {POOL}" in said(here, "schedule")
        finally:
            client.delete_deployment(deployment.id)
