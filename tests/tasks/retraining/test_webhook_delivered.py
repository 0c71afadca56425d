"""A promotion on a real server of MLflow calls the webhook, and whoever is called can tell by the secret that it was MLflow."""

import base64
import hashlib
import hmac
import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from posttrain.promotion.moves import promotion
from posttrain.settings.evaluation import TrackingSettings
from tasks.promotion.moves import Reason, alone, carry_out
from tasks.retraining.webhooks import put_webhook
from tasks.services.processes import wait_until_well
from tasks.services.webhook_key import key_environment
from tasks.tracking.ledger import Ledger
from tasks.tracking.server import server_command, server_environment
from tests.ports import free_port
from tests.tasks.promotion.versions import NAME, answered, pipeline

pytestmark = pytest.mark.slow
SECRET = "hush"
LONGEST = 60.0
"""Seconds until a call must have come: MLflow makes it in a thread, at once."""
TO_US = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true", "MLFLOW_WEBHOOK_CACHE_TTL": "1"}
"""What a server of MLflow must be told that is to call this machine."""


class Receiver:
    """Whoever is called: what came, as headers and bytes."""

    def __init__(self) -> None:
        self.calls: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        calls = self.calls

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                calls.put((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/hook"

    def next(self) -> tuple[dict[str, str], bytes]:
        return self.calls.get(timeout=LONGEST)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.server.server_close()


@contextmanager
def served(ledger: Ledger, tmp_path: Path) -> Iterator[Ledger]:
    """The ledger behind a server, started as `make up` starts it."""
    port = free_port()
    environment = {**server_environment(ledger.paths, port), **key_environment(ledger.paths), **TO_US}
    log = tmp_path / "mlflow.log"
    with log.open("ab") as output:
        process = subprocess.Popen(server_command(port), env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until_well("MLflow's server", f"http://127.0.0.1:{port}/health", process, log=log)
        yield Ledger.open(ledger.paths, TrackingSettings(uri=f"http://127.0.0.1:{port}"))
    finally:
        process.terminate()
        process.wait()


def signature(secret: str, headers: dict[str, str], body: bytes) -> str:
    """Return what a receiver works out by itself, as MLflow documents it."""
    told = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(secret.encode(), told, hashlib.sha256).digest()).decode()}"


def promote(ledger: Ledger, version: str) -> None:
    with alone(ledger, NAME, say=lambda line: None) as now:
        reason = Reason(why="nightly", decision="better", record={}, gate="it is better", actor="ann@here")
        carry_out(ledger, NAME, promotion(now, version), reason)


def test_a_promotion_is_delivered_with_a_valid_signature_also_by_the_next_server(
    ledger: Ledger, receiver: Receiver, tmp_path: Path
) -> None:
    pipeline(ledger, tmp_path, 1.0, answered(20))
    pipeline(ledger, tmp_path, 2.0, answered(30))
    with served(ledger, tmp_path) as remote:
        put_webhook(remote, receiver.address, SECRET)
        promote(remote, "1")
        headers, body = receiver.next()
    told = json.loads(body)
    assert (told["entity"], told["action"]) == ("model_version_alias", "created")
    assert told["data"] == {"name": NAME, "alias": "champion", "version": "1"}
    assert headers["X-MLflow-Signature"] == signature(SECRET, headers, body)
    assert headers["X-MLflow-Signature"] != signature("hash", headers, body), "by another secret it is another one"

    # the secret lies encrypted in the database, and the key in this folder: the next server signs with the same
    with served(ledger, tmp_path) as remote:
        promote(remote, "2")
        calls = [receiver.next() for _ in range(2)]
    assert all(headers["X-MLflow-Signature"] == signature(SECRET, headers, body) for headers, body in calls)
    moved = {
        (call["action"], call["data"]["alias"], call["data"].get("version")) for call in (json.loads(body) for _, body in calls)
    }
    assert ("created", "champion", "2") in moved
