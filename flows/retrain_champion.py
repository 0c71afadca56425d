"""The champion on the held-out questions of today's data, where it was measured on others: so that the gate can compare."""

from collections.abc import Mapping
from typing import Any

from prefect import flow

from flows.aftermath import untagged
from flows.lengths import with_limits
from flows.retrain_job import Job
from flows.run import Run
from posttrain.errors import DataError, StorageError
from tasks.promotion.evaluations import MEASURED, MEASURED_TAG, evaluation_of
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import WEIGHTS_TAG, digest_of_files, local_path
from tasks.validation.lengths import lengths_in
from tasks.workspace.artifacts import Artifact, find
from tasks.workspace.keys import Contents, NotDeciding
from tasks.workspace.paths import Paths


def measure_alike(job: Job, ledger: Ledger, *, champion: str, challenger: str) -> bool:
    """Measure the champion on the challenger's held-out questions unless it has been, and return whether that was done.

    Raises:
        DataError: the challenger has no evaluation.
        StorageError: the files of the champion are gone or damaged.
    """
    if are_alike(ledger, job.name, champion=champion, challenger=challenger):
        return False
    job.say(f"version {champion}, the champion, was measured on other questions or by other settings; it is measured on these")
    measure(job, ledger, champion)
    return True


def are_alike(ledger: Ledger, name: str, *, champion: str, challenger: str) -> bool:
    """Return whether the champion was measured on the questions of the challenger's newest evaluation, with equal settings."""
    ours = evaluation_of(ledger, name, challenger)
    try:
        theirs = evaluation_of(ledger, name, champion, like=ours)
    except DataError:
        return False
    return not ours.unlike(theirs)


def measure(job: Job, ledger: Ledger, version: str) -> None:
    """Evaluate a version as a stage of its own, cached by key, below the run of the retraining.

    Its tokenizer is its own, since that of a tiny base is made of the data; the questions are those of today's data gate.
    """

    @flow(name="champion", flow_run_name=f"champion-version-{version}")
    @untagged
    def champion() -> None:
        _measure(job, ledger, version)

    champion()


def _measure(job: Job, ledger: Ledger, version: str) -> None:
    """Run the stage."""
    from models.load import context_length

    assert job.report is not None
    validated = stage_of(job.paths, job.report, "validate")
    folder = local_path(ledger, f"models:/{job.name}/{version}", say=job.say)
    registered = ledger.client.get_model_version(job.name, version)
    digest = registered.tags.get(WEIGHTS_TAG) or digest_of_files(folder)

    # families of the questions are read from the stage that let them through
    ledger.tag(job.run_id, {MEASURED_TAG: f"models:/{job.name}/{version}"})
    ledger.log_cached_stage(job.run_id, validated.path)
    config = job.config
    settings = config.evaluate
    if settings.max_new_tokens == "auto":  # the number is that of the challenger's pipeline
        context = int(stage_of(job.paths, job.report, "tokenizer").metrics["context"])
        settings = with_limits(config, lengths_in(validated.path), context=context).evaluate
    run = Run(paths=job.paths, config=config, ledger=ledger, parent=job.run_id, say=job.say)
    run.stage(
        f"evaluate-{MEASURED}",
        "tasks.evaluation.version:evaluate_version",
        title=NotDeciding(f"test {MEASURED}"),
        data=validated,
        part=stage_of(job.paths, job.report, "part") if config.evaluate.part != "all" else None,
        version=Contents(folder, digest),
        model=config.model,
        context=context_length(folder, config.model),
        seed=config.seed,
        settings=settings,
    )


def stage_of(paths: Paths, report: Mapping[str, Any], name: str) -> Artifact:
    """Return what a stage of a pipeline gave that has just run.

    Raises:
        StorageError: it is gone, or damaged.
    """
    key = next(stage["key"] for stage in report["stages"] if stage["name"] == name)
    artifact, trouble = find(paths, name, key)
    if artifact is None:
        told = trouble or f"{name}: the result {key[:12]} was removed while the pipeline ran"
        raise StorageError(f"{told}. Run again: what is missing is made anew")
    return artifact
