"""The end of a comparison: what its pipelines gave becomes one record, one page, and the links that name the last one."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from flows.best_of import Scores, score_samples
from flows.compare_request import Request
from flows.equal import Terms
from flows.jobs import Finished, Job
from posttrain.comparison.record import build_comparison
from posttrain.comparison.results import MethodResult, Question
from posttrain.methods import METHODS
from posttrain.settings.config import Config
from tasks.base_model.identity import device_type
from tasks.comparison.figures import figures_of
from tasks.comparison.gather import (
    choose_metric,
    counted,
    design_of,
    evaluation_rows,
    families,
    questions_of,
    refuse_other_data,
    refuse_other_questions,
    seed_result,
)
from tasks.comparison.latest import write_comparison
from tasks.comparison.machine import machine_facts
from tasks.comparison.page import write_page
from tasks.comparison.saw import simulated
from tasks.data.dvc import DatasetVersion
from tasks.tracking.comparison import finish_comparison
from tasks.tracking.ledger import Ledger
from tasks.tracking.views import COMPARISON, view_url
from tasks.workspace.paths import Paths
from tasks.workspace.presence import words_of

SIMULATED = "world"
"""The dataset that is made up."""


@dataclass(frozen=True)
class Facts:
    """What is known of a comparison beside its results.

    Attributes:
        comparison_id: names its folder.
        command: that runs it again.
        git_commit: of the working tree.
        started: when, as seconds since the epoch.
        workers: pipelines at a time.
        run_id: of its run in MLflow.
        terms: budget and trials of each method.
    """

    comparison_id: str
    command: str
    git_commit: str
    started: float
    workers: int
    run_id: str
    terms: Terms


def write_page_of(
    paths: Paths,
    request: Request,
    config: Config,
    configuration: Callable[..., Config],
    *,
    finished: Sequence[Finished],
    data: DatasetVersion,
    ledger: Ledger,
    facts: Facts,
) -> dict[str, Any]:
    """Write the page of what finished, close the run in MLflow, and return {record, page, jobs}.

    Raises:
        DataError: the runs are of different data or held-out questions.
        ContractError: the reference has no finished run.
    """
    every = {one.job: one.report for one in finished if one.report is not None}
    refuse_other_data({job.title: report for job, report in every.items()})
    # the verdicts are at the largest amount of a budget; smaller ones are points of the curve
    reports = {job: report for job, report in every.items() if job.purpose == "report"}
    tables = {job: evaluation_rows(paths, report, job.method) for job, report in reports.items()}
    refuse_other_questions({job.title: rows for job, rows in tables.items()})

    # what decides, and on which questions
    rows = next(iter(tables.values()))
    metric = choose_metric(config.compare.metric, rows)
    places = counted(rows, metric)
    questions = questions_of(rows, places, families(paths, next(iter(reports.values()))))
    scores = score_samples(paths, reports, configuration)
    methods = _method_results(paths, reports, configuration, metric=metric, places=places, scores=scores, terms=facts.terms)
    record = build_comparison(
        design=design_of(metric, config, budget=facts.terms.budget.as_record(), tune=request.tune),
        questions=questions,
        methods=methods,
        facts={
            **_facts(facts, config, questions, finished=finished, data=data, ledger=ledger),
            "levels": facts.terms.levels(paths, finished, metric),
        },
        group_by="auto" if config.compare.groups == "none" else config.compare.groups,
    )
    if config.compare.groups == "none":
        record["groups"] = None
    figures = figures_of(paths, record)
    files = write_comparison(paths, facts.comparison_id, lambda folder: write_page(record, figures, folder))
    finish_comparison(ledger, facts.run_id, record, files)
    return {"record": record, "page": files["page"], "jobs": len(finished)}


def _method_results(
    paths: Paths,
    reports: Mapping[Job, Mapping[str, Any]],
    configuration: Callable[..., Config],
    *,
    metric: str,
    places: Sequence[int],
    scores: Scores | None,
    terms: Terms,
) -> list[MethodResult]:
    """Return each method's results, in the order of the jobs."""
    found = []
    for name in dict.fromkeys(job.method for job in reports):
        method = METHODS[name]
        of_method = {job: report for job, report in reports.items() if METHODS[job.method] is method}
        settings = {job: configuration(job.words, False) for job in of_method}
        by_seed = {
            job.seed: seed_result(
                paths,
                report,
                settings[job],
                metric=metric,
                places=places,
                command=words_of(job.words),
                reward=None if scores is None else scores.of(job),
                reward_by=None if scores is None else scores.who,
            )
            for job, report in of_method.items()
        }
        first = next(iter(of_method))
        found.append(
            MethodResult(
                name=name,
                title=method.title,
                learns_from=method.learns_from.says,
                when_to_use=method.suits,
                simulated=simulated(of_method[first], settings[first]),
                by_seed=by_seed,
                tuned=terms.tuned_record(name),
                budget_used=terms.used_record(of_method.values()),
            )
        )
    return found


def _facts(
    facts: Facts,
    config: Config,
    questions: Sequence[Question],
    *,
    finished: Sequence[Finished],
    data: DatasetVersion,
    ledger: Ledger,
) -> dict[str, Any]:
    failed = [one for one in finished if one.report is None]
    return {
        "id": facts.comparison_id,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": "pipelines",
        "command": facts.command,
        "failed": [
            {"method": one.job.method, "seed": one.job.seed, "error": _error(one), "command": words_of(one.job.words)}
            for one in failed
        ],
        "dataset": {
            "name": data.name,
            "md5": data.md5,
            "questions": len(questions),
            "files": dict(data.files),
            "is_simulated": data.name == SIMULATED,
        },
        "machine": machine_facts(workers=facts.workers, gpu=_gpu()),
        "git_commit": facts.git_commit,
        "version": version("posttrain"),
        "seconds": round(time.time() - facts.started, 1),
        "mlflow": {
            "experiment_id": ledger.experiment_id,
            "run_id": facts.run_id,
            "url": view_url(ledger, view=COMPARISON),
        },
        "notes": [*_notes_on_methods(config), *facts.terms.notes],
        "warnings": list(facts.terms.left_out.values()),
    }


def _error(failed: Finished) -> str:
    """Return what a run said, behind the amount of the budget that it was at where that is not the one that decides."""
    return f"at {failed.job.part} of the budget: {failed.error}" if failed.job.purpose == "level" else failed.error


def _notes_on_methods(config: Config) -> list[str]:
    return [f"each pipeline is a run of its own with one thread; the reference is {METHODS[config.compare.reference].title}"]


def _gpu() -> str | None:
    if device_type() == "cpu":
        return None
    import torch

    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else None
