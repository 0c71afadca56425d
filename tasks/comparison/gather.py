"""From finished pipelines to the inputs of a comparison: per-question results, costs, curves, and what each run saw.

A report names its stages by key, and the stage store holds what they left: `problems.jsonl` of evaluations, `curves.jsonl` of
training, `audit.json`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.comparison.results import Design, Question, SeedResult
from posttrain.errors import DataError
from posttrain.methods import METHODS
from posttrain.settings.config import Config
from posttrain.statistics.clusters import Array
from tasks.comparison.curves import learning_curve, proxy_points
from tasks.comparison.saw import what_it_saw
from tasks.workspace.jsonl import PROBLEMS, read_rows
from tasks.workspace.paths import Paths

Rows = Sequence[Mapping[str, Any]]
METRICS = {
    "accuracy": ("held-out questions answered right by greedy decoding", "share", True),
    "accuracy_sampled": ("held-out questions answered right, averaged over samples", "share", True),
    "reference_loss": ("loss of the held-out completions, nats a token", "nats", False),
}
"""What decides: its title, its unit, and whether more is better."""
COSTS = (
    "train_seconds",
    "generated_tokens",
    "trained_tokens",
    "critic_tokens",
    "forward_tokens",
    "flops",
    "labels",
    "peak_rss_mb",
)


def evaluation_rows(paths: Paths, report: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    """Return a pipeline's evaluation of one of its models, a row a held-out question."""
    return list(read_rows(stage_folder(paths, report, f"evaluate-{model}") / PROBLEMS))


def stage_folder(paths: Paths, report: Mapping[str, Any], stage: str) -> Path:
    """Return where a stage of a report lies.

    Raises:
        DataError: the report has no such stage, or the store has lost it.
    """
    key = next((one["key"] for one in report["stages"] if one["name"] == stage), None)
    folder = paths.stages / stage / str(key)
    if key is None or not folder.is_dir():
        raise DataError(
            f"the report {report['pipeline_id']} needs its stage {stage}, which is not in {paths.stages}: it was removed. "
            "Give the same command again; it makes what is missing"
        )
    return folder


def choose_metric(asked: str, rows: Rows) -> str:
    """Return the metric that decides: the one that was asked for, else accuracy where a question has answers, else the loss.

    Raises:
        DataError: no question has what the metric needs.
    """
    has_answers, has_references = any(row["answers"] for row in rows), any(row.get("reference") for row in rows)
    name = asked if asked != "auto" else "accuracy" if has_answers or not has_references else "reference_loss"
    if name == "reference_loss" and not has_references:
        raise DataError(
            "compare.metric=reference_loss needs completions of held-out questions that fit into the context; there are none. "
            "Import some, or take compare.metric=accuracy"
        )
    if name != "reference_loss" and not has_answers:
        raise DataError(
            "the held-out questions have neither answers nor completions to compare with, so nothing tells which method is "
            "better. Import some of either: make import FORMAT=… FILE=… NAME=…"
        )
    return name


def counted(rows: Rows, metric: str) -> list[int]:
    """Return the places of the questions that a metric is defined for."""
    field = "reference" if metric == "reference_loss" else "answers"
    return [place for place, row in enumerate(rows) if row.get(field)]


def design_of(metric: str, config: Config, *, budget: Mapping[str, Any], tune: int) -> Design:
    """Return what is declared before anything is compared."""
    title, unit, is_more_better = METRICS[metric]
    return Design(
        metric=metric,
        metric_title=title,
        unit=unit,
        higher_is_better=is_more_better,
        reference=config.compare.reference,
        margin=config.compare.margin,
        budget=budget,
        tune=tune,
    )


def level_of(paths: Paths, report: Mapping[str, Any], metric: str) -> float | None:
    """Return a metric of a pipeline's own method, over the questions that have it, higher is better; None where none has."""
    rows = evaluation_rows(paths, report, METHODS[report["method"]].name)
    places = counted(rows, metric)
    return float(np.mean(_scores([rows[place] for place in places], metric))) if places else None


def questions_of(rows: Rows, places: Sequence[int], groups: Mapping[str, str]) -> list[Question]:
    """Return the questions that are compared on; `groups` by id, of those that have one."""
    return [
        Question(
            id=str(rows[place]["id"]),
            prompt=_as_text(rows[place]["prompt"]),
            answers=tuple(rows[place]["answers"]),
            group=groups.get(rows[place]["id"]),
        )
        for place in places
    ]


def families(paths: Paths, report: Mapping[str, Any]) -> dict[str, str]:
    """Return the family of each held-out question that has one, by id, as the data gate let them through."""
    rows = read_rows(stage_folder(paths, report, "validate") / "held_out.jsonl")
    return {str(row["id"]): str(row["family"]) for row in rows if row.get("family") is not None}


def _as_text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(f"{one['role']}: {one['content']}" for one in prompt)


def refuse_other_questions(tables: Mapping[str, Rows]) -> None:
    """Refuse evaluations of different held-out questions; `tables` by what people call the run.

    Raises:
        DataError: two of them differ, and both are named.
    """
    first = next(iter(tables))
    for name, rows in tables.items():
        ours, theirs = ([(row["id"], row["prompt"], row["answers"]) for row in table] for table in (tables[first], rows))
        if ours != theirs:
            raise DataError(
                f"{first} was evaluated on {len(ours):,} held-out questions and {name} on {len(theirs):,}, which are not the "
                "same: they do not compare. Run both on one version of the data, with equal settings of evaluate"
            )


def refuse_other_data(reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse runs on different versions of the data; `reports` by what people call the run.

    Raises:
        DataError: two of them differ, and both are named.
    """
    first = next(iter(reports))
    for name, report in reports.items():
        ours, theirs = ((one["dataset"], one["data_md5"]) for one in (reports[first], report))
        if ours != theirs:
            raise DataError(
                f"{first} ran on {ours[0]} {ours[1]}, and {name} on {theirs[0]} {theirs[1]}: they do not compare. The "
                "data changed while they were compared; give the same command again"
            )


def seed_result(
    paths: Paths,
    report: Mapping[str, Any],
    config: Config,
    *,
    metric: str,
    places: Sequence[int],
    command: str,
    reward: Sequence[Sequence[float]] | None = None,
    reward_by: str | None = None,
) -> SeedResult:
    """Return what a comparison takes of one pipeline.

    Args:
        paths: of the repository.
        report: of the pipeline.
        config: its settings.
        metric: that decides.
        places: of the questions that are compared on, among those evaluated.
        command: that runs the pipeline again.
        reward: what a reward model gave each sample, (questions evaluated, samples).
        reward_by: whose scores those are, in words.
    """
    method = METHODS[report["method"]]
    table = evaluation_rows(paths, report, method.name)
    rows = [table[place] for place in places]
    is_checked = all(row["answers"] for row in rows)
    samples = min(len(row["sampled"]) for row in rows)
    evaluated = json.loads((stage_folder(paths, report, f"evaluate-{method.name}") / "stage.json").read_text(encoding="utf-8"))
    costs = {name: report["metrics"][f"cost/{name}"] for name in COSTS if report["metrics"].get(f"cost/{name}") is not None}
    costs["evaluate_seconds"] = evaluated["costs"].get("evaluate_seconds")
    return SeedResult(
        seed=report["seed"],
        scores=_scores(rows, metric),
        sampled=np.array([[float(one["is_right"]) for one in row["sampled"]] for row in rows]) if is_checked else None,
        extracted=[[one["extracted"] for one in row["sampled"]] for row in rows] if is_checked and samples else None,
        reward=None if reward is None or not is_checked else np.array([reward[place] for place in places]),
        reward_by=reward_by,
        texts=[row["greedy"]["text"] for row in rows],
        is_right=[bool(row["greedy"]["is_right"]) for row in rows] if is_checked else None,
        metrics=evaluated["metrics"],
        costs={name: value for name, value in costs.items() if value is not None},
        curves=learning_curve(paths, report, costs),
        proxy=proxy_points(paths, report),
        run=_run_of(report, command),
        saw=what_it_saw(paths, report, config),
        notes=tuple(report["notes"]),
    )


def _scores(rows: Rows, metric: str) -> Array:
    """Return the metric of each question, higher is better: a loss is negated."""
    if metric == "reference_loss":
        return np.array([-row["reference"]["nats"] / row["reference"]["tokens"] for row in rows])
    if metric == "accuracy_sampled":
        return np.array([np.mean([float(one["is_right"]) for one in row["sampled"]]) for row in rows])
    return np.array([float(row["greedy"]["is_right"]) for row in rows])


def _run_of(report: Mapping[str, Any], command: str) -> dict[str, Any]:
    return {
        "pipeline_id": report["pipeline_id"],
        "run_id": report["mlflow"]["run_id"],
        "command": command,
        "report": f"reports/{report['pipeline_id']}.md",
        "git_commit": report["git_commit"],
        "data_md5": report["data_md5"],
        "model_uri": report["model"]["uri"],
        "stages": {stage["name"]: stage["key"] for stage in report["stages"]},
    }
