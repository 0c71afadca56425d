"""What killed processes left in MLflow: runs that are RUNNING for ever, and models that never became a version."""

import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.tracking.ledger import Ledger
from tasks.tracking.run_notes import WITHOUT_A_WORD, ended
from tasks.tracking.store import plain_errors
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process, living

VERSION_TAG = "posttrain.version"
"""Of a logged model: "none" until its version stands. MLflow's own status cannot be searched for by its name."""

PROMOTION = "promotion"
"""Kind of the runs that are moves of aliases."""
WITH_COMMAND = ("pipeline", "comparison", "retraining")
"""Kinds of runs that a command goes on with."""


@dataclass(frozen=True)
class KilledRun:
    """A run that was marked.

    Attributes:
        run_id: in MLflow.
        name: as MLflow shows it.
        kind: "pipeline", "stage", "comparison" or "retraining".
        pipeline_id: names its report; "" for a comparison.
        comparison_id: of the comparison that it is, or that it belongs to; "" where there is none.
        command: that goes on with it; "" for a stage.
        error: what was written on its page.
    """

    run_id: str
    name: str
    kind: str
    pipeline_id: str
    comparison_id: str
    command: str
    error: str


@plain_errors
def close_killed(ledger: Ledger) -> list[KilledRun]:
    """Mark as KILLED what a process of this machine left RUNNING when it ended without a word, with what to do now.

    A half-done move of aliases is left open: by that it is found, and completed or undone (tasks/promotion/moves.py).
    """
    return [_close(ledger, run) for run in killed_runs(ledger)]


@plain_errors
def killed_runs(ledger: Ledger) -> list[Any]:
    """Return the runs, but for moves, that a process of this machine left RUNNING when it ended without a word."""
    at_work = living(ledger.paths)
    found = []
    for run in ledger.running(f"tags.`posttrain.host` = '{socket.gethostname()}'"):
        tags = run.data.tags
        if tags.get("posttrain.kind") == PROMOTION:
            continue
        name = tags.get("posttrain.process", "")
        process = Process.from_name(name, host=tags["posttrain.host"])
        if process and not process.may_live() and name not in at_work:
            found.append(run)
    return found


def _close(ledger: Ledger, run: Any) -> KilledRun:
    tags = run.data.tags
    command = tags.get("posttrain.command", "") if tags.get("posttrain.kind") in WITH_COMMAND else ""
    kept = ", ".join(["finished stages are kept", *_checkpoints(ledger.paths)]) if command else ""
    error = f"{WITHOUT_A_WORD}; {kept}" if kept else WITHOUT_A_WORD
    note = ended(tags.get("mlflow.note.content", ""), how="Killed", why=error, command=command)
    ledger.tag(run.info.run_id, {"posttrain.error": error, "mlflow.note.content": note})
    # last: a run that is not marked whole stays RUNNING, and is found again
    ledger.client.set_terminated(run.info.run_id, "KILLED")
    return KilledRun(
        run_id=run.info.run_id,
        name=str(run.info.run_name),
        kind=tags.get("posttrain.kind", ""),
        pipeline_id=tags.get("posttrain.pipeline_id", ""),
        comparison_id=tags.get("posttrain.comparison", ""),
        command=command,
        error=error,
    )


@plain_errors
def sweep_models(ledger: Ledger) -> list[str]:
    """Take out of MLflow the models that never became a version, with their files; returns their ids.

    A model says in a tag whether its version stands (tasks/tracking/registry.py). One that says no is theirs,
    once its run has ended.
    """
    swept = []
    for model in models_without_version(ledger):
        if ledger.client.search_model_versions(f"source_path = 'models:/{model.model_id}'"):
            settle_model(ledger, model.model_id)
            continue
        discard(ledger, model)
        swept.append(str(model.model_id))
    return swept


@plain_errors
def models_without_version(ledger: Ledger) -> list[Any]:
    """Return the models whose run has ended, and which do not say that their version stands."""
    client = ledger.client
    models = client.search_logged_models([ledger.experiment_id], filter_string=f"tags.`{VERSION_TAG}` = 'none'")
    return [one for one in models if not (one.source_run_id and client.get_run(one.source_run_id).info.status == "RUNNING")]


def settle_model(ledger: Ledger, model_id: str) -> None:
    """Say of a logged model that its version stands."""
    ledger.client.finalize_logged_model(model_id, "READY")
    ledger.client.set_logged_model_tags(model_id, {VERSION_TAG: "stands"})


def discard(ledger: Ledger, model: Any) -> None:
    """Remove a logged model: its files first, which may be what fills the disk."""
    folder = Path(str(model.artifact_location))
    if ledger.is_local and folder.is_absolute():
        # models/<id>/artifacts: the folder above is the model's too, and may hold a copy that was not finished
        shutil.rmtree(folder.parent if folder.parent.name == model.model_id else folder, ignore_errors=True)
    ledger.client.delete_logged_model(model.model_id)


def _checkpoints(paths: Paths) -> list[str]:
    """Return a phrase for each stage that has checkpoints to go on from."""
    found = []
    for file in sorted(paths.checkpoints.glob("*/*/step-*.pt")):
        with suppress(ValueError):
            found.append(f"checkpoint {int(file.stem.partition('-')[2])} of {file.parent.parent.name} is there")
    return found
