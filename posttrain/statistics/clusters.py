"""Means whose independent draws are problems, or clusters of any other kind, and their standard errors.

Several responses to one problem are no independent draws (Miller 2024, arXiv:2411.00640); docs/decisions/0009-intervals.md.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def clustered_error(values: ArrayLike, clusters: Sequence[Hashable] | None = None) -> float:
    """Return the standard error of `clustered_mean`; arguments and refusals are the same."""
    return clustered(values, clusters, name="values")[1]


def clustered(values: ArrayLike, clusters: Sequence[Hashable] | None, *, name: str) -> tuple[float, float, int]:
    """Return the mean, its standard error, and the number of problems."""
    cells = checked(values, name=name)
    if clusters is None:
        per_problem = problem_means(cells, name=name)
        return float(per_problem.mean()), float(per_problem.std(ddof=1) / np.sqrt(len(per_problem))), len(per_problem)
    if cells.shape != (len(clusters),):
        raise ValueError(f"every value needs its cluster, got {name} of shape {cells.shape} and {len(clusters)} clusters")
    places: dict[Hashable, int] = {}
    where = np.array([places.setdefault(cluster, len(places)) for cluster in clusters], dtype=np.int64)
    problems = len(places)
    check_spread(problems, name=name)
    mean = float(cells.mean())
    sums = np.bincount(where, weights=cells - mean)
    return mean, float(np.sqrt(problems / (problems - 1) * (sums**2).sum()) / len(cells)), problems


def checked(values: ArrayLike, *, name: str) -> Array:
    """Return the values as numbers; raises a ValueError where there is none, one is not finite, or the axes are others."""
    cells: NDArray[Any] = np.asarray(values, dtype=np.float64)
    if cells.size == 0:
        raise ValueError(f"{name} must hold at least one value, got none")
    if cells.ndim not in (1, 2):
        raise ValueError(f"{name} must have the axes (problems,) or (problems, samples), got shape {cells.shape}")
    if not np.isfinite(cells).all():
        raise ValueError(f"{name} must be finite, got {int((~np.isfinite(cells)).sum())} of {cells.size} that are not")
    return cells


def check_spread(problems: int, *, name: str) -> None:
    """Raise a ValueError for a single problem."""
    if problems < 2:
        raise ValueError(f"{name} must hold at least two problems, got {problems}: one says nothing about the spread")


def problem_means(values: ArrayLike, *, name: str) -> Array:
    """Return the mean of each problem's values, (problems,)."""
    cells = checked(values, name=name)
    check_spread(len(cells), name=name)
    return cells if cells.ndim == 1 else np.asarray(cells.mean(axis=1))
