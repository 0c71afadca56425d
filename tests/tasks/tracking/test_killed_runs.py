"""What killed processes left in MLflow is marked with what to do; what others are still at is left alone."""

import fcntl
import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.tracking.killed_runs import VERSION_TAG, close_killed, settle_model, sweep_models
from tasks.tracking.ledger import Ledger
from tasks.workspace.presence import Process, folder_of
from tests.tasks.tracking.test_ledger import KEY, _quiet, ledger, start

__all__ = ["_quiet", "ledger"]

WHY = "the process ended without a word (kill -9, out of memory, or a power cut)"


@pytest.fixture
def dead() -> Process:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return replace(Process.current(), pid=gone.pid)


def give_to(ledger: Ledger, run_id: str, process: Process, host: str | None = None) -> str:
    ledger.client.set_tag(run_id, "posttrain.process", process.name)
    ledger.client.set_tag(run_id, "posttrain.host", host or process.host)
    return run_id


def test_only_what_a_dead_process_of_this_machine_left_is_closed(ledger: Ledger, dead: Process) -> None:
    mine = start(ledger)
    left, elsewhere, finished = (give_to(ledger, start(ledger), dead) for _ in range(3))
    reused = give_to(ledger, start(ledger), replace(Process.current(), started=1))
    give_to(ledger, elsewhere, dead, host=f"not-{socket.gethostname()}")
    nameless = start(ledger)
    ledger.client.set_tag(nameless, "posttrain.process", "")
    ledger.finish_pipeline(finished, metrics={})
    assert {run.run_id for run in close_killed(ledger)} == {left, reused}
    runs = (mine, left, reused, elsewhere, finished, nameless)
    statuses = [ledger.client.get_run(run_id).info.status for run_id in runs]
    assert statuses == ["RUNNING", "KILLED", "KILLED", "RUNNING", "FINISHED", "RUNNING"]
    assert close_killed(ledger) == []


def test_a_process_that_holds_its_note_is_at_work_whatever_its_id_says(ledger: Ledger, dead: Process) -> None:
    """It is in another container, where ids are others."""
    run_id = give_to(ledger, start(ledger), dead)
    folder_of(ledger.paths).mkdir(parents=True)
    note = folder_of(ledger.paths) / f"{dead.name}.json"
    note.write_text(json.dumps({"host": dead.host}))
    with note.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        assert close_killed(ledger) == []
    assert [run.run_id for run in close_killed(ledger)] == [run_id]


def test_the_page_of_a_killed_run_begins_with_what_happened_and_what_to_do(ledger: Ledger, dead: Process) -> None:
    run_id = give_to(ledger, start(ledger), dead)
    stage = give_to(ledger, ledger.start_stage(run_id, "ppo", key=KEY, settings={}).run_id, dead)
    checkpoint = ledger.paths.checkpoints / "ppo" / KEY / "step-00000010.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    closed = {run.run_id: run for run in close_killed(ledger)}
    error = f"{WHY}; finished stages are kept, checkpoint 10 of ppo is there"
    tags = ledger.client.get_run(run_id).data.tags
    assert tags["posttrain.error"] == error == closed[run_id].error
    assert tags["mlflow.note.content"].startswith(
        f"**Killed:** {error}\n\n**To go on** from the last finished stage: `make pipeline METHOD=dpo`\n\nPost-training `tiny`"
    )
    assert "reports/" not in tags["mlflow.note.content"]
    assert (closed[run_id].kind, closed[run_id].command) == ("pipeline", "make pipeline METHOD=dpo")
    assert ledger.client.get_run(stage).data.tags["mlflow.note.content"] == f"**Killed:** {WHY}"
    assert (closed[stage].kind, closed[stage].command) == ("stage", "")


def model_of(ledger: Ledger, run_id: str, *, version: bool = False, ready: bool = False) -> str:
    """Log a model as far as a registration got before it was killed."""
    client = ledger.client
    model = client.create_logged_model(
        ledger.experiment_id, name="posttrain-world", source_run_id=run_id, tags={VERSION_TAG: "none"}
    )
    folder = Path(model.artifact_location)
    for place in (folder, folder.with_name(".artifacts.1-1-ffffffff.new")):
        place.mkdir(parents=True)
        (place / "model.safetensors").write_bytes(b"half")
    if version:
        if not client.search_registered_models():
            client.create_registered_model("posttrain-world")
        with ledger.as_default_store():
            client.create_model_version("posttrain-world", f"models:/{model.model_id}", model_id=model.model_id)
    if ready:
        settle_model(ledger, model.model_id)
    return str(model.model_id)


def test_models_without_a_version_go_with_their_files(ledger: Ledger) -> None:
    at_work, ended = start(ledger), start(ledger)
    ledger.fail_pipeline(ended, "interrupted", status="KILLED")
    orphan, wanted = model_of(ledger, ended), model_of(ledger, at_work)
    whole, unfinished = model_of(ledger, ended, version=True, ready=True), model_of(ledger, ended, version=True)
    assert sweep_models(ledger) == [orphan]
    found = {model.model_id: model for model in ledger.client.search_logged_models([ledger.experiment_id])}
    assert found.keys() == {wanted, whole, unfinished}
    assert found[unfinished].status == "READY", "its version stands"
    models = ledger.paths.ledger / "artifacts" / "models"
    assert {folder.name for folder in models.iterdir()} == found.keys()
    assert sweep_models(ledger) == []
