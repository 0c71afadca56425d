"""How sure we may be of an evaluation: estimates with their intervals.

Held-out problems are the independent draws, several responses to one problem are not (Miller 2024, "Adding Error Bars to
Evals", arXiv:2411.00640). So every function counts problems, or clusters of any other kind: the labels of a question, the
comparisons of a prompt. No interval here knows how far another run of the same training would come out (`INTERVALS_COVER`).
docs/decisions/0009-intervals.md has what was measured of their coverage.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaincinv, ndtri, stdtrit  # not scipy.stats, which takes half a second to import

from posttrain.statistics.clusters import Array, checked, clustered, problem_means

INTERVALS_COVER = (
    "95 % intervals cover the choice of held-out questions only, not training: another seed, machine or number of threads moves "
    "a result by several points more (figures: docs/results.md)"
)
"""What stands wherever a model's interval does."""
FEW, RARE = 3, 0.1
"""Successes, or failures, up to which Wilson's interval is corrected, and the share that they may have."""
DIFFERING = 10
"""Problems' worth of differences below which a share's variance is known too badly for one added problem to do."""
NO_VARIANCE = 1e-12
"""A share such as 0.1 + 0.2 + 0.7 is no more than this from 1."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that covers the truth with the confidence asked for, all in the unit of the values."""

    estimate: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return {"estimate", "low", "high"}, for JSON."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


def wilson(successes: float, trials: float, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; it stays within [0, 1] and keeps its width at 0 and at 1.

        (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n),   p = successes / trials, n = trials

    Wilson 1927 (Journal of the American Statistical Association 22(158), doi:10.2307/2276774), z the normal quantile at
    (1 + confidence) / 2. With 1 to 3 successes among many its lower bound leaves out the truth too often, and is no higher
    than Poisson's, λ / n with P(at least that many | λ) = 1 - confidence; failures likewise (Brown, Cai and DasGupta 2001,
    section 4.1.1, doi:10.1214/ss/1009213286).

    Args:
        successes: how many of the trials succeeded. Count; a fraction is allowed, for half wins and effective counts.
        trials: independent trials. Count, or an effective count.
        confidence: probability of covering the truth, in (0, 1).

    Returns:
        The proportion itself (not the interval's centre) and its bounds, in [0, 1].

    Raises:
        ValueError: if there is no trial, successes are not within [0, trials], a number is NaN, or confidence is not in (0, 1).
    """
    if not trials > 0:
        raise ValueError(f"trials must be greater than 0, got {trials:g}")
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie between 0 and trials ({trials:g}), got {successes:g}")
    z = _normal_quantile(confidence)
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # rounding must not leave a bound of 1e-18 for 0 of n, nor one of -1e-17 for nearly 0, nor the estimate outside its interval
    low = 0.0 if successes == 0 else min(share, max(0.0, float(centre - half)), _bound_of_few(successes, trials, confidence))
    failures = trials - successes
    high = 1.0 if failures == 0 else max(share, min(1.0, float(centre + half)), 1 - _bound_of_few(failures, trials, confidence))
    return Interval(estimate=float(share), low=low, high=high)


def clustered_mean(values: ArrayLike, clusters: Sequence[Hashable] | None = None, *, confidence: float = 0.95) -> Interval:
    """Mean of values of which some belong together, with the variance taken between problems: Student's interval.

        x̄ ± t SE,   SE² = Q / (Q - 1) · Σ_q (Σ_{i in q} (x_i - x̄))² / n²,   Q problems, n values

    Miller 2024 (arXiv:2411.00640), clustered standard errors; t is Student's quantile with Q - 1 degrees. With equally many
    samples a problem, SE is that of the problem means. For lengths, KL and other unbounded quantities; for shares take
    `clustered_proportion`, which does not leave [0, 1].

    Args:
        values: one number a sample, any unit. (problems, samples), or (values,).
        clusters: what each of (values,) belongs to; None: each is a problem of its own.
        confidence: probability of covering the truth, in (0, 1).

    Returns:
        The mean and its bounds, in the unit of `values`.

    Raises:
        ValueError: if `values` is empty, has one problem only, has more than two axes, or holds a number that is not finite; or
            if there are not as many clusters as values.
    """
    mean, error, problems = clustered(values, clusters, name="values")
    half = student_quantile(confidence, problems) * error
    return Interval(estimate=mean, low=mean - half, high=mean + half)


def clustered_proportion(values: ArrayLike, clusters: Sequence[Hashable] | None = None, *, confidence: float = 0.95) -> Interval:
    """Every share that we report, of values of which some belong together: `share_interval` with SE as in `clustered_mean`.

    Samples that agree within each problem count as one, independent ones fully, and ties or partial scores, which vary less than
    all or nothing, as more than one.

    Args:
        values: 1 for a success, 0 for a failure, between them for a partial one or a tie. (problems, samples), or (values,).
        clusters: what each of (values,) belongs to; None: each is a problem of its own.
        confidence: probability of covering the truth, in (0, 1).

    Returns:
        The share and its bounds, in [0, 1].

    Raises:
        ValueError: as `clustered_mean`, or if a value lies outside [0, 1].
    """
    _check_shares(checked(values, name="values"), name="values")
    mean, error, problems = clustered(values, clusters, name="values")
    return share_interval(min(1.0, max(0.0, mean)), error=error, problems=problems, confidence=confidence)


def share_interval(share: float, *, error: float, problems: int, confidence: float = 0.95) -> Interval:
    """Interval of a share whose standard error is known from its problems: Wilson's at the effective number of trials.

        n_eff = p (1 - p) / V · (z / t)²,   V = ((Q - 1) SE² + m p (1 - p) / Q) / (Q - 1 + m)

    The design-effect correction of Kish 1965 put into Wilson's interval, and Student's t with Q - 1 degrees for a variance that
    was estimated, as compared by Franco et al. 2019 (Journal of Survey Statistics and Methodology 7(3),
    doi:10.1093/jssam/smy019). The second part of V is ours, after Bonett and Price 2012 (doi:10.3102/1076998611411915), who add
    two problems to paired shares: m problems are taken to be all or nothing, so that problems which happen to be alike do
    not pass for certain. m = 1, and 2 where all that differs, Q² SE² / (p (1 - p)), is less than `DIFFERING` such problems.

    Args:
        share: p, in [0, 1].
        error: SE.
        problems: Q, at least 2.
        confidence: probability of covering the truth, in (0, 1).
    """
    most = share * (1 - share)
    if most < NO_VARIANCE:
        return wilson(share * problems, problems, confidence=confidence)
    added = 2 if problems**2 * error**2 < DIFFERING * most else 1
    variance = ((problems - 1) * error**2 + added * most / problems) / (problems - 1 + added)
    narrower = _normal_quantile(confidence) / student_quantile(confidence, problems)
    effective = most / variance * narrower**2
    return wilson(share * effective, effective, confidence=confidence)


def win_rate(wins: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Share of comparisons that a model wins against its reference; a tie is half a win.

    `clustered_proportion` of one value a problem, the mean over that problem's samples.

    Args:
        wins: 1 won, 0.5 tied, 0 lost, averaged over the problem's samples. (problems,).
        confidence: probability of covering the truth, in (0, 1).

    Returns:
        The win rate and its bounds, in [0, 1]; 0.5 is a draw.

    Raises:
        ValueError: if `wins` has not one axis, is empty, holds NaN or a value outside [0, 1].
    """
    cells = checked(wins, name="wins")
    if cells.ndim != 1:
        raise ValueError(f"wins must have one axis, one value a problem, got shape {cells.shape}")
    return clustered_proportion(cells, confidence=confidence)


def paired_difference(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Mean of `a - b` over the same problems: Student's interval of the differences.

    Pairing takes the difficulty of a problem out of the comparison, so it sees differences that two separate intervals
    hide. For values of any unit, such as losses; for shares take `paired_gain`, which keeps its width where few problems differ.

    Args:
        a: values of one model. (problems, samples) or (problems,), any unit.
        b: values of the other on the same problems, in the same order. (problems, samples) or (problems,); the number of
            samples may differ from `a`'s.
        confidence: probability of covering the truth, in (0, 1).

    Returns:
        The mean difference and its bounds, in the unit of the values; an interval above 0 says that `a` is larger.

    Raises:
        ValueError: if there are not equally many problems, fewer than two, or a number that is not finite.
    """
    return clustered_mean(_differences(a, b), confidence=confidence)


def paired_gain(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Mean of `a - b` over the same problems where both are shares, in [0, 1].

        2 p - 1,   p the share (1 + a - b) / 2 with the interval of `clustered_proportion`

    So two models that agree on all of 20 problems are not equal for certain, where a bootstrap says [0, 0]. It is narrower than
    Bonett and Price's interval, and covers as often (docs/decisions/0009-intervals.md).

    Args:
        a: shares of one model, or right and wrong as 1 and 0. (problems, samples) or (problems,).
        b: those of the other on the same problems, in the same order; the number of samples may differ.
        confidence: probability of covering the truth, in (0, 1).

    Returns:
        The mean difference and its bounds, in [-1, 1]; above 0: `a` is better.

    Raises:
        ValueError: as `paired_difference`, or if a value lies outside [0, 1].
    """
    for name, values in (("a", a), ("b", b)):
        _check_shares(checked(values, name=name), name=name)
    half = clustered_proportion((1 + _differences(a, b)) / 2, confidence=confidence)
    return Interval(estimate=2 * half.estimate - 1, low=2 * half.low - 1, high=2 * half.high - 1)


def _differences(a: ArrayLike, b: ArrayLike) -> Array:
    left, right = problem_means(a, name="a"), problem_means(b, name="b")
    if len(left) != len(right):
        raise ValueError(f"a and b must hold the same problems, got {len(left)} and {len(right)}")
    return left - right


def _check_shares(cells: Array, *, name: str) -> None:
    if cells.min() < 0 or cells.max() > 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {cells.min():g} to {cells.max():g}")


def _bound_of_few(count: float, trials: float, confidence: float) -> float:
    """Return λ / trials, a Poisson count of mean λ reaching `count` with probability 1 - confidence; 1 where that is not rare."""
    is_rare = count <= min(FEW, RARE * trials) * (1 + 1e-9)  # a share that is just that rare may be rounded either way
    return float(gammaincinv(count, 1 - confidence)) / trials if is_rare else 1.0


@lru_cache
def _normal_quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence:g}")
    return float(ndtri((1 + confidence) / 2))


@lru_cache
def student_quantile(confidence: float, problems: int) -> float:
    """Return Student's quantile at (1 + confidence) / 2 with `problems` - 1 degrees."""
    _normal_quantile(confidence)
    return float(stdtrit(problems - 1, (1 + confidence) / 2))
