"""The statistics of a record once more, by other code: loops, statsmodels and scipy.stats, from tables of per-question scores.

Formulas: docs of `compare_with`, `mean_over_seeds` and `share_interval`. Nothing here imports our own statistics.
"""

from itertools import combinations
from math import comb, sqrt

import numpy as np
import pandas
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

ALPHA = 0.05


def share_at(share, variance, degrees):
    """Wilson's interval at the effective number of trials of a variance that has so many degrees."""
    trials = share * (1 - share) / variance * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, degrees)) ** 2
    return wilson(share, trials)


def wilson(share, trials):
    """Wilson's interval; with few successes, or failures, among many its bound goes as far as Poisson's."""
    low, high = proportion_confint(share * trials, trials, method="wilson")
    few = min(3, 0.1 * trials)
    if 0 < share * trials <= few:
        low = min(low, stats.chi2.ppf(ALPHA, 2 * share * trials) / 2 / trials)
    if 0 < (1 - share) * trials <= few:
        high = max(high, 1 - stats.chi2.ppf(ALPHA, 2 * (1 - share) * trials) / 2 / trials)
    return low, high


def two_way(table):
    """Return (variance of seed means, variance between question means, residual mean square) of a (seeds, questions) table."""
    seeds, count = len(table), len(table[0])
    grand = sum(map(sum, table)) / (seeds * count)
    rows = [sum(row) / count for row in table]
    columns = [sum(row[place] for row in table) / seeds for place in range(count)]
    of_columns = sum((column - grand) ** 2 for column in columns) / (count - 1)
    if seeds == 1:
        return 0.0, of_columns, 0.0
    left = sum((table[s][q] - rows[s] - columns[q] + grand) ** 2 for s in range(seeds) for q in range(count))
    return sum((row - grand) ** 2 for row in rows) / (seeds - 1), of_columns, left / ((seeds - 1) * (count - 1))


def parts(table, *, bound):
    """Return (seed variance, question variance, residual), questions that happen to be alike not taken for certain."""
    seeds, count = len(table), len(table[0])
    of_seeds, between, residual = two_way(table)
    of_questions = between if seeds == 1 else max(between - residual / seeds, 0.0)
    if bound is not None:
        added = 2 if count * between < 10 * bound else 1
        of_questions = ((count - 1) * of_questions + added * bound) / (count - 1 + added)
    return of_seeds, of_questions, residual


def satterthwaite(of_seeds, seed_degrees, of_questions, seeds, count):
    first, second = of_seeds / seeds, of_questions / count
    variance = first + second
    return variance, variance**2 / ((first**2 / seed_degrees if seed_degrees else 0.0) + second**2 / (count - 1))


def level(table, *, is_share):
    """Return (estimate, low, high) of one method over seeds and questions."""
    seeds, count = len(table), len(table[0])
    mean = sum(map(sum, table)) / (seeds * count)
    if is_share and min(mean, 1 - mean) < 1e-12:
        return mean, *wilson(round(mean), count)
    of_seeds, of_questions, _ = parts(table, bound=mean * (1 - mean) if is_share else None)
    variance, degrees = satterthwaite(of_seeds, seeds - 1, of_questions, seeds, count)
    if is_share:
        return mean, *share_at(mean, variance, degrees)
    half = stats.t.ppf(0.975, degrees) * sqrt(variance)
    return mean, mean - half, mean + half


def gain_of_seed(mine, theirs, *, is_share):
    """Return (estimate, low, high) of one seed's paired difference, over questions only."""
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    if not is_share:
        found = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        return sum(differences) / len(differences), found.low, found.high
    share, low, high = level([[(1 + one) / 2 for one in differences]], is_share=True)
    return 2 * share - 1, 2 * low - 1, 2 * high - 1


def pooled(tables):
    """Return twice the residual mean square of `mean ~ method + seed`, and its degrees; None with none left."""
    rows = [(name, seed, float(np.mean(row))) for name, table in tables.items() for seed, row in table.items()]
    fitted = ols("mean ~ C(method) + C(seed)", pandas.DataFrame(rows, columns=["method", "seed", "mean"])).fit()
    return None if fitted.df_resid < 1 else (2 * fitted.mse_resid, fitted.df_resid)


class Pair:
    """One comparison a - b, before it is corrected for others."""

    def __init__(self, tables, a, b, *, is_share):
        self.a, self.b, self.is_share = a, b, is_share
        self.common = [seed for seed in sorted(tables[a]) if seed in tables[b]]
        table = [[x - y for x, y in zip(tables[a][seed], tables[b][seed], strict=True)] for seed in self.common]
        self.seeds, self.count = len(table), len(table[0])
        self.estimate = sum(map(sum, table)) / (self.seeds * self.count)
        self.per_seed = [gain_of_seed(tables[a][seed], tables[b][seed], is_share=is_share) for seed in self.common]
        # a question's difference of shares varies by 1 at most
        most = 1 - self.estimate**2 if self.seeds == 1 else 1.0
        own, self.question, self.residual = parts(table, bound=most if is_share else None)
        if self.seeds == 1:
            self.of_one_seed()
            return
        seed, degrees = pooled(tables) or (own, self.seeds - 1)
        self.low, self.high = self.interval(seed, degrees)
        self.seed, self.seed_degrees = (own, self.seeds - 1) if own > seed * (1 + 1e-12) else (seed, degrees)
        self.low_decides, self.high_decides = self.interval(self.seed, self.seed_degrees)
        variance, self.degrees = satterthwaite(self.seed, self.seed_degrees, self.question, self.seeds, self.count)
        self.error = sqrt(variance)
        self.p = 2 * stats.t.sf(abs(self.estimate) / self.error, self.degrees)

    def of_one_seed(self):
        _, self.low, self.high = self.per_seed[0]
        self.low_decides, self.high_decides = self.low, self.high
        self.seed, self.seed_degrees, self.degrees = 0.0, 0, self.count - 1
        variance = self.question / self.count
        self.error = sqrt(variance / (1 - self.estimate**2) if self.is_share else variance)
        self.p = 2 * stats.t.sf(abs(self.estimate) / self.error, self.degrees)

    def interval(self, seed, degrees):
        variance, degrees = satterthwaite(seed, degrees, self.question, self.seeds, self.count)
        half = stats.t.ppf(0.975, degrees) * sqrt(variance)
        low, high = self.estimate - half, self.estimate + half
        return (max(low, -1.0), min(high, 1.0)) if self.is_share else (low, high)

    def sees(self, effect, level, seeds, count):
        """Return whether a design of this kind would show the effect with 80 % power."""
        training = max(self.seed - self.residual / self.count, 0.0)
        seed = training + self.residual / count if self.seeds > 1 else 0.0
        degrees = self.seed_degrees / (self.seeds - 1) * (seeds - 1) if self.seeds > 1 else 0
        variance, degrees = satterthwaite(seed, degrees, self.question, seeds, count)
        return (stats.t.ppf(1 - level / 2, degrees) + stats.t.ppf(0.8, degrees)) * sqrt(variance) <= effect


def family(pairs, *, margin):
    """Fill in what depends on the other tests of a family: p_holm, level, smallest effect and verdict."""
    ps = [one.p for one in pairs]
    equal = [stats.t.sf((margin - abs(one.estimate)) / one.error, one.degrees) for one in pairs]
    for place, (one, corrected, within) in enumerate(zip(pairs, holm(ps), holm(equal), strict=True)):
        one.p_holm = corrected
        # the largest p with which this test would still have been rejected, by halving
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            rejected = steps_down([middle if other == place else p for other, p in enumerate(ps)], place)
            low, high = (middle, high) if rejected else (low, middle)
        one.level = low
        one.smallest = (stats.t.ppf(1 - one.level / 2, one.degrees) + stats.t.ppf(0.8, one.degrees)) * one.error
        one.verdict = verdict(one, corrected, within)
    return pairs


def steps_down(ps, place):
    """Return whether Holm's procedure rejects the test at this place: one step after the other until one does not."""
    for step, own in enumerate(sorted(range(len(ps)), key=lambda other: ps[other])):
        if ps[own] * (len(ps) - step) >= ALPHA:
            return False
        if own == place:
            return True
    return False


def verdict(one, corrected, within):
    if corrected < ALPHA:
        return "better" if one.estimate > 0 else "worse"
    if within < ALPHA:
        return "equal"
    both = any(seed[1] > 0 for seed in one.per_seed) and any(seed[2] < 0 for seed in one.per_seed)
    return "disagree" if both else "undecided"


def holm(ps):
    return multipletests(ps, method="holm")[1].tolist()


def pass_at(right, k):
    subsets = list(combinations(range(len(right)), k))
    return sum(any(right[place] for place in one) for one in subsets) / len(subsets)


def majority(answers, right, k):
    """The majority among every subset of k, ties shared; all right answers are one."""
    total = 0.0
    for chosen in combinations(range(len(answers)), k):
        votes = {}
        for place in chosen:
            name = "right" if right[place] else answers[place]
            if name is not None:
                votes[name] = votes.get(name, 0) + 1
        most = [name for name, count in votes.items() if count == max(votes.values())]
        total += ("right" in most) / len(most) if most else 0.0
    return total / comb(len(answers), k)


def best(scores, right, k):
    total = 0.0
    for chosen in combinations(range(len(scores)), k):
        top = [place for place in chosen if scores[place] == max(scores[other] for other in chosen)]
        total += sum(right[place] for place in top) / len(top)
    return total / comb(len(scores), k)
