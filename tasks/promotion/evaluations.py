"""The evaluation of a version: which pipeline measured it, and its rows, a held-out question each.

MLflow says which pipelines arrived at a version and which stages they had; the stage store has the rows. Where a stage was
cleared away, or another machine made it, the copy in MLflow's artifacts does (files of up to 1 MB are there).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from posttrain.errors import DataError
from posttrain.methods import METHODS
from posttrain.settings.ppo import PPOSettings
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import MODEL_TAG
from tasks.tracking.store import plain_errors
from tasks.workspace.artifacts import find
from tasks.workspace.jsonl import PROBLEMS, read_rows

Rows = Sequence[Mapping[str, Any]]
MOST_PIPELINES = 20
"""Pipelines of one version that are looked through, the newest first: each arrived at the same weights."""
MEASURED_TAG = "posttrain.measured_uri"
"""Of the run of a retraining: the version that it measured anew, on the held-out questions of its own data."""
MEASURED = "champion"
"""The model that a retraining measures, as its stage `evaluate-champion` has it."""
DECIDING = ("evaluate.max_new_tokens",)
"""Settings of an evaluation that decide greedy answers, beside the questions. How samples are drawn is not among them."""


@dataclass(frozen=True)
class Evaluation:
    """One model on the held-out questions, as one pipeline measured it.

    Attributes:
        name: what it is called in sentences: "version 7", "the base".
        rows: of its `problems.jsonl`.
        settings: of the evaluation, by dotted name, as text.
        metrics: of the evaluation's run, `cost/…` among them.
        pipeline_id: names the report.
        parent: run of the pipeline, "" where there is none.
        data_md5: version of the data.
        method: of the pipeline.
        host: where it was measured; "" where it was taken from the cache.
        trained_in: run of the pipeline that trained it, where another run measured it; "" where `parent` did both.
    """

    name: str
    rows: Rows
    settings: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    pipeline_id: str = ""
    parent: str = ""
    data_md5: str = ""
    method: str = ""
    host: str = ""
    trained_in: str = ""

    @property
    def held_out(self) -> str:
        """Digest of the held-out questions: ids, prompts and answers, in their order."""
        asked = [(row["id"], row["prompt"], row["answers"]) for row in self.rows]
        return hashlib.sha256(json.dumps(asked, ensure_ascii=True).encode()).hexdigest()[:12]

    def unlike(self, other: "Evaluation") -> str:
        """Return why the two do not compare, "" where they do."""
        if self.held_out != other.held_out:
            return (
                f"{self.name} was measured on {len(self.rows):,} held-out questions (data {self.data_md5[:8] or 'unknown'}), "
                f"{other.name} on {len(other.rows):,} (data {other.data_md5[:8] or 'unknown'}), which are not the same"
            )
        for setting in DECIDING:
            ours, theirs = self.settings.get(setting), other.settings.get(setting)
            if ours and theirs and ours != theirs:
                return f"{self.name} was measured with {setting}={ours}, {other.name} with {theirs}"
        return ""


@plain_errors
def evaluation_of(ledger: Ledger, name: str, version: str, *, like: Evaluation | None = None) -> Evaluation:
    """Return the newest evaluation of a version; with `like`, the newest that compares with it, where there is one.

    Raises:
        DataError: nothing is left of any evaluation of it.
    """
    newest = None
    for found in evaluations(ledger, name, version):
        if like is None or not found.unlike(like):
            return found
        newest = newest or found
    if newest is None:
        tags = ledger.client.get_model_version(name, version).tags
        method, dataset = tags.get("posttrain.method", "…"), name.removeprefix("posttrain-")
        seed = tags.get("posttrain.seed")
        settings = f' SET="seed={seed}"' if seed else ""
        raise DataError(
            f"version {version} of {name} has no evaluation on held-out questions: no pipeline in this ledger measured it, or "
            f"the stage is gone. Measure it, by the pipeline that made it: make pipeline METHOD={method} DATA={dataset}{settings}"
        )
    return newest


def evaluations(ledger: Ledger, name: str, version: str) -> Iterator[Evaluation]:
    """Yield what is left of the evaluations of a version, the newest first.

    They are those of the pipelines that arrived at it, and of the retrainings that measured it anew beside a challenger.
    """
    uri, order = f"models:/{name}/{version}", ["attributes.start_time DESC"]
    runs: list[Any] = []
    for tag, kind in ((MODEL_TAG, "pipeline"), (MEASURED_TAG, "retraining")):
        condition = f"tags.`{tag}` = '{uri}' and tags.`posttrain.kind` = '{kind}'"  # stages have the tags of their parent
        runs += ledger.client.search_runs([ledger.experiment_id], condition, order_by=order, max_results=MOST_PIPELINES)
    for run in sorted(runs, key=lambda run: -run.info.start_time):
        is_measured_anew = run.data.tags.get("posttrain.kind") == "retraining"
        model = MEASURED if is_measured_anew else run.data.tags.get("posttrain.method", "")
        found = _in_pipeline(ledger, run, model, name=f"version {version}")
        if found and is_measured_anew:
            made = ledger.client.get_model_version(name, version)
            method = made.tags.get("posttrain.method", "")
            found = replace(found, method=method, trained_in=str(made.run_id or ""))
        if found:
            yield found


@plain_errors
def base_of(ledger: Ledger, evaluation: Evaluation) -> Evaluation:
    """Return the base's evaluation in the same pipeline.

    Raises:
        DataError: nothing is left of it.
    """
    run = ledger.client.get_run(evaluation.parent)
    found = _in_pipeline(ledger, run, "base", name="the base")
    if found is None:
        raise DataError(
            f"the base's evaluation in the pipeline {evaluation.pipeline_id} is gone, and the first champion is compared with "
            f"it. Run the pipeline again, which makes what is missing: {run.data.tags.get('posttrain.command', 'make pipeline')}"
        )
    return found


def stage_run(ledger: Ledger, parent: str, stage: str) -> Any:
    """Return the newest finished run of a stage of a pipeline; None where there is none."""
    condition = (
        f"tags.`mlflow.parentRunId` = '{parent}' and tags.`posttrain.stage` = '{stage}' and attributes.status = 'FINISHED'"
    )
    order = ["attributes.start_time DESC"]
    found = ledger.client.search_runs([ledger.experiment_id], condition, order_by=order, max_results=1)
    return found[0] if found else None


def rows_of_stage(ledger: Ledger, run: Any, file: str) -> list[dict[str, Any]] | None:
    """Return the rows of a stage's file, from the stage store where its files are whole, else from MLflow; None for none."""
    tags = run.data.tags
    artifact, _ = find(ledger.paths, tags["posttrain.stage"], tags["posttrain.stage_key"])
    if artifact and (artifact.path / file).is_file():
        return list(read_rows(artifact.path / file))
    with suppress(Exception), TemporaryDirectory() as folder:  # it is too large for a copy, or the server has lost it
        return list(read_rows(Path(ledger.client.download_artifacts(run.info.run_id, file, folder))))
    return None


def _in_pipeline(ledger: Ledger, run: Any, model: str, *, name: str) -> Evaluation | None:
    stage = stage_run(ledger, run.info.run_id, f"evaluate-{model}")
    rows = rows_of_stage(ledger, stage, PROBLEMS) if stage else None
    if not rows:
        return None
    tags = run.data.tags
    is_cached = stage.data.tags.get("posttrain.cached") == "true"
    return Evaluation(
        name=name,
        rows=rows,
        settings=stage.data.params,
        metrics=stage.data.metrics,
        pipeline_id=tags.get("posttrain.pipeline_id", ""),
        parent=run.info.run_id,
        data_md5=tags.get("posttrain.data_md5", ""),
        method=tags.get("posttrain.method", ""),
        host="" if is_cached else stage.data.tags.get("posttrain.host", ""),
    )


# --- what else of the pipeline the gate looks at ----------------------------------------------------------------------


def families_of(ledger: Ledger, evaluation: Evaluation) -> list[str | None] | None:
    """Return the family of each question, None for one that has none; None where the data gate's files are gone."""
    run = stage_run(ledger, evaluation.parent, "validate")
    rows = rows_of_stage(ledger, run, "held_out.jsonl") if run else None
    if rows is None:
        return None
    by_id = {str(row["id"]): str(row["family"]) for row in rows if row.get("family") is not None}
    return [by_id.get(str(row["id"])) for row in evaluation.rows]


def warnings_of(ledger: Ledger, evaluation: Evaluation) -> list[str] | None:
    """Return what the data gate warned of, "role: rule" each, without counts; None where its report is gone."""
    run = stage_run(ledger, evaluation.trained_in or evaluation.parent, "validate")
    if run is None:
        return None
    with suppress(Exception), TemporaryDirectory() as folder:
        file = ledger.paths.stages / "validate" / run.data.tags["posttrain.stage_key"] / "validation.json"
        if not file.is_file():
            file = Path(ledger.client.download_artifacts(run.info.run_id, "validation.json", folder))
        roles = json.loads(file.read_text(encoding="utf-8"))["roles"]
        return [
            f"{role}: {one['says']}"
            for role, told in roles.items()
            for one in told["expectations"]
            if one["severity"] == "warning" and not one["holds"]
        ]
    return None


def reward_curve_of(ledger: Ledger, evaluation: Evaluation) -> tuple[list[dict[str, Any]], int] | None:
    """Return the rows of the training's curve that have reward and gold, and the updates that are averaged; None without them."""
    method = METHODS.get(evaluation.method)
    if method is None or not method.is_rewarded:
        return None
    run = stage_run(ledger, evaluation.trained_in or evaluation.parent, method.own_stage)
    if run is None:
        return None
    rows = [
        row for row in rows_of_stage(ledger, run, "curves.jsonl") or () if row.get("ppo/gold") is not None and "ppo/reward" in row
    ]
    patience = run.data.params.get("ppo.patience", "")
    return (rows, int(patience) if patience.isdigit() else PPOSettings().patience) if rows else None
