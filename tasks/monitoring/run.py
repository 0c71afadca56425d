"""A check as a run of its own in MLflow: its figures, verdict and page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.monitoring.words import sentence_of
from tasks.tracking.ledger import Ledger
from tasks.tracking.store import plain_errors

FIGURES_FOLDER = "figures"
BOUNDS = (("", "estimate"), ("_low", "low"), ("_high", "high"))


@plain_errors
def log_check(ledger: Ledger, record: Mapping[str, Any], files: Mapping[str, Path]) -> str:
    """Log a check and return the id of its run; one that is interrupted is closed as FAILED.

    A process that is killed within leaves a run that the next command closes (tasks/tracking/killed_runs.py).

    Args:
        ledger: where.
        record: of schema posttrain.monitor/1.
        files: page, Markdown and JSON at the top of the artifacts, pictures below `figures/`; the keys are not read.
    """
    dataset = record["dataset"]
    tags = {
        "posttrain.kind": "monitoring",
        "posttrain.dataset": dataset["name"],
        "posttrain.data_md5": dataset["md5"],
        "posttrain.monitor": record["id"],
        "posttrain.drift": str(record["is_drift"]).lower(),
        **_champion(record),
        "posttrain.command": record["command"],
        "mlflow.source.name": "flows monitor",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": f"**{sentence_of(record)}.**\n\nThe page is index.html below *Artifacts*.",
    }
    parameters = {"file": record["file"], "data.name": dataset["name"], **record["settings"]}
    run_id = ledger.start_run(f"monitor {record['id'][:13]} {dataset['name']}", tags=tags, parameters=parameters)
    status = "FAILED"
    try:
        ledger.log_metrics(run_id, check_metrics(record))
        for file in files.values():
            ledger.log_file(run_id, file, folder=FIGURES_FOLDER if file.suffix == ".svg" else None)
        status = "FINISHED"
    finally:
        ledger.client.set_terminated(run_id, status)
    return run_id


def _champion(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a score: whose it is, and whether it has fallen."""
    score = record.get("score")
    if not score:
        return {}
    uri = f"models:/{score['model']}/{score['version']}"
    return {"posttrain.champion": uri, "posttrain.score_fallen": str(score["is_alarm"]).lower()}


def check_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a check by name, `drift/auc`, `score/accuracy` and so on; what is not defined is left out."""
    new, test, calibration = record["figures"]["new"], record["test"], record["calibration"] or {}
    found = {
        "auc": test["auc"],
        "p": test["p"],
        "smallest_auc": test["smallest_auc"],
        "foreign_share": test["foreign_share"],
        "is_drift": float(record["is_drift"]),
        "held_out_auc": calibration.get("auc"),
        "held_out_p": calibration.get("p"),
        "prompts": record["prompts"]["new"]["compared"],
        "length_psi": new["length_psi"],
        "script_psi": new["script_psi"],
        "unseen_words": new["unseen_words"],
    }
    drift = {f"drift/{name}": float(value) for name, value in found.items() if value is not None}
    return {**drift, **_score_metrics(record.get("score"))}


def _score_metrics(score: Mapping[str, Any] | None) -> dict[str, float]:
    if not score:
        return {}
    intervals = {
        "accuracy": score["fresh"]["accuracy"],
        "gate_accuracy": score["gate"]["accuracy"],
        "difference": score["difference"],
    }
    found = {f"{name}{end}": one[part] for name, one in intervals.items() for end, part in BOUNDS}
    found |= {
        "questions": score["fresh"]["questions"],
        "finished": score["fresh"]["finished"],
        "smallest_fall": score["smallest_fall"],
        "has_fallen": score["is_alarm"],
    }
    return {f"score/{name}": float(value) for name, value in found.items() if value is not None}
