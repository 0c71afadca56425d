"""Means over seeds and questions that are crossed: every seed's model answers every question. What their variance is made of.

Both are draws: another seed trains another model, another set has other questions. So neither the answers nor the questions
alone are independent, and a mean's variance is the sum of two parts whose degrees of freedom differ much.
docs/decisions/0020-verdicts.md has what was measured of the tests that are made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from posttrain.statistics.clusters import Array
from posttrain.statistics.intervals import DIFFERING

TINY = 1e-12
"""A difference this many times smaller than the values is their rounding."""


@dataclass(frozen=True)
class Spread:
    """What the variance of a mean over crossed seeds and questions is made of, all in the squared unit of the values.

        V = seed / S + question / n,   degrees = V² / ((seed / S)² / seed_degrees + (question / n)² / (n - 1))

    Welch 1947 and Satterthwaite 1946 (doi:10.2307/3002019) for the degrees.

    Attributes:
        seed: variance of one seed's mean over these questions; 0 where there is one seed, whose variance nothing shows.
        seed_degrees: degrees of freedom behind `seed`.
        question: variance between questions, of their expectations over seeds.
        residual: variance of one cell beyond its seed and its question; `seed` holds residual / n of it.
        seeds: S.
        questions: n.
    """

    seed: float
    seed_degrees: float
    question: float
    residual: float
    seeds: int
    questions: int

    @property
    def variance(self) -> float:
        """V, of the mean over all seeds and questions."""
        return self.seed / self.seeds + self.question / self.questions

    @property
    def degrees(self) -> float:
        """Satterthwaite's degrees of freedom of V; those of the larger part where V is 0."""
        of_seeds, of_questions = self.seed / self.seeds, self.question / self.questions
        total = of_seeds + of_questions
        if not total > 0:
            return self.seed_degrees or float(self.questions - 1)
        # as shares of V, whose squares cannot underflow
        seed_share, question_share = of_seeds / total, of_questions / total
        loss = question_share**2 / (self.questions - 1)
        return float(1 / (loss + (seed_share**2 / self.seed_degrees if self.seed_degrees else 0.0)))

    def with_seed(self, variance: float, degrees: float) -> "Spread":
        """Return the spread with a variance between seeds that is known from elsewhere."""
        return replace(self, seed=variance, seed_degrees=degrees)

    def planned(self, seeds: int, questions: int) -> "Spread":
        """Return the spread that so many seeds and questions of the same kind are expected to have."""
        training = max(self.seed - self.residual / self.questions, 0.0)
        a_seed = self.seed_degrees / (self.seeds - 1) if self.seeds > 1 else 0.0
        seed = training + self.residual / questions if self.seeds > 1 else 0.0
        return replace(self, seed=seed, seed_degrees=a_seed * (seeds - 1), seeds=seeds, questions=questions)


def spread_of(cells: Array, *, all_or_nothing: float | None = None) -> Spread:
    """Return the spread of a mean over seeds and questions, from the table's own mean squares.

        seed = Σ_s (ȳ_s - ȳ)² / (S - 1),   question = max(MS_question - MS_residual, 0) / S

    The method of moments of a two-way table without replication (Searle, Casella and McCulloch 1992, chapter 4). With one seed
    `question` is the variance between questions, which holds the residual, and `seed` is 0.

    Args:
        cells: one value a seed and question, any unit. (seeds, questions), at least two questions.
        all_or_nothing: the variance that a single question would have if it were all or nothing; one such question, or two where
            little differs, is then added to the variance between questions, as `share_interval` does. None: a quantity that is
            no share has no such bound, and nothing is added.
    """
    seeds, questions = cells.shape
    by_question = cells.mean(axis=0)
    between = float(by_question.var(ddof=1))  # MS_question / S
    by_seed = cells.mean(axis=1)
    if seeds == 1:
        residual, seed, question = 0.0, 0.0, between
    else:
        left = cells - by_question - by_seed[:, None] + cells.mean()
        residual = float((left**2).sum() / ((seeds - 1) * (questions - 1)))
        seed, question = float(by_seed.var(ddof=1)), max(between - residual / seeds, 0.0)
    if all_or_nothing is not None:
        added = 2 if questions * between < DIFFERING * all_or_nothing else 1
        question = ((questions - 1) * question + added * all_or_nothing) / (questions - 1 + added)
    return Spread(seed, float(seeds - 1), question, residual, seeds, questions)


def pooled_seed_variance(means: Mapping[str, Mapping[int, float]]) -> tuple[float, float] | None:
    """Variance between seeds of a difference of two methods, the same for every pair, and its degrees of freedom.

        2 · MS_{method × seed},   degrees = cells - rank, (M - 1)(S - 1) where no cell is missing

    The residual mean square of `mean ~ method + seed` by least squares: what a seed does to all methods alike, as the common SFT
    model does, falls out. Where runs failed, all other cells are used.

    Args:
        means: each method's mean over questions, by seed.

    Returns:
        None where no degree of freedom is left: one seed, or one method.
    """
    names, seeds = list(means), sorted({seed for by_seed in means.values() for seed in by_seed})
    cells = [(names.index(name), seeds.index(seed), value) for name in names for seed, value in means[name].items()]
    design = np.zeros((len(cells), len(names) + len(seeds)))
    for row, (method, seed, _) in enumerate(cells):
        design[row, method] = design[row, len(names) + seed] = 1.0
    values = np.array([value for _, _, value in cells])
    centred = values - values.mean()  # losses far from 0 lose no digits
    solution, _, rank, _ = np.linalg.lstsq(design, centred, rcond=None)
    degrees = len(cells) - int(rank)
    if degrees < 1:
        return None
    left = centred - design @ solution
    # what is left of equal means is rounding, which must not pass for a difference
    squares = float(left @ left) if np.abs(left).max() > TINY * max(float(np.abs(values).max()), TINY) else 0.0
    return 2 * squares / degrees, float(degrees)
