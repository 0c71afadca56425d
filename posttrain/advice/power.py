"""How many held-out questions and seeds would show an effect: planned before anything has run, from stated assumptions.

What an effect takes depends on how much training differs from seed to seed and how often two models differ on a question, which
nobody knows beforehand. The assumptions are those of this project's simulation of six methods; once a comparison has run, its own
figures say what more seeds or questions would show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE, POWER = 0.95, 0.8
EFFECTS = (0.01, 0.02, 0.05)
"""Differences of accuracy that are asked for: 1, 2 and 5 points."""
SEEDS = (1, 3, 5, 10)
RESIDUAL = 0.30
"""Variance of a question's paired difference that another seed draws anew, squared shares: two models, each right on some."""
QUESTION = 0.05
"""Variance between questions of the expected difference, squared shares."""
NOISES = {"little": 0.0126, "much": 0.032}
"""Standard deviation between seeds that training adds to a difference of two methods: with the questions' own share at 1,000 of
them these are the 2.2 and 3.7 points that were measured between methods here."""
MOST_QUESTIONS = 20_000
"""More held-out questions than this are not asked for."""
_DRAWS = 4_000
_SEED = 0


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


def smallest_effect(seeds: int, questions: int, *, noise: float, methods: int = 6) -> float:
    """Return the smallest difference of accuracy that is told apart with a chance of `POWER`, a share.

        |d| > t √V,   V = max(own, pooled) / S + q / n

    d is the mean difference over S seeds and n questions; own and pooled are estimates of its variance between seeds with S
    - 1 and (M - 1)(S - 1) degrees, q is `QUESTION`, t has Satterthwaite's degrees. The larger variance decides, so that one
    noisy method makes no false verdict. The chance is that over `_DRAWS` draws of both estimates, the same each time. One
    seed: over questions alone, and the verdict is on two models.

    Args:
        seeds: S.
        questions: n.
        noise: standard deviation between seeds that training adds, a share.
        methods: M.
    """
    if seeds == 1:
        alone = float(np.sqrt((RESIDUAL + QUESTION) / questions))
        return float(stats.t.ppf((1 + CONFIDENCE) / 2, questions - 1) + stats.t.ppf(POWER, questions - 1)) * alone
    between = noise**2 + RESIDUAL / questions
    random = np.random.default_rng(_SEED)
    own_degrees, pooled_degrees = seeds - 1, max(1, (methods - 1) * (seeds - 1))
    own = between * random.chisquare(own_degrees, _DRAWS) / own_degrees
    pooled = between * random.chisquare(pooled_degrees, _DRAWS) / pooled_degrees
    is_own = own > pooled
    of_seeds, of_questions = np.maximum(own, pooled) / seeds, QUESTION / questions
    variance = of_seeds + of_questions
    seed_degrees = np.where(is_own, own_degrees, pooled_degrees)
    degrees = variance**2 / (of_seeds**2 / seed_degrees + of_questions**2 / max(1, questions - 1))
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, degrees) * np.sqrt(variance)
    error = float(np.sqrt(between / seeds + of_questions))

    # the chance rises with the effect, so halving finds where it is POWER
    low, high = 0.0, 20 * error + float(reach.max())
    for _ in range(40):
        middle = (low + high) / 2
        chance = float(np.mean(stats.norm.sf((reach - middle) / error) + stats.norm.cdf((-reach - middle) / error)))
        low, high = (middle, high) if chance < POWER else (low, middle)
    return high


def questions_needed(effect: float, seeds: int, *, noise: float, methods: int = 6) -> int | None:
    """Return how many held-out questions would show an effect, to two digits; None above `MOST_QUESTIONS`."""
    if smallest_effect(seeds, MOST_QUESTIONS, noise=noise, methods=methods) > effect:
        return None
    low, high = 2, MOST_QUESTIONS
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if smallest_effect(seeds, middle, noise=noise, methods=methods) <= effect else (middle, high)
    return _rounded_up(high)


def power_table(*, effects: Sequence[float] = EFFECTS, seeds: Sequence[int] = SEEDS, methods: int = 6) -> tuple[Needed, ...]:
    """Return for each effect, number of seeds and noise how many questions would show it."""
    return tuple(
        Needed(effect, count, name, questions_needed(effect, count, noise=noise, methods=methods))
        for name, noise in NOISES.items()
        for effect in effects
        for count in seeds
        if count > 1 or name == next(iter(NOISES))  # one seed shows no noise of training
    )


def _rounded_up(number: int) -> int:
    unit = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // unit) * unit
