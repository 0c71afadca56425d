"""Whether probabilities mean what they say: of the choices made with confidence 0.8, are 80 % right?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Choices of like confidence.

    Attributes:
        low: smallest confidence that belongs to it, probability.
        high: where the next bin begins.
        count: choices.
        confidence: their mean confidence.
        accuracy: the share of them that is right.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(confidence: ArrayLike, is_right: ArrayLike, *, bins: int = BINS, lowest: float = 0.0) -> list[Bin]:
    """Return the points of a reliability diagram: bins of equal width over [lowest, 1], without the empty ones.

    Section 2 of Guo et al. 2017 (arXiv:1706.04599); a bin holds its lower bound, the last one its upper bound as well.

    Args:
        confidence: probability that each choice is right. (choices,).
        is_right: 1 or 0, or between them where the truth itself is a probability. (choices,).
        bins: how many.
        lowest: the least confidence there is: 0.5 for a choice of two.

    Raises:
        ValueError: there is no choice, the two differ in number, or a number is NaN or out of its range.
    """
    told, truth = (np.asarray(values, dtype=np.float64) for values in (confidence, is_right))
    if told.ndim != 1 or told.shape != truth.shape or not told.size:
        raise ValueError(f"confidence and is_right must have one axis of equal length, got {told.shape} and {truth.shape}")
    if not ((told >= lowest) & (told <= 1)).all():
        raise ValueError(f"confidence must lie between {lowest:g} and 1, got {told.min():g} to {told.max():g}")
    if not ((truth >= 0) & (truth <= 1)).all():
        raise ValueError(f"is_right must lie between 0 and 1, got {truth.min():g} to {truth.max():g}")
    edges = np.linspace(lowest, 1.0, bins + 1)
    where = np.clip(np.searchsorted(edges, told, side="right") - 1, 0, bins - 1)
    return [
        Bin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            count=int(inside.sum()),
            confidence=float(told[inside].mean()),
            accuracy=float(truth[inside].mean()),
        )
        for place in range(bins)
        if (inside := where == place).any()
    ]


def expected_calibration_error(points: Sequence[Bin]) -> float:
    """Mean distance of confidence and accuracy over the bins, each weighing as many choices as it holds.

        ECE = Σ_b n_b / n |accuracy_b - confidence_b|

    Eq. 3 of Guo et al. 2017 (arXiv:1706.04599).

    Raises:
        ValueError: there is no bin.
    """
    if not points:
        raise ValueError("points must hold at least one bin, got none")
    return sum(one.count * abs(one.accuracy - one.confidence) for one in points) / sum(one.count for one in points)
