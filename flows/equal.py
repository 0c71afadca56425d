"""What every method of a comparison is given alike: a budget that pilots measure, and trials that choose its settings.

Each method's share of that runs in a thread of its own, since pilots and trials of one method wait for each other and those of
another do not. What they find becomes settings of the method's jobs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flows.board import Board
from flows.budgets import Planned, costs_in_store, within_budget
from flows.compare_request import Request
from flows.jobs import Job
from flows.tuning import REPORTED, check_tuning, tune
from posttrain.comparison.budgets import Budget, parse_budget, used
from posttrain.comparison.tuning import Tuned, unreported_seed
from posttrain.settings.config import Config
from posttrain.statistics.figures import mean
from tasks.workspace.paths import Paths

Configuration = Callable[..., Config]


@dataclass
class Terms:
    """What the methods were given, and what came of that.

    Attributes:
        budget: of every method.
        planned: how each keeps to it, by method.
        tuned: what was found for each, by method.
    """

    budget: Budget
    planned: dict[str, Planned] = field(default_factory=dict)
    tuned: dict[str, Tuned] = field(default_factory=dict)

    @property
    def left_out(self) -> dict[str, str]:
        """Return why a method is not compared, by method."""
        return {method: plan.reason for method, plan in self.planned.items() if plan.reason}

    @property
    def notes(self) -> list[str]:
        """Return what a reader must know of what was chosen."""
        return [tuned.sentence() for tuned in self.tuned.values()]

    def tuned_record(self, method: str) -> dict[str, Any] | None:
        """Return what the record says of a method's trials."""
        return self.tuned[method].as_record() if method in self.tuned else None

    def used_record(self, reports: Iterable[Mapping[str, Any]]) -> dict[str, float] | None:
        """Return what a method's runs used of the budget, on average; None without one."""
        found = [told for report in reports if (told := used(self.budget, self.budget.amount, report["metrics"]))]
        return {name: mean([told[name] for told in found]) for name in ("amount", "share")} if found else None


def terms_of(request: Request) -> Terms:
    """Return the terms that were asked for, before anything has run."""
    return Terms(parse_budget(request.budget))


def check_terms(request: Request, data: Path, configs: Sequence[Config]) -> None:
    """Refuse before anything runs a search for which there are too few questions, or a setting without a range.

    Raises:
        DataError: there are too few development questions.
        RequestError: a setting has no range around it.
    """
    if request.tune:
        check_tuning(data, configs)


def producers(
    paths: Paths, request: Request, terms: Terms, jobs: Sequence[Job], board: Board, configuration: Configuration
) -> list[Callable[[], None]]:
    """Return what puts jobs on the board: all of them at once at the methods' defaults, else a function for each method."""
    if not terms.budget.amounts and not request.tune:
        return [partial(_submit, board, jobs)]
    of_method: dict[str, list[Job]] = {}
    for job in jobs:
        of_method.setdefault(job.method, []).append(job)
    return [partial(_prepare_method, paths, request, terms, own, board, configuration) for own in of_method.values()]


def _submit(board: Board, jobs: Sequence[Job]) -> None:
    for job in jobs:
        board.submit(job)


def _prepare_method(
    paths: Paths, request: Request, terms: Terms, jobs: Sequence[Job], board: Board, configuration: Configuration
) -> None:
    """Run a method's pilots and trials, and then submit its jobs with what they found."""
    name, overrides = jobs[0].method, request.of_pipelines
    config = configuration(jobs[0].words, False)
    if terms.budget.amounts:
        plan = within_budget(
            name,
            request.seeds[0],
            terms.budget,
            board.run_job,
            config=config,
            stage_costs=costs_in_store(paths),
            overrides=overrides,
        )[-1]
        terms.planned[name] = plan
        if plan.reason:
            board.screen.say(plan.reason)
            return
        overrides = (*overrides, *plan.overrides)
    if request.tune:
        seed = unreported_seed(request.seeds)
        found = tune(name, board.run_job, request.tune, config=config, seed=seed, overrides=overrides)
        terms.tuned[name] = found
        board.screen.say(found.sentence())
        overrides = (*overrides, *found.overrides, *REPORTED)
    _submit(board, [Job(job.method, job.seed, overrides) for job in jobs])
