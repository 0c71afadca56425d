"""Tasks of lm-evaluation-harness beside the held-out questions (`evaluate.tasks`): what a method costs elsewhere."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from flows.run import Run
from tasks.evaluation.harness import tasks_digest
from tasks.workspace.artifacts import Artifact
from tasks.workspace.keys import NotDeciding


def tasks_of(names: Iterable[str], *, asked: str) -> list[str]:
    """Return the stages that ask these models."""
    return [f"tasks-{name}" for name in names] if asked else []


def run_tasks(run: Run, models: Mapping[str, Artifact], *, done: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Ask models the tasks, the one that the method starts from first; nothing where none are named.

    Args:
        run: the pipeline.
        models: by name; the start is among them.
        done: what those gave that were asked already.
    """
    asked, method = run.config.evaluate.tasks, run.config.row
    results = dict(done)
    for name in (method.starts_from, *models) if asked else ():
        if name in results or (method.is_prompted and name == method.name):
            continue
        results[name] = run.stage(
            f"tasks-{name}",
            "tasks.evaluation.harness:evaluate_tasks",
            read={"task_files": tasks_digest(asked), "lm_eval": version("lm_eval")},
            **run.network,
            title=NotDeciding(f"tasks {name}"),
            subject=models[name],
            baseline=results.get(method.starts_from),
            tasks=asked,
            questions=run.config.evaluate.task_questions,
            batch_size=NotDeciding(run.config.evaluate.batch_size),
        )
    return results


def task_figures(metrics: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return what a stage `tasks-<model>` gave, by task: `questions`, `score`, and `gain` where there is one, with bounds."""
    ends = (("estimate", ""), ("low", "_low"), ("high", "_high"))
    found = {}
    for task in (name.removesuffix("_questions") for name in metrics if name.endswith("_questions")):
        figures: dict[str, Any] = {
            "questions": int(metrics[f"{task}_questions"]),
            "score": {name: metrics[f"{task}{end}"] for name, end in ends},
        }
        if f"{task}_gain" in metrics:
            figures["gain"] = {name: metrics[f"{task}_gain{end}"] for name, end in ends}
        found[task] = figures
    return found
