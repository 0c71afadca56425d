"""One method's mean over seeds: recomputed by other code, at its edges, by how often it covers."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from posttrain.statistics.intervals import clustered_mean, clustered_proportion, wilson
from posttrain.statistics.levels import mean_over_seeds, pooled_level_variance


def test_an_unbounded_mean_is_that_of_plain_loops() -> None:
    random = np.random.default_rng(0)
    cells = random.normal(size=(3, 40)) + 3 * random.normal(size=40) + random.normal(size=(3, 1))
    mean = sum(map(sum, cells)) / 120
    by_seed, by_question = cells.mean(1), cells.mean(0)
    left = [[cells[s, q] - by_seed[s] - by_question[q] + mean for q in range(40)] for s in range(3)]
    residual = sum(one**2 for row in left for one in row) / (2 * 39)
    of_seeds = sum((one - mean) ** 2 for one in by_seed) / 2 / 3
    of_questions = (3 * sum((one - mean) ** 2 for one in by_question) / 39 - residual) / (40 * 3)
    v = of_seeds + of_questions
    degrees = v**2 / (of_seeds**2 / 2 + of_questions**2 / 39)
    expected = stats.t.interval(0.95, degrees, loc=mean, scale=sqrt(v))
    found = mean_over_seeds(cells)
    assert (found.estimate, found.low, found.high) == pytest.approx((mean, *expected))


def test_a_known_variance_between_seeds_takes_the_place_of_these_seeds() -> None:
    cells = np.tile(np.linspace(-1, 1, 30), (3, 1)) + np.array([[0.0], [0.1], [-0.1]])
    known = mean_over_seeds(cells, seed_variance=(0.01, 12.0))
    v = 0.01 / 3 + cells[0].var(ddof=1) / 30
    degrees = v**2 / ((0.01 / 3) ** 2 / 12 + (v - 0.01 / 3) ** 2 / 29)
    assert known.high == pytest.approx(stats.t.ppf(0.975, degrees) * sqrt(v))
    assert known.high < mean_over_seeds(cells, seed_variance=(0.04, 12.0)).high


def test_one_seed_is_an_interval_over_questions() -> None:
    right = (np.random.default_rng(1).random((1, 50)) < 0.9).astype(float)
    assert mean_over_seeds(right) == clustered_proportion(right[0])
    assert mean_over_seeds(right - 2) == clustered_mean(right[0] - 2)
    assert mean_over_seeds(right, is_share=False) == clustered_mean(right[0])


def test_all_right_and_all_wrong() -> None:
    assert mean_over_seeds(np.ones((3, 50))) == wilson(50, 50)
    assert mean_over_seeds(np.zeros((5, 50))) == wilson(0, 50)


@pytest.mark.parametrize("accuracy", [0.6, 0.95])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_it_covers_other_seeds_and_questions(accuracy: float, noise: float) -> None:
    """800 draws: a standard error of 0.8 points; the interval may be too wide, never leave out the truth in more than 7 %."""
    random, covered = np.random.default_rng(2), 0
    for _ in range(800):
        chance = random.beta(accuracy * 3, (1 - accuracy) * 3, size=200) + noise * random.normal(size=(3, 1)) * (1 - accuracy) * 3
        found = mean_over_seeds((random.random((3, 200)) < chance).astype(float))
        covered += found.low <= accuracy <= found.high
        assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert covered / 800 > 0.93


def test_a_level_that_is_pooled_counts_like_methods_once() -> None:
    random = np.random.default_rng(3)
    cells = random.normal(size=(4, 20)) + random.normal(size=(4, 1))
    variance, degrees = pooled_level_variance([cells, cells + 1.0])
    assert (variance, degrees) == pytest.approx((cells.mean(1).var(ddof=1), 3.0))
    # methods that are independent, with equal variances: nearly M (S - 1)
    many = [random.normal(size=(400, 2)) for _ in range(5)]
    assert pooled_level_variance(many)[1] == pytest.approx(5 * 399, rel=0.1)
    assert pooled_level_variance([np.ones((3, 4))] * 2) == (0.0, 2.0)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"values must have the axes \(seeds, questions\), got shape \(3,\)"):
        mean_over_seeds([1, 0, 1])
    with pytest.raises(ValueError, match="at least two problems, got 1"):
        mean_over_seeds([[1], [0]])
    with pytest.raises(ValueError, match="values must be finite"):
        mean_over_seeds([[1, np.nan]])
    with pytest.raises(ValueError, match="shares must lie between 0 and 1"):
        mean_over_seeds([[1, 2]], is_share=True)
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1, got 0"):
        mean_over_seeds([[1, 0]], confidence=0)
    with pytest.raises(ValueError, match=r"every method must have the same seeds, two at least, got \[2, 3\]"):
        pooled_level_variance([np.zeros((2, 3)), np.zeros((3, 3))])
