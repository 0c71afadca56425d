"""Simulated annotators and the gold judge. Everything here is simulated, and is called so wherever it is shown."""

from dataclasses import dataclass
from random import Random
from typing import Literal


@dataclass(frozen=True, order=True)
class Quality:
    """How good a response is, worst first: wrong, then right; among equals unfinished, then finished."""

    is_right: bool
    is_finished: bool


def gold_preference(first: Quality, second: Quality) -> float:
    """Return 1 where the first response is better, 0 where the second is, 0.5 where they are equally good. Noise-free."""
    if first == second:
        return 0.5
    return 1.0 if first > second else 0.0


def annotator_noise(*, annotators: int, flip_rate: float, seed: int) -> tuple[float, ...]:
    """Return each simulated annotator's own share of flipped labels: around the mean, at most half of it away."""
    random = Random(f"{seed}/annotators")
    spread = min(flip_rate, 1 - 2 * flip_rate) / 2
    return tuple(flip_rate + random.uniform(-spread, spread) for _ in range(annotators))


@dataclass(frozen=True)
class Said:
    """What an annotator says of a pair: the probability that the first is better (1, 0 or 0.5), and whether noise changed it."""

    preference: float
    is_flipped: bool


def simulated_opinion(
    gold: float, *, lengths: tuple[int, int], noise: float, ties: Literal["equal", "forced", "shorter"], random: Random
) -> Said:
    """Return what one simulated annotator says of a pair, whichever of the two is better, and also where neither is.

    A pair that gold decides is labelled as gold does, but for a share `noise` of the labels, which say the opposite. Annotators
    of AlpacaFarm (arXiv:2305.14387) err alike. Of two equally good responses `equal` says so, but for the same share, which
    names one of them by chance; `forced` always tosses a coin; `shorter` names the shorter (a coin where both are as long), but
    for the same share, which names the longer.

    Args:
        gold: probability that the first is better, free of noise: 1, 0 or 0.5.
        lengths: of the first response and of the second, in any unit.
        noise: this annotator's share of wrong labels, in [0, 0.5].
        ties: what becomes of two equally good responses.
        random: where chance comes from; equal draws are made whatever `gold` is.
    """
    slip, coin = random.random() < noise, float(random.random() < 0.5)
    if gold != 0.5:
        return Said(1 - gold if slip else gold, slip)
    if ties == "forced":
        return Said(coin, is_flipped=False)
    if ties == "equal":
        return Said(coin, is_flipped=True) if slip else Said(0.5, is_flipped=False)
    preferred = coin if lengths[0] == lengths[1] else float(lengths[0] < lengths[1])
    return Said(1 - preferred if slip else preferred, slip)
