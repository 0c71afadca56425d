"""A version behind a server: what is refused before it starts, and a real one that is asked by the line that was printed."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows import serve_model as subject
from flows.serve_model import choose_port, request_of, serve, server_command
from posttrain.errors import ContractError, RequestError
from posttrain.settings.config import Config
from posttrain.settings.evaluation import TrackingSettings
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths
from tests.flows.real_versions import real_version
from tests.ports import free_port
from tests.tasks.promotion.versions import NAME, answered, pipeline

ROOT = Path(__file__).resolve().parents[2]
NO_SERVER = [package for package in subject.NEEDED if importlib.util.find_spec(package) is None]


@pytest.fixture
def ledger(empty_store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(empty_store, tmp_path / "repo")
    return Ledger.open(Paths(tmp_path / "repo"), TrackingSettings())


def test_a_port_that_is_taken_is_refused_or_passed_over(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(RequestError, match=f"port {taken} must be free for the model's server"):
            choose_port(taken)
        monkeypatch.setattr(subject, "FIRST_PORT", taken)
        monkeypatch.setattr(subject, "PORTS_TRIED", 1)
        with pytest.raises(RequestError, match="other programs listen at all of them"):
            choose_port(None)
        monkeypatch.setattr(subject, "PORTS_TRIED", 20)
        assert taken < choose_port(None) < taken + 20


def test_the_server_listens_on_this_machine_alone(tmp_path, monkeypatch):
    command = server_command(tmp_path, 8123, is_there=lambda package: package != "vllm")
    assert command[command.index("--host") + 1] == "127.0.0.1" and command[command.index("--port") + 1] == "8123"
    assert "trust" not in " ".join(command)
    monkeypatch.setattr(subject, "_has_gpu", lambda: True)
    assert subject.command_name(server_command(tmp_path, 8123, is_there=lambda package: True)) == "vllm serve"
    monkeypatch.setattr(subject, "_has_gpu", lambda: False)
    assert subject.command_name(server_command(tmp_path, 8123, is_there=lambda package: True)) == "transformers serve"


def test_where_no_server_is_installed_a_sentence_says_what_to_install(tmp_path):
    with pytest.raises(RequestError) as refused:
        server_command(tmp_path, 8123, is_there=lambda package: package not in ("vllm", "uvicorn"))
    assert str(refused.value).startswith("no server can run here: transformers serve lacks uvicorn. Install: ")


def test_without_a_champion_a_version_is_named(ledger, tmp_path):
    pipeline(ledger, tmp_path, 1.0, answered(30))
    (tmp_path / "repo" / "reports").mkdir()
    told = {"pipeline_id": "p", "method": "dpo", "dataset": "world", "created": "2026", "stages": []}
    (tmp_path / "repo" / "reports" / "p.json").write_text(json.dumps(told))
    with pytest.raises(RequestError, match="there is no champion to serve"):
        serve(ledger.paths, Config(), print, version="", port=None)


def test_a_server_that_ends_by_itself_is_told_with_its_last_line(ledger, tmp_path, monkeypatch):
    pipeline(ledger, tmp_path, 1.0, answered(30))
    program = "import sys; print('starting'); print('no memory'); sys.exit(4)"
    monkeypatch.setattr(subject, "server_command", lambda *_: [sys.executable, "-c", program])
    monkeypatch.setattr(subject, "wait_until_well", lambda *_, **__: None)
    with pytest.raises(ContractError, match="the model's server ended by itself with 4: no memory"):
        serve(ledger.paths, Config(), print, version="1", port=free_port())


def test_the_line_that_is_printed_is_one_of_a_shell():
    line = request_of("http://127.0.0.1:1", Path("/it's/here"))
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert json.loads(words[-1])["model"] == "/it's/here" and words[1] == "http://127.0.0.1:1/v1/chat/completions"


@pytest.mark.slow
@pytest.mark.skipif(bool(NO_SERVER), reason=f"transformers serve needs {NO_SERVER}")
@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed line is one of curl, which is not here")
def test_a_real_server_answers_the_printed_line_and_is_gone_after_ctrl_c(ledger, tiny_world, tmp_path):
    real_version(ledger, tiny_world.base / "model", tiny_world.data, context=128)
    (tmp_path / "repo" / "params.yaml").write_text("{}\n")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "serve", "VERSION=1", f"PORT={port}"],
        cwd=tmp_path / "repo",
        env=environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        told, line = process.stdout.readline(), process.stdout.readline()
        assert told.startswith(f"version 1 of {NAME} answers at http://127.0.0.1:{port}/v1 (transformers serve"), (
            told + process.stderr.read()
        )
        answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=400, check=True).stdout
        assert json.loads(answer)["choices"][0]["message"]["role"] == "assistant"
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
        _, err = process.communicate(timeout=400)
        assert process.returncode == 0 and "Traceback" not in err, err
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
