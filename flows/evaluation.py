"""The stages that measure: each model on the held-out questions, and what rewards meant."""

from collections.abc import Mapping

from flows.feedback import Feedback
from flows.run import Run
from posttrain.settings.config import Config
from tasks.rewards.interface import RewardSource
from tasks.workspace.artifacts import Artifact
from tasks.workspace.keys import Contents, NotDeciding

KEPT = (
    *(f"{name}{end}" for name in ("accuracy", "accuracy_sampled") for end in ("", "_low", "_high")),
    "response_tokens",
    "finished",
    "reference_loss",
)
"""Figures of each evaluation that stand on the pipeline's own run as soon as they are known, as far as they are defined."""


def run_evaluations(run: Run, models: Mapping[str, Artifact], *, done: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Evaluate models on the held-out questions, the one that the method starts from first: the others stand beside it.

    Their figures stand on the pipeline's own run at once, so that a run which ends early leaves them.

    Args:
        run: the pipeline.
        models: by name; the start is among them.
        done: evaluations of those that have one already.
    """
    start = run.config.row.starts_from
    results = dict(done)
    for name in (start, *models):
        if name not in results:
            results[name] = evaluate(run, models, name, baseline=results.get(start))
            found = results[name].metrics
            run.keep_metrics({f"eval/{name}/{figure}": found[figure] for figure in KEPT if found.get(figure) is not None})
    return {name: results[name] for name in models}


def measured_so_far(run: Run) -> str:
    """Return what a pipeline that ends early has measured, in a line; "" for nothing."""
    names = [name for name in run.config.row.models if run.has_run(f"evaluate-{name}")]
    if not names:
        return ""
    told = ", ".join(f"{name} {_accuracy(run.artifact(f'evaluate-{name}').metrics)}" for name in names)
    return f"measured before it ended: {told}; kept in MLflow on the run of this pipeline, as eval/{names[0]}/…: make ui"


def _accuracy(metrics: Mapping[str, float]) -> str:
    if metrics.get("accuracy") is None:
        return f"{metrics['finished']:.0%} of the responses finished (no answers to check)"
    estimate, low, high = (100 * metrics[f"accuracy{end}"] for end in ("", "_low", "_high"))
    return f"{estimate:.1f} % [{low:.1f}, {high:.1f}] right"


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
        max_questions=config.evaluate.max_questions,
        seed=config.seed,
    )


def audit_title(config: Config) -> str:
    """Return what stands over the audit's picture."""
    return f"{config.method} on {config.data.name}, seed {config.seed}"
