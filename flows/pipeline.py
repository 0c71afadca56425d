"""`make pipeline METHOD=…`: from data to a registered model and a report, as one Prefect flow."""

import json
import secrets
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.runtime import flow_run

from flows.stages import Stages
from posttrain.config import STAGES, Config, flat
from posttrain.errors import DataError, RequestError
from posttrain.records import Demonstration, Preference, Question
from posttrain.report import build_report
from tasks.bases import TINY, base_digest, device_type
from tasks.dvc import DatasetVersion, bring_up_to_date
from tasks.places import Places
from tasks.records import PROBLEMS, has_rows, read_rows, required
from tasks.registry import RegisteredModel, register
from tasks.report import write_report
from tasks.stage import Artifact
from tasks.tracking import Ledger
from tasks.validation_suite import suites_digest

TRAINING = ("sft", "sample", "label", "dpo")
SHOWN_SAMPLES = 50


@flow(name="pipeline", flow_run_name="{config.method}-{config.data.name}-seed-{config.seed}", validate_parameters=False)
def pipeline(config: Config, root: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run one method from data to report, and return the report."""
    places = Places(root)
    data = versioned_data(places, config.data.name)
    for note in data.notes:
        say(note)
    ledger = Ledger.open(places, config.tracking)
    ledger.close_abandoned()
    pipeline_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{config.method}-{secrets.token_hex(2)}"
    parent = ledger.start_pipeline(
        config,
        dataset=data.name,
        data_md5=data.md5,
        files_md5=data.files,
        git_commit=git_commit(root),
        flow_run_id=str(flow_run.id),
        pipeline_id=pipeline_id,
    )
    stages = Stages(places=places, ledger=ledger, parent=parent, say=say)
    try:
        models, results = run_stages(stages, config, data)
        return conclude(stages, config, data, models, results, pipeline_id=pipeline_id)
    except BaseException as error:
        with suppress(Exception):  # the first error is the one to tell
            for page in findings(places, data.name).glob("validation.*") if not stages.done[1:] else ():
                ledger.log_file(parent, page, folder="validation")
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            ledger.fail_pipeline(parent, str(error) or type(error).__name__, status=status)
        raise


@task(name="data", persist_result=False)
def versioned_data(places: Places, name: str) -> DatasetVersion:
    """Bring the dataset up to date with DVC."""
    return bring_up_to_date(places, name)


def run_stages(stages: Stages, config: Config, data: DatasetVersion) -> tuple[dict[str, Artifact], dict[str, Artifact]]:
    """Train and evaluate what the method asks for; return models and evaluations, each by model name."""
    tokenizer = make_tokenizer(stages, config, data)
    checked = validate(stages, config, data, tokenizer)
    check_roles(config, checked)
    models = {"base": make_base(stages, config, checked, tokenizer)}
    models["sft"] = train_sft(stages, config, checked, tokenizer, models["base"])
    if "dpo" in STAGES[config.method]:
        labels = make_labels(stages, config, checked, tokenizer, models["sft"])
        models["dpo"] = train_dpo(stages, config, labels, tokenizer, models["sft"])
    results = {"sft": measure(stages, config, checked, tokenizer, models, "sft", against=None)}
    for name in models:
        if name != "sft":
            results[name] = measure(stages, config, checked, tokenizer, models, name, against=results["sft"])
    return models, {name: results[name] for name in models}


def make_tokenizer(stages: Stages, config: Config, data: DatasetVersion) -> Artifact:
    """Make or load the tokenizer."""
    files = {"base": base_digest(config.model)}
    if config.model.base == TINY:
        files |= {role: data.files[role] for role in ("corpus", "demonstrations", "questions") if role in data.files}
    return stages.run(
        "tokenizer",
        "tasks.pretrain:make_tokenizer",
        key_settings={"data.name": data.name, **flat(config, "model", "tiny")},
        key_inputs=files,
        data=data.folder,
        dataset=data.name,
        model=config.model,
        settings=config.tiny,
    )


def validate(stages: Stages, config: Config, data: DatasetVersion, tokenizer: Artifact) -> Artifact:
    """Let through what is fit to train on, or stop."""
    suites = stages.places.data / "expectations"
    return stages.run(
        "validate",
        "tasks.gate:pass_gate",
        key_settings={
            "data.name": data.name,
            "context": int(tokenizer.metrics["context"]),
            **flat(config, "validation"),
        },
        key_inputs={**data.files, "tokenizer": tokenizer.digest, "expectations": suites_digest(suites)},
        data=data.folder,
        dataset=data.name,
        tokenizer=tokenizer.path / "tokenizer",
        context=int(tokenizer.metrics["context"]),
        settings=config.validation,
        expectations=suites,
        findings=findings(stages.places, data.name),
    )


def findings(places: Places, dataset: str) -> Path:
    """Return where the last validation's page, JSON and quarantine of a dataset lie."""
    return places.store / "validation" / dataset


def check_roles(config: Config, checked: Artifact) -> None:
    """Refuse before training what would fail after it: a method without its data, or fewer than two held-out questions."""
    if (
        len(required(checked.path, "held_out", Question, why="models are evaluated on")) < 2
        or config.evaluate.most_questions == 1
    ):
        raise DataError(
            "one held-out question has no interval: give two at least (split.held_out in params.yaml, evaluate.most_questions)"
        )
    required(checked.path, "demonstrations", Demonstration, why="SFT imitates")
    if "label" in STAGES[config.method]:
        if label_source(config, checked) == "dataset":
            required(checked.path, "preferences", Preference, why="label.source=dataset takes labels from")
        elif not any(one.answers for one in required(checked.path, "questions", Question, why="responses are sampled for")):
            raise DataError(
                f"{config.data.name} has neither preferences nor answers, so nobody can tell which of two samples is better. "
                "Import preferences, or questions with answers"
            )


def make_base(stages: Stages, config: Config, checked: Artifact, tokenizer: Artifact) -> Artifact:
    """Pretrain the tiny base, or name the one asked for."""
    return stages.run(
        "base",
        "tasks.pretrain:make_base",
        key_settings={"seed": config.seed, **on_device(config), **flat(config, "tiny", "pretrain")},
        key_inputs={"data": checked.digest, "tokenizer": tokenizer.digest, "base": base_digest(config.model)},
        data=checked.path,
        tokenizer=tokenizer.path / "tokenizer",
        model=config.model,
        tiny_settings=config.tiny,
        settings=config.pretrain,
        seed=config.seed,
    )


def on_device(config: Config) -> dict[str, Any]:
    """Return how models are loaded, and on what: a GPU's weights are not a CPU's."""
    return {"device": device_type(), **flat(config, "model")}


def _common(config: Config, tokenizer: Artifact) -> dict[str, Any]:
    return {
        "tokenizer": tokenizer.path / "tokenizer",
        "model": config.model,
        "context": int(tokenizer.metrics["context"]),
        "seed": config.seed,
    }


def train_sft(stages: Stages, config: Config, checked: Artifact, tokenizer: Artifact, base: Artifact) -> Artifact:
    """Fine-tune the base on demonstrations."""
    return stages.run(
        "sft",
        "tasks.sft:train",
        key_settings={"seed": config.seed, **on_device(config), **flat(config, "sft")},
        key_inputs={"data": checked.digest, "tokenizer": tokenizer.digest, "base": base.digest},
        data=checked.path,
        base=base.path,
        settings=config.sft,
        **_common(config, tokenizer),
    )


def make_labels(stages: Stages, config: Config, checked: Artifact, tokenizer: Artifact, start: Artifact) -> Artifact:
    """Take the dataset's preferences, or sample from the SFT model and have the samples labelled."""
    if label_source(config, checked) == "dataset":
        return stages.run(
            "label",
            "tasks.preferences:label_from_dataset",
            key_settings={"label.source": "dataset", "label.budget": config.label.budget},
            key_inputs={"data": checked.digest},
            data=checked.path,
            settings=config.label,
        )
    samples = stages.run(
        "sample",
        "tasks.preferences:sample",
        key_settings={
            "seed": config.seed,
            "evaluate.max_new_tokens": config.evaluate.max_new_tokens,
            **on_device(config),
            **flat(config, "sample"),
        },
        key_inputs={"data": checked.digest, "tokenizer": tokenizer.digest, "start": start.digest},
        data=checked.path,
        start=start.path,
        settings=config.sample,
        max_new_tokens=config.evaluate.max_new_tokens,
        **_common(config, tokenizer),
    )
    return stages.run(
        "label",
        "tasks.preferences:label_simulated",
        key_settings={"seed": config.seed, **flat(config, "label")},
        key_inputs={"samples": samples.digest},
        samples=samples.path,
        settings=config.label,
        seed=config.seed,
    )


def label_source(config: Config, checked: Artifact) -> str:
    """Return `simulated` or `dataset`."""
    if config.label.source == "auto":
        return "dataset" if has_rows(checked.path / "preferences.jsonl") else "simulated"
    return config.label.source


def train_dpo(stages: Stages, config: Config, labels: Artifact, tokenizer: Artifact, start: Artifact) -> Artifact:
    """Run DPO from the SFT model."""
    return stages.run(
        "dpo",
        "tasks.dpo:train",
        key_settings={"seed": config.seed, **on_device(config), **flat(config, "dpo")},
        key_inputs={"labels": labels.digest, "tokenizer": tokenizer.digest, "start": start.digest},
        preferences=labels.path,
        start=start.path,
        settings=config.dpo,
        **_common(config, tokenizer),
    )


def measure(
    stages: Stages,
    config: Config,
    checked: Artifact,
    tokenizer: Artifact,
    models: Mapping[str, Artifact],
    name: str,
    *,
    against: Artifact | None,
) -> Artifact:
    """Evaluate one model on the held-out questions, beside the SFT model."""
    return stages.run(
        f"evaluate-{name}",
        "tasks.evaluate:evaluate",
        key_settings={"seed": config.seed, **on_device(config), **flat(config, "evaluate")},
        key_inputs={
            "data": checked.digest,
            "tokenizer": tokenizer.digest,
            "subject": models[name].digest,
            "reference": models["sft"].digest,
            "reference_results": against.digest if against else "",
        },
        title=f"test {name}",
        data=checked.path,
        subject=models[name].path,
        reference=models["sft"].path,
        reference_results=against.path if against else None,
        settings=config.evaluate,
        **_common(config, tokenizer),
    )


def conclude(
    stages: Stages,
    config: Config,
    data: DatasetVersion,
    models: Mapping[str, Artifact],
    results: Mapping[str, Artifact],
    *,
    pipeline_id: str,
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
        git_commit=git_commit(stages.places.root),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        stages=[stage.as_row() for stage in stages.done],
        metrics=metrics,
        models={name: model_figures(result) for name, result in results.items()},
        model={"uri": registered.uri, "name": registered.name, "version": registered.version, "path": registered.path},
        mlflow={
            "run_id": parent,
            "experiment_id": ledger.experiment_id,
            "compare_url": ledger.compare_url([parent]),
        },
        notes=notes(stages, config),
        warnings=warnings(stages, results),
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


def git_commit(root: Path) -> str:
    """Return the commit of the working tree, "-dirty" behind it where files differ; "none" outside git."""
    try:
        how: dict[str, Any] = {"cwd": root, "capture_output": True, "text": True, "check": True}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **how).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **how).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return f"{commit}-dirty" if dirty else commit


def check(config: Config) -> None:
    """Refuse before anything runs what can be seen to be wrong.

    Raises:
        RequestError: the base model asked for cannot be used.
    """
    if config.model.base != TINY:
        from models.load import check_base

        check_base(config.model.base)
    if config.evaluate.max_new_tokens >= config.model.context:
        raise RequestError(
            f"evaluate.max_new_tokens must be less than model.context ({config.model.context}), "
            f"got {config.evaluate.max_new_tokens}"
        )
