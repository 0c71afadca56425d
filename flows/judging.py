"""The AI judge in a pipeline: its practice, its place in a stage's key, what it rewards and compares, what is checked before."""

from collections.abc import Mapping
from typing import Any

from flows.run import Run
from posttrain.judges.reviews import reviewer
from posttrain.judges.templates import Mode
from posttrain.settings.config import Config
from tasks.base_model.identity import TINY
from tasks.judges.identity import BASE, judge_digest, read_template
from tasks.rewards.table import RewardSource
from tasks.workspace.artifacts import Artifact
from tasks.workspace.keys import NotDeciding, digest_of
from tasks.workspace.paths import Places

WORLD = "world"
"""The dataset whose reviews can be written here."""
TEMPLATES = "judges"
"""Folder of the judge's prompts that have a name, below `data/`."""
ASKED = ("backend", "model", "mode", "reasoning", "samples", "max_tokens", "budget")
"""Settings of the judge that decide what it says, beside its template and its limits."""
LIMITS = ("max_flips", "min_conviction", "max_unreadable")
"""Settings of the judge that decide whether its opinion counts."""


def is_practising(config: Config) -> bool:
    """Return whether the judge that is called `base` practises on reviews first: on the tiny world, with the tiny base."""
    is_tiny_world = config.data.name == WORLD and config.model.base == TINY
    return is_tiny_world and config.judge.backend == "local" and config.judge.model == BASE and config.judge.practice_steps > 0


def practise_judge(run: Run, base: Artifact) -> Artifact:
    """Return the judge that is called `base`: the base itself, or on the tiny world the base after practice on reviews."""
    if not is_practising(run.config):
        return base
    return run.stage(
        "judge",
        "tasks.judges.practice:practise_judging",
        **run.network,
        data=run.data,
        base=base,
        settings=run.config.judge.only("practice_steps", "misread_verbs", "slip_share"),
    )


def judge_arguments(run: Run, judge: Artifact, *, mode: Mode | None, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a stage is given that asks the judge.

    Args:
        run: of the pipeline.
        judge: what is called `base`, see `practise_judge`.
        mode: in which the judge is asked whatever `judge.mode` says; None: as that says.
        also: settings of the judge that decide this stage beside those that decide what it says.
    """
    config, templates = run.config, run.places.data / TEMPLATES
    return {
        "read": {"judge": judge_digest(config.judge, base_digest=judge.digest), "template": _template(run, mode)},
        "base": judge if config.judge.model == BASE else NotDeciding(judge.path),
        "settings": config.judge.only(*ASKED, *LIMITS, "template", *also),
        "templates": NotDeciding(templates),
        "cache": NotDeciding(run.places.store / "judge"),
    }


def _template(run: Run, mode: Mode | None) -> str:
    return read_template(run.config.judge, folder=run.places.data / TEMPLATES, mode=mode).digest


def reward_of_judge(run: Run, base: Artifact) -> RewardSource:
    """Return the reward that the judge itself gives (d-RLAIF)."""
    config, network = run.config, run.network
    judge = practise_judge(run, base)
    asked = config.judge.only(*ASKED, *LIMITS)
    decided_by = {
        "judge": judge_digest(config.judge, base_digest=judge.digest),
        "template": _template(run, "pointwise"),
        **{name: getattr(asked, name) for name in (*ASKED, *LIMITS)},
    }
    return RewardSource(
        kind="judge",
        name=f"the judge {config.judge.model}",
        digest=digest_of(decided_by),
        judge={
            "settings": config.judge,
            "base": judge.path,
            "tokenizer": network["tokenizer"].path,
            "model": config.model,
            "templates": run.places.data / TEMPLATES,
            "cache": run.places.store / "judge",
            "context": network["context"],
        },
    )


def compare_by_judge(run: Run, models: Mapping[str, Artifact], results: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Let the judge compare held-out answers with those of the method's start, where `evaluate.judge` asks for it.

    Compared is the method's own model; where that is the start itself (`METHOD=sft`), the base is.
    """
    method = run.config.row
    if not run.config.evaluate.judge:
        return {}
    judge = practise_judge(run, models["base"])
    name = judged_model(run.config)
    return {
        name: run.stage(
            f"judge-{name}",
            "tasks.evaluation.judge_win_rate:compare",
            **run.network,
            **judge_arguments(run, judge, mode="pairwise"),
            results=results[name],
            start_results=results[method.starts_from],
            model_uri=NotDeciding(models[name].uri),
            start_uri=NotDeciding(models[method.starts_from].uri),
        )
    }


def judged_model(config: Config) -> str:
    """Return the model whose held-out answers a judge compares with the start's."""
    method = config.row
    return method.name if method.name != method.starts_from else "base"


def check_judge_settings(config: Config, places: Places) -> None:
    """Refuse before anything runs a template that is none, or a judge that cannot be meant.

    Raises:
        RequestError: naming the setting.
    """
    settings = config.judge
    reviewer(settings.misread_verbs, slip_share=settings.slip_share)
    folder = places.data / TEMPLATES
    if is_fed_by_judge(config):
        read_template(settings, folder=folder, mode="pointwise" if config.row.learns_from.reward == "judge" else None)
    if config.evaluate.judge:
        read_template(settings, folder=folder, mode="pairwise", needed_by="evaluate.judge")
    if settings.backend == "local" and settings.model != BASE:
        from models.load import check_base

        check_base(settings.model, setting="judge.model", default=BASE)
    judge_digest(settings, base_digest="")


def is_fed_by_judge(config: Config) -> bool:
    """Return whether a method learns from what a judge says."""
    return config.row.learns_from.labels_by == "judge" or config.labels.source == "judge"


def check_judge_server(config: Config, places: Places) -> list[str]:
    """Ask the judge's server for its model, where the judge is one, and return notes for the user.

    Raises:
        RequestError: it cannot be asked.
    """
    if config.judge.backend != "openai":
        return []
    from tasks.judges.check import check_server

    return check_server(config.judge, cache=places.store / "judge")
