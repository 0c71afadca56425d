"""How large an effect a design sees, and which design would see an effect of a given size."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from scipy.special import stdtrit

from posttrain.statistics.crossed import Spread

MAX_SEEDS = 100
"""No one trains more models than that to tell two methods apart."""
MAX_QUESTIONS = 1_000_000
"""No held-out set is larger."""


@dataclass(frozen=True)
class Design:
    """How many models of each method are trained, and on how many questions each is evaluated."""

    seeds: int
    questions: int


def quantile(probability: float, degrees: float) -> float:
    """Return Student's quantile; degrees may be a fraction."""
    return float(stdtrit(degrees, probability))


def reach(level: float, degrees: float, *, power: float) -> float:
    """Return how many standard errors an effect must have to be seen with this power by a two-sided test.

    t_{1 - level/2} + t_power (Cohen 1988, section 2.2, with Student's quantile for both). By the exact non-central t, 80 % are
    77 with 2 degrees, 79 with 4 and 80 from 8 on. The standard error itself is known no better than its degrees.
    """
    return quantile(1 - level / 2, degrees) + quantile(power, degrees)


def least_designs(spread: Spread, effect: float, *, level: float, power: float) -> tuple[Design, ...]:
    """Return designs that see `effect`, each the least of its row: see `needed` in posttrain/statistics/comparisons.py.

    Raises:
        ValueError: effect is not above 0.
    """
    if not effect > 0:
        raise ValueError(f"effect must be greater than 0, got {effect:g}")

    def sees(seeds: int, questions: int) -> bool:
        planned = spread.planned(seeds, questions)
        return reach(level, planned.degrees, power=power) * sqrt(planned.variance) <= effect

    found: list[Design] = []
    if spread.seeds > 1:
        for questions in (spread.questions, 2 * spread.questions, 4 * spread.questions):
            seeds = _least(lambda number, questions=questions: sees(number, questions), 2, MAX_SEEDS)  # type: ignore[misc]
            # more questions for as many seeds are no design to propose
            if seeds is not None and all(seeds < other.seeds for other in found):
                found.append(Design(seeds, questions))
    questions_alone = _least(lambda number: sees(spread.seeds, number), 2, MAX_QUESTIONS)
    if questions_alone is not None and Design(spread.seeds, questions_alone) not in found:
        found.append(Design(spread.seeds, questions_alone))
    return tuple(found)


def _least(is_enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the least number from `low` to `high` that is enough, None where `high` is not.

    Each larger one should be enough as well. With many questions Student's quantile can rise faster than the error falls, since
    the few degrees of the seeds are what is left: then a number that is enough is found, not always the least.
    """
    if not is_enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low
