"""The real services: health, foreign pages, the password, kills, schedules that get their next run, PostgreSQL. Minutes."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from flows.environment import prepare
from flows.service_plans import WORK_POOL
from flows.services import down, status, up
from posttrain.errors import StorageError
from posttrain.settings.config import merge
from tasks.services.notes import NAMES, note_of, running
from tasks.services.processes import is_free, trouble_at
from tasks.workspace.paths import Paths
from tests.flows.houses import QUICK_SERVERS
from tests.flows.postgres import postgres_or_skip, servers_on
from tests.flows.test_guard import AS_JSON, CREATE, EVIL, FILTER, SEARCH, ask
from tests.ports import free_port

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
LOGIN = "ann:s3cret"
GRAPHQL = b'{"query": "{ __typename }"}'


class House:
    """A repository's root of its own with ports of its own."""

    def __init__(self, root, *words):
        self.paths = Paths(root)
        self.said = []
        self.words = [*(f"servers.{name}_port={free_port()}" for name in NAMES), *words]

    def up(self):
        config = merge({}, self.words)
        prepare(self.paths, is_tiny=True, password=config.servers.password)
        return up(self.paths, config, self.said.append)

    def down(self):
        return down(self.paths, self.said.append)

    def port(self, name):
        return running(self.paths, name).port

    def pid(self, name):
        return note_of(self.paths, name).process.pid

    @property
    def api(self):
        return f"http://127.0.0.1:{self.port('prefect')}/api"


@contextmanager
def living(root, *words):
    """A house whose services run, in a process that looks like a shell with nothing set."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_"))]:
        del os.environ[name]
    os.environ |= {"THEIR_LOGIN": LOGIN, **QUICK_SERVERS}
    house = House(root, *words)
    try:
        house.up()
        yield house
    finally:
        house.down()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with living(tmp_path_factory.mktemp("house")) as made:
        yield made


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """Services with a password."""
    with living(tmp_path_factory.mktemp("locked"), "servers.password=env:THEIR_LOGIN") as made:
        yield made


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


# --- health, and who may ask ------------------------------------------------------------------------------------------


def test_all_three_are_well_and_light(house):
    lines = status(house.paths)
    assert [(line.name, line.trouble) for line in lines] == [(name, "") for name in NAMES]
    assert sum(line.memory_mb for line in lines) < 1_000, [line.memory_mb for line in lines]
    assert trouble_at(f"{house.api}/work_pools/{WORK_POOL}", wants={"type": "process", "status": "READY"}) == ""


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": EVIL}, {"Origin": "http://127.0.0.1:8888"}])
def test_a_foreign_page_is_refused_by_both(house, headers):
    prefect, mlflow = house.port("prefect"), house.port("mlflow")
    for path in ("/api/health", "/api/admin/version", "/"):
        assert ask(prefect, path, **headers)[0] == 403
    assert ask(prefect, FILTER, method="POST", body=b"{}", **AS_JSON, **headers)[0] == 403
    for path in ("/", f"{SEARCH}?max_results=1", "/graphql", "/health"):
        assert ask(mlflow, path, **headers)[0] == 403
    assert ask(mlflow, CREATE, method="POST", body=b'{"name": "x"}', **AS_JSON, **headers)[0] == 403
    assert ask(mlflow, "/graphql", method="POST", body=GRAPHQL, **AS_JSON, **headers)[0] == 403


def test_without_the_password_nothing_is_told_and_with_it_all(locked):
    prefect, mlflow = locked.port("prefect"), locked.port("mlflow")
    right = {"Authorization": f"Basic {base64.b64encode(LOGIN.encode()).decode()}"}
    wrong = {"Authorization": f"Basic {base64.b64encode(b'ann:other').decode()}"}
    for headers, expected in (({}, 401), (wrong, 401), (right, 200)):
        assert ask(prefect, "/api/admin/version", **headers)[0] == expected
        assert ask(mlflow, f"{SEARCH}?max_results=1", **headers)[0] == expected
        assert ask(mlflow, "/", **headers)[0] == expected
    assert ask(mlflow, "/graphql", method="POST", body=GRAPHQL, **AS_JSON)[0] == 401
    assert ask(prefect, "/api/health")[0] == ask(mlflow, "/health")[0] == 200
    assert json.loads(ask(prefect, "/ui-settings")[2])["auth"] == "BASIC", "its page asks for it"
    for name in NAMES:
        note = (locked.paths.store / "services" / f"{name}.json").read_text()
        assert "s3cret" not in note and "s3cret" not in " ".join(psutil.Process(locked.pid(name)).cmdline())


def test_programs_that_know_the_password_use_both(locked):
    code = (
        "import os, mlflow\nfrom prefect import flow\n"
        "@flow\ndef whole(): return 21\nprint(whole())\n"
        f"mlflow.set_tracking_uri('http://127.0.0.1:{locked.port('mlflow')}')\n"
        "print(sorted(one.name for one in mlflow.search_experiments()))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "21\n['Default', 'posttrain']\n"), done.stderr


# --- schedules --------------------------------------------------------------------------------------------------------

FLOW = """
import time
from prefect import flow

@flow
def tick(seconds: float = 0.0):
    time.sleep(seconds)
"""

DEPLOY = """
import sys
from pathlib import Path
from prefect import flow
from prefect.schedules import Cron
schedule = Cron("* * * * *", timezone="Europe/Berlin") if sys.argv[1] == "cron" else None
made = flow.from_source(source=str(Path.cwd()), entrypoint="ticking.py:tick")
made.deploy(sys.argv[1], work_pool_name="posttrain", build=False, push=False, print_next_steps=False, ignore_warnings=True,
            schedule=schedule)
"""


def deploy(house, name):
    (house.paths.root / "ticking.py").write_text(FLOW)
    environment = {**os.environ, "PREFECT_API_URL": house.api}
    done = subprocess.run(
        [sys.executable, "-c", DEPLOY, name], cwd=house.paths.root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def client(house):
    from flows.prefect_client import client_of

    return client_of(house.api)


def runs_of(house, name):
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    with client(house) as asked:
        return asked.read_flow_runs(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])))


def test_a_deployment_gets_its_next_run(house):
    """With SQLAlchemy 2.1 the scheduler of prefect 3.8.8 never makes one, in silence: docs/decisions/0002-pins.md."""
    deploy(house, "cron")
    found = wait_for(lambda: [run for run in runs_of(house, "cron") if run.state and run.state.is_scheduled()])
    assert found and all(run.next_scheduled_start_time for run in found)
    assert wait_for(lambda: [run for run in runs_of(house, "cron") if run.state and run.state.is_completed()])


@pytest.mark.parametrize("how", ["down", "kill"])
def test_a_run_that_its_worker_takes_along_is_marked(tmp_path, monkeypatch, how):
    monkeypatch.setattr("flows.lost_runs.YOUNG", timedelta(seconds=5))
    with living(tmp_path) as house:
        deploy(house, "long")
        with client(house) as asked:
            (deployment,) = asked.read_deployments()
            run = asked.create_flow_run_from_deployment(deployment.id, parameters={"seconds": 600})
        assert wait_for(lambda: runs_of(house, "long")[0].state.is_running())
        worker = psutil.Process(house.pid("worker"))
        processes = [worker, *worker.children(recursive=True)]
        if how == "down":
            house.down()
        else:
            for process in processes:
                process.kill()
        psutil.wait_procs(processes, timeout=30)
        assert not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        if how == "kill":
            # a younger run could be on its way from a worker to its process
            begun = runs_of(house, "long")[0].state.timestamp
            assert wait_for(lambda: datetime.now(UTC) - begun > timedelta(seconds=6))
        house.up()
        with client(house) as asked:
            assert asked.read_flow_run(run.id).state.is_crashed()
        assert [line for line in house.said if run.name in line and "it is marked as crashed" in line]


# --- kills, and the end -----------------------------------------------------------------------------------------------


def test_each_may_be_killed_and_one_command_mends_it_and_another_ends_all(tmp_path):
    with living(tmp_path) as house:
        for name in NAMES:
            others = {other: house.pid(other) for other in NAMES if other != name}
            psutil.Process(house.pid(name)).kill()
            port = getattr(merge({}, house.words).servers, f"{name}_port")
            assert wait_for(lambda port=port: is_free(port))
            assert [line.name for line in status(house.paths) if line.is_down] == [name]
            house.up()
            assert not [line.name for line in status(house.paths) if line.is_down]
            assert {other: house.pid(other) for other in others} == others
        begun = [psutil.Process(house.pid(name)) for name in NAMES]
        processes = [*begun, *(child for process in begun for child in process.children(recursive=True))]
        house.down()
        assert not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        assert all(is_free(port) for port in (merge({}, house.words).servers.prefect_port,))


def test_the_command_itself_prints_a_line_each_and_its_services_outlive_it(tmp_path):
    (tmp_path / "params.yaml").write_text("")
    words = [f"servers.{name}_port={free_port()}" for name in NAMES]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}

    def verb(*given):
        command = [sys.executable, "-m", "flows", *given]
        environment = {**kept, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    try:
        done = verb("up", *words)
        assert done.returncode == 0, done.stderr
        assert [line.split()[0] for line in done.stdout.splitlines()] == ["Prefect", "MLflow", "worker", "pipelines"]
        shown = verb("status")
        assert shown.returncode == 0 and shown.stdout.count(" up since ") == 3, shown.stdout
        psutil.Process(note_of(Paths(tmp_path), "mlflow").process.pid).kill()
        time.sleep(1)
        shown = verb("status")
        assert shown.returncode == 3 and "MLflow   down: it ended without a word" in shown.stdout
        assert shown.stderr == "contract: not well, though started: mlflow. To start what is down: make up\n"
    finally:
        ended = verb("down")
    assert ended.returncode == 0 and "Prefect's server is stopped" in ended.stdout
    assert verb("status").stdout == "Prefect  not started\nMLflow   not started\nworker   not started\n"


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with postgres_or_skip(tmp_path_factory.mktemp("postgres")) as database:
        yield database


def on_postgres(postgres):
    return tuple(f"servers.{name}={value}" for name, value in servers_on(postgres).items())


def test_both_servers_keep_their_tables_in_postgresql(postgres, tmp_path):
    with living(tmp_path, *on_postgres(postgres)) as house:
        assert [line.trouble for line in status(house.paths)] == ["", "", ""]
        deploy(house, "cron")
        assert wait_for(lambda: [run for run in runs_of(house, "cron") if run.state and run.state.is_scheduled()])
        assert ask(house.port("mlflow"), CREATE, method="POST", body=b'{"name": "kept"}', **AS_JSON)[0] == 200
        assert not (house.paths.store / "prefect" / "prefect.db").exists()
        house.down()
        house.up()
        found = json.loads(ask(house.port("mlflow"), f"{SEARCH}?max_results=9")[2])["experiments"]
        assert "kept" in {one["name"] for one in found}
        assert runs_of(house, "cron")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("ann@", "bob@"), "Say where its password is"),
        (("/prefect", "/nothing"), "Make the database: createdb -O ann nothing"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_before_anything_starts(postgres, tmp_path, change, said):
    words = [word.replace(*change) if word.startswith("servers.prefect_database") else word for word in on_postgres(postgres)]
    house = House(tmp_path, *words)
    with pytest.raises(StorageError, match=said):
        up(house.paths, merge({}, house.words), house.said.append)
    assert not any(note_of(house.paths, name) for name in NAMES)


def test_nothing_is_left_listening_beyond_this_machine(house):
    mine = {house.pid(name) for name in NAMES}
    mine |= {child.pid for pid in mine for child in psutil.Process(pid).children(recursive=True)}
    listening = [
        connection.laddr.ip
        for pid in mine
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN and connection.family == socket.AF_INET
    ]
    assert listening and set(listening) == {"127.0.0.1"}
