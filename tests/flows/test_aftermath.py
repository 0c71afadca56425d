"""What the next command does of a run that was killed: marked in both ledgers, said once, and nothing else touched."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from flows import aftermath as subject
from flows.aftermath import settle, untagged
from posttrain.errors import StorageError
from tasks.tracking.killed_runs import KilledRun
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process, folder_of

REPOSITORY = Path(__file__).parents[2]
WHY = "the process ended without a word (kill -9, out of memory, or a power cut)"


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A repository's root; what is set in the environment is undone."""
    before = dict(os.environ)
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_LOCAL_STORAGE_PATH", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()
    yield Paths(tmp_path)
    os.environ.clear()
    os.environ.update(before)


def note_of_a_dead_process(paths, **facts):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder_of(paths).mkdir(parents=True, exist_ok=True)
    process = Process.current()
    file = folder_of(paths) / f"{gone.pid}-{process.started}-{process.boot}.json"
    file.write_text(json.dumps({"host": socket.gethostname(), **facts}))
    return file


def test_where_nothing_was_killed_no_library_is_loaded(paths):
    script = (
        "import sys; from pathlib import Path; from tasks.workspace.paths import Paths; from flows.aftermath import settle\n"
        "settle(Paths(Path.cwd()), print); print(sorted({'prefect', 'mlflow', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=paths.root, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True
    )
    assert done.stdout == b"[]\n", done.stderr


def test_a_process_that_was_killed_before_it_had_anything_open_is_forgotten(paths):
    file = note_of_a_dead_process(paths)
    settle(paths, pytest.fail)
    assert not file.exists()


@pytest.mark.parametrize("error", [StorageError("MLflow's database is damaged. Do this"), ConnectionError("no answer")])
def test_what_cannot_be_marked_now_is_told_and_left_for_the_next_command(paths, monkeypatch, error):
    def fails(*_):
        raise error

    file = note_of_a_dead_process(paths)
    said = []
    with monkeypatch.context() as patch:
        patch.setattr(subject, "_in_prefect", fails)
        settle(paths, said.append)
    assert file.exists()
    (line,) = said
    assert line.startswith("note: a run that was killed cannot be marked yet: ") and str(error) in line
    settle(paths, pytest.fail)
    assert not file.exists()


def test_of_a_killed_comparison_one_command_is_told(paths, monkeypatch):
    def killed(kind, name, comparison_id):
        command = f"make {name}" if kind != "stage" else ""
        return KilledRun(
            run_id=name, name=name, kind=kind, pipeline_id="", comparison_id=comparison_id, command=command, error="gone"
        )

    # comparison c with two pipelines and a stage; a pipeline of a comparison that lives or told its end; one of none
    runs = [killed("pipeline", "one", "c"), killed("stage", "sft", ""), killed("comparison", "compare", "c")]
    runs += [killed("pipeline", "two", "c"), killed("pipeline", "three", "d"), killed("pipeline", "four", "")]
    note_of_a_dead_process(paths)
    monkeypatch.setattr(subject, "_in_mlflow", lambda *_: runs)
    said = []
    settle(paths, said.append)
    assert said == [f"{name} ended before: gone. To go on: make {name}" for name in ("compare", "three", "four")]


def test_of_a_killed_retraining_and_its_pipeline_one_command_is_told(paths, monkeypatch):
    def run(name, kind, command="make retrain METHOD=dpo DATA=mine"):
        facts = {"run_id": name, "pipeline_id": "", "comparison_id": "", "error": "killed"}
        return KilledRun(name=name, kind=kind, command=command, **facts)

    runs = [run("dpo mine seed 0", "pipeline"), run("retraining mine", "retraining"), run("sft", "pipeline", "make pipeline")]
    monkeypatch.setattr(subject, "_in_mlflow", lambda *_: runs)
    note_of_a_dead_process(paths, in_prefect=False)
    said = []
    settle(paths, said.append)
    assert said == [
        "dpo mine seed 0 ended before: killed. To go on: make retrain METHOD=dpo DATA=mine",
        "sft ended before: killed. To go on: make pipeline",
    ]


def test_every_verb_settles_first_and_goes_on_whatever_comes_of_it(paths, monkeypatch):
    from flows import __main__ as verbs

    order = []
    note_of_a_dead_process(paths)
    monkeypatch.setattr(subject, "settle", lambda *_: order.append("settle"))
    for verb in verbs.VERBS:
        # the first three settle beside the server that they start; the doctor tells what it finds, and mends it if asked
        if verb not in ("pipeline", "compare", "retrain", "doctor"):
            monkeypatch.setitem(verbs.VERBS, verb, lambda *_, verb=verb: order.append(verb))
            assert verbs.main([verb]) == 0
            assert order[-2:] == ["settle", verb]


def test_a_flow_is_tagged_and_its_tasks_are_not(paths):
    from prefect import tags
    from prefect.context import TagsContext

    def seen(number):
        return number, set(TagsContext.get().current_tags)

    with tags("process-1"):
        assert seen(1) == (1, {"process-1"})
        assert untagged(seen)(2) == (2, set())
        assert seen(3) == (3, {"process-1"})


RUN = """
import sys, time
from pathlib import Path
from flows.environment import prepare
from tasks.workspace.paths import Paths
paths = Paths(Path.cwd())
prepare(paths, is_tiny=True)
from posttrain.settings.config import Config
from flows.aftermath import accountable, untagged
from flows.server import starting_server
with starting_server(paths):
    from prefect import flow, task
    from tasks.tracking.ledger import Ledger
config = Config(method="sft")

@task
def stage():
    Path("at work").touch()
    time.sleep(float(sys.argv[1]))

@flow(name="pipeline")
@untagged
def pipeline(command):
    ledger = Ledger.open(paths, config.tracking)
    facts = dict(dataset="world", data_md5="d", files_md5={}, git_commit="g", flow_run_id="f", pipeline_id="p1")
    run_id = ledger.start_pipeline(config, command=command, **facts)
    Path("reports").mkdir(exist_ok=True)
    Path("reports/p1.md").touch()
    ledger.start_stage(run_id, "sft", key="k", settings={})
    stage()

with accountable(paths, config, ["method=sft", "seed=3"]) as command:
    pipeline(command)
"""


def states(paths):
    with closing(sqlite3.connect(paths.store / "prefect" / "prefect.db", timeout=30)) as opened:
        found = [opened.execute(f"SELECT state_type FROM {table}").fetchall() for table in ("flow_run", "task_run")]
    with closing(sqlite3.connect(paths.ledger / "mlflow.db", timeout=30)) as opened:
        return [*found, opened.execute("SELECT status FROM runs").fetchall()]


@pytest.mark.slow
def test_a_killed_pipeline_is_marked_in_mlflow_and_in_prefect_by_whatever_comes_next(paths):
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "300"],
        cwd=paths.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    open_runs = [[("RUNNING",)], [("RUNNING",)], [("RUNNING",)] * 2]
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        # Prefect tells its server of a task in batches, so the task is at work before the server knows
        if (paths.root / "at work").exists() and states(paths) == open_runs:
            break
        time.sleep(0.05)
    said = []
    settle(paths, said.append)
    assert said == [] and states(paths)[2] == [("RUNNING",)] * 2, "it lives"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert states(paths) == open_runs

    settle(paths, said.append)
    assert said == [
        f'sft world seed 0 ended before: {WHY}; finished stages are kept. To go on: make pipeline METHOD=sft SET="seed=3"'
    ]
    assert states(paths) == [[("CRASHED",)], [("CRASHED",)], [("KILLED",)] * 2]
    assert list((paths.root / "reports").iterdir()) == [], "half a report"
    assert list(folder_of(paths).iterdir()) == []
    assert "PREFECT_API_URL" not in os.environ, "the server was there for the moment"
    settle(paths, pytest.fail)
