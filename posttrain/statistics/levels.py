"""How good one method is, over the models that its seeds train and over questions."""

from math import sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from posttrain.statistics.clusters import check_spread, checked
from posttrain.statistics.crossed import spread_of
from posttrain.statistics.intervals import Interval, clustered_mean, clustered_proportion, wilson


def mean_over_seeds(
    values: ArrayLike, *, confidence: float = 0.95, seed_variance: tuple[float, float] | None = None, is_share: bool | None = None
) -> Interval:
    """One method's mean, with an interval that covers other seeds and other questions.

        V = s²_seeds / S + max(MS_question - MS_residual, 0) / (n S),   Satterthwaite's degrees, Student's t

    Shares get Wilson's interval at the effective number of trials p (1 - p) / V · (z / t)², as `share_interval` does, so that
    it stays within [0, 1]. One seed: questions only, `clustered_proportion` or `clustered_mean`. Three seeds know their own
    variance badly (t with 2 degrees is 4.3), so these intervals are wide; differences are told apart by `compare_with`, which
    knows more.

    Args:
        values: the mean of each question's samples. (seeds, questions).
        confidence: probability of covering the truth, in (0, 1).
        seed_variance: variance between seeds of a method's mean, and its degrees of freedom, where it is known better than from
            these seeds: pooled over methods that are alike. Not half of a difference's variance, which lacks what a seed does
            to all methods.
        is_share: whether values are shares. None: they are where all lie in [0, 1].

    Raises:
        ValueError: there is no table of at least two questions, a number is not finite, or confidence is not in (0, 1).
    """
    cells = checked(values, name="values")
    if cells.ndim != 2:
        raise ValueError(f"values must have the axes (seeds, questions), got shape {cells.shape}")
    check_spread(cells.shape[1], name="values")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence:g}")
    inside = bool(cells.min() >= 0 and cells.max() <= 1)
    if is_share and not inside:
        raise ValueError("shares must lie between 0 and 1")
    is_share = inside if is_share is None else is_share
    if len(cells) == 1 and seed_variance is None:
        return (clustered_proportion if is_share else clustered_mean)(cells[0], confidence=confidence)
    mean = float(cells.mean())
    most = mean * (1 - mean)
    spread = spread_of(cells, all_or_nothing=most if is_share else None)
    if seed_variance is not None:
        spread = spread.with_seed(*seed_variance)
    t = float(stdtrit(spread.degrees, (1 + confidence) / 2))
    if not is_share:
        half = t * sqrt(spread.variance)
        return Interval(mean, mean - half, mean + half)
    if spread.variance == 0 or most == 0:  # all right, or all wrong: questions are what is left
        return wilson(round(mean) * cells.shape[1], cells.shape[1], confidence=confidence)
    trials = most / spread.variance * float(ndtri((1 + confidence) / 2) / t) ** 2
    return wilson(mean * trials, trials, confidence=confidence)


def pooled_level_variance(tables: list[ArrayLike]) -> tuple[float, float]:
    """Variance between seeds of a method's mean, averaged over methods that are alike, and its degrees of freedom.

        s² = tr(C) / M,   degrees = (S - 1) · tr(C)² / tr(C²)

    C is the covariance of the methods' means over seeds: methods that move together with the seed count as one (Satterthwaite's
    rule for a sum of dependent variances; Box 1954, doi:10.1214/aoms/1177728786).

    Args:
        tables: of each method, (seeds, questions); the same seeds, at least two.

    Raises:
        ValueError: there is no table, shapes differ, or there is one seed.
    """
    means = [checked(table, name="values").mean(axis=1) for table in tables]
    if not means or len({len(row) for row in means}) > 1 or len(means[0]) < 2:
        raise ValueError(f"every method must have the same seeds, two at least, got {[len(row) for row in means]}")
    covariance = np.atleast_2d(np.cov(np.stack(means)))
    trace, squares = float(np.trace(covariance)), float((covariance**2).sum())
    return trace / len(means), (len(means[0]) - 1) * (trace**2 / squares if squares > 0 else 1.0)
