"""Foreign pages in front of real servers: another origin, DNS rebinding, a web socket, and our own page that must still work."""

import asyncio
import http.client
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.environment import prepare
from flows.guard import LOOKS, look_less_often
from flows.services import down, up
from posttrain.settings.config import merge
from posttrain.settings.evaluation import TrackingSettings
from tasks.services.notes import PREFECT, running
from tasks.tracking.ledger import Ledger
from tasks.tracking.server import server_command, server_environment
from tasks.workspace.paths import Paths
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
EVIL = "http://evil.example"


def ask(port, path, *, method="GET", body=None, **headers):
    """Send one request as a browser would; return its status, its headers and its text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in given)
    for name, value in (given | ({"Content-Length": str(len(body))} if body is not None else {})).items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read().decode()
    connection.close()
    return found


@contextmanager
def lasting(paths):
    up(paths, merge({}, [f"servers.prefect_port={free_port()}"]), print, names=[PREFECT])
    try:
        yield running(paths, PREFECT).port
    finally:
        down(paths, print)


PIPELINE = """
import os
from pathlib import Path
from flows.server import starting_server
from tasks.workspace.paths import Paths
with starting_server(Paths(Path.cwd())):
    pass
print(os.environ["PREFECT_API_URL"], flush=True)
input()
"""


@contextmanager
def ephemeral(paths):
    """Start the server of a pipeline, from a process that ends with it."""
    process = subprocess.Popen(
        [sys.executable, "-c", PIPELINE],
        cwd=paths.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield int(process.stdout.readline().strip().removesuffix("/api").rpartition(":")[2])
    process.communicate("\n")


@pytest.fixture
def paths(tmp_path, monkeypatch):
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    os.environ["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] = "false"  # not even if somebody's environment opens it
    os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] = "*"
    prepare(Paths(tmp_path), is_tiny=True)
    yield Paths(tmp_path)
    os.environ.clear()
    os.environ.update(before)


FILTER = "/api/flow_runs/filter"
AS_JSON = {"Content_Type": "application/json"}


@pytest.mark.slow
@pytest.mark.parametrize("server", [lasting, ephemeral])
def test_prefect_answers_its_own_page_and_no_foreign_one(paths, server):
    with server(paths) as port:
        own, rebound = f"http://127.0.0.1:{port}", {"Host": f"evil.example:{port}"}

        # a foreign page reads nothing, and writes nothing, whatever name it came by
        for foreign in ({"Origin": EVIL}, {"Origin": "null"}, rebound, {**rebound, "Origin": f"http://evil.example:{port}"}):
            assert ask(port, "/api/admin/version", **foreign)[0] == 403
            assert ask(port, "/api/csrf-token?client=x", **foreign)[0] == 403
            assert ask(port, FILTER, method="POST", body=b"{}", Content_Type="text/plain", **foreign)[0] == 403
            assert ask(port, FILTER, method="OPTIONS", Access_Control_Request_Method="POST", **foreign)[0] == 403
            assert "access-control-allow-origin" not in ask(port, "/api/health", **foreign)[1]

        # nor does a web socket
        socket_headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Key": "x3JJHMbDL1EzLkh9GBhXDw==",
        }
        assert ask(port, "/api/events/out", **socket_headers, Origin=EVIL)[0] == 403
        assert ask(port, "/api/events/out", **socket_headers, **rebound)[0] == 403

        # our own page reads, and writes with its token only
        assert ask(port, "/api/admin/version", Origin=own)[0] == 200
        assert ask(port, FILTER, method="POST", body=b"{}", **AS_JSON, Origin=own)[0] == 403
        token = json.loads(ask(port, "/api/csrf-token?client=page", Origin=own)[2])["token"]
        with_token = {"Prefect_Csrf_Token": token, "Prefect_Csrf_Client": "page", **AS_JSON}
        assert ask(port, FILTER, method="POST", body=b"{}", **with_token, Origin=own)[::2] == (200, "[]")
        assert ask(port, FILTER, method="POST", body=b"{}", **{**with_token, "Prefect_Csrf_Client": "other"})[0] == 403

        # the page may have been opened by this machine's other name, and calls 127.0.0.1 from there
        named = f"http://localhost:{port}"
        preflight = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "prefect-csrf-token"}
        assert ask(port, FILTER, method="OPTIONS", Origin=named, **preflight)[0] == 200
        assert ask(port, FILTER, method="POST", body=b"{}", Origin=named, **with_token)[1]["access-control-allow-origin"] == named

        if server is lasting:
            told = json.loads(ask(port, "/ui-settings")[2])
            assert (told["api_url"], told["csrf_enabled"]) == (f"{own}/api", True)
            assert ask(port, "/", Accept="text/html")[0] in (200, 307)
        runs_a_flow(port)


FLOW = """
from prefect import flow, task
@task
def part(): return 20
@flow
def whole(): return part() + 1
print(whole())
"""


def runs_a_flow(port):
    """Run a flow as a program does, by Prefect's own client, which asks for its token by itself."""
    done = subprocess.run(
        [sys.executable, "-c", FLOW],
        env={**os.environ, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "21\n"), done.stderr


SEARCH = "/api/2.0/mlflow/experiments/search"
CREATE = "/api/2.0/mlflow/experiments/create"


@pytest.fixture
def mlflow_port(paths, monkeypatch):
    """A real MLflow server, started as `make ui` does by somebody whose environment would open it."""
    monkeypatch.setenv("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "true")
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "*")
    monkeypatch.setenv("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "*")
    Ledger.open(paths, TrackingSettings())
    port = free_port()
    process = subprocess.Popen(
        server_command(port),
        env=server_environment(paths, port),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert any("Uvicorn running on" in line for line in process.stdout)
    yield port
    os.killpg(process.pid, 15)
    process.communicate()


@pytest.mark.slow
def test_mlflow_answers_its_own_page_and_no_foreign_one(mlflow_port):
    port = mlflow_port
    for host in ("evil.example", f"evil.example:{port}", f"10.evil.example:{port}", f"192.168.evil.example:{port}"):
        for path in ("/", f"{SEARCH}?max_results=1", "/graphql"):
            assert ask(port, path, Host=host)[0] == 403
    for origin in (EVIL, "null", "https://127.0.0.1.evil.example", "http://127.0.0.1:8888"):
        query = b'{"query": "{ __typename }"}'  # MLflow's own check leaves this path out
        assert ask(port, "/graphql", method="POST", body=query, **AS_JSON, Origin=origin)[0] == 403
        headers = ask(port, f"{SEARCH}?max_results=1", Origin=origin)[1]
        assert "access-control-allow-origin" not in headers, "a page of another origin cannot read it"
        assert ask(port, CREATE, method="POST", body=b'{"name": "x"}', **AS_JSON, Origin=origin)[0] == 403
        assert ask(port, CREATE, method="POST", body=b'{"name": "x"}', Content_Type="text/plain", Origin=origin)[0] == 403
    own = {"Origin": f"http://127.0.0.1:{port}", **AS_JSON}
    assert ask(port, "/", **own)[0] == 200
    assert ask(port, CREATE, method="POST", body=b'{"name": "x"}', **own)[0] == 200
    found = {one["name"] for one in json.loads(ask(port, f"{SEARCH}?max_results=9", **own)[2])["experiments"]}
    assert found == {"x", "posttrain", "Default"}
    assert ask(port, "/graphql", method="POST", body=query, **own)[0] != 403


@pytest.fixture
def _patient(monkeypatch):
    from burner_redis.pubsub import PubSub
    from prefect.server.api import background_workers

    monkeypatch.setattr(background_workers, "Worker", background_workers.Worker)
    monkeypatch.setattr(PubSub, "get_message", PubSub.get_message)
    look_less_often()


@pytest.mark.usefixtures("_patient")
def test_an_idle_server_looks_for_background_work_every_two_seconds():
    from docket import Docket
    from prefect.server.api import background_workers

    worker = background_workers.Worker(Docket(name="prefect", url="memory://"))
    assert (worker.minimum_check_interval, worker.scheduling_resolution) == (LOOKS, LOOKS)
    assert LOOKS.total_seconds() == 2.0


@pytest.mark.usefixtures("_patient")
def test_an_idle_server_listens_for_cancellations_as_seldom_and_hears_what_was_said_meanwhile(monkeypatch):
    from burner_redis import BurnerRedis

    waits: list[float] = []

    async def hear() -> list:
        client = BurnerRedis()
        pubsub = client.pubsub()
        await pubsub.psubscribe("cancel:*")
        assert (await pubsub.get_message(timeout=None))["type"] == "psubscribe", "who waits for ever waits as before"
        assert await pubsub.get_message(timeout=0.0) is None
        assert not waits, "who does not want to wait does not"

        async def say_meanwhile(seconds: float) -> None:
            waits.append(seconds)
            await client.publish("cancel:1", b"one")
            for _ in range(3000):  # the message is on its way through a thread of the package
                if not pubsub._queue.empty():
                    return
                await sleep(0.01)

        sleep = asyncio.sleep
        monkeypatch.setattr("flows.guard.asyncio.sleep", say_meanwhile)
        heard = await pubsub.get_message(timeout=0.1)
        await pubsub.aclose()
        return [heard["type"], heard["data"], heard["channel"]]

    assert asyncio.run(hear()) == ["pmessage", b"one", b"cancel:1"]
    assert waits == [2.0]
