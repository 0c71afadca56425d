"""Best of k: a reward model that was trained in the comparison scores the held-out samples of every method of its seed.

It is a stage with a key, made once a seed and then taken from the store. It belongs to no pipeline, so it has no run in MLflow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from flows.jobs import Job
from flows.run import keyed
from posttrain.methods import METHODS
from posttrain.settings.config import Config
from tasks.workspace.artifacts import Artifact, Log, Outcome, find, make
from tasks.workspace.jsonl import read_rows
from tasks.workspace.keys import Contents
from tasks.workspace.paths import Paths

COMPUTE = "tasks.evaluation.best_of:score"
REWARD_MODEL = "reward_model"
"""The stage that trains one."""


@dataclass
class Scores:
    """What the reward model of one method said of all methods' samples.

    Attributes:
        who: whose scores they are, in words.
        rows: scores of the samples of each held-out question, by seed and method.
    """

    who: str
    rows: dict[tuple[int, str], list[list[float]]] = field(default_factory=dict)

    def of(self, job: Job) -> list[list[float]] | None:
        """Return the scores of one job's samples; None where its seed has no reward model."""
        return self.rows.get((job.seed, job.method))


def score_samples(paths: Paths, reports: Mapping[Job, Mapping[str, Any]], configuration: Callable[..., Config]) -> Scores | None:
    """Return the scores of all held-out samples; None where no method of the comparison trained a reward model.

    Where several did, the first one's in the order of the methods scores them all: people's labels come before a judge's there.
    """
    compared = {job.method for job in reports}
    trained = [name for name in METHODS if name in compared and REWARD_MODEL in METHODS[name].stages]
    if not trained:
        return None
    scores = Scores(who=f"the reward model of {METHODS[trained[0]].title}")
    for seed in dict.fromkeys(job.seed for job in reports):
        of_seed = {job: report for job, report in reports.items() if job.seed == seed}
        teacher = {job.method: report for job, report in of_seed.items()}.get(trained[0])
        if teacher is not None:
            _add(scores, paths, of_seed, teacher)
    return scores if scores.rows else None


def _add(scores: Scores, paths: Paths, of_seed: Mapping[Job, Mapping[str, Any]], teacher: Mapping[str, Any]) -> None:
    tokenizer = _stage(paths, teacher, "tokenizer")
    evaluations = {job.method: _stage(paths, report, f"evaluate-{job.method}") for job, report in of_seed.items()}
    arguments: dict[str, Any] = {
        "tokenizer": Contents(tokenizer.path / "tokenizer", tokenizer.digest),
        "reward": _stage(paths, teacher, REWARD_MODEL),
        **dict(sorted(evaluations.items())),
    }
    inputs, key = keyed("score", COMPUTE, read=None, arguments=arguments)

    def compute(out: Path, log: Log) -> Outcome:
        module, _, function = COMPUTE.partition(":")
        outcome: Outcome = getattr(import_module(module), function)(out, log, **inputs.arguments)
        return outcome

    artifact, _ = make(paths, "score", key, compute, settings=inputs.settings, inputs=inputs.digests)
    seed = next(iter(of_seed)).seed
    for row in read_rows(artifact.path / "scores.jsonl"):
        scores.rows.setdefault((seed, row["model"]), []).append(row["scores"])


def _stage(paths: Paths, report: Mapping[str, Any], name: str) -> Artifact:
    key = next(stage["key"] for stage in report["stages"] if stage["name"] == name)
    artifact, trouble = find(paths, name, key)
    if artifact is None:
        raise LookupError(f"stage {name} of {report['pipeline_id']} is gone: {trouble or key}")
    return artifact
