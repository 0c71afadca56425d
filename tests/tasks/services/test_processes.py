"""Processes in the background: how they start, whether they answer, and that nothing of them is left."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from posttrain.errors import StorageError
from tasks.services import processes
from tasks.services.processes import (
    end_with_descendants,
    flow_runs_below,
    flow_runs_here,
    is_free,
    is_hidden,
    last_line,
    memory_of,
    start,
    trouble_at,
    wait_until_well,
)
from tests.ports import free_port

RUN = "0c9c1a4e-0000-4000-8000-000000000001"


@contextmanager
def site(status: int, body: str, login: str = "") -> Iterator[str]:
    """Serve one answer to every request; the address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = f"Basic {login}" if login else None
            self.send_response(status if not login or self.headers.get("Authorization") == wanted else 401)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/health"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_answer_is_health_and_anything_else_is_told() -> None:
    with site(200, "OK") as address:
        assert trouble_at(address) == ""
        assert trouble_at(address, wants={"status": "READY"}).startswith("its answer is no JSON")
    with site(503, "no") as address:
        assert trouble_at(address) == "it answers 503 Service Unavailable"
    with site(200, json.dumps({"status": "NOT_READY"})) as address:
        assert trouble_at(address, wants={"status": "READY"}) == "status is NOT_READY"
        assert trouble_at(address, wants={"status": "NOT_READY"}) == ""
    with site(200, "[]") as address:
        assert trouble_at(address, wants={"status": "READY"}) == "its answer is no JSON object"
    assert "refused" in trouble_at(f"http://127.0.0.1:{free_port()}/health")


def test_the_password_is_sent_where_there_is_one() -> None:
    with site(200, "OK", login="YW5uOnMzY3JldA==") as address:  # base64 of ann:s3cret
        assert trouble_at(address) == "it answers 401 Unauthorized"
        assert trouble_at(address, login="ann:s3cret") == ""


def wait_for(condition: Callable[[], object], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def test_a_process_starts_in_a_session_of_its_own_and_writes_its_log(tmp_path: Path) -> None:
    log = tmp_path / "services" / "x.log"
    for word in ("one", "two"):
        environment = {**os.environ, "WORD": word}
        process = start(
            [sys.executable, "-c", "import os; print(os.environ['WORD'], os.getsid(0))"], environment=environment, log=log
        )
        assert process.wait() == 0
        assert log.read_text() == f"{word} {process.pid}\n"
    assert log.with_name("x.log.1").read_text().startswith("one ")
    assert last_line(log).startswith("two ") and last_line(tmp_path / "none") == ""
    log.write_text("why\n\n  \n")
    assert last_line(log) == "why"


def test_one_that_ends_before_it_is_well_is_quoted(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    process = start([sys.executable, "-c", "raise SystemExit('no luck')"], environment=os.environ, log=log)
    with pytest.raises(StorageError) as told:
        wait_until_well("The worker", "http://x/health", process, log=log, asked=lambda: "not yet")
    assert str(told.value) == f"The worker does not answer at http://x/health: no luck. See {log}, then run again"


def test_one_that_is_never_well_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LONGEST_START", 0.3)
    log = tmp_path / "x.log"
    process = start([sys.executable, "-c", "import time; time.sleep(60)"], environment=os.environ, log=log)
    with pytest.raises(StorageError, match="not yet"):
        wait_until_well("The worker", "http://x/health", process, log=log, asked=lambda: "not yet")
    process.kill()
    process.wait()


CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('there', flush=True); time.sleep(60)"
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {CHILD!r}]); time.sleep(60)"


def test_what_a_process_started_ends_with_it_even_where_it_ignores_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LONGEST_END", 0.5)
    log = tmp_path / "x.log"
    process = start([sys.executable, "-c", PARENT], environment={**os.environ, processes.FLOW_RUN: RUN}, log=log)
    wait_for(lambda: log.read_text() == "there\n")
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 1
    assert flow_runs_below(process.pid) == {RUN}, "the child has it from its parent"
    assert RUN in flow_runs_here() and not is_hidden(process.pid)
    assert memory_of(process.pid) > memory_of(children[0].pid) > 0
    end_with_descendants(process.pid)
    process.wait()
    wait_for(lambda: not children[0].is_running() or children[0].status() == psutil.STATUS_ZOMBIE)
    assert flow_runs_below(process.pid) == set() and memory_of(process.pid) == 0
    end_with_descendants(process.pid)


def test_a_port_is_free_until_somebody_listens() -> None:
    with site(200, "OK") as address:
        port = int(address.split(":")[2].split("/")[0])
        assert not is_free(port)
    assert is_free(port)


def test_a_service_hears_what_we_catch(tmp_path: Path) -> None:
    """A handler of ours is not inherited; what is ignored would be, and a service could then not be stopped."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        log = tmp_path / "x.log"
        code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
        assert start([sys.executable, "-c", code], environment=os.environ, log=log).wait() == 0
        assert log.read_text() == "True\n"
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_process_of_nobody_is_not_hidden() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not is_hidden(gone.pid)
