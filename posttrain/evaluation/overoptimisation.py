"""Proxy against gold as a policy leaves the model it started from: best-of-n, PPO's curve, and one scale for both.

Gao, Schulman and Hilton 2022 (arXiv:2210.10760) plot both scores over √KL: the proxy, which is optimised, rises on; gold, which
is meant, rises less, and in the end falls. Best-of-n is the reference: it optimises as hard as its n, and needs no training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, log, sqrt

import numpy as np
from numpy.typing import NDArray

from posttrain.statistics.intervals import Interval, clustered_mean, clustered_proportion, paired_difference, paired_gain

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Picked:
    """What the response is worth that the proxy picks from `n` samples.

    Attributes:
        n: samples it picks from.
        kl: from the sampling model, nats a response: a bound, see `best_of_n_kl`.
        proxy: expected proxy score, in the proxy's own unit.
        gold: expected gold score.
        proxy_gain: expected proxy score beyond that of one sample, paired by prompt: how hard a prompt is falls out of it.
        gold_gain: the same of gold.
    """

    n: int
    kl: float
    proxy: Interval
    gold: Interval
    proxy_gain: Interval
    gold_gain: Interval


def best_of_n_kl(n: int) -> float:
    """log n - (n - 1) / n, nats: the KL of best-of-n from the model that it samples from.

    Exact where no two samples score alike, an upper bound otherwise (arXiv:2401.01879): a model that often repeats itself
    moves less.

    Raises:
        ValueError: `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return log(n) - (n - 1) / n


def best_of_n(proxy: Sequence[Sequence[float]], gold: Sequence[Sequence[float]], *, confidence: float = 0.95) -> list[Picked]:
    """Expected scores of best-of-n for n = 1 … N, without bias from N samples a prompt; prompts are the independent draws.

        E_n = Σ_i C(i - 1, n - 1) / C(N, n) · s_(i),   s_(i) the score of the sample with the i-th lowest proxy

    The chance that sample i is the best of a random n (Nakano et al. 2021, arXiv:2112.09332; arXiv:2210.10760). Samples with
    equal proxy are picked equally often. A prompt with more samples than another uses them all; N is the fewest.

    Args:
        proxy: scores of each prompt's samples, any unit; only their order decides what is picked.
        gold: 1 for a right sample, 0 for a wrong one, or between them. Of the same samples.
        confidence: probability of covering the truth, in (0, 1).

    Raises:
        ValueError: there are fewer than two prompts, one has no sample, a score is not finite, gold lies outside [0, 1], or the
            two do not match.
    """
    if len(proxy) != len(gold) or any(len(a) != len(b) for a, b in zip(proxy, gold, strict=False)):
        raise ValueError("proxy and gold must score the same samples of the same prompts")
    if len(proxy) < 2:
        raise ValueError(f"there must be at least two prompts, got {len(proxy)}: one says nothing about the spread")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence:g}")
    fewest = min(len(scores) for scores in proxy)
    if fewest < 1:
        raise ValueError("every prompt must have at least one sample")
    if not all(np.isfinite(scores).all() for scores in (*proxy, *gold)):
        raise ValueError("every score must be finite")
    if not all(0 <= score <= 1 for scores in gold for score in scores):
        raise ValueError("every gold score must lie between 0 and 1")
    expected = np.array([_expected(mine, true, most=fewest) for mine, true in zip(proxy, gold, strict=True)])
    proxies, golds = expected[:, 0], np.clip(expected[:, 1], 0.0, 1.0)  # a mean of ones may round above 1
    return [
        Picked(
            n=place + 1,
            kl=best_of_n_kl(place + 1),
            proxy=clustered_mean(proxies[:, place], confidence=confidence),
            gold=clustered_proportion(golds[:, place], confidence=confidence),
            proxy_gain=paired_difference(proxies[:, place], proxies[:, 0], confidence=confidence),
            gold_gain=paired_gain(golds[:, place], golds[:, 0], confidence=confidence) if place else Interval(0.0, 0.0, 0.0),
        )
        for place in range(fewest)
    ]


def _expected(proxy: Sequence[float], gold: Sequence[float], *, most: int) -> Array:
    """Return (2, most): the expected proxy and gold score of one prompt's best-of-n."""
    scores, rank = np.unique(np.asarray(proxy, dtype=np.float64), return_inverse=True)
    sizes = np.bincount(rank)
    # equal samples share their chances, so each counts as all of them on average
    shared = np.bincount(rank, weights=np.asarray(gold, dtype=np.float64)) / sizes
    ordered = np.stack([np.repeat(scores, sizes), np.repeat(shared, sizes)])
    return np.asarray(ordered @ _chances(len(proxy), most).T)


@lru_cache
def _chances(samples: int, most: int) -> Array:
    """Return (most, samples): with which chance each sample, worst first, is the best of n."""
    return np.array([[comb(place, n - 1) / comb(samples, n) for place in range(samples)] for n in range(1, most + 1)])


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of a score among the samples of the model that a run starts from."""

    mean: float
    deviation: float

    def of(self, score: float) -> float:
        """Return a score as deviations above the mean; linear, so it holds for means of scores too."""
        return self.of_gain(score - self.mean)

    def of_gain(self, gain: float) -> float:
        """Return a difference of two scores in deviations."""
        return gain / self.deviation


def scale_of(scores: Sequence[Sequence[float]]) -> Scale | None:
    """Return the scale of a score: the mean over prompts, and the deviation of samples within a prompt.

        σ² = Σ_prompts Σ_i (s_i - s̄_prompt)² / Σ_prompts (N_prompt - 1)

    Gao et al. centre every score on the initial policy and give gold variance 1. Here proxy and gold are both divided by their
    deviation within prompts: Bradley–Terry leaves each prompt's offset open, so that between prompts a proxy says nothing,
    and a policy can only move within them.

    Args:
        scores: of each prompt's samples.

    Returns:
        None where no prompt has two samples of different score: then there is no scale.
    """
    means = [float(np.mean(row)) for row in scores if len(row)]
    squares = sum(float(((np.asarray(row) - np.mean(row)) ** 2).sum()) for row in scores if len(row))
    freedom = sum(len(row) - 1 for row in scores if len(row))
    if not freedom or squares < 1e-20:
        return None
    return Scale(mean=sum(means) / len(means), deviation=sqrt(squares / freedom))


@dataclass(frozen=True)
class Point:
    """Where PPO stood: KL from its reference, and both scores of its own samples; gold is None where it is not known.

    Attributes:
        update: the last of those averaged.
        kl: nats a response.
        proxy: mean training reward.
        gold: mean gold score of the same responses.
    """

    update: int
    kl: float
    proxy: float
    gold: float | None

    @property
    def sqrt_kl(self) -> float:
        """√KL; 0 where chance took the estimate below 0."""
        return sqrt(max(0.0, self.kl))


def ppo_points(curve: Sequence[Mapping[str, float]], *, over: int = 1) -> list[Point]:
    """Return the path of a PPO run from its curve, each point the mean of `over` updates.

    Args:
        curve: figures of each update, `ppo/reward`, `ppo/kl` and, where responses can be checked, `ppo/gold`.
        over: updates averaged, a moving window; fewer where the run is shorter.

    Raises:
        ValueError: the curve is empty, or `over` is below 1.
    """
    if not curve:
        raise ValueError("the curve of a PPO run must have at least one update, got none")
    if over < 1:
        raise ValueError(f"over must be at least 1, got {over}")
    window = min(over, len(curve))
    ends = range(window, len(curve) + 1)
    return [_mean_point(curve[end - window : end], update=end) for end in ends]


def _mean_point(rows: Sequence[Mapping[str, float]], *, update: int) -> Point:
    def mean(name: str) -> float:
        return sum(row[name] for row in rows) / len(rows)

    gold = mean("ppo/gold") if all("ppo/gold" in row for row in rows) else None
    return Point(update=update, kl=mean("ppo/kl"), proxy=mean("ppo/reward"), gold=gold)
