"""A method of a comparison on equal terms: within its budget, tuned as often as any other, and then run on the reported seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows.budgets import Planned, StageCosts, within_budget
from flows.jobs import Finished, Job, RunJob
from flows.tuning import REPORTED, ValueOf, accuracy, tune
from posttrain.comparison.budgets import Budget
from posttrain.comparison.tuning import Trial, Tuned, unreported_seed
from posttrain.settings.config import Config


@dataclass(frozen=True)
class Terms:
    """On what terms a method is compared.

    Attributes:
        method: its name.
        jobs: reported ones, with the amount of the budget that each is within; None without a budget. Empty where it is left out.
        planned: how it keeps to each amount; empty without a budget.
        tuned: what the search found; None without one.
    """

    method: str
    jobs: tuple[tuple[float | None, Job], ...]
    planned: tuple[Planned, ...] = ()
    tuned: Tuned | None = None

    @property
    def notes(self) -> list[str]:
        """Return what a reader must know: amounts that it is left out at, each reason once, and what a search found."""
        reasons = dict.fromkeys(plan.reason for plan in self.planned if plan.reason)
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
    overrides: tuple[str, ...] = (),
    tell: Callable[[Trial, Finished], None] = lambda trial, finished: None,
) -> Terms:
    """Plan and tune a method, and return its reported jobs.

    Trials are within the largest amount, at which the verdict is. Pilots have the seed of the trials where there are any, else
    the first that is reported: either way stages that are run anyhow are shared.

    Args:
        method: its name.
        seeds: reported ones.
        run_job: runs pilots and trials.
        budget: what it may use.
        trials: that it gets; 0 for no search.
        config: of the method with the request's settings.
        stage_costs: of a finished pilot (`flows.budgets.costs_in_store`).
        value_of: the figure that decides a search.
        overrides: settings of the whole comparison.
        tell: is told each trial.
    """
    trial_seed = unreported_seed(tuple(seeds))
    planned = within_budget(
        method,
        trial_seed if trials else seeds[0],
        budget,
        run_job,
        config=config,
        stage_costs=stage_costs,
        overrides=overrides,
    )
    if planned and planned[-1].reason:  # then every smaller amount is out of reach as well
        return Terms(method, (), planned)
    tuned = None
    if trials:
        within = (*overrides, *(planned[-1].overrides if planned else ()))
        tuned = tune(method, run_job, trials, config=config, seed=trial_seed, value_of=value_of, overrides=within, tell=tell)
    own = (*tuned.overrides, *REPORTED) if tuned else ()
    kept: list[tuple[float | None, tuple[str, ...]]] = [(plan.amount, plan.overrides) for plan in planned if not plan.reason]
    jobs = [
        (amount, Job(method, seed, (*overrides, *within_amount, *own)))
        for amount, within_amount in kept or [(None, ())]
        for seed in seeds
    ]
    return Terms(method, tuple(jobs), planned, tuned)
