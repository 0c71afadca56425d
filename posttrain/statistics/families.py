"""Several tests at once: the chance that any of a family is wrong is held, not that of each."""

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Return p of each test after Holm's step-down correction, in the order given: reject where it is below 1 - confidence.

        p'_(k) = max over j ≤ k of min(1, (m - j + 1) p_(j)),   p_(1) ≤ … ≤ p_(m)

    Holm 1979 (Scandinavian Journal of Statistics 6(2)): the chance of any false rejection among the m tests is below
    1 - confidence, whatever their dependence.

    Raises:
        ValueError: a p is not within [0, 1].
    """
    if any(not 0 <= one <= 1 for one in p):
        raise ValueError(f"each p must lie between 0 and 1, got {[one for one in p if not 0 <= one <= 1]}")
    given = np.asarray(p, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, given[order] * np.arange(len(given), 0, -1)))
    adjusted = np.empty_like(given)
    adjusted[order] = stepped
    return tuple(float(one) for one in adjusted)


def holm_levels(p: Sequence[float], *, alpha: float) -> tuple[float, ...]:
    """Return the p below which each test of the family would have been rejected, given the p of the others.

        alpha / (m - k_j),   k_j the others that pass Holm's steps one after another, the smallest p first

    It is what a test that is not told apart would have had to reach: alpha where all others are told apart, alpha / m where
    none is. A test is rejected exactly where its p is below its level.

    Args:
        p: of each test, uncorrected.
        alpha: the chance of any false rejection, 1 - confidence.
    """
    levels = []
    for own in range(len(p)):
        others = sorted(one for place, one in enumerate(p) if place != own)
        # the others take the first steps for as long as each passes its own
        passed = 0
        while passed < len(others) and others[passed] * (len(p) - passed) < alpha:
            passed += 1
        levels.append(alpha / (len(p) - passed))
    return tuple(levels)
