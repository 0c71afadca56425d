"""A retraining as a run of its own in MLflow, from what called for it to how it ended."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.settings.config import Config
from tasks.tracking.ledger import Ledger
from tasks.tracking.parameters import parameters_of_request
from tasks.tracking.run_notes import ended
from tasks.tracking.store import plain_errors

KIND = "retraining"
RETRAINING_TAG = "posttrain.retraining"
"""Of the run of a retraining, and of the pipeline that it ran: the id of the record."""
PROMOTED = "promoted"
FAILED, KILLED = "failed", "killed"
STATUS = {FAILED: "FAILED", KILLED: "KILLED"}


@plain_errors
def open_run(ledger: Ledger, config: Config, *, record: Mapping[str, Any]) -> str:
    """Open the run of a retraining that begins to work, and return its id.

    One that is killed leaves it open, and the next command closes it (tasks/tracking/killed_runs.py).

    Args:
        ledger: where.
        config: of the pipeline.
        record: what is known so far, of schema posttrain.retraining/1.
    """
    dataset, changed = record["dataset"], record["changes"]["says"]
    tags = {
        "posttrain.kind": KIND,
        RETRAINING_TAG: record["id"],
        "posttrain.method": config.method,
        "posttrain.seed": str(config.seed),
        "posttrain.dataset": dataset["name"],
        "posttrain.data_md5": dataset["md5"],
        "posttrain.command": record["command"],
        "posttrain.cause": record["cause"],
        "posttrain.changes": changed[:5000],
        "posttrain.champion": record["champion"],
        "mlflow.source.name": f"flows retrain method={config.method}",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": f"Retraining `{dataset['name']}` by **{config.method}** ({record['cause']}): {changed}.",
    }
    name = f"retraining {record['id'][:13]} {dataset['name']}"
    return ledger.start_run(name, tags=tags, parameters=parameters_of_request(config))


@plain_errors
def close_run(ledger: Ledger, run_id: str, record: Mapping[str, Any], *, file: Path | None = None) -> None:
    """Write how a retraining ended on its run, and on that of its pipeline; the status last.

    Args:
        ledger: where.
        run_id: of the retraining.
        record: whole, of schema posttrain.retraining/1.
        file: the record, which goes along; None where the disk refused it.
    """
    outcome, says = record["outcome"], record["says"]
    tags = {
        "posttrain.outcome": outcome,
        "posttrain.challenger": record["challenger"],
        "posttrain.pipeline_id": record["pipeline_id"],
    }
    known = ledger.client.get_run(run_id).data.tags
    note = known.get("mlflow.note.content", "")
    if outcome in STATUS:
        tags["posttrain.error"] = says[:5000]
        note = ended(note, how=outcome.capitalize(), why=says, command=record["command"])
    else:
        note = f"**{says[:1].upper()}{says[1:]}.**\n\n{note}"
    ledger.tag(run_id, {**tags, "mlflow.note.content": note})
    ledger.log_metrics(run_id, run_metrics(record))
    if file:
        ledger.log_file(run_id, file)
    if record["mlflow"]["pipeline_run_id"]:
        ledger.tag(record["mlflow"]["pipeline_run_id"], {RETRAINING_TAG: record["id"], "posttrain.outcome": outcome})
    ledger.client.set_terminated(run_id, STATUS.get(outcome, "FINISHED"))


def run_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a retraining by name, `retrain/gain` and so on; what is not defined is left out."""
    gain = (record["decision"] or {}).get("gain") or {}
    found = {
        "gain": gain.get("estimate"),
        "gain_low": gain.get("low"),
        "gain_high": gain.get("high"),
        "is_promoted": float(record["outcome"] == PROMOTED),
        "tries": record["tries"],
        "seconds": record["seconds"],
    }
    return {f"retrain/{name}": float(value) for name, value in found.items() if value is not None}
