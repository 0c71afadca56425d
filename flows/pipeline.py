"""`make pipeline METHOD=…`: from data to a registered model and a report, as one Prefect flow."""

import secrets
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.runtime import flow_run

from flows.conclusion import conclude
from flows.stages import Stages
from posttrain.config import STAGES, Config, flat
from posttrain.errors import DataError, RequestError
from posttrain.records import Demonstration, Preference, Question
from tasks.bases import TINY, base_digest, device_type
from tasks.dvc import DatasetVersion, bring_up_to_date
from tasks.places import Places
from tasks.records import has_rows, read_rows, required
from tasks.reward_sources import RewardSource, reward_source
from tasks.stage import Artifact
from tasks.tracking import Ledger
from tasks.validation_suite import suites_digest

TRAINING = ("sft", "sample", "label", "dpo", "ppo")
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
        return conclude(
            stages,
            config,
            data,
            models,
            results,
            compared_with=started_from(models),
            pipeline_id=pipeline_id,
            git_commit=git_commit(root),
        )
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
    reward = named_reward(stages, config)
    tokenizer = make_tokenizer(stages, config, data)
    checked = validate(stages, config, data, tokenizer)
    check_roles(config, checked)
    models = {"base": make_base(stages, config, checked, tokenizer)}
    if "sft" in STAGES[config.method]:
        models["sft"] = train_sft(stages, config, checked, tokenizer, models["base"])
    start = started_from(models)
    if "dpo" in STAGES[config.method]:
        labels = make_labels(stages, config, checked, tokenizer, models[start])
        models["dpo"] = train_dpo(stages, config, labels, tokenizer, models[start])
    if reward:
        models[config.method] = train_ppo(stages, config, checked, tokenizer, models[start], reward)
    results = {start: measure(stages, config, checked, tokenizer, models, start, against=None)}
    for name in models:
        if name != start:
            results[name] = measure(stages, config, checked, tokenizer, models, name, against=results[start])
    return models, {name: results[name] for name in models}


def started_from(models: Mapping[str, Any]) -> str:
    """Return the model that a method started from, which the others are compared with: SFT's, or the base without one."""
    return "sft" if "sft" in models else "base"


def named_reward(stages: Stages, config: Config) -> RewardSource | None:
    """Return what PPO is rewarded by, before anything is trained; None for a method without PPO.

    Raises:
        RequestError: it is not there, or is none that the method takes.
    """
    if "ppo" not in STAGES[config.method]:
        return None
    source = reward_source(
        config.ppo.reward, partial_credit=config.ppo.partial_credit, tracking_uri=stages.ledger.client.tracking_uri
    )
    if config.ppo.critic_from == "reward_model" and source.kind != "model":
        raise RequestError(f"ppo.critic_from=reward_model needs a reward model, and ppo.reward={config.ppo.reward} is none")
    if config.method == "reft" and source.kind != "grader":
        raise RequestError(
            f"method reft takes its reward from a grader, and ppo.reward={config.ppo.reward} is none. "
            "For any other reward: METHOD=ppo"
        )
    return source


def make_tokenizer(stages: Stages, config: Config, data: DatasetVersion) -> Artifact:
    """Make or load the tokenizer."""
    files = {"base": base_digest(config.model)}
    if config.model.base == TINY:
        files |= {role: data.files[role] for role in ("corpus", "demonstrations", "questions") if role in data.files}
    return stages.run(
        "tokenizer",
        "tasks.tokenizer:make_tokenizer",
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
    if "sft" in STAGES[config.method]:
        required(checked.path, "demonstrations", Demonstration, why="SFT imitates")
    if "ppo" in STAGES[config.method]:
        required(checked.path, "questions", Question, why="PPO asks")
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


def train_ppo(
    stages: Stages, config: Config, checked: Artifact, tokenizer: Artifact, start: Artifact, reward: RewardSource
) -> Artifact:
    """Run PPO with a reward, from the model in `start`."""
    artifact = stages.run(
        "ppo",
        "tasks.ppo:train",
        key_settings={"seed": config.seed, **on_device(config), **flat(config, "ppo")},
        key_inputs={"data": checked.digest, "tokenizer": tokenizer.digest, "start": start.digest, "reward": reward.digest},
        resumable=True,
        data=checked.path,
        start=start.path,
        settings=config.ppo,
        reward=reward,
        **_common(config, tokenizer),
    )
    if not stages.done[-1].cached:
        stages.ledger.log_table(stages.done[-1].run_id, list(read_rows(artifact.path / "samples.jsonl")), "samples.json")
    return artifact


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
    """Evaluate one model on the held-out questions, beside the one that the method started from."""
    return stages.run(
        f"evaluate-{name}",
        "tasks.evaluate:evaluate",
        key_settings={"seed": config.seed, **on_device(config), **flat(config, "evaluate")},
        key_inputs={
            "data": checked.digest,
            "tokenizer": tokenizer.digest,
            "subject": models[name].digest,
            "reference": models[started_from(models)].digest,
            "reference_results": against.digest if against else "",
        },
        title=f"test {name}",
        data=checked.path,
        subject=models[name].path,
        reference=models[started_from(models)].path,
        reference_results=against.path if against else None,
        settings=config.evaluate,
        **_common(config, tokenizer),
    )


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
    longest = {"evaluate.max_new_tokens": config.evaluate.max_new_tokens}
    if "ppo" in STAGES[config.method]:
        longest["ppo.max_new_tokens"] = config.ppo.max_new_tokens
    for name, tokens in longest.items():
        if tokens >= config.model.context:
            raise RequestError(f"{name} must be less than model.context ({config.model.context}), got {tokens}")
