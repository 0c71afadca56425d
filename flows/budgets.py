"""Equal budgets in a comparison: each method is measured by a short pilot, and the length of its training is planned from that.

A pilot is a pipeline as any other, whose stages stay in the store: asked for again, it is there. What it costs says nothing of
how good the method is, so it may be of the reported seed itself, whose stages before the training it then shares. Costs differ
between seeds: on the default world one seed's annotators decided a twelfth more pairs than another's, and DPO learns from those.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from flows.jobs import Finished, Job, RunJob
from posttrain.comparison.budgets import (
    Budget,
    Length,
    Measured,
    Pairs,
    cost_of,
    cost_of_stage,
    labels_overrides,
    length_of,
    planned,
)
from posttrain.methods import METHODS, Method
from posttrain.settings.config import Config
from tasks.workspace.paths import Paths

StageCosts = Callable[[Mapping[str, Any]], Mapping[str, Mapping[str, float]]]
"""Returns the costs of each stage of a pipeline, by its report."""
PILOT_QUESTIONS = 64
"""Held-out questions of a pilot: its costs are wanted, and no figure."""
FURTHER = 2.0
"""A plan that is longer than the pilot by more than this factor gets a second one, longer by as much at least."""
SECOND = 0.4
"""Share of the plan that the second pilot trains."""


@dataclass(frozen=True)
class Planned:
    """How a method keeps to one amount.

    Attributes:
        method: its name.
        amount: of the budget.
        overrides: settings of its reported runs, and of its trials.
        reason: why it is left out of the comparison at this amount, which is no error of the run; "" where it is not.
        is_measured: false where no pilot finished, so that it is not known what the method costs.
        length: that its training was given; None where the budget does not decide it.
        expected: cost, in the budget's unit; None where nothing was planned.
    """

    method: str
    amount: float
    overrides: tuple[str, ...] = ()
    reason: str = ""
    is_measured: bool = True
    length: float | None = None
    expected: float | None = None


def within_budget(
    method: str,
    seed: int,
    budget: Budget,
    run_job: RunJob,
    *,
    config: Config,
    stage_costs: StageCosts,
    overrides: tuple[str, ...] = (),
) -> tuple[Planned, ...]:
    """Return how a method keeps to each amount of a budget, in rising order; empty for `defaults`.

    Args:
        method: its name.
        seed: of the pilots.
        budget: its kind and amounts.
        run_job: runs a pilot.
        config: of the method with the request's settings, for the length that it has by itself and how pairs are drawn.
        stage_costs: of a finished pilot (`costs_in_store`).
        overrides: settings of the whole comparison.
    """
    row = METHODS[method]
    if not budget.amounts:
        return ()
    if budget.kind == "labels":
        return _by_labels(row, seed, budget, run_job, config=config, overrides=overrides)
    length = length_of(row)
    if length is None:  # nothing is trained, so nothing can be made longer: it uses what it uses
        return tuple(Planned(method, amount) for amount in budget.amounts)
    return _by_length(row, length, seed, budget, run_job, config=config, stage_costs=stage_costs, overrides=overrides)


def first_pilot(method: str, seed: int, budget: Budget, *, config: Config, overrides: tuple[str, ...] = ()) -> Job | None:
    """Return the pilot that `within_budget` begins with; None where it needs none. A dry run shows it."""
    row, length = METHODS[method], length_of(METHODS[method])
    is_labels = budget.kind == "labels"
    if not budget.amounts or (not row.is_labelled if is_labels else length is None):
        return None
    own = (*overrides, *(_unlimited(config) if is_labels else ()))
    if length is None:
        return Job(row.name, seed, own, "pilot")
    usual = float(attrgetter(length.setting)(config))
    return _pilot(row, length, length.pilot(usual), seed, config=config, overrides=own)


def costs_in_store(paths: Paths) -> StageCosts:
    """Return what reads the costs of a pipeline's stages in the store."""

    def read(report: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
        files = {row["name"]: paths.stages / row["name"] / row["key"] / "stage.json" for row in report["stages"]}
        return {name: json.loads(file.read_text(encoding="utf-8"))["costs"] for name, file in files.items()}

    return read


def _by_labels(
    row: Method, seed: int, budget: Budget, run_job: RunJob, *, config: Config, overrides: tuple[str, ...]
) -> tuple[Planned, ...]:
    """Buy as many labels for each method that needs some; what else it uses stays as it is."""
    if not row.is_labelled:
        return tuple(Planned(row.name, amount, expected=0.0) for amount in budget.amounts)
    own_overrides = (*overrides, *_unlimited(config))
    finished = _first_finished(row, length_of(row), seed, run_job, config=config, overrides=own_overrides)
    if finished.report is None:
        return _left_out(row, budget, finished)
    bought = cost_of(budget.kind, finished.report["metrics"])
    pairs = Pairs(
        is_sampled=any(stage["name"] == "sample" for stage in finished.report["stages"]),
        per_prompt=config.sample.per_prompt,
        pairs_per_prompt=config.labels.pairs_per_prompt,
    )
    told = []
    for amount in budget.amounts:
        own, reason = labels_overrides(row, amount, bought, pairs)
        told.append(Planned(row.name, amount, own, reason, expected=bought if reason else amount))
    return tuple(told)


def _unlimited(config: Config) -> tuple[str, ...]:
    """Return what lets a pilot buy all labels that there are."""
    return ("labels.budget=0",) if config.labels.budget else ()


def _by_length(
    row: Method,
    length: Length,
    seed: int,
    budget: Budget,
    run_job: RunJob,
    *,
    config: Config,
    stage_costs: StageCosts,
    overrides: tuple[str, ...],
) -> tuple[Planned, ...]:
    """Plan how long a method trains at each amount."""

    def measured(finished: Finished, trained: float) -> Measured:
        report = finished.report or {}
        own = cost_of_stage(budget.kind, stage_costs(report)[row.own_stage])
        return Measured(trained, own, cost_of(budget.kind, report["metrics"]) - own)

    finished = _first_finished(row, length, seed, run_job, config=config, overrides=overrides)
    if finished.report is None:
        return _left_out(row, budget, finished)
    pilots = [measured(finished, _length_in(finished.job, length))]

    # the beginning of a training is no picture of a long one: rollouts shorten while a policy learns. Two lengths that are
    # close to each other would multiply chance, so the second is twice the first at least
    longest = planned(row, length, budget, budget.amounts[-1], pilots).length
    if longest and longest > FURTHER * pilots[0].length:
        second = max(length.rounded(longest * SECOND), length.rounded(pilots[0].length * FURTHER))
        again = run_job(_pilot(row, length, second, seed, config=config, overrides=overrides))
        if again.report is not None:
            pilots.append(measured(again, second))

    plans = {amount: planned(row, length, budget, amount, pilots) for amount in budget.amounts}
    return tuple(
        Planned(
            method=row.name,
            amount=amount,
            overrides=() if plan.length is None else length.overrides(plan.length),
            reason=plan.reason,
            length=plan.length,
            expected=plan.expected,
        )
        for amount, plan in plans.items()
    )


def _first_finished(
    row: Method, length: Length | None, seed: int, run_job: RunJob, *, config: Config, overrides: tuple[str, ...]
) -> Finished:
    """Return a finished pilot; where a short one fails, as one that learnt too little to show does, one of the usual length."""
    if length is None:
        return run_job(Job(row.name, seed, overrides, "pilot"))
    usual = float(attrgetter(length.setting)(config))
    lengths: Sequence[float] = dict.fromkeys((length.pilot(usual), usual)).keys()  # type: ignore[assignment]
    for trained in lengths:
        finished = run_job(_pilot(row, length, trained, seed, config=config, overrides=overrides))
        if finished.report is not None:
            break
    return finished


def _pilot(row: Method, length: Length, trained: float, seed: int, *, config: Config, overrides: tuple[str, ...]) -> Job:
    most = config.evaluate.max_questions
    asked = min(most, PILOT_QUESTIONS) if most else PILOT_QUESTIONS
    quick = (f"evaluate.max_questions={asked}", "evaluate.samples=1", "evaluate.judge=false")
    return Job(row.name, seed, (*overrides, *length.overrides(trained), *quick), "pilot")


def _length_in(job: Job, length: Length) -> float:
    """Return the length that a pilot trained, the last that its overrides name."""
    return float(next(word for word in reversed(job.overrides) if word.startswith(f"{length.setting}=")).partition("=")[2])


def _left_out(row: Method, budget: Budget, finished: Finished) -> tuple[Planned, ...]:
    reason = f"{row.title} is left out: its pilot failed, so what it costs is not known: {finished.error}"
    return tuple(Planned(row.name, amount, reason=reason, is_measured=False) for amount in budget.amounts)
