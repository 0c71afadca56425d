"""How sure we may be of an evaluation: estimates with their intervals.

Held-out problems are the independent draws, several responses to one problem are not. So every function counts problems:
it averages a problem's samples first, or corrects for them (Miller 2024, "Adding Error Bars to Evals", arXiv:2411.00640).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

Array = NDArray[np.float64]

RESAMPLES_AT_ONCE = 500  # 1,000 problems × 500 resamples of 8 bytes: 4 MB, whatever the number of resamples


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

    Wilson 1927 (Journal of the American Statistical Association 22(158), doi:10.2307/2276774), recommended for any n by Brown,
    Cai and DasGupta 2001 (doi:10.1214/ss/1009213286); z is the normal quantile at (1 + confidence) / 2.

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
    # rounding must not leave 0 of n with a bound of 1e-18, nor the estimate outside its own interval
    low = 0.0 if successes == 0 else min(share, float(centre - half))
    high = 1.0 if successes == trials else max(share, float(centre + half))
    return Interval(estimate=float(share), low=low, high=high)


def clustered_mean(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Mean of several samples a problem, with the variance taken between problems (the central limit theorem).

        x̄ ± z √(Σ_i (x̄_i - x̄)² / (n (n - 1))),   x̄_i = mean of problem i's samples, n = problems

    Miller 2024 (arXiv:2411.00640), clustered standard errors; with equally many samples a problem they are those of the
    problem means, here with the unbiased n - 1. For lengths, KL and other unbounded quantities; for shares
    take `clustered_proportion`, which does not leave [0, 1].

    Args:
        values: one number a sample, any unit. (problems, samples), or (problems,) where each has one.
        confidence: probability of covering the truth, in (0, 1).

    Returns:
        The mean and its bounds, in the unit of `values`.

    Raises:
        ValueError: if `values` is empty, has one problem only, has more than two axes, or holds a number that is not finite.
    """
    per_problem = _problem_means(values, name="values")
    standard_error = _standard_error(per_problem)
    mean = float(per_problem.mean())
    half = _normal_quantile(confidence) * standard_error
    return Interval(estimate=mean, low=mean - half, high=mean + half)


def clustered_proportion(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Share of successes among several samples a problem: Wilson's interval at the effective number of trials.

        n_eff = min(p (1 - p) / SE², problems · samples),   SE the problem-level standard error of `clustered_mean`

    The design-effect correction of Kish 1965 put into Wilson's interval, as compared by Franco et al. 2019 (Journal of Survey
    Statistics and Methodology 7(3), doi:10.1093/jssam/smy019). Samples that agree within each problem count as one
    (n_eff ≈ problems), independent ones fully. Where no problem differs from another SE says nothing: n_eff = problems.

    Args:
        values: 1 for a success, 0 for a failure, between them for a partial one. (problems, samples) or (problems,).
        confidence: probability of covering the truth, in (0, 1).

    Returns:
        The share and its bounds, in [0, 1].

    Raises:
        ValueError: as `clustered_mean`, or if a value lies outside [0, 1].
    """
    cells = _checked(values, name="values")
    if cells.min() < 0 or cells.max() > 1:
        raise ValueError(f"values must lie between 0 and 1, got {cells.min():g} to {cells.max():g}")
    per_problem = _problem_means(cells, name="values")
    share = min(1.0, max(0.0, float(per_problem.mean())))
    variance = _standard_error(per_problem) ** 2
    # a problem mean such as 0.1 + 0.2 leaves a variance of 1e-34 where there is none
    effective = float(len(per_problem)) if variance < 1e-20 else min(share * (1 - share) / variance, float(cells.size))
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
    checked = _checked(wins, name="wins")
    if checked.ndim != 1:
        raise ValueError(f"wins must have one axis, one value a problem, got shape {checked.shape}")
    return clustered_proportion(checked, confidence=confidence)


def paired_difference(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, resamples: int = 5_000, seed: int = 0) -> Interval:
    """Mean of `a - b` over the same problems, with the percentile bootstrap over problems.

    Problems are drawn with replacement and both models keep their values for each (Koehn 2004, "Statistical Significance
    Tests for Machine Translation Evaluation"; percentiles: Efron and Tibshirani 1993, chapter 13). Pairing takes
    the difficulty of a problem out of the comparison, so it sees differences that two separate intervals hide.

    Args:
        a: values of one model. (problems, samples) or (problems,), any unit.
        b: values of the other on the same problems, in the same order. (problems, samples) or (problems,); the number of
            samples may differ from `a`'s.
        confidence: probability of covering the truth, in (0, 1).
        resamples: bootstrap draws; 5,000 leave a bound's own error near 1 % of the interval's width.
        seed: of the draws: equal input gives equal output.

    Returns:
        The mean difference and its bounds, in the unit of the values; an interval above 0 says that `a` is larger.

    Raises:
        ValueError: if there are not equally many problems, fewer than two, or a number that is not finite.
    """
    left, right = _problem_means(a, name="a"), _problem_means(b, name="b")
    if len(left) != len(right):
        raise ValueError(f"a and b must hold the same problems, got {len(left)} and {len(right)}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    _normal_quantile(confidence)
    difference = left - right
    draws = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        rows = min(RESAMPLES_AT_ONCE, resamples - start)
        chosen = draws.integers(len(difference), size=(rows, len(difference)), dtype=np.int32)
        means.append(difference[chosen].mean(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(estimate=float(difference.mean()), low=float(low), high=float(high))


def _checked(values: ArrayLike, *, name: str) -> Array:
    cells: NDArray[Any] = np.asarray(values, dtype=np.float64)
    if cells.size == 0:
        raise ValueError(f"{name} must hold at least one value, got none")
    if cells.ndim not in (1, 2):
        raise ValueError(f"{name} must have the axes (problems,) or (problems, samples), got shape {cells.shape}")
    if not np.isfinite(cells).all():
        raise ValueError(f"{name} must be finite, got {int((~np.isfinite(cells)).sum())} of {cells.size} that are not")
    return cells


def _problem_means(values: ArrayLike, *, name: str) -> Array:
    cells = _checked(values, name=name)
    if len(cells) < 2:
        raise ValueError(f"{name} must hold at least two problems, got {len(cells)}: one says nothing about the spread")
    return cells if cells.ndim == 1 else np.asarray(cells.mean(axis=1))


def _standard_error(per_problem: Array) -> float:
    return float(per_problem.std(ddof=1) / np.sqrt(len(per_problem)))


def _normal_quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence:g}")
    return float(norm.ppf((1 + confidence) / 2))
