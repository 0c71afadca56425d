"""The end of a pipeline: the final model registered, the report written, and what a reader of its numbers must know."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prefect import task

from flows.stages import Stages
from posttrain.config import STAGES, Config
from posttrain.monitor import divergence
from posttrain.report import build_report
from tasks.dvc import DatasetVersion
from tasks.records import PROBLEMS, read_rows
from tasks.registry import RegisteredModel, register
from tasks.report import write_report
from tasks.stage import Artifact
from tasks.tracking import Ledger

TRAINING = ("sft", "sample", "label", "dpo", "ppo")
SHOWN_SAMPLES = 50


def conclude(
    stages: Stages,
    config: Config,
    data: DatasetVersion,
    models: Mapping[str, Artifact],
    results: Mapping[str, Artifact],
    *,
    compared_with: str,
    pipeline_id: str,
    git_commit: str,
) -> dict[str, Any]:
    """Register the final model, write the report, and close the pipeline's run."""
    final = list(models)[-1]
    ledger, parent = stages.ledger, stages.parent
    metrics = pipeline_metrics(stages, results[final])
    registered = registered_model(
        ledger,
        name=f"posttrain-{data.name}",
        folder=models[final].path / "model",
        run_id=parent,
        tags={
            "posttrain.method": config.method,
            "posttrain.seed": str(config.seed),
            "posttrain.data_md5": data.md5,
            "posttrain.stage_key": models[final].key,
            "posttrain.pipeline_id": pipeline_id,
        },
        metrics=metrics,
    )
    report = build_report(
        pipeline_id=pipeline_id,
        method=config.method,
        seed=config.seed,
        dataset=data.name,
        data_md5=data.md5,
        git_commit=git_commit,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        stages=[stage.as_row() for stage in stages.done],
        metrics=metrics,
        models={name: model_figures(result) for name, result in results.items()},
        compared_with=compared_with,
        model={"uri": registered.uri, "name": registered.name, "version": registered.version, "path": registered.path},
        mlflow={
            "run_id": parent,
            "experiment_id": ledger.experiment_id,
            "compare_url": ledger.compare_url([parent, *ledger.peers(parent)]),
        },
        notes=notes(stages, config),
        warnings=[*warnings(stages, results), *hacking(config, models)],
    )
    files = write_report(report, stages.places.reports, curves=training_curves(models))
    for file in files.values():
        if file.name != "latest.json":
            ledger.log_file(parent, file, folder="report")
    ledger.log_table(parent, sample_rows(results), "samples.json")
    ledger.finish_pipeline(
        parent,
        metrics=metrics,
        tags={
            "posttrain.stage_key": models[final].key,
            "posttrain.cached": str(all(stage.cached for stage in stages.done)).lower(),
        },
    )
    return report


@task(name="register", persist_result=False)
def registered_model(ledger: Ledger, **how: Any) -> RegisteredModel:
    """Register the final model as challenger."""
    return register(ledger, **how)


def pipeline_metrics(stages: Stages, final: Artifact) -> dict[str, float | None]:
    """Return the figures that every method reports; costs are what computing took, now or when it was cached."""

    def total(cost: str) -> float:
        return sum(stage.artifact.costs.get(cost, 0.0) for stage in stages.done if stage.name in TRAINING)

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
        "preference_accuracy",
        "preference_accuracy_low",
        "preference_accuracy_high",
    )
    return {
        **{f"eval/{name}": final.metrics.get(name) for name in names if name in final.metrics or "preference" not in name},
        **{f"cost/{name}": total(name) for name in ("train_seconds", "generated_tokens", "trained_tokens", "labels")},
        "cost/peak_rss_mb": max(stage.artifact.costs["peak_rss_mb"] for stage in stages.done),
    }


def model_figures(result: Artifact) -> dict[str, Any]:
    """Return one model's figures as the report's table wants them; None where a figure is undefined."""
    found = result.metrics

    def interval(name: str) -> dict[str, float] | None:
        if name not in found:
            return None
        return {"estimate": found[name], "low": found[f"{name}_low"], "high": found[f"{name}_high"]}

    bounded = ("accuracy", "accuracy_sampled", "win_rate", "accuracy_gain", "accuracy_sampled_gain", "kl", "preference_accuracy")
    return {
        **{name: interval(name) for name in bounded if name in found or name in bounded[:3]},
        "response_tokens": found["response_tokens"],
        "finished": found["finished"],
    }


def notes(stages: Stages, config: Config) -> list[str]:
    """Return what a reader must know to read the numbers right."""
    told = ["costs are those of the stages after the base, as computed now or when they were cached"]
    labels = next((stage.artifact for stage in stages.done if stage.name == "label"), None)
    if labels and "flipped_share" in labels.metrics:
        told.append(
            f"preferences come from {config.label.annotators} simulated annotators, "
            f"who got {labels.metrics['flipped_share']:.1%} of {labels.metrics['pairs']:.0f} pairs wrong; no person was asked"
        )
    if "ppo" in STAGES[config.method]:
        told.append(f"PPO was rewarded by {config.ppo.reward} on training questions; nothing held out decided anything")
    told.append("the gold judge of the win rate is a program that knows the answers: right before wrong, then finished")
    return told


def warnings(stages: Stages, results: Mapping[str, Artifact]) -> list[str]:
    """Return what may be wrong with the numbers."""
    told = []
    checked = next(stage.artifact for stage in stages.done if stage.name == "validate")
    if checked.metrics["quarantined"]:
        rows = f"{checked.metrics['quarantined']:.0f} of {checked.metrics['rows']:.0f}"
        told.append(f"{rows} rows were quarantined: {checked.path / 'validation.html'}")
    for name, result in results.items():
        if result.metrics["finished"] < 0.9:
            told.append(f"{name} ended only {result.metrics['finished']:.0%} of its responses with EOS; the rest were cut off")
        if "accuracy" not in result.metrics:
            told.append("the held-out questions have no answers, so accuracy and win rate are undefined")
            break
    return told


def hacking(config: Config, models: Mapping[str, Artifact]) -> list[str]:
    """Return a warning where PPO's reward and the gold score of the same responses came apart."""
    if "ppo" not in STAGES[config.method]:
        return []
    curve = list(read_rows(models[config.method].path / "curves.jsonl"))
    if not curve or "ppo/gold" not in curve[0]:
        return []
    found = divergence(
        [row["ppo/reward"] for row in curve],
        [row["ppo/gold"] for row in curve],
        gold_error=0.5 / config.ppo.episodes**0.5,
        patience=config.ppo.patience,
    )
    return [found] if found else []


def training_curves(models: Mapping[str, Artifact]) -> dict[str, list[dict[str, float]]]:
    """Return each trained model's curve, for the picture."""
    files = {name: artifact.path / "curves.jsonl" for name, artifact in models.items()}
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
