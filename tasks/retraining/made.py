"""What a registered version was made of: the stages of the pipelines that arrived at it, from the ledger and the stage store."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from posttrain.retraining.changes import Made, Stage
from tasks.promotion.evaluations import MOST_PIPELINES
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import MODEL_TAG
from tasks.tracking.store import plain_errors
from tasks.workspace.keys import Inputs, stage_key

MOST_STAGES = 200
"""Child runs of one pipeline, at most: more than any has."""


def made_of(ledger: Ledger, name: str, version: str) -> Iterator[Made]:
    """Yield what each pipeline that arrived at a version made it of, the newest first.

    Raises:
        StorageError: the ledger cannot be read.
    """
    for run in _pipelines(ledger, name, version):
        yield _made(ledger, run)


def when_made(ledger: Ledger, name: str, version: str) -> str:
    """Return the day on which a version was made, UTC."""
    made = ledger.client.get_model_version(name, version).creation_timestamp / 1000
    return f"{datetime.fromtimestamp(made, UTC):%Y-%m-%d}"


def recoded(then: Made, computes: Mapping[str, str]) -> set[str]:
    """Return the stages whose own code is another now: with today's code the key of then does not come out again.

    Of a stage of which nothing is left that entered its key, nobody can tell; it is not among them.

    Args:
        then: what a model was made of.
        computes: function of each stage, as `module:function`.
    """
    found = set()
    for stage in then.stages:
        if stage.settings is None or stage.name not in computes:
            continue
        inputs = Inputs(settings=stage.settings, digests=stage.inputs)
        if stage_key(stage.name, inputs, compute=computes[stage.name], versions=then.versions) != stage.key:
            found.add(stage.name)
    return found


@plain_errors
def _pipelines(ledger: Ledger, name: str, version: str) -> list[Any]:
    condition = f"tags.`{MODEL_TAG}` = 'models:/{name}/{version}' and tags.`posttrain.kind` = 'pipeline'"
    order = ["attributes.start_time DESC"]
    return list(ledger.client.search_runs([ledger.experiment_id], condition, order_by=order, max_results=MOST_PIPELINES))


@plain_errors
def _made(ledger: Ledger, run: Any) -> Made:
    """Return what one pipeline made its model of."""
    tags = run.data.tags
    condition = f"tags.`mlflow.parentRunId` = '{run.info.run_id}' and tags.`posttrain.kind` = 'stage'"
    order = ["attributes.start_time ASC"]
    children = ledger.client.search_runs([ledger.experiment_id], condition, order_by=order, max_results=MOST_STAGES)
    facts = [_facts(ledger, child) for child in children]
    return Made(
        method=tags.get("posttrain.method", ""),
        data_md5=tags.get("posttrain.data_md5", ""),
        files=_files(run),
        stages=tuple(_stage(child, told) for child, told in zip(children, facts, strict=True)),
        versions=next((dict(told["versions"]) for told in facts if told), {}),
        commit=tags.get("posttrain.git_commit", ""),
    )


def _stage(run: Any, facts: Mapping[str, Any] | None) -> Stage:
    name, key = run.data.tags.get("posttrain.stage", ""), run.data.tags.get("posttrain.stage_key", "")
    if facts is None:
        return Stage(name, key)
    return Stage(name, key, settings=facts["settings"], inputs=facts["inputs"], digest=facts["digest"])


def _facts(ledger: Ledger, run: Any) -> dict[str, Any] | None:
    """Return `stage.json` of a stage's run, from the stage store, else the copy in the ledger; None where neither is left."""
    tags = run.data.tags
    file = ledger.paths.stages / tags.get("posttrain.stage", "") / tags.get("posttrain.stage_key", "") / "stage.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _checked(file)
    with suppress(Exception), TemporaryDirectory() as folder:  # the server has lost it, or its artifacts were cleared away
        return _checked(Path(ledger.client.download_artifacts(run.info.run_id, "stage.json", folder)))
    return None


def _checked(file: Path) -> dict[str, Any]:
    told = json.loads(file.read_text(encoding="utf-8"))
    kept = {name: dict(told[name]) for name in ("settings", "inputs", "versions")}
    return {**kept, "digest": str(told["digest"])}


def _files(run: Any) -> dict[str, str]:
    """Return the md5 of each role's file, as the run's dataset has them."""
    inputs = run.inputs.dataset_inputs if run.inputs else ()
    prefix = "dvc.md5."
    return {tag.key.removeprefix(prefix): str(tag.value) for one in inputs for tag in one.tags if tag.key.startswith(prefix)}
