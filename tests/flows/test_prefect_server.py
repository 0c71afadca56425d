"""How those who only read ask a server of Prefect: password, token, a busy server, a refusal; and without importing Prefect."""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from flows import prefect_server as subject
from flows.prefect_server import Server, State, Worker, online

ROOT = Path(__file__).resolve().parents[2]


class Answering:
    """A server at a free port: what it answers, by path, the first first; and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.token = True
        asked_of = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                code, told = asked_of.answer(self.command, self.path, dict(self.headers), json.loads(body) if body else None)
                content = json.dumps(told).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.api = f"http://127.0.0.1:{self.server.server_port}/api"

    def answer(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        if path.startswith("/api/csrf-token"):
            return (200, {"token": f"for {path.partition('=')[2]}"}) if self.token else (422, {"detail": "disabled"})
        self.asked.append((method, path, headers, body))
        known = self.answers.get(path, [])
        return known.pop(0) if known else (404, {"detail": "Not found"})


@pytest.fixture
def answering() -> Iterator[Answering]:
    made = Answering()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.server.server_close()


def test_what_only_asks_has_the_token_and_the_password(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:s3:cret")
    answering.answers["/api/flow_runs/filter"] = [(200, [])]
    with Server(answering.api) as server:
        server.read_flow_runs(limit=3, pool="posttrain", states=["RUNNING"], deployment=UUID(int=7), sort="END_TIME_DESC")
        server.read_deployment(UUID(int=8))
    (method, _, headers, body), (second, path, plain, _) = answering.asked
    assert method == "POST" and body == {
        "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}},
        "deployments": {"id": {"any_": [str(UUID(int=7))]}},
        "work_pools": {"name": {"any_": ["posttrain"]}},
        "sort": "END_TIME_DESC",
        "limit": 3,
    }
    assert headers["Authorization"] == f"Basic {base64.b64encode(b'ann:s3:cret').decode()}" == plain["Authorization"]
    assert headers["Prefect-Csrf-Token"] == f"for {headers['Prefect-Csrf-Client']}"
    assert (second, path) == ("GET", f"/api/deployments/{UUID(int=8)}") and "Prefect-Csrf-Token" not in plain


def test_a_server_without_a_token_or_a_password(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    answering.token = False
    answering.answers["/api/deployments/filter"] = [(200, [])]
    with Server(answering.api) as server:
        assert server.read_deployments(tag="ours") == []
    ((_, _, headers, body),) = answering.asked
    assert body == {"deployments": {"tags": {"all_": ["ours"]}}}
    assert "Authorization" not in headers and "Prefect-Csrf-Token" not in headers


def test_what_is_not_there_is_none_and_not_an_error(answering: Answering) -> None:
    with Server(answering.api) as server:
        assert server.read_deployment(UUID(int=1)) is None and server.read_flow_run(UUID(int=1)) is None
        assert server.read_workers("posttrain") is None and server.is_paused("posttrain") is False


def test_a_busy_server_is_asked_again_and_not_for_ever(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(subject.time, "sleep", waited.append)
    path = "/api/work_pools/posttrain/workers/filter"
    answering.answers[path] = [(503, {}), (200, [{"status": "ONLINE", "last_heartbeat_time": None}])]
    with Server(answering.api) as server:
        assert server.read_workers("posttrain") == [Worker("ONLINE", None)] and waited == [0.5]
        answering.answers[path] = [(503, {"detail": "locked"})] * 4
        with pytest.raises(httpx.HTTPStatusError) as error:
            server.read_workers("posttrain")
    assert str(error.value) == f'POST {path}: 503 Service Unavailable: {{"detail": "locked"}}' and waited == [0.5, 0.5, 2.0]


def test_a_refusal_is_told_with_what_was_asked(answering: Answering) -> None:
    answering.answers["/api/flow_runs/filter"] = [(401, {"exception_message": "Unauthorized"})]
    with (
        Server(answering.api) as server,
        pytest.raises(httpx.HTTPStatusError, match=r"^POST /api/flow_runs/filter: 401 Unauthor"),
    ):
        server.read_flow_runs(limit=1)
    assert len(answering.asked) == 1, "only a busy one is asked again"


def test_a_run_that_has_ended_and_one_that_has_not() -> None:
    def state(name: str) -> State:
        return State(name, name.title(), "", subject.datetime.now(subject.datetime.now().astimezone().tzinfo))

    final = {name for name in subject.STATES if state(name).is_final()}
    assert final == {"COMPLETED", "CANCELLED", "FAILED", "CRASHED"} and set(subject.OPEN) == {"RUNNING", "PENDING", "CANCELLING"}


def test_the_states_are_those_of_prefect() -> None:
    from prefect.client.schemas.objects import TERMINAL_STATES, StateType

    assert set(subject.STATES) == {kind.value for kind in StateType}
    assert set(subject.FINAL) == {kind.value for kind in TERMINAL_STATES}


def test_a_worker_that_is_there() -> None:
    assert online([Worker("OFFLINE", None), Worker("ONLINE", None)])
    assert not online([Worker("OFFLINE", None)]) and not online([]) and not online(None)


def test_the_list_of_schedules_imports_neither_prefect_nor_numpy(answering: Answering, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    answering.answers["/api/health"] = [(200, True)]
    answering.answers["/api/deployments/filter"] = [(200, [])]
    script = (
        "import sys; from pathlib import Path; from flows.__main__ import run_schedule; from tasks.workspace.paths import Paths\n"
        "run_schedule(Paths(Path.cwd()), []); print(sorted({'prefect', 'numpy', 'mlflow', 'torch'} & set(sys.modules)))"
    )
    told = {"PREFECT_API_URL": answering.api, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]" and done.stdout.startswith("there is no schedule yet")
