"""What every method of a comparison is given alike: a budget that pilots measure, and trials that choose its settings.

Each method's share of that runs in a thread of its own, since pilots and trials of one method wait for each other and those of
another do not. What they find becomes settings of the method's jobs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flows.board import Board
from flows.budgets import costs_in_store
from flows.compare_request import Request
from flows.equal_terms import Terms as MethodTerms
from flows.equal_terms import equal_terms
from flows.jobs import Finished, Job
from flows.tuning import check_tuning
from posttrain.comparison.budgets import Budget, cost_of, level, parse_budget, used
from posttrain.comparison.tuning import Trial
from posttrain.errors import ContractError
from posttrain.methods import METHODS
from posttrain.records import Question
from posttrain.settings.config import Config
from posttrain.statistics.figures import mean
from tasks.comparison.gather import METRICS, level_of
from tasks.workspace.jsonl import required
from tasks.workspace.paths import Paths

Configuration = Callable[..., Config]
Tell = Callable[[Trial, Finished], None]


@dataclass
class Terms:
    """What the methods were given, and what came of that.

    Attributes:
        budget: of every method.
        metric: that trials are chosen by; "" without a search.
        reference: name of the method without which nothing can be compared.
        of_methods: how each keeps to the budget and what was found for it, by name.
    """

    budget: Budget
    metric: str
    reference: str
    of_methods: dict[str, MethodTerms] = field(default_factory=dict)

    @property
    def left_out(self) -> dict[str, str]:
        """Return why a method is not compared, by method."""
        return {method: own.left_out for method, own in self.of_methods.items() if own.left_out}

    @property
    def notes(self) -> list[str]:
        """Return what a reader must know of what was chosen, and of smaller amounts that are out of a method's reach."""
        return [note for own in self.of_methods.values() if not own.left_out for note in own.notes]

    def tuned_record(self, method: str) -> dict[str, Any] | None:
        """Return what the record says of a method's trials."""
        own = self.of_methods.get(method)
        return own.tuned.as_record() if own and own.tuned else None

    def used_record(self, reports: Iterable[Mapping[str, Any]]) -> dict[str, float] | None:
        """Return what a method's runs used of the budget, on average; None without one."""
        found = [told for report in reports if (told := used(self.budget, self.budget.amount, report["metrics"]))]
        return {name: mean([told[name] for told in found]) for name in ("amount", "share")} if found else None

    def levels(self, paths: Paths, finished: Sequence[Finished], metric: str) -> list[dict[str, Any]] | None:
        """Return the points of the curve over budgets, as `levels` of the record has them; None unless there are several amounts.

        Args:
            paths: of the repository.
            finished: reported runs and those at smaller amounts.
            metric: that decides; it is told in its own direction.
        """
        if len(self.budget.amounts) < 2:
            return None
        reports = {one.job: one.report for one in finished if one.report is not None}
        sign = 1.0 if METRICS[metric][2] else -1.0
        return [
            level(amount, job.method, job.seed, sign * value, cost_of(self.budget.kind, reports[job]["metrics"]))
            for amount, job in self._by_amount()
            if job in reports and (value := level_of(paths, reports[job], metric)) is not None
        ]

    def _by_amount(self) -> Iterator[tuple[float, Job]]:
        """Yield the methods' jobs with their amounts, the smallest first."""
        for amount in self.budget.amounts:
            for own in self.of_methods.values():
                yield from ((amount, job) for at, job in own.jobs if at == amount)


def terms_of(request: Request, config: Config, data: Path) -> Terms:
    """Return the terms that were asked for, before anything has run; `data` is the dataset's folder.

    The metric is decided by the whole held-out set: its development part must not be judged by another one.
    """
    metric = config.compare.metric if request.tune else ""
    if metric == "auto":
        questions = required(data, "held_out", Question, why="models are evaluated on")
        metric = "accuracy" if any(one.answers for one in questions) else "reference_loss"
    return Terms(parse_budget(request.budget), metric, config.compare.reference)


def check_terms(request: Request, data: Path, configs: Sequence[Config]) -> None:
    """Refuse before anything runs a search for which there are too few questions, or a setting without a range.

    Raises:
        DataError: there are too few development questions.
        RequestError: a setting has no range around it.
    """
    if request.tune:
        check_tuning(data, configs)


def producers(
    paths: Paths,
    request: Request,
    terms: Terms,
    jobs: Sequence[Job],
    board: Board,
    configuration: Configuration,
    *,
    tell: Tell = lambda trial, finished: None,
) -> list[Callable[[], None]]:
    """Return what puts jobs on the board: all of them at once at the methods' defaults, else a function for each method.

    Args:
        paths: of the repository.
        request: what was asked for.
        terms: are filled in.
        jobs: reported ones at the methods' defaults.
        board: takes them.
        configuration: turns words into settings.
        tell: is told each trial.
    """
    if not terms.budget.amounts and not request.tune:
        return [partial(_submit, board, jobs)]
    methods = dict.fromkeys(job.method for job in jobs)
    return [partial(_prepare_method, paths, request, terms, method, board, configuration, tell) for method in methods]


def _submit(board: Board, jobs: Iterable[Job]) -> None:
    for job in jobs:
        board.submit(job)


def _prepare_method(
    paths: Paths, request: Request, terms: Terms, method: str, board: Board, configuration: Configuration, tell: Tell
) -> None:
    """Run a method's pilots and trials, and then submit its jobs with what they found.

    Raises:
        ContractError: it is the reference, and cannot keep to the budget.
    """
    own = equal_terms(
        method,
        request.seeds,
        board.run_job,
        budget=terms.budget,
        trials=request.tune,
        config=configuration((f"method={method}", *request.of_pipelines), False),
        stage_costs=costs_in_store(paths),
        value_of=lambda report: level_of(paths, report, terms.metric),
        is_loss=bool(terms.metric) and not METRICS[terms.metric][2],
        overrides=request.of_pipelines,
        tell=tell,
    )
    terms.of_methods[method] = own
    for note in own.notes:
        board.screen.say(note)
    if own.left_out and METHODS[method] is METHODS[terms.reference]:
        raise ContractError(f"every method is compared with the reference, which has no run. {own.left_out}")
    # the largest amount first: it is the one that decides, should the rest be interrupted
    _submit(board, dict.fromkeys(job for _, job in sorted(own.jobs, key=lambda one: -(one[0] or 0.0))))
