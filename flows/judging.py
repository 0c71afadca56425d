"""The AI judge in a pipeline: its practice, its place in a stage's key, what it rewards and compares, what is checked before."""

from collections.abc import Mapping
from dataclasses import replace

from flows.bases import locate_judge
from flows.run import Run
from posttrain.judges.reviews import reviewer
from posttrain.settings.config import Config
from tasks.base_model.identity import TINY
from tasks.judges.identity import BASE, judge_digest, read_template
from tasks.judges.load import JudgeSource
from tasks.workspace.artifacts import Artifact
from tasks.workspace.keys import NotDeciding
from tasks.workspace.paths import Paths

WORLD = "world"
"""The dataset whose reviews can be written here."""
TEMPLATES = "judges"
"""Folder of the judge's prompts that have a name, below `data/`."""


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
        "tasks.judges.practice:practise_judge",
        **run.network,
        data=run.data,
        base=base,
        settings=run.config.judge.only("practice_steps", "misread_verbs", "slip_share"),
    )


def judge_source(run: Run, base: Artifact) -> JudgeSource:
    """Return the judge as an argument of stages, after its practice where it practises."""
    judge, network, paths = practise_judge(run, base), run.network, run.paths
    return JudgeSource(
        settings=run.config.judge,
        base=judge.path,
        base_digest=judge.digest,
        tokenizer=network["tokenizer"].path,
        model=run.config.model,
        templates=paths.data / TEMPLATES,
        cache=paths.store / "judge",
        context=network["context"],
    )


def compare_by_judge(run: Run, models: Mapping[str, Artifact], results: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Let the judge compare held-out answers with those of the method's start, where `evaluate.judge` asks for it.

    Compared is the method's own model; where that is the start itself (`METHOD=sft`), the base is.
    """
    method = run.config.row
    if not run.config.evaluate.judge:
        return {}
    name = judged_model(run.config)
    return {
        name: run.stage(
            f"judge-{name}",
            "tasks.evaluation.judge_win_rate:compare",
            judge=replace(judge_source(run, models["base"]), mode="pairwise"),
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


def check_judge_settings(config: Config, paths: Paths) -> None:
    """Refuse before anything runs a template that is none, or a judge that cannot be meant.

    Raises:
        RequestError: naming the setting.
    """
    settings = config.judge
    reviewer(settings.misread_verbs, slip_share=settings.slip_share)
    folder = paths.data / TEMPLATES
    if is_fed_by_judge(config):
        read_template(settings, folder=folder, mode="pointwise" if config.row.learns_from.reward == "judge" else None)
    if config.evaluate.judge:
        read_template(settings, folder=folder, mode="pairwise", needed_by="evaluate.judge")
    if settings.backend == "local" and settings.model != BASE:
        locate_judge(paths, settings)
    judge_digest(settings, base_digest="")


def is_judged(config: Config) -> bool:
    """Return whether a pipeline asks a judge: to learn from it, or to compare held-out answers."""
    return is_fed_by_judge(config) or config.evaluate.judge


def is_fed_by_judge(config: Config) -> bool:
    """Return whether a method learns from what a judge says."""
    return config.row.learns_from.labels_by == "judge" or config.labels.source == "judge"


def check_judge_server(config: Config, paths: Paths) -> list[str]:
    """Ask the judge's server for its model, where the judge is one, and return notes for the user.

    Raises:
        RequestError: it cannot be asked.
    """
    if config.judge.backend != "openai":
        return []
    from tasks.judges.check import check_server

    return check_server(config.judge, cache=paths.store / "judge")
