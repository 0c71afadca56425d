"""Whether proxy and gold come apart: does a reward that rises still mean what it should?"""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

from scipy.special import ndtri

FALSE_ALARMS = 0.05
"""Share of runs whose gold score stays where it is and that are warned of nevertheless, at most."""


def divergence(
    reward: Sequence[float], gold: Sequence[float], *, gold_error: Sequence[float] | None, patience: int
) -> str | None:
    """Return how the reward and the gold score came apart, or None: the sign of reward hacking (arXiv:2210.10760).

    Averaged over `patience` updates, gold has fallen from its best by more than chance explains, while the reward has not
    fallen since. By chance, windows of an unchanged gold score differ by their standard errors, and its best is the best of many
    windows: the limit is the normal quantile at 1 - 5 % / windows (Bonferroni).

    Args:
        reward: mean training reward of each update.
        gold: mean gold score of the same responses.
        gold_error: standard error of each update's gold mean, questions being the independent draws: responses to one question
            are right or wrong together. None where an update asks one question only: then the scatter between neighbouring
            updates tells it, Σ (g_{i+1} - g_i)² / (2 (n - 1)).
        patience: updates that are averaged.
    """
    if len(reward) < 2 * patience:
        return None
    errors = gold_error or [_scatter(gold)] * len(gold)

    def smooth(values: Sequence[float]) -> list[float]:
        return [sum(values[end - patience : end]) / patience for end in range(patience, len(values) + 1)]

    proxy, truth = smooth(reward), smooth(gold)
    variance = [value / patience for value in smooth([error**2 for error in errors])]
    best = max(range(len(truth)), key=truth.__getitem__)
    limit = float(ndtri(1 - FALSE_ALARMS / len(truth)))
    if truth[best] - truth[-1] > limit * sqrt(variance[best] + variance[-1]) and proxy[-1] >= proxy[best]:
        return (
            f"the gold score fell from {truth[best]:.3f} (update {best + patience}) to {truth[-1]:.3f} while the training reward "
            f"went from {proxy[best]:.3f} to {proxy[-1]:.3f}: the reward is being gamed"
        )
    return None


def _scatter(values: Sequence[float]) -> float:
    return sqrt(sum((after - before) ** 2 for before, after in pairwise(values)) / (2 * (len(values) - 1)))
