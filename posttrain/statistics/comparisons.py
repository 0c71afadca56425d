"""Did one method do better than another, over seeds and questions? Estimates, intervals, and a verdict that chance seldom makes.

Every method's model of a seed answers every question, so a difference of two methods varies with the seed and with the question
(`posttrain/statistics/crossed.py`). The verdict is decided more carefully than the interval is drawn:

- the **interval** takes the variance between seeds as the same for all methods, which three seeds can then tell well;
- the **verdict** takes the pair's own variance where that is larger, with its own few degrees of freedom: a method that varies
  more than the others would otherwise pass for better, or worse, up to five times as often as it may.

docs/decisions/0020-verdicts.md has what was measured, and why no other design decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations
from math import inf, sqrt

import numpy as np
from scipy.special import ndtr, stdtr  # not scipy.stats, which takes half a second to import

from posttrain.statistics.crossed import TINY, Spread, spread_of
from posttrain.statistics.families import holm, holm_levels
from posttrain.statistics.intervals import Interval, paired_difference, paired_gain
from posttrain.statistics.levels import mean_over_seeds
from posttrain.statistics.planning import Design, least_designs, quantile, reach
from posttrain.statistics.seed_tables import SeedTable, Values

__all__ = [
    "Comparison",
    "Design",
    "Values",
    "Verdict",
    "as_family",
    "compare_best",
    "compare_pairs",
    "compare_with",
    "mean_over_seeds",
    "needed",
    "turned",
]

POWER = 0.8
"""Chance of seeing the smallest effect; the usual one (Cohen 1988, section 2.4)."""


class Verdict(StrEnum):
    """What is said of a difference a - b."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"
    """Within ± margin, by two one-sided tests."""
    UNDECIDED = "undecided"
    DISAGREE = "disagree"
    """Not told apart, though one seed's own interval lies above 0 and another's below."""


@dataclass(frozen=True)
class Comparison:
    """The difference a - b of two methods, in the unit of the values; above 0: `a` is better.

    Attributes:
        estimate, low, high: mean over the seeds that both have and all questions; the interval that is drawn.
        low_decides, high_decides: the interval behind the verdict, before any correction; wider where this pair varies more
            than the others do.
        p, p_holm: of the test behind the verdict, two-sided; after Holm's correction within its family.
        level: the p below which this pair would have been told apart, given the others of the family.
        p_equal: of the two one-sided tests that the difference is within ± margin, after Holm's correction as well.
        smallest_effect: difference that this test sees in 80 % of the cases, (t_{1 - level/2} + t_.8) · error.
        degrees, error: Satterthwaite's degrees of freedom and √V of the test behind the verdict; estimate / error is its t.
        per_seed: of each seed, an interval over questions only.
        seed_names: the seeds that both have, in the order of `per_seed`.
        seeds, questions: counts.
        spread: what V is made of, for `needed`.
    """

    a: str
    b: str
    estimate: float
    low: float
    high: float
    low_decides: float
    high_decides: float
    p: float
    p_holm: float
    level: float
    p_equal: float
    smallest_effect: float
    degrees: float
    error: float
    per_seed: tuple[Interval, ...]
    seed_names: tuple[int, ...]
    seeds: int
    questions: int
    spread: Spread
    verdict: Verdict

    @property
    def is_told_apart(self) -> bool:
        """Whether one is called better than the other."""
        return self.verdict in (Verdict.BETTER, Verdict.WORSE)

    @property
    def speaks_of_models_only(self) -> bool:
        """Whether there is one seed, so that nothing is known of other models that the methods would train."""
        return self.seeds == 1


def compare_with(
    values: Values, reference: str, *, margin: float, confidence: float = 0.95, is_share: bool | None = None
) -> tuple[Comparison, ...]:
    """Compare each other method with the reference, as one family of M - 1 tests.

        V = max(own, pooled) / S + max(MS_question - MS_residual, 0) / (n S),   d̄ ± t √V

    `own` is the variance of this pair's differences between seeds, with S - 1 degrees, `pooled` that of all methods,
    2 · MS_{method × seed} with (M - 1)(S - 1), and t is Student's quantile at Satterthwaite's degrees. The drawn interval takes
    `pooled`. With one seed the variance is over questions only: `paired_gain` of shares, Student's interval of anything else.

    Args:
        values: the mean of each question's samples, higher is better, by method: (seeds, questions), the same questions in the
            same order for all; or by seed, where some may be missing.
        reference: a method of `values`; it is `b` of every comparison.
        margin: differences up to this count as none, in the unit of the values.
        confidence: of intervals and verdicts, in (0, 1).
        is_share: whether values are shares, whose variance is bounded. None: they are where all lie in [0, 1].

    Returns:
        In the order of `values`.

    Raises:
        ValueError: fewer than two methods, an unknown reference, shapes that differ, fewer than two questions, a number that is
            not finite, a pair without a common seed, or a margin or confidence out of range.
    """
    table = SeedTable.of(values, is_share=is_share)
    if reference not in table.cells:
        raise ValueError(f"reference must be one of the methods ({', '.join(table.cells)}), got {reference}")
    pairs = [(name, reference) for name in table.cells if name != reference]
    return _family(table, pairs, margin=margin, confidence=confidence)


def compare_best(
    values: Values, *, margin: float, confidence: float = 0.95, is_share: bool | None = None
) -> tuple[Comparison, ...]:
    """Compare the method of the highest mean, `a`, with each other one; arguments and refusals as in `compare_with`.

    Which method is best was read from the same values, so the family is every pair: with Holm over the M - 1 alone, a design
    that is right in 95 % would call one of six like methods the best in 8 to 10 %. The grid of all pairs says the same.
    """
    table = SeedTable.of(values, is_share=is_share)
    means = {name: float(np.mean([row.mean() for row in rows.values()])) for name, rows in table.cells.items()}
    best = max(means, key=lambda name: means[name])
    return tuple(
        one if one.a == best else turned(one)
        for one in compare_pairs(values, margin=margin, confidence=confidence, is_share=is_share)
        if best in (one.a, one.b)
    )


def compare_pairs(
    values: Values, *, margin: float, confidence: float = 0.95, is_share: bool | None = None
) -> tuple[Comparison, ...]:
    """Compare every pair, as one family; arguments and refusals as in `compare_with`."""
    table = SeedTable.of(values, is_share=is_share)
    return _family(table, list(combinations(table.cells, 2)), margin=margin, confidence=confidence)


def turned(comparison: Comparison) -> Comparison:
    """Return the same comparison as b - a."""
    one, swapped = comparison, {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    return replace(
        one,
        a=one.b,
        b=one.a,
        estimate=0.0 - one.estimate,
        low=0.0 - one.high,
        high=0.0 - one.low,
        low_decides=0.0 - one.high_decides,
        high_decides=0.0 - one.low_decides,
        per_seed=tuple(Interval(0.0 - seed.estimate, 0.0 - seed.high, 0.0 - seed.low) for seed in one.per_seed),
        verdict=swapped.get(one.verdict, one.verdict),
    )


def as_family(comparisons: Sequence[Comparison], *, margin: float, confidence: float = 0.95) -> tuple[Comparison, ...]:
    """Return the comparisons with correction, smallest effect and verdict as members of this one family, whatever they were in.

    For families that no other function here makes, such as the gains of every method in every group of questions.

    Args:
        comparisons: all tests of the family.
        margin: as in `compare_with`.
        confidence: as in `compare_with`, the same as there.

    Raises:
        ValueError: margin or confidence is out of range.
    """
    _check(margin, confidence)
    alpha = 1 - confidence
    ps = [one.p for one in comparisons]
    levels = holm_levels(ps, alpha=alpha)
    within = holm([_p_within(one, margin) for one in comparisons])
    corrected = (
        replace(one, p_holm=p, level=level, p_equal=equal, smallest_effect=reach(level, one.degrees, power=POWER) * one.error)
        for one, p, level, equal in zip(comparisons, holm(ps), levels, within, strict=True)
    )
    return tuple(replace(one, verdict=_verdict(one, alpha)) for one in corrected)


def _family(table: SeedTable, pairs: Sequence[tuple[str, str]], *, margin: float, confidence: float) -> tuple[Comparison, ...]:
    _check(margin, confidence)
    pooled = table.pooled()
    return as_family([_pair(table, a, b, pooled, confidence) for a, b in pairs], margin=margin, confidence=confidence)


def needed(comparison: Comparison, effect: float) -> tuple[Design, ...]:
    """Return the least numbers of seeds and questions with which this test would see `effect` in 80 % of the cases.

    It takes the variances that this comparison found, which few seeds know badly: an order of magnitude, no promise. After Holm's
    correction, as `comparison.level` has it.

    Args:
        comparison: with two seeds at least, both numbers vary; with one, only questions do: nothing says what seeds would do.
        effect: difference to see, in the unit of the values, above 0.

    Returns:
        The least seeds at as many questions as here, twice and four times as many, then the least questions at as many seeds as
        here; what no number up to the limits of `least_designs` reaches, and what needs no less than another one, is left out.

    Raises:
        ValueError: effect is not above 0.
    """
    return least_designs(comparison.spread, effect, level=comparison.level, power=POWER)


def _pair(table: SeedTable, a: str, b: str, pooled: tuple[float, float] | None, confidence: float) -> Comparison:
    """Return a comparison as a family of its own; `as_family` fills in what depends on the others and on the margin."""
    mine, theirs = table.cells[a], table.cells[b]
    common = tuple(seed for seed in mine if seed in theirs)
    if not common:
        raise ValueError(f"{a} (seeds {list(mine)}) and {b} (seeds {list(theirs)}) have no seed in common, so nothing pairs them")
    left, right = (np.stack([rows[seed] for seed in common]) for rows in (mine, theirs))
    estimate = float((left - right).mean())
    if abs(estimate) <= TINY * max(np.abs(left).max(), np.abs(right).max()):
        estimate = 0.0
    interval = paired_gain if table.is_share else paired_difference
    per_seed = tuple(interval(one, other, confidence=confidence) for one, other in zip(left, right, strict=True))
    # a question's difference of shares varies by 1 at most; where all differ one way, Wilson's interval needs no more than 1 - d²
    most = 1 - estimate**2 if len(common) == 1 else 1.0
    own = spread_of(left - right, all_or_nothing=most if table.is_share else None)
    if len(common) == 1:
        # nothing is known of other models, pooled or not: these two, over questions
        decides, drawn, (error, p) = per_seed[0], per_seed[0], _of_one_seed(own, estimate, is_share=table.is_share)
    else:
        together = own if pooled is None else own.with_seed(*pooled)
        drawn = _student(estimate, together, confidence, is_share=table.is_share)
        own = own if own.seed > together.seed * (1 + TINY) else together
        decides = _student(estimate, own, confidence, is_share=table.is_share)
        error = sqrt(own.variance)
        p = _two_sided(estimate, error, own.degrees)
    return Comparison(
        a=a,
        b=b,
        estimate=estimate,
        low=drawn.low,
        high=drawn.high,
        low_decides=decides.low,
        high_decides=decides.high,
        p=p,
        p_holm=p,
        level=1 - confidence,
        p_equal=1.0,
        smallest_effect=reach(1 - confidence, own.degrees, power=POWER) * error,
        degrees=own.degrees,
        error=error,
        per_seed=per_seed,
        seed_names=common,
        seeds=len(common),
        questions=own.questions,
        spread=own,
        verdict=Verdict.UNDECIDED,
    )


def _student(estimate: float, spread: Spread, confidence: float, *, is_share: bool) -> Interval:
    half = quantile((1 + confidence) / 2, spread.degrees) * sqrt(spread.variance)
    low, high = estimate - half, estimate + half
    return Interval(estimate, max(low, -1.0), min(high, 1.0)) if is_share else Interval(estimate, low, high)


def _two_sided(estimate: float, error: float, degrees: float) -> float:
    """Return Student's two-sided p; without any variance only equal values agree with no difference."""
    if error == 0:
        return 1.0 if estimate == 0 else 0.0
    return float(2 * stdtr(degrees, -abs(estimate) / error))


def _of_one_seed(spread: Spread, estimate: float, *, is_share: bool) -> tuple[float, float]:
    """Return error and p over questions only; p is below 1 - confidence exactly where the interval of that seed leaves out 0.

    Wilson's interval of the share (1 + d) / 2 leaves out ½ where |d| √((1 - d²) / V) is above Student's quantile.
    """
    degrees = spread.questions - 1
    if not is_share:
        error = sqrt(spread.variance)
    elif abs(estimate) < 1:
        error = sqrt(spread.variance / (1 - estimate**2))
    else:
        # every question differs, all one way: Wilson's own, with the normal quantile
        error = 1 / sqrt(spread.questions)
        return error, float(2 * ndtr(-1 / error))
    return error, _two_sided(estimate, error, degrees)


def _p_within(one: Comparison, margin: float) -> float:
    """Return the larger p of the two one-sided tests that |difference| is below the margin (Schuirmann 1987)."""
    if one.error == 0:
        return 0.0 if abs(one.estimate) < margin else 1.0
    return float(stdtr(one.degrees, (abs(one.estimate) - margin) / one.error))


def _verdict(one: Comparison, alpha: float) -> Verdict:
    if one.p_holm < alpha:
        return Verdict.BETTER if one.estimate > 0 else Verdict.WORSE
    if one.p_equal < alpha:
        return Verdict.EQUAL
    if any(seed.low > 0 for seed in one.per_seed) and any(seed.high < 0 for seed in one.per_seed):
        return Verdict.DISAGREE
    return Verdict.UNDECIDED


def _check(margin: float, confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence:g}")
    if not 0 <= margin < inf:
        raise ValueError(f"margin must be a number of at least 0, got {margin:g}")
