"""Pipelines that are finished already: their report and their run in MLflow are taken, and nothing is started."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flows.jobs import Job
from flows.probe import Probed
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths


class FinishedReports:
    """The reports below `reports/` whose run is still in MLflow, by what they are of."""

    def __init__(self, paths: Paths, ledger: Ledger) -> None:
        """Read them all, once; a report that cannot be read is none."""
        self._ledger = ledger
        self._found: dict[tuple[str, int, frozenset[tuple[str, str]]], list[dict[str, Any]]] = {}
        for file in sorted(paths.reports.glob("2*.json")):  # by time: the last one of equals is the newest
            with suppress(OSError, ValueError, KeyError, TypeError):
                report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                stages = frozenset((stage["name"], stage["key"]) for stage in report["stages"])
                self._found.setdefault((report["method"], report["seed"], stages), []).append(report)

    def of(self, job: Job, probed: Probed) -> Mapping[str, Any] | None:
        """Return the newest report of exactly a job's stages; for what is compared, of a pipeline that registered its model."""
        stages = frozenset((stage.name, stage.key) for stage in probed.stages)
        known: list[dict[str, Any]] = self._found.get((job.method, job.seed, stages), [])
        for report in known[::-1]:
            is_registered = bool(report["model"]["version"])
            if (is_registered or job.purpose != "report") and self._has_run(report["mlflow"]["run_id"]):
                return report
        return None

    def _has_run(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):
            run = self._ledger.client.get_run(run_id).info
            return bool(run.status == "FINISHED" and run.lifecycle_stage == "active")
        return False
