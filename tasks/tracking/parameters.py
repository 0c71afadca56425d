"""Which settings become a run's parameters: those that something of it reads, so that a comparison of runs lists no others."""

from collections.abc import Mapping
from typing import Any

from posttrain.methods import METHODS, Method
from posttrain.settings.config import Config

NAMED_REWARD = ("named", "grader")
"""Kinds of reward that `ppo.reward` names; the others are the pipeline's own."""
OF_A_NAMED_REWARD = ("ppo.reward", "ppo.partial_credit")
ARGUMENTS = ("seed", "device", "question_share")
"""Of the names without a section that stages are keyed by, those that say what no setting of theirs does.

The others repeat a setting (`dataset`, `max_new_tokens`), follow from one (`context`), or are a stage's own (`is_policy`).
"""
OF_JUDGE_STAGES = ("practice_steps", "misread_verbs", "slip_share", "own_questions")
"""Settings of the judge that stages of their own read, where those run."""


def parameters_of_request(config: Config) -> dict[str, Any]:
    """Return what decides which stages run, and what enters their keys by a digest, before any of them has run."""
    method, asked = config.row, {"method": config.method, "seed": config.seed, "data.name": config.data.name}
    if method.is_labelled:
        asked["labels.source"] = config.labels.source
        if config.labels.file:
            asked["labels.file"] = config.labels.file
    is_fed = "judge" in (method.learns_from.labels_by, method.learns_from.reward, asked.get("labels.source"))
    if config.evaluate.judge:
        asked["evaluate.judge"] = True
    if is_fed or config.evaluate.judge:
        names = (name for name in type(config.judge).deciding() if name not in OF_JUDGE_STAGES)
        asked |= {f"judge.{name}": getattr(config.judge, name) for name in names}
    return asked


def parameters_of_stage(settings: Mapping[str, Any], method: Method | None) -> dict[str, Any]:
    """Return what a stage's own run has as parameters: what its key holds, but a named reward where the method names none."""
    is_named = method is None or method.learns_from.reward in NAMED_REWARD
    return {name: value for name, value in settings.items() if is_named or name not in OF_A_NAMED_REWARD}


def parameters_from_stage(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a stage's parameters its pipeline's run gets too: settings, and the arguments in `ARGUMENTS`."""
    return {name: value for name, value in parameters.items() if "." in name or name in ARGUMENTS}


def method_of(tags: Mapping[str, str]) -> Method | None:
    """Return the row of a run's method; None for a run of a method that there is no more."""
    return METHODS.get(tags.get("posttrain.method", ""))
