"""`make pipeline METHOD=…`: from data to a registered model and a report, as one Prefect flow."""

import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.runtime import flow_run

from flows.aftermath import untagged
from flows.conclusion import Outcomes, conclude
from flows.course import Course, on_device
from flows.feedback import (
    Feedback,
    audited,
    check_feedback,
    check_judge_server,
    check_judge_settings,
    compared_by_judge,
    gathered,
    is_learnt_from_judge,
    of_judge,
    of_reward_model,
    question_share,
)
from flows.plan import plan
from flows.stages import Stages
from posttrain.errors import DataError, RequestError
from posttrain.records import Demonstration, Question
from posttrain.settings.config import Config, flat, stages_of
from tasks.base_model.identity import TINY, base_digest
from tasks.data.dvc import DatasetVersion, bring_up_to_date
from tasks.rewards.table import RewardSource, reward_source
from tasks.tracking.killed_runs import close_killed, sweep_models
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import local_path
from tasks.tracking.run_notes import reason
from tasks.validation.suite import suites_digest
from tasks.workspace.artifacts import Artifact
from tasks.workspace.jsonl import read_rows, required
from tasks.workspace.paths import Places

OWN_REWARD = ("rlhf", "rlaif")
"""Methods that make their reward themselves, so that `ppo.reward` is not asked."""
REFUSING = ("validation", "judge", "reward_model")
"""Whose findings a failed run keeps."""
TRAINED_ON = "trained_on.json"
"""Ids of the questions that a reward model learnt from."""


@flow(name="pipeline", flow_run_name="{config.method}-{config.data.name}-seed-{config.seed}", validate_parameters=False)
@untagged
def pipeline(config: Config, root: Path, say: Callable[[str], None], command: str = "") -> dict[str, Any]:
    """Run one method from data to report, and return the report; `command` is how to run it again."""
    places, started = Places(root), time.time()
    data = versioned_data(places, config.data.name)
    for note in data.notes:
        say(note)
    ledger = Ledger.open(places, config.tracking)
    close_killed(ledger)
    sweep_models(ledger)
    pipeline_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{config.method}-{secrets.token_hex(2)}"
    parent = ledger.start_pipeline(
        config,
        dataset=data.name,
        data_md5=data.md5,
        files_md5=data.files,
        git_commit=git_commit(root),
        flow_run_id=str(flow_run.id),
        pipeline_id=pipeline_id,
        command=command,
    )
    stages = Stages(places=places, ledger=ledger, parent=parent, say=say, plan=plan(config, data.folder))
    try:
        outcomes = run_stages(stages, config, data)
        return conclude(
            stages,
            config,
            data,
            outcomes,
            compared_with=started_from(outcomes.models),
            pipeline_id=pipeline_id,
            git_commit=git_commit(root),
        )
    except BaseException as error:
        with suppress(Exception):  # the first error is the one to tell
            for stage in REFUSING:
                for page in found_since(started, places.findings(stage, data.name)):
                    ledger.log_file(parent, page, folder=stage)
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            ledger.fail_pipeline(parent, reason(error), status=status)
        raise


@task(name="data", persist_result=False)
def versioned_data(places: Places, name: str) -> DatasetVersion:
    """Bring the dataset up to date with DVC."""
    return bring_up_to_date(places, name)


def found_since(moment: float, folder: Path) -> list[Path]:
    """Return the pages, pictures and figures that a stage left when it refused, if that was since then."""
    found = (path for pattern in ("*.html", "*.json", "*.png") for path in sorted(folder.glob(pattern)))
    return [path for path in found if path.stat().st_mtime >= moment]


def run_stages(stages: Stages, config: Config, data: DatasetVersion) -> Outcomes:
    """Train and evaluate what the method asks for."""
    wanted = stages_of(config)
    reward = named_reward(stages, config)
    tokenizer = make_tokenizer(stages, config, data)
    checked = validate(stages, config, data, tokenizer)
    check_roles(config, checked)
    course = Course(stages=stages, config=config, checked=checked, tokenizer=tokenizer)
    models = {"base": make_base(course)}
    if "sft" in wanted:
        models["sft"] = train_sft(course, models["base"])
    start = started_from(models)
    feedback = gathered(course, models[start], models["base"]) if "label" in wanted else Feedback()
    if "dpo" in wanted and feedback.labels:
        models["dpo"] = train_dpo(course, models[start], feedback.labels)
    if "ppo" in wanted:
        reward = reward or own_reward(course, feedback, models["base"])
        models[config.method] = train_ppo(course, models[start], reward, feedback.reward_model)
    results = {start: measure(course, models, start, against=None)}
    for name in models:
        if name != start:
            results[name] = measure(course, models, name, against=results[start])
    return Outcomes(
        models=models,
        results={name: results[name] for name in models},
        feedback=feedback,
        verdicts=compared_by_judge(course, models, results, start=start),
        audit=audited(course, models[config.method], feedback) if "ppo" in wanted else None,
    )


def started_from(models: Mapping[str, Any]) -> str:
    """Return the model that a method started from, which the others are compared with: SFT's, or the base without one."""
    return "sft" if "sft" in models else "base"


def named_reward(stages: Stages, config: Config) -> RewardSource | None:
    """Return what `ppo.reward` names, before anything is trained; None for a method without PPO, or with a reward of its own.

    Raises:
        RequestError: it is not there, or is none that the method takes.
    """
    if "ppo" not in stages_of(config) or config.method in OWN_REWARD:
        return None
    source = reward_source(
        config.ppo.reward,
        partial_credit=config.ppo.partial_credit,
        registered=lambda uri: local_path(stages.ledger, uri, say=stages.say),
    )
    if config.ppo.critic_from == "reward_model" and source.kind != "model":
        raise RequestError(f"ppo.critic_from=reward_model needs a reward model, and ppo.reward={config.ppo.reward} is none")
    if config.method == "reft" and source.kind != "grader":
        raise RequestError(
            f"method reft takes its reward from a grader, and ppo.reward={config.ppo.reward} is none. "
            "For any other reward: METHOD=ppo"
        )
    return source


def own_reward(course: Course, feedback: Feedback, base: Artifact) -> RewardSource:
    """Return the reward of `rlhf` and `rlaif`: the pipeline's own reward model, or the judge itself."""
    return of_reward_model(feedback.reward_model) if feedback.reward_model else of_judge(course, base)


def make_tokenizer(stages: Stages, config: Config, data: DatasetVersion) -> Artifact:
    """Make or load the tokenizer."""
    files = {"base": base_digest(config.model)}
    if config.model.base == TINY:
        files |= {role: data.files[role] for role in ("corpus", "demonstrations", "questions") if role in data.files}
    return stages.run(
        "tokenizer",
        "tasks.base_model.tokenizer:make_tokenizer",
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
        "tasks.validation.gate:pass_gate",
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
        findings=stages.places.findings("validation", data.name),
    )


def check_roles(config: Config, checked: Artifact) -> None:
    """Refuse before training what would fail after it: a method without its data, or fewer than two held-out questions."""
    if (
        len(required(checked.path, "held_out", Question, why="models are evaluated on")) < 2
        or config.evaluate.most_questions == 1
    ):
        raise DataError(
            "one held-out question has no interval: give two at least (split.held_out in params.yaml, evaluate.most_questions)"
        )
    wanted = stages_of(config)
    if "sft" in wanted:
        required(checked.path, "demonstrations", Demonstration, why="SFT imitates")
    if "ppo" in wanted:
        required(checked.path, "questions", Question, why="PPO asks")
    if "label" in wanted:
        check_feedback(config, checked.path)


def make_base(course: Course) -> Artifact:
    """Pretrain the tiny base, or name the one asked for."""
    config = course.config
    return course.stages.run(
        "base",
        "tasks.base_model.pretrain:make_base",
        key_settings={"seed": config.seed, **on_device(config), **flat(config, "tiny", "pretrain")},
        key_inputs={"data": course.checked.digest, "tokenizer": course.tokenizer.digest, "base": base_digest(config.model)},
        data=course.data,
        tokenizer=course.tokenizer.path / "tokenizer",
        model=config.model,
        tiny_settings=config.tiny,
        settings=config.pretrain,
        seed=config.seed,
    )


def train_sft(course: Course, base: Artifact) -> Artifact:
    """Fine-tune the base on demonstrations."""
    return course.run(
        "sft",
        "tasks.training.sft:train",
        "sft",
        reads={"data": course.checked, "base": base},
        data=course.data,
        base=base.path,
        settings=course.config.sft,
    )


def train_dpo(course: Course, start: Artifact, labels: Artifact) -> Artifact:
    """Run DPO from the SFT model."""
    return course.run(
        "dpo",
        "tasks.training.dpo:train",
        "dpo",
        reads={"labels": labels, "start": start},
        labels=labels.path,
        start=start.path,
        settings=course.config.dpo,
    )


def train_ppo(course: Course, start: Artifact, reward: RewardSource, reward_model: Artifact | None) -> Artifact:
    """Run PPO with a reward, from the model in `start`, on questions that its reward model has not learnt from."""
    stages, config = course.stages, course.config
    share = question_share(config, course.data)
    own = {"kl_coef": config.rlhf.kl_coef, "reward_scale": config.rlhf.reward_scale} if config.method in OWN_REWARD else {}
    artifact = course.run(
        "ppo",
        "tasks.training.ppo:train",
        "ppo",
        reads={"data": course.checked, "start": start, "reward": reward.digest},
        also={**{f"ppo.{name}": value for name, value in own.items()}, "sample.question_share": share},
        resumable=True,
        data=course.data,
        start=start.path,
        settings=config.ppo.model_copy(update=own),
        reward=reward,
        question_share=share,
        not_asked=reward_model and reward_model.path / TRAINED_ON,
    )
    if not stages.done[-1].cached:
        stages.ledger.log_table(stages.done[-1].run_id, list(read_rows(artifact.path / "samples.jsonl")), "samples.json")
    return artifact


def measure(course: Course, models: Mapping[str, Artifact], name: str, *, against: Artifact | None) -> Artifact:
    """Evaluate one model on the held-out questions, beside the one that the method started from."""
    reference = models[started_from(models)]
    return course.run(
        f"evaluate-{name}",
        "tasks.evaluation.evaluate:evaluate",
        "evaluate",
        reads={"data": course.checked, "subject": models[name], "reference": reference, "reference_results": against},
        title=f"test {name}",
        data=course.data,
        subject=models[name].path,
        reference=reference.path,
        reference_results=against.path if against else None,
        is_policy=name != "base",
        settings=course.config.evaluate,
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


def check(config: Config, places: Places) -> list[str]:
    """Refuse before anything runs what can be seen to be wrong, and return notes for the user.

    Raises:
        RequestError: the base model, or the judge, that is asked for cannot be used.
    """
    is_judged = is_learnt_from_judge(config) or config.evaluate.judge
    if is_judged:
        check_judge_settings(config, places)
    if config.model.base != TINY:
        from models.load import check_base

        check_base(config.model.base)
    longest = {"evaluate.max_new_tokens": config.evaluate.max_new_tokens}
    if "ppo" in stages_of(config):
        longest["ppo.max_new_tokens"] = config.ppo.max_new_tokens
    for name, tokens in longest.items():
        if tokens >= config.model.context:
            raise RequestError(f"{name} must be less than model.context ({config.model.context}), got {tokens}")
    return check_judge_server(config, places) if is_judged else []
