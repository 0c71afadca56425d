"""The stages that make models: tokenizer and base, the gate before them, SFT, and each method's own training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.feedback import Feedback, check_feedback, question_share
from flows.judging import judge_source
from flows.run import Run
from posttrain.errors import DataError, RequestError
from posttrain.records import Demonstration, Question
from posttrain.report.audit import WHO
from posttrain.settings.config import Config
from posttrain.settings.section import Section
from tasks.base_model.identity import TINY, base_digest
from tasks.data.dvc import DatasetVersion
from tasks.feedback.given import GivenLabels
from tasks.rewards.interface import RewardSource
from tasks.rewards.sources.judge import JudgeReward
from tasks.rewards.sources.model import ModelReward
from tasks.rewards.sources.table import reward_source
from tasks.tracking.registry import local_path
from tasks.validation.suite import suites_digest
from tasks.workspace.artifacts import Artifact
from tasks.workspace.jsonl import read_rows, required
from tasks.workspace.keys import Contents, NotDeciding, digest_of

TOKENIZED = ("corpus", "demonstrations", "questions")
"""Roles that the tiny base's tokenizer is made of."""
TRAINED_ON = "trained_on.json"
"""Ids of the questions that a reward model learnt from."""


def named_reward(run: Run) -> RewardSource | None:
    """Return what `ppo.reward` names, before anything is trained; None for a method that does not ask it.

    Raises:
        RequestError: it is not there, or is none that the method takes.
    """
    return checked_reward(run.config, registered=lambda uri: local_path(run.ledger, uri, say=run.say))


def checked_reward(config: Config, *, registered: Callable[[str], Path]) -> RewardSource | None:
    """Return what `ppo.reward` names; `registered` gives the folder of a registered model.

    Raises:
        RequestError: it is not there, or is none that the method takes.
    """
    signal = config.row.learns_from
    if signal.reward not in ("named", "grader"):
        return None
    source = reward_source(config.ppo.reward, partial_credit=config.ppo.partial_credit, registered=registered)
    if config.ppo.critic_from == "reward_model" and not source.is_reward_model:
        raise RequestError(f"ppo.critic_from=reward_model needs a reward model, and ppo.reward={config.ppo.reward} is none")
    if signal.reward == "grader" and not source.is_checkable_by_program:
        raise RequestError(
            f"method {config.method} takes its reward from a grader, and ppo.reward={config.ppo.reward} is none. "
            "For any other reward: METHOD=ppo"
        )
    return source


def make_tokenizer(run: Run, data: DatasetVersion) -> Artifact:
    """Make or load the tokenizer."""
    config = run.config
    files = {role: data.files[role] for role in TOKENIZED if role in data.files} if config.model.base == TINY else {}
    return run.stage(
        "tokenizer",
        "tasks.base_model.tokenizer:make_tokenizer",
        read={"base": base_digest(config.model)},
        data=Contents(data.folder, digest_of(files)),
        dataset=data.name,
        model=config.model,
        settings=config.tiny,
    )


def validate(run: Run, data: DatasetVersion) -> Artifact:
    """Let through what is fit to train on, or stop."""
    suites = run.paths.data / "expectations"
    return run.stage(
        "validate",
        "tasks.validation.gate:pass_gate",
        data=Contents(data.folder, digest_of(data.files)),
        dataset=data.name,
        tokenizer=run.network["tokenizer"],
        context=run.network["context"],
        settings=run.config.validation,
        expectations=Contents(suites, suites_digest(suites)),
        findings=NotDeciding(run.paths.findings("validation", data.name)),
    )


def check_roles(config: Config, data: Path, people: GivenLabels | None = None) -> None:
    """Refuse before training what would fail after it: a method without its data, or fewer than two held-out questions."""
    method = config.row
    if len(required(data, "held_out", Question, why="models are evaluated on")) < 2 or config.evaluate.max_questions == 1:
        raise DataError(
            "one held-out question has no interval: give two at least (split.held_out in params.yaml, evaluate.max_questions)"
        )
    if method.starts_from == "sft":
        required(data, "demonstrations", Demonstration, why="SFT imitates")
    if "demonstrations" in method.learns_from.needs:
        required(data, "demonstrations", Demonstration, why=f"{method.title} shows")
    if "questions" in method.learns_from.needs:
        asks = method.trainer.upper() if method.is_rewarded else method.title
        questions = required(data, "questions", Question, why=f"{asks} asks")
        if method.is_sampled and not any(one.answers for one in questions):
            raise DataError(
                f"the questions of {config.data.name} have no answers, so nobody can tell which samples {method.title} is to "
                "learn from. Import questions with answers; without them, METHOD=dpo learns from preferences"
            )
    if method.is_labelled:
        check_feedback(config, data, people)


def make_base(run: Run) -> Artifact:
    """Pretrain the tiny base, or name the one asked for."""
    config = run.config
    return run.stage(
        "base",
        "tasks.base_model.pretrain:make_base",
        read={"base": base_digest(config.model)},
        data=run.data,
        tokenizer=run.network["tokenizer"],
        model=config.model,
        tiny_settings=config.tiny,
        settings=config.pretrain,
        seed=config.seed,
    )


def train_sft(run: Run, base: Artifact) -> Artifact:
    """Fine-tune the base on demonstrations."""
    return run.stage(
        "sft", "tasks.training.sft:train", trains=True, **run.network, data=run.data, base=base, settings=run.config.sft
    )


def train_method(run: Run, start: Artifact, feedback: Feedback, reward: RewardSource | None) -> Artifact:
    """Train the method's own model, from the model in `start`, on what the method learns from."""
    method = run.config.row
    artifact = run.stage(
        method.trainer,
        f"tasks.training.{method.trainer}:train",
        resumable=method.is_rewarded,
        trains=True,
        **run.network,
        start=start,
        **trainer_settings(run.config),
        **LEARNT_FROM[method.learns_from.gives](run, feedback, reward),
    )
    done = run.done[-1]
    if method.is_rewarded and not done.cached:
        run.ledger.log_table(done.run_id, list(read_rows(artifact.path / "samples.jsonl")), "samples.json")
    return artifact


def own_reward(run: Run, base: Artifact, feedback: Feedback) -> RewardSource:
    """Return the reward that the pipeline makes itself: its reward model, or the judge."""
    learnt = feedback.reward_model
    if not learnt:
        return JudgeReward.of(judge_source(run, base))
    who = WHO[feedback.source]
    return ModelReward(name="the reward model", path=learnt.path / "model", weights=learnt.digest, learnt_from=who)


def trainer_settings(config: Config) -> dict[str, Any]:
    """Return the sections that the method's trainer gets: its own, or its loop's and its own; adjusted where the row says so."""
    method = config.row
    settings: Section = getattr(config, method.loop or method.trainer)
    if method.adjusts:
        other = getattr(config, method.adjusts)
        settings = settings.model_copy(update={name: getattr(other, name) for name in type(other).model_fields})
    return {"settings": settings, **({method.trainer: getattr(config, method.trainer)} if method.loop else {})}


def check_groups(config: Config) -> None:
    """Refuse an update that is no whole number of groups, for a trainer that compares the responses to one question.

    Raises:
        RequestError: it is none.
    """
    method = config.row
    size = getattr(getattr(config, method.trainer), "num_generations", 1) if method.loop else 1
    if config.ppo.episodes % size:
        raise RequestError(
            f"ppo.episodes must be a multiple of {method.trainer}.num_generations ({size}), got {config.ppo.episodes}"
        )


def _labels(run: Run, feedback: Feedback, reward: RewardSource | None) -> dict[str, Any]:
    return {"labels": feedback.labels}


def _rewards(run: Run, feedback: Feedback, reward: RewardSource | None) -> dict[str, Any]:
    """Return the reward, and which questions are asked: those that no reward model has learnt from."""
    learnt = feedback.reward_model
    return {
        "data": run.data,
        "reward": reward,
        "question_share": question_share(run.config, run.data.path),
        "excluded_questions": learnt and Contents(learnt.path / TRAINED_ON, learnt.digest),
    }


def _demonstrations(run: Run, feedback: Feedback, reward: RewardSource | None) -> dict[str, Any]:
    return {"data": run.data, "max_new_tokens": run.config.evaluate.max_new_tokens}


def _samples(run: Run, feedback: Feedback, reward: RewardSource | None) -> dict[str, Any]:
    return {"data": run.data, "samples": feedback.samples}


LEARNT_FROM: dict[str, Callable[[Run, Feedback, RewardSource | None], dict[str, Any]]] = {
    "demonstrations": _demonstrations,
    "labels": _labels,
    "reward": _rewards,
    "samples": _samples,
}
"""Arguments of a trainer, by what its method's signal gives."""
