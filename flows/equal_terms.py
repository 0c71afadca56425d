"""A method of a comparison on equal terms: within its budget, tuned as often as any other, and then run on the reported seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flows.budgets import Planned, StageCosts, within_budget
from flows.jobs import Finished, Job, RunJob
from flows.tuning import REPORTED, ValueOf, accuracy, tune
from posttrain.comparison.budgets import Budget, shown
from posttrain.comparison.tuning import Trial, Tuned, unreported_seed
from posttrain.settings.config import Config


@dataclass(frozen=True)
class Terms:
    """On what terms a method is compared.

    Attributes:
        method: its name.
        jobs: with the amount of the budget that each is within; None without a budget. Those at the largest amount are reported,
            those at smaller ones are levels of the curve; a job that needs nothing of the budget is reported at all amounts.
            Empty where the method is left out.
        planned: how it keeps to each amount, by seed; empty without a budget.
        tuned: what the search found; None without one.
    """

    method: str
    jobs: tuple[tuple[float | None, Job], ...]
    planned: Mapping[int, tuple[Planned, ...]]
    tuned: Tuned | None = None

    @property
    def left_out(self) -> str:
        """Return why the method is not compared; "" where it is."""
        reasons = [plans[-1].reason for plans in self.planned.values() if plans and plans[-1].reason]
        return reasons[0] if reasons else ""

    @property
    def notes(self) -> list[str]:
        """Return what a reader must know: amounts that it is left out at, each reason once, and what a search found."""
        reasons = dict.fromkeys(plan.reason for plans in self.planned.values() for plan in plans if plan.reason)
        return [*reasons, *([self.tuned.sentence()] if self.tuned else [])]


def equal_terms(
    method: str,
    seeds: Sequence[int],
    run_job: RunJob,
    *,
    budget: Budget,
    trials: int,
    config: Config,
    stage_costs: StageCosts,
    value_of: ValueOf = accuracy,
    is_loss: bool = False,
    overrides: tuple[str, ...] = (),
    tell: Callable[[Trial, Finished], None] = lambda trial, finished: None,
) -> Terms:
    """Plan and tune a method, and return its reported jobs.

    Each seed is planned by pilots of its own, which share the stages before its training. Trials are within the largest amount,
    at which the verdict is.

    Args:
        method: its name.
        seeds: reported ones.
        run_job: runs pilots and trials.
        budget: what it may use.
        trials: that it gets; 0 for no search.
        config: of the method with the request's settings.
        stage_costs: of a finished pilot (`flows.budgets.costs_in_store`).
        value_of: the figure that decides a search, higher is better.
        is_loss: that figure is a loss turned round.
        overrides: settings of the whole comparison.
        tell: is told each trial.
    """

    def plan(seed: int) -> tuple[Planned, ...]:
        return within_budget(method, seed, budget, run_job, config=config, stage_costs=stage_costs, overrides=overrides)

    planned = _agreed({seed: plan(seed) for seed in seeds})
    largest = {seed: plans[-1] for seed, plans in planned.items() if plans}
    if any(one.reason for one in largest.values()):  # then every smaller amount is out of reach as well
        return Terms(method, (), planned)

    tuned = None
    if trials:
        trial_seed = unreported_seed(tuple(seeds))
        within = _agreed({**{seed: (one,) for seed, one in largest.items()}, trial_seed: plan(trial_seed)[-1:]})[trial_seed]
        own = within[0].overrides if within else ()
        tuned = tune(
            method,
            run_job,
            trials,
            config=config,
            seed=trial_seed,
            value_of=value_of,
            is_loss=is_loss,
            overrides=(*overrides, *own),
            tell=tell,
        )
    chosen = (*tuned.overrides, *REPORTED) if tuned else ()
    if not budget.amounts:
        return Terms(method, tuple((None, Job(method, seed, (*overrides, *chosen))) for seed in seeds), planned, tuned)
    reported = {seed: Job(method, seed, (*overrides, *plans[-1].overrides, *chosen)) for seed, plans in planned.items()}
    jobs = [
        (amount, _level(reported[seed], amount, (*overrides, *plans[place].overrides, *chosen)))
        for place, amount in enumerate(budget.amounts)
        for seed, plans in planned.items()
        if not plans[place].reason
    ]
    return Terms(method, tuple(jobs), planned, tuned)


def _level(reported: Job, amount: float, overrides: tuple[str, ...]) -> Job:
    """Return the job of one amount: the reported one itself, or a level where it has other settings."""
    if overrides == reported.overrides:
        return reported
    return Job(reported.method, reported.seed, overrides, "level", shown(amount))


def _agreed(planned: Mapping[int, tuple[Planned, ...]]) -> dict[int, tuple[Planned, ...]]:
    """Return plans of which an amount is kept on all seeds or on none.

    A seed whose pilots failed takes the plan of one whose did not: its own run is tried, and says by itself what is wrong. An
    amount that one seed cannot reach has no seed, since seeds are compared together.
    """
    columns = []
    for plans in zip(*planned.values(), strict=True):
        known = [one for one in plans if one.is_measured]
        left_out = next((one for one in known or plans if one.reason), None)
        columns.append([left_out or (one if one.is_measured else known[0]) for one in plans])
    return dict(zip(planned, zip(*columns, strict=True), strict=True)) if columns else dict(planned)
