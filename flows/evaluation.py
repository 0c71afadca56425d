"""The stages that measure: each model on the held-out questions, and what rewards meant."""

from collections.abc import Mapping

from flows.feedback import Feedback
from flows.run import Run
from posttrain.settings.config import Config
from tasks.rewards.interface import RewardSource
from tasks.workspace.artifacts import Artifact
from tasks.workspace.keys import Contents, NotDeciding


def run_evaluations(run: Run, models: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Evaluate every model on the held-out questions, the one that the method starts from first: the others stand beside it."""
    start = run.config.row.starts_from
    results = {start: evaluate(run, models, start, baseline=None)}
    for name in models:
        if name != start:
            results[name] = evaluate(run, models, name, baseline=results[start])
    return {name: results[name] for name in models}


def choose_part(run: Run) -> None:
    """Part the held-out questions where not all of them are asked, before anything is trained."""
    if run.config.evaluate.part != "all":
        run.stage(
            "part",
            "tasks.evaluation.part:part",
            data=run.data,
            settings=run.config.evaluate.only("part", "development_share"),
        )


def evaluate(run: Run, models: Mapping[str, Artifact], name: str, *, baseline: Artifact | None) -> Artifact:
    """Evaluate one model on the held-out questions, beside the one that the method starts from."""
    return run.stage(
        f"evaluate-{name}",
        "tasks.evaluation.evaluate:evaluate",
        **run.network,
        title=NotDeciding(f"test {name}"),
        data=run.data,
        part=run.artifact("part") if run.has_run("part") else None,
        subject=models[name],
        reference=models[run.config.row.starts_from],
        reference_results=baseline,
        is_policy=name in run.config.row.policies,
        settings=run.config.evaluate,
    )


def run_audit(run: Run, trained: Artifact, feedback: Feedback, reward: RewardSource) -> Artifact:
    """Hold what a method was rewarded by against gold, over how far it went."""
    config = run.config
    return run.stage(
        "audit",
        "tasks.evaluation.audit:audit",
        title=audit_title(config),
        proxy_name=reward.who,
        samples=feedback.samples,
        labels=feedback.labels,
        reward=feedback.reward_model,
        ppo=Contents(trained.path, trained.key),  # its curve is read, which its digest does not cover
        tokenizer=run.network["tokenizer"],
        settings=config.ppo.only("patience"),
        seed=config.seed,
    )


def audit_title(config: Config) -> str:
    """Return what stands over the audit's picture."""
    return f"{config.method} on {config.data.name}, seed {config.seed}"
