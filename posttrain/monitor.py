"""Whether a reward that rises still means what it should."""

from collections.abc import Sequence


def divergence(reward: Sequence[float], gold: Sequence[float], *, gold_error: float, patience: int) -> str | None:
    """Return how the reward and the gold score came apart, or None: the sign of reward hacking (arXiv:2210.10760).

    Averaged over `patience` updates, gold has fallen from its best by more than 3 standard errors while the reward has not
    fallen since.

    Args:
        reward: mean training reward of each update.
        gold: mean gold score of the same responses.
        gold_error: standard error of one update's gold mean.
        patience: updates that are averaged.
    """
    if len(reward) < 2 * patience:
        return None

    def smooth(values: Sequence[float]) -> list[float]:
        return [sum(values[end - patience : end]) / patience for end in range(patience, len(values) + 1)]

    proxy, truth = smooth(reward), smooth(gold)
    best = max(range(len(truth)), key=truth.__getitem__)
    error = gold_error * (2 / patience) ** 0.5
    if truth[best] - truth[-1] > 3 * error and proxy[-1] >= proxy[best]:
        return (
            f"the gold score fell from {truth[best]:.3f} (update {best + patience}) to {truth[-1]:.3f} while the training reward "
            f"went from {proxy[best]:.3f} to {proxy[-1]:.3f}: the reward is being gamed"
        )
    return None
