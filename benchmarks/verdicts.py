"""How often each way to decide a comparison is wrong, and how much it sees, by simulation: docs/decisions/0020-verdicts.md.

    python -m benchmarks.verdicts [repetitions=400] [seeds=3,5] [questions=1000] [random=0]

Six methods × seeds × questions, all crossed. What a question is like, and what a seed's SFT model is like, is common to all
methods; each method learns some questions better than others, and each training adds noise. Answers are right or wrong. A row is
a design, a column a world: false positives of five methods against the reference where none is better, power where all are by
3.4 or 6.4 points, and false positives where one method alone has noise, of that method against the reference. The last table
has the share of repetitions in which a family says anything false, where all methods are alike.

4,000 repetitions, as a nightly run wants them, take about ten times as long as the default.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import pi, sqrt

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import digamma, ndtri, polygamma, stdtr, stdtrit

from posttrain.statistics.intervals import DIFFERING

Array = NDArray[np.float64]
Test = tuple[Array, Array]
"""A design's V and degrees, for each repetition and pair."""

METHODS = 6
CHUNK = 50
"""Repetitions drawn at a time: at most 1,500 models' answers to each question are in memory."""
WITHOUT_NOISE = 1.8
"""Points: the deviation between seeds of a difference where training adds nothing, at 1,000 questions; sampled answers alone."""
RESAMPLES = 300
NAMES = {
    "1": "questions only",
    "2": "hierarchical bootstrap",
    "3": "t over seeds",
    "4": "pooled seed variance",
    "5": "larger of own and pooled, its own degrees",
    "5p": "the same, pooled degrees",
    "6": "moderated (Smyth 2004)",
    "6m": "own shrunk by one degree, at least pooled",
}


@dataclass(frozen=True)
class World:
    """Answers by a probit: right where the sum of normal parts is above 0.

    Attributes:
        noise: points; what training adds to the deviation between seeds of a difference, by method.
        gains: points above the reference's accuracy, by method.
    """

    seeds: int
    questions: int
    noise: tuple[float, ...] = (0.0,) * METHODS
    gains: tuple[float, ...] = (0.0,) * METHODS
    accuracy: float = 0.7
    question: float = 0.7
    method_by_question: float = 0.3
    seed: float = 0.1
    seed_by_question: float = 0.3

    def draw(self, random: Generator, repetitions: int) -> NDArray[np.bool_]:
        """Return (repetitions, methods, seeds, questions), True for a right answer."""
        parts = self.question**2 + self.method_by_question**2 + self.seed**2 + self.seed_by_question**2 + 1
        # a method's noise in the unit of the probit, such that a difference of two alike ones varies by `noise` points
        slope = np.exp(-(ndtri(self.accuracy) ** 2) / 2) / sqrt(2 * pi)
        wanted = np.square(np.array(self.noise) / 100 / (sqrt(2) * slope))
        noise = np.sqrt(wanted * parts / np.maximum(1 - wanted, 0.1))

        def normal(*axes: int) -> NDArray[np.float32]:
            return random.standard_normal((repetitions, *axes), dtype=np.float32)

        methods, seeds, questions = len(self.noise), self.seeds, self.questions
        latent = normal(methods, seeds, questions)
        latent += self.question * normal(1, 1, questions) + self.method_by_question * normal(methods, 1, questions)
        latent += self.seed * normal(1, seeds, 1) + self.seed_by_question * normal(1, seeds, questions)
        latent += noise.astype(np.float32)[:, None, None] * normal(methods, seeds, 1)
        # the mean over all seeds and questions is exact, so that methods without a gain are alike
        mean = np.sqrt(parts + noise**2) * ndtri(self.accuracy + np.array(self.gains) / 100)
        return np.asarray(latent > -mean.astype(np.float32)[:, None, None])


class Summary:
    """Mean squares of each repetition and pair, once for all designs; (repetitions, pairs) unless said otherwise."""

    def __init__(self, answers: NDArray[np.bool_], pairs: list[tuple[int, int]]) -> None:
        values = answers.astype(np.float32)
        _, self.methods, self.seeds, self.questions = values.shape
        means = values.mean(axis=3).astype(np.float64)
        centred = means - means.mean(2, keepdims=True) - means.mean(1, keepdims=True) + means.mean((1, 2), keepdims=True)
        self.pooled = (2 * (centred**2).sum((1, 2)) / ((self.methods - 1) * (self.seeds - 1)))[:, None]
        columns = [self._of_pair(values, *pair) for pair in pairs]
        self.gain, self.own, self.question, self.question_alone = (
            np.stack([column[place] for column in columns], 1) for place in range(4)
        )
        difference = [answers[:, a].astype(np.int8) - answers[:, b] for a, b in pairs]
        self.wins = np.stack([(each > 0).sum(2) for each in difference], 1)  # (repetitions, pairs, seeds)
        self.losses = np.stack([(each < 0).sum(2) for each in difference], 1)

    def _of_pair(self, values: NDArray[np.float32], a: int, b: int) -> tuple[Array, Array, Array, Array]:
        d = values[:, a] - values[:, b]
        by_seed, by_question = d.mean(2).astype(np.float64), d.mean(1).astype(np.float64)
        gain, own, between = by_seed.mean(1), by_seed.var(1, ddof=1), by_question.var(1, ddof=1)
        # Σ d² = n S gain² + sums of squares of seeds, questions and residual
        squares = np.square(d).sum((1, 2), dtype=np.float64) - self.seeds * self.questions * gain**2
        residual = squares - self.questions * (self.seeds - 1) * own - self.seeds * (self.questions - 1) * between
        residual /= (self.seeds - 1) * (self.questions - 1)
        question = np.maximum(between - residual / self.seeds, 0)
        # as the product does, which must not be certain of 20 questions that are alike; nothing at 1,000
        added = np.where(self.questions * between < DIFFERING, 2, 1)
        question = ((self.questions - 1) * question + added) / (self.questions - 1 + added)
        return gain, own, question / self.questions, between / self.questions

    def _with(self, seed: Array, degrees: Array | float) -> Test:
        """Return V and Satterthwaite's degrees of a variance between seeds."""
        part = seed / self.seeds
        v = part + self.question
        return v, v**2 / (part**2 / degrees + self.question**2 / (self.questions - 1))

    def tests(self) -> dict[str, Test]:
        """Return every design that is a t test."""
        own_degrees, all_degrees = self.seeds - 1.0, (self.methods - 1.0) * (self.seeds - 1)
        larger, is_own = np.maximum(self.own, self.pooled), self.own > self.pooled
        shrunk = (self.pooled + own_degrees * self.own) / (1 + own_degrees)
        return {
            "1": (self.question_alone, np.full_like(self.own, self.questions - 1)),
            "3": (self.own / self.seeds, np.full_like(self.own, own_degrees)),
            "4": self._with(self.pooled + 0 * self.own, all_degrees),
            "5": self._with(larger, np.where(is_own, own_degrees, all_degrees)),
            "5p": self._with(larger, all_degrees),
            "6": self._with(*moderated(self.own, self.pooled, own_degrees, all_degrees)),
            "6m": self._with(
                np.maximum(shrunk, self.pooled), np.where(is_own, np.minimum(own_degrees + 1, all_degrees), all_degrees)
            ),
        }

    def bootstrap(self, random: Generator) -> NDArray[np.bool_]:
        """Return where 0 lies outside the percentile interval over seeds, and questions within each drawn seed."""
        repetitions, pairs = self.gain.shape
        drawn = random.integers(0, self.seeds, (repetitions, pairs, RESAMPLES * self.seeds))
        wins, losses = (np.take_along_axis(counts, drawn, 2) for counts in (self.wins, self.losses))
        # n answers drawn again: how many are wins, and how many of the others are losses
        won = random.binomial(self.questions, wins / self.questions)
        lost = random.binomial(self.questions - won, np.minimum(1, losses / np.maximum(self.questions - wins, 1)))
        means = (won - lost).reshape(repetitions, pairs, RESAMPLES, self.seeds).mean(3)
        low, high = np.quantile(means, [0.025, 0.975], axis=2)
        return np.asarray((low > 0) | (high < 0))

    def decided(self, random: Generator | None = None) -> dict[str, NDArray[np.bool_]]:
        """Return by design where it calls a pair different; the bootstrap only with a generator."""
        found = {name: np.abs(self.gain) > stdtrit(degrees, 0.975) * np.sqrt(v) for name, (v, degrees) in self.tests().items()}
        return found if random is None else found | {"2": self.bootstrap(random)}


def moderated(own: Array, pooled: Array, degrees: float, most: float) -> Test:
    """Return own variances shrunk to a common prior, and their degrees: limma's squeezeVar over the pairs of one repetition.

    Section 6.2 of Smyth 2004 (doi:10.2202/1544-6115.1027): prior degrees and variance by the moments of log s². No spread beyond
    chance: the pooled variance.
    """
    if own.shape[1] < 2:  # one variance shows no spread
        return pooled + 0 * own, np.full_like(own, most)
    log = np.log(np.maximum(own, 1e-12)) - digamma(degrees / 2) + np.log(degrees / 2)
    mean, beyond = log.mean(1, keepdims=True), log.var(1, ddof=1, keepdims=True) - polygamma(1, degrees / 2)
    prior = 2 * inverse_trigamma(np.maximum(beyond, 1e-3))
    at = np.exp(mean + digamma(prior / 2) - np.log(prior / 2))
    is_finite = beyond > 1e-3
    variance = np.where(is_finite, (prior * at + degrees * own) / (prior + degrees), pooled)
    return variance, np.where(is_finite, np.minimum(prior + degrees, most), most)


def inverse_trigamma(x: Array) -> Array:
    """Return y with ψ'(y) = x, by Newton's steps on 1/ψ' (appendix of Smyth 2004)."""
    y = 0.5 + 1 / x
    for _ in range(50):
        trigamma = polygamma(1, y)
        y = y + trigamma * (1 - trigamma / x) / polygamma(2, y)
    return np.asarray(y)


AGAINST_REFERENCE = [(method, 0) for method in range(1, METHODS)]


def noise_of(points: float) -> float:
    """Return what training must add for a deviation between seeds of so many points at 1,000 questions."""
    return sqrt(max(points**2 - WITHOUT_NOISE**2, 0.0))


def summaries(world: World, pairs: list[tuple[int, int]], random: Generator, repetitions: int) -> Iterator[Summary]:
    for first in range(0, repetitions, CHUNK):
        yield Summary(world.draw(random, min(CHUNK, repetitions - first)), pairs)


def worlds(seeds: int, questions: int) -> Iterator[tuple[str, World, int]]:
    """Yield each column: its title, the world, and how many of the pairs with the reference count."""
    for deviation in (1.8, 2.2, 3.7, 7.0):
        noise = (noise_of(deviation),) * METHODS
        yield f"FP {deviation:g}", World(seeds, questions, noise), METHODS - 1
    for deviation in (2.2, 3.7):
        for gain in (3.4, 6.4):
            noise, gains = (noise_of(deviation),) * METHODS, (0.0, *(gain,) * (METHODS - 1))
            yield f"+{gain:g} at {deviation:g}", World(seeds, questions, noise, gains), METHODS - 1
    for deviation in (3.7, 7.0):
        # one noisy method brings all the noise of a difference that two bring elsewhere
        noise = (0.0, sqrt(2) * noise_of(deviation), *(0.0,) * (METHODS - 2))
        yield f"FP alone {deviation:g}", World(seeds, questions, noise), 1


def rates(seeds: int, questions: int, repetitions: int, random: Generator) -> Table:
    """Return the table of designs by worlds, %."""
    table = Table(title=f"{seeds} seeds, {questions:,} questions, {repetitions:,} repetitions: differences called, %")
    found: dict[str, list[str]] = {name: [] for name in NAMES}
    table.add_column("design")
    for title, world, counted in worlds(seeds, questions):
        # one pair a repetition says less than five
        drawn = summaries(world, AGAINST_REFERENCE, random, repetitions * (3 if counted == 1 else 1))
        parts = [(one.decided(random), one.own[:, :counted].mean()) for one in drawn]
        deviation = 100 * sqrt(np.mean([own for _, own in parts]))
        table.add_column(f"{title}\n(sd {deviation:.1f})", justify="right")
        for name in NAMES:
            found[name].append(f"{100 * np.mean(np.concatenate([decided[name][:, :counted] for decided, _ in parts])):.1f}")
    for name, cells in found.items():
        table.add_row(f"{name} {NAMES[name]}", *cells)
    return table


def families(seeds: int, questions: int, repetitions: int, random: Generator) -> Table:
    """Return how often a family says anything false where all methods are alike, %: designs 4 and 5."""
    pairs = list(combinations(range(METHODS), 2))
    table = Table(title=f"{seeds} seeds: repetitions with a false difference, all methods alike, %")
    ways: dict[str, Callable[[Array, Array], NDArray[np.bool_]]] = {
        "reference against 5, Holm over 5": lambda p, gain: p[:, : METHODS - 1].min(1) * (METHODS - 1) < 0.05,
        "best against 5, Holm over 5": lambda p, gain: _of_the_best(p, gain, pairs) * (METHODS - 1) < 0.05,
        "best against 5, Holm over all pairs": lambda p, gain: _of_the_best(p, gain, pairs) * len(pairs) < 0.05,
        "every pair, Holm over all": lambda p, gain: p.min(1) * len(pairs) < 0.05,
    }
    table.add_column("family")
    rows: dict[str, list[str]] = {name: [] for name in ways}
    for deviation in (1.8, 2.2, 3.7):
        parts: dict[tuple[str, str], list[NDArray[np.bool_]]] = {}
        for one in summaries(World(seeds, questions, (noise_of(deviation),) * METHODS), pairs, random, repetitions):
            for design in ("4", "5"):
                v, degrees = one.tests()[design]
                p = 2 * stdtr(degrees, -np.abs(one.gain) / np.sqrt(v))
                for name, way in ways.items():
                    parts.setdefault((name, design), []).append(way(p, one.gain))
        for design in ("4", "5"):
            table.add_column(f"{design} at {deviation:g}", justify="right")
            for name in ways:
                rows[name].append(f"{100 * np.mean(np.concatenate(parts[name, design])):.1f}")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _of_the_best(p: Array, gain: Array, pairs: list[tuple[int, int]]) -> Array:
    """Return the smallest p among the pairs of the method with the highest mean; gains over method 0 order them all."""
    heights = np.concatenate([np.zeros((len(p), 1)), -gain[:, : METHODS - 1]], 1)
    best = heights.argmax(1)
    is_his = np.array([[best_one in pair for pair in pairs] for best_one in best])
    return np.asarray(np.where(is_his, p, 1.0).min(1))


def main(words: list[str]) -> None:
    given = dict(word.partition("=")[::2] for word in words)
    repetitions, questions = int(given.get("repetitions", "400")), int(given.get("questions", "1000"))
    random = np.random.default_rng(int(given.get("random", "0")))
    console = Console(width=190)
    for seeds in (int(word) for word in given.get("seeds", "3,5").split(",")):
        for table in (rates(seeds, questions, repetitions, random), families(seeds, questions, repetitions, random)):
            console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
