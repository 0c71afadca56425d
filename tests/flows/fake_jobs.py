"""A fake runner of jobs: pipelines whose costs and figures are functions of their settings, known to the test."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from flows.jobs import Finished, Job
from posttrain.methods import METHODS
from posttrain.settings.config import merge

UPSTREAM = {"sft": 100.0, "sample": 400.0, "label": 0.0, "judge": 50.0, "reward_model": 700.0}
"""Tokens of the stages before a method's own training."""


class FakeJobs:
    """Runs jobs at once.

    Attributes:
        asked: the jobs, in order.
    """

    def __init__(
        self,
        *,
        own: Callable[[float], float] = lambda length: 200.0 * length,
        labels: float = 4000.0,
        accuracy: Callable[[Any], float | None] = lambda config: 0.5,
        fails: Callable[[Any], str] = lambda config: "",
    ) -> None:
        self.own, self.labels, self.accuracy, self.fails = own, labels, accuracy, fails
        self.asked: list[Job] = []

    def __call__(self, job: Job) -> Finished:
        self.asked.append(job)
        config = merge({}, [f"method={job.method}", *job.overrides, f"seed={job.seed}"])
        if error := self.fails(config):
            return Finished(job, None, error=error, code=3)
        costs = self.costs(config)
        tokens, labels = (sum(stage.get(name, 0.0) for stage in costs.values()) for name in ("trained_tokens", "labels"))
        metrics = {
            "eval/accuracy": self.accuracy(config),
            "cost/generated_tokens": 0.0,
            "cost/critic_tokens": 0.0,
            "cost/trained_tokens": tokens,
            "cost/flops": 10.0 * tokens,
            "cost/train_seconds": tokens / 100,
            "cost/labels": labels,
        }
        stages = [{"name": name, "key": repr(costs)} for name in costs]
        return Finished(
            job, {"metrics": metrics, "stages": stages, "costs": costs, "mlflow": {"run_id": f"run {len(self.asked)}"}}
        )

    def costs(self, config: Any) -> dict[str, dict[str, float]]:
        row = METHODS[config.method]
        length = {"ppo": config.ppo.updates, "grpo": config.ppo.updates, "dpo": config.dpo.epochs, "sft": config.sft.epochs}.get(
            row.own_stage, 0.0
        )
        found = {stage: {"trained_tokens": UPSTREAM.get(stage, 0.0)} for stage in row.stages}
        found[row.own_stage] = {"trained_tokens": self.own(length)}
        if "label" in found:
            pairs = min(config.labels.pairs_per_prompt, math.comb(config.sample.per_prompt, 2))
            bought = self.labels * pairs / 4
            found["label"] = {"labels": min(bought, config.labels.budget or math.inf)}
        tokens = {name: costs.get("trained_tokens", 0.0) for name, costs in found.items()}
        more = {name: {"flops": 10.0 * count, "train_seconds": count / 100} for name, count in tokens.items()}
        return {name: costs | more[name] for name, costs in found.items()}


def stage_costs(report: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    found: Mapping[str, Mapping[str, float]] = report["costs"]
    return found
