"""The end of a pipeline: the final model registered, and the report written."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prefect import task

from flows.cards import put_card
from flows.elsewhere import task_figures
from flows.notes import notes, warnings
from flows.outcomes import Outcomes
from flows.prompts import prompts_tag
from flows.run import Run
from posttrain.errors import ContractError
from posttrain.methods import TRAINERS
from posttrain.report.pipeline import Gain, build_report, gain_of, headline
from posttrain.report.unchecked import FIGURES
from posttrain.settings.config import flat
from posttrain.statistics.intervals import INTERVALS_COVER
from tasks.data.dvc import DatasetVersion
from tasks.evaluation.audit_picture import AUDIT_PICTURE
from tasks.promotion.evaluations import DECIDING, Evaluation
from tasks.promotion.standings import standing_of
from tasks.report.files import write_report
from tasks.tracking.comparison import TRIAL_TAG, marks
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import RegisteredModel, describe_model, register
from tasks.tracking.run_notes import pipeline_verdict
from tasks.tracking.views import PIPELINES, view_url, write_views
from tasks.workspace.artifacts import Artifact
from tasks.workspace.jsonl import PROBLEMS, read_rows

TRAINING = ("sft", "sample", "judge", "label", "reward_model", *TRAINERS)
COSTS = ("train_seconds", "generated_tokens", "trained_tokens", "critic_tokens", "forward_tokens", "flops", "labels")
"""Of a stage's costs, those that are added up over the stages in `TRAINING`."""
GAIN = (("", "estimate"), ("_low", "low"), ("_high", "high"))
SHOWN_SAMPLES = 50
UNCHECKED = frozenset(f"{figure.key}{bound}" for figure in FIGURES for bound in ("", "_low", "_high"))
"""Metrics of data that no program can check, which a pipeline reports where they are defined."""


def conclude(run: Run, data: DatasetVersion, outcomes: Outcomes, *, pipeline_id: str, git_commit: str) -> dict[str, Any]:
    """Register the final model, write the report, and close the pipeline's run."""
    config, ledger, parent = run.config, run.ledger, run.parent
    models, results, verdicts = outcomes.models, outcomes.results, outcomes.verdicts
    final, baseline = config.method, config.row.starts_from

    # a model that learnt nothing is not registered
    if final != baseline:
        check_answers(results[final], results[baseline], name=final, start=baseline, is_prompted=config.row.is_prompted)
    figures = {name: model_figures(it, verdicts.get(name), outcomes.elsewhere.get(name)) for name, it in results.items()}
    gain = gain_of(figures, baseline=baseline)
    metrics = pipeline_metrics(run, results[final], gain, verdicts.get(final), outcomes.elsewhere.get(final))
    tags = {
        "posttrain.method": config.method,
        "posttrain.seed": str(config.seed),
        "posttrain.data_md5": data.md5,
        "posttrain.pipeline_id": pipeline_id,
    }
    registered = register_models(run, data.name, outcomes, tags=tags, metrics=metrics)

    report = build_report(
        pipeline_id=pipeline_id,
        method=config.method,
        seed=config.seed,
        dataset=data.name,
        data_md5=data.md5,
        git_commit=git_commit,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        stages=[stage.as_row() for stage in run.done],
        metrics=metrics,
        models=figures,
        baseline=baseline,
        model={"uri": registered.uri, "name": registered.name, "version": registered.version, "path": registered.path},
        mlflow={
            "run_id": parent,
            "experiment_id": ledger.experiment_id,
            "compare_url": view_url(ledger, view=PIPELINES),
        },
        notes=notes(run, outcomes),
        warnings=warnings(run, outcomes),
        audit=audit_of(outcomes),
        standing=registered.standing.as_record(registered.version) if registered.standing else None,
    )
    put_card(run, registered, report, outcomes)
    # the report on disk and in the ledger; latest.json names whole reports only
    picture = outcomes.audit.path / AUDIT_PICTURE if outcomes.audit else None
    files = write_report(report, run.paths.reports, curves=training_curves(outcomes), audit_picture=picture)
    for file in files.values():
        if file.name != "latest.json":
            ledger.log_file(parent, file, folder="report")
    ledger.log_table(parent, sample_rows(results), "samples.json")
    is_cached = all(stage.cached for stage in run.done)
    ledger.finish_pipeline(
        parent,
        metrics=metrics,
        tags={"posttrain.stage_key": models[final].key, "posttrain.cached": str(is_cached).lower(), **prompts_tag(run)},
        verdict=f"{pipeline_verdict(headline(report), is_cached=is_cached)}\n\n{INTERVALS_COVER}.",
    )
    if TRIAL_TAG not in marks(os.environ):
        show(run, registered, verdict=headline(report), dataset=data.name)
    return report


def show(run: Run, model: RegisteredModel, *, verdict: str, dataset: str) -> None:
    """Let MLflow's pages of the model and of the experiment begin with what came out; the pipeline itself is done by then."""
    run_name = f"{run.config.method} on {dataset}, seed {run.config.seed}"
    try:
        describe_model(run.ledger, model, verdict=verdict, run_name=run_name)
        write_views(run.ledger)
    except Exception as error:  # such as a server of an older MLflow, which does not know the search of our views
        run.say(f"note: the prepared views of MLflow could not be written: {error}")


def check_answers(result: Artifact, before: Artifact, *, name: str, start: str, is_prompted: bool = False) -> None:
    """Refuse a model that answers every held-out question, greedily and sampled, to the letter as the one it started from.

    Raises:
        ContractError: it does, so whatever training moved, or the prompt says, shows nowhere.
    """

    def texts(artifact: Artifact) -> list[list[str]]:
        return [[one["text"] for one in (row["greedy"], *row["sampled"])] for row in read_rows(artifact.path / PROBLEMS)]

    ours, theirs = texts(result), texts(before)
    if ours != theirs:
        return
    told = (
        "the demonstrations before them change nothing, and it is not registered. Show more of them (few_shot.shots), or others"
        if is_prompted
        else "it has learnt nothing that shows, and is not registered. Train longer or with a larger learning rate "
        "(docs/settings.md), or give it data that tell something"
    )
    raise ContractError(
        f"{name} gives the same answers as {start}: all {sum(map(len, ours)):,} responses to the {len(ours):,} held-out "
        f"questions are equal to the letter, so {told}"
    )


def register_models(
    run: Run, dataset: str, outcomes: Outcomes, *, tags: Mapping[str, str], metrics: Mapping[str, float | None]
) -> RegisteredModel:
    """Register the reward model, where there is one, and the method's own model; return the latter.

    Nothing is registered where `tracking.register_model` is off: then the model is named by its stage.
    """
    reward_model, final = outcomes.feedback.reward_model, outcomes.models[run.config.method]
    if not run.config.tracking.register_model:
        return RegisteredModel(uri=final.uri, name="", version="", path=str(final.path / "model"), is_new=False)
    if reward_model:
        registered_model(
            run.ledger,
            say=run.say,
            name=f"posttrain-{dataset}-reward",
            folder=reward_model.path / "model",
            run_id=run.parent,
            tags={**tags, "posttrain.stage_key": reward_model.key},
            metrics={f"reward_model/{name}": value for name, value in reward_model.metrics.items()},
        )
    name = f"posttrain-{dataset}"
    measured = Evaluation(
        name="the new version",
        rows=list(read_rows(outcomes.results[run.config.method].path / PROBLEMS)),
        settings={setting: str(value) for setting, value in flat(run.config.evaluate).items() if setting in DECIDING},
        data_md5=tags["posttrain.data_md5"],
    )
    model: RegisteredModel = registered_model(
        run.ledger,
        say=run.say,
        name=name,
        folder=final.path / "model",
        run_id=run.parent,
        tags={**tags, "posttrain.stage_key": final.key},
        metrics=metrics,
        stand=lambda version: standing_of(run.ledger, name, version, measured),
    )
    return model


@task(name="register", persist_result=False)
def registered_model(ledger: Ledger, **how: Any) -> RegisteredModel:
    """Register the final model; it becomes challenger unless a better one is."""
    return register(ledger, **how)


def pipeline_metrics(
    run: Run, final: Artifact, gain: Gain | None, verdict: Artifact | None = None, elsewhere: Artifact | None = None
) -> dict[str, float | None]:
    """Return the figures that every method reports; costs are what computing took, now or when it was cached."""

    def total(cost: str) -> float:
        return sum(stage.artifact.costs.get(cost, 0.0) for stage in run.done if stage.name in TRAINING)

    names = (
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "accuracy_sampled",
        "accuracy_sampled_low",
        "accuracy_sampled_high",
        "win_rate",
        "win_rate_low",
        "win_rate_high",
        "kl",
        "response_tokens",
        "finished",
    )
    return {
        **{f"eval/{name}": final.metrics.get(name) for name in names},
        **{f"eval/{name}": value for name, value in {**final.metrics, **_metrics(verdict)}.items() if name in UNCHECKED},
        **{f"eval/tasks/{name}": value for name, value in _metrics(elsewhere).items()},
        **{f"eval/accuracy_gain{end}": getattr(gain, name) if gain else None for end, name in GAIN},
        **{f"cost/{name}": total(name) for name in COSTS},
        "cost/peak_rss_mb": max(stage.artifact.costs["peak_rss_mb"] for stage in run.done),
    }


def model_figures(result: Artifact, verdict: Artifact | None = None, elsewhere: Artifact | None = None) -> dict[str, Any]:
    """Return one model's figures as the report's table wants them; None, or left out, where a figure is undefined."""
    found = {**result.metrics, **_metrics(verdict)}

    def interval(name: str) -> dict[str, float] | None:
        if name not in found:
            return None
        return {"estimate": found[name], "low": found[f"{name}_low"], "high": found[f"{name}_high"]}

    bounded: tuple[str, ...] = ("accuracy", "accuracy_sampled", "win_rate", "accuracy_gain", "accuracy_sampled_gain", "kl")
    bounded += tuple(figure.key for figure in FIGURES)
    return {
        **{name: interval(name) for name in bounded if name in found or name in bounded[:3]},
        "response_tokens": found["response_tokens"],
        "finished": found["finished"],
        **({"tasks": task_figures(elsewhere.metrics)} if elsewhere else {}),
    }


def _metrics(verdict: Artifact | None) -> Mapping[str, float]:
    return verdict.metrics if verdict else {}


def audit_of(outcomes: Outcomes) -> dict[str, Any] | None:
    """Return what the report tells of labels, reward model and proxy; None for a method that has none of them."""
    feedback = outcomes.feedback
    told: dict[str, Any] = {}
    if feedback.labels:
        told["source"] = feedback.source
        told["labels"] = {**feedback.labels.metrics, **feedback.labels.costs}
    for part in ("second_opinion", "self_preference", "reward_model"):
        if found := getattr(feedback, part):
            told[part] = dict(found.metrics)
    if outcomes.audit:
        told["proxy"] = dict(outcomes.audit.metrics)
    return told or None


def training_curves(outcomes: Outcomes) -> dict[str, list[dict[str, float]]]:
    """Return each trained model's curve, for the picture."""
    rewards = {"reward model": outcomes.feedback.reward_model} if outcomes.feedback.reward_model else {}
    files = {name: artifact.path / "curves.jsonl" for name, artifact in {**rewards, **outcomes.models}.items()}
    return {name: list(read_rows(file)) for name, file in files.items() if file.is_file()}


def sample_rows(results: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Return the first held-out questions with every model's greedy answer side by side."""
    tables = {name: list(read_rows(result.path / PROBLEMS))[:SHOWN_SAMPLES] for name, result in results.items()}
    rows = []
    for problems in zip(*tables.values(), strict=True):
        row = {"prompt": _as_text(problems[0]["prompt"]), "answers": ", ".join(problems[0]["answers"])}
        for name, problem in zip(tables, problems, strict=True):
            row[name] = problem["greedy"]["text"]
            row[f"{name} is right"] = problem["greedy"].get("is_right")
        rows.append(row)
    return rows


def _as_text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)
