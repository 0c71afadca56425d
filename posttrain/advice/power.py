"""How many held-out questions and seeds would show an effect: planned before anything has run, from stated assumptions.

What an effect takes depends on how much training differs from seed to seed and how often two models differ on a question, which
nobody knows beforehand. So two spreads are assumed here, and the formulas are those of a comparison (posttrain/statistics): once
one has run, its own spread says what more seeds or questions would show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from posttrain.statistics.crossed import Spread
from posttrain.statistics.planning import least_designs, reach

CONFIDENCE, POWER = 0.95, 0.8
EFFECTS = (0.01, 0.02, 0.05)
"""Differences of accuracy that are asked for: 1, 2 and 5 points."""
SEEDS = (1, 3, 5, 10)
MEASURED_ON = 1_000
"""Held-out questions on which the deviations below hold."""
NOISES = {"little": 0.022, "much": 0.037}
"""Standard deviation between seeds of a difference of two methods, a share: what calm and what restless methods had here on
`MEASURED_ON` questions (docs/decisions/0020-verdicts.md names both)."""
WITHOUT_TRAINING = 0.018
"""The part of them that the answers alone make, were training the same each time (docs/decisions/0020-verdicts.md)."""
RESIDUAL = MEASURED_ON * WITHOUT_TRAINING**2
"""Variance of a question's paired difference that another seed draws anew, squared shares: 0.324."""
QUESTION = 0.05
"""Variance between questions of the expected difference, squared shares: an assumption of ours, that a question's gain varies by
22 points. With `RESIDUAL` two models differ on 37 % of the questions."""
MOST_QUESTIONS = 20_000
"""More held-out questions than this are not asked for."""


@dataclass(frozen=True)
class Needed:
    """What would show an effect.

    Attributes:
        effect: difference of two accuracies, a share.
        seeds: of each method.
        noise: of `NOISES`.
        questions: held-out ones; None where even `MOST_QUESTIONS` would not show it.
    """

    effect: float
    seeds: int
    noise: str
    questions: int | None


def assumed_spread(seeds: int, questions: int, *, noise: float) -> Spread:
    """Return the spread that a difference of two methods is assumed to have, squared shares.

    Its variance between seeds has the S - 1 degrees of the pair's own, which decide a comparison where the pair varies more than
    other methods do: the careful case. One seed shows questions alone, and the verdict is on two models.

    Args:
        seeds: S.
        questions: n.
        noise: standard deviation between seeds on `MEASURED_ON` questions, a share.
    """
    if seeds == 1:
        return Spread(0.0, 0.0, QUESTION + RESIDUAL, 0.0, 1, MEASURED_ON).planned(1, questions)
    # two seeds have one degree, so that `planned` gives S - 1 of them
    return Spread(noise**2, 1.0, QUESTION, RESIDUAL, 2, MEASURED_ON).planned(seeds, questions)


def smallest_effect(seeds: int, questions: int, *, noise: float) -> float:
    """Return the smallest difference of accuracy that is told apart with a chance of about `POWER`, a share.

    `smallest_effect` of a comparison (posttrain/statistics/comparisons.py) at `assumed_spread`. A comparison decides by the
    larger of own and pooled variance, each as estimated, which lies above the true one more often than not: by simulation the
    chance is 70 to 85 %.

    Args:
        seeds: S.
        questions: n.
        noise: standard deviation between seeds on `MEASURED_ON` questions, a share.
    """
    spread = assumed_spread(seeds, questions, noise=noise)
    return reach(1 - CONFIDENCE, spread.degrees, power=POWER) * sqrt(spread.variance)


def questions_needed(effect: float, seeds: int, *, noise: float) -> int | None:
    """Return how many held-out questions would show an effect, to two digits; None above `MOST_QUESTIONS`."""
    spread = assumed_spread(seeds, MEASURED_ON, noise=noise)
    designs = least_designs(spread, effect, level=1 - CONFIDENCE, power=POWER)
    questions = min((one.questions for one in designs if one.seeds == seeds), default=None)
    return None if questions is None or questions > MOST_QUESTIONS else _rounded_up(questions)


def power_table(*, effects: Sequence[float] = EFFECTS, seeds: Sequence[int] = SEEDS) -> tuple[Needed, ...]:
    """Return for each effect, number of seeds and noise how many questions would show it."""
    return tuple(
        Needed(effect, count, name, questions_needed(effect, count, noise=noise))
        for name, noise in NOISES.items()
        for effect in effects
        for count in seeds
        if count > 1 or name == next(iter(NOISES))  # one seed shows no noise of training
    )


def _rounded_up(number: int) -> int:
    unit = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // unit) * unit
