"""Estimates whose draws come in clusters of any size, such as labels of a question; `posttrain.statistics` has equal ones."""

from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np
from scipy.stats import norm

from posttrain.statistics import Array, Interval, wilson


def clustered_share(hits: Sequence[float], clusters: Sequence[Hashable], *, confidence: float = 0.95) -> Interval:
    """Share of hits where some come in clusters of any size: Wilson's interval at the effective number of trials.

        SE² = Q / (Q - 1) · Σ_q (Σ_i in q (x_i - p))² / n²,   n_eff = min(p (1 - p) / SE², n)

    The linearised ratio of Kish 1965, as `posttrain.statistics.clustered_proportion` for clusters of one size. Where no cluster
    differs from another, SE says nothing: n_eff = Q, the number of clusters.

    Args:
        hits: 1, 0, or between them. (n,).
        clusters: what each belongs to. (n,).
        confidence: probability of covering the truth, in (0, 1).

    Raises:
        ValueError: there are not as many clusters as hits, fewer than two different ones, or a hit lies outside [0, 1].
    """
    values = np.asarray(hits, dtype=np.float64)
    share, error, distinct = _clustered(values, clusters)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"hits must lie between 0 and 1, got {values.min():g} to {values.max():g}")
    effective = float(distinct) if error**2 < 1e-20 else min(share * (1 - share) / error**2, float(len(values)))
    return wilson(share * effective, effective, confidence=confidence)


def clustered_difference(values: Sequence[float], clusters: Sequence[Hashable], *, confidence: float = 0.95) -> Interval:
    """Mean of values that come in clusters of any size, x̄ ± z SE with the SE of `clustered_share`.

    Args:
        values: any unit. (n,).
        clusters: what each belongs to. (n,).
        confidence: probability of covering the truth, in (0, 1).

    Raises:
        ValueError: there are not as many clusters as values, or fewer than two different ones.
    """
    mean, error, _ = _clustered(np.asarray(values, dtype=np.float64), clusters)
    half = float(norm.ppf((1 + confidence) / 2)) * error
    return Interval(estimate=mean, low=mean - half, high=mean + half)


def _clustered(values: Array, clusters: Sequence[Hashable]) -> tuple[float, float, int]:
    if len(values) != len(clusters):
        raise ValueError(f"every value needs its cluster, got {len(values)} values and {len(clusters)} clusters")
    places: dict[Hashable, int] = {}
    where = np.array([places.setdefault(cluster, len(places)) for cluster in clusters], dtype=np.int64)
    if len(places) < 2:
        raise ValueError(f"there must be at least two clusters, got {len(places)}: one says nothing about the spread")
    mean = float(values.mean())
    sums = np.bincount(where, weights=values - mean)
    return mean, sqrt(len(places) / (len(places) - 1) * float((sums**2).sum())) / len(values), len(places)
