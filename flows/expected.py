"""The jobs that a comparison would run, as far as they are known before its pilots and trials: for a dry run."""

from collections.abc import Callable, Sequence
from operator import attrgetter

from flows.budgets import first_pilot
from flows.compare_request import Request
from flows.jobs import Job
from flows.tuning import DEVELOPMENT, REPORTED
from posttrain.comparison.budgets import Budget, parse_budget, shown
from posttrain.comparison.tuning import Range, Value, ranges_of, readable, unreported_seed
from posttrain.methods import METHODS
from posttrain.settings.config import Config

Configuration = Callable[..., Config]


def expected_jobs(request: Request, jobs: Sequence[Job], configuration: Configuration) -> tuple[Job, ...]:
    """Return the first pilots, the trials and the jobs of each amount; lengths and what trials choose are the request's own.

    Args:
        request: what was asked for.
        jobs: reported ones at the methods' defaults.
        configuration: turns words into settings.
    """
    budget, found = parse_budget(request.budget), list[Job]()
    unreported = (unreported_seed(request.seeds),) if request.tune else ()
    for method in dict.fromkeys(job.method for job in jobs):
        config = configuration((f"method={method}", *request.of_pipelines), False)
        pilots = [
            first_pilot(method, seed, budget, config=config, overrides=request.of_pipelines)
            for seed in (*request.seeds, *unreported)
        ]
        found += [pilot for pilot in pilots if pilot is not None]
        for seed in unreported:
            found += _trials(method, seed, request, budget, config)
    return (*found, *(each for job in jobs for each in _at_amounts(job, request, budget)))


def not_known(request: Request) -> list[str]:
    """Return what a dry run cannot know, a sentence each."""
    budget, told = parse_budget(request.budget), []
    if budget.kind == "labels":
        told.append(
            f"BUDGET={request.budget}: how many pairs are drawn for that many labels is known after the pilots; other "
            "labels than the defaults buy are counted as the nearest that were bought before"
        )
    elif budget.amounts:
        told.append(
            f"BUDGET={request.budget}: how long each method trains is known after the pilots, of which one or two a method and "
            f"seed are run; trials{' and the reported runs' if len(budget.amounts) == 1 else ''} are counted at the methods' own "
            "lengths" + (f", and the {len(budget.amounts)} amounts as one" if len(budget.amounts) > 1 else "")
        )
    if request.tune:
        told.append(
            f"TUNE={request.tune}: the trials are counted; what they choose is known after them, and the reported runs are "
            "counted at the request's own settings"
        )
    return told


def _at_amounts(job: Job, request: Request, budget: Budget) -> list[Job]:
    """Return a reported job and its levels: of labels one an amount, of other kinds one for all, whose lengths are not known."""
    reported = REPORTED if request.tune else ()
    if budget.kind != "labels" or not METHODS[job.method].is_labelled:
        return [Job(job.method, job.seed, (*job.overrides, *reported))]
    *smaller, largest = ((amount, (*job.overrides, f"labels.budget={amount:.0f}", *reported)) for amount in budget.amounts)
    levels = [Job(job.method, job.seed, overrides, "level", shown(amount)) for amount, overrides in smaller]
    return [*levels, Job(job.method, job.seed, largest[1])]


def _trials(method: str, seed: int, request: Request, budget: Budget, config: Config) -> list[Job]:
    """Return a method's trials, with values from all over its ranges; a method without ranges gets none."""
    ranges = ranges_of(METHODS[method])
    limit = (f"labels.budget={budget.amount:.0f}",) if budget.kind == "labels" and METHODS[method].is_labelled else ()
    trials = []
    for number in range(request.tune if ranges else 0):
        place = number / request.tune
        own = tuple(f"{one.setting}={_value(one, number, place, config)}" for one in ranges) if number else ()
        trials.append(Job(method, seed, (*request.of_pipelines, *limit, *own, *DEVELOPMENT), "trial", str(number)))
    return trials


def _value(searched: Range, number: int, place: float, config: Config) -> Value:
    """Return any value of a range, another one for each trial as far as there are as many."""
    if searched.choices:
        return searched.choices[number % len(searched.choices)]
    low, high = searched.around(float(attrgetter(searched.setting)(config)))
    return readable(low + place * (high - low))
