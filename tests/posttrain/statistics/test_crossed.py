"""Variance over crossed seeds and questions: by hand, by statsmodels' analysis of variance, with missing cells."""

from math import inf

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from posttrain.statistics.crossed import Spread, pooled_seed_variance, spread_of

SMALL = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])


def drawn(seed: int, *axes: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=axes) + random.normal(size=axes[-1]) + random.normal(size=(axes[-2], 1))


def test_the_parts_by_hand() -> None:
    # question means 1, ½, 0: variance ¼; seed means ⅓, ⅔: variance 1/18
    # residuals ±1/6, ∓1/3, ±1/6: squares 1/3 over (2 - 1)(3 - 1) degrees = 1/6; question = 1/4 - (1/6) / 2 = 1/6
    spread = spread_of(SMALL)
    assert (spread.seed, spread.question, spread.residual) == pytest.approx((1 / 18, 1 / 6, 1 / 6))
    # V = (1/18)/2 + (1/6)/3 = 1/12; shares 1/3 and 2/3: degrees = 1 / ((1/9)/1 + (4/9)/2) = 3
    assert spread.variance == pytest.approx(1 / 12)
    assert spread.degrees == pytest.approx(3.0)


def test_all_or_nothing_questions_are_added_by_hand() -> None:
    # n · between = 3 · ¼ < 10 · 1: two are added, (2 · 1/6 + 2 · 1) / (2 + 2) = 7/12
    assert spread_of(SMALL, all_or_nothing=1.0).question == pytest.approx(7 / 12)
    # 3 · ¼ > 10 · 0.05: one is, (2 · 1/6 + 0.05) / 3
    assert spread_of(SMALL, all_or_nothing=0.05).question == pytest.approx((1 / 3 + 0.05) / 3)


def test_one_seed_has_questions_only() -> None:
    spread = spread_of(SMALL[1:])
    assert (spread.seed, spread.residual, spread.question) == (0.0, 0.0, pytest.approx(1 / 3))
    assert (spread.variance, spread.degrees) == (pytest.approx(1 / 9), pytest.approx(2.0))


def test_mean_squares_are_those_of_an_analysis_of_variance() -> None:
    cells = drawn(0, 4, 30)
    frame = pd.DataFrame([(seed, question, cells[seed, question]) for seed in range(4) for question in range(30)])
    frame.columns = ["seed", "question", "value"]
    squares = anova_lm(smf.ols("value ~ C(seed) + C(question)", frame).fit())
    squares = squares["sum_sq"] / squares["df"]
    spread = spread_of(cells)
    assert spread.residual == pytest.approx(squares["Residual"])
    assert spread.seed == pytest.approx(squares["C(seed)"] / 30)
    assert spread.question == pytest.approx((squares["C(question)"] - squares["Residual"]) / 4)


def test_a_negative_variance_between_questions_is_none() -> None:
    # every question has the same mean, so all that differs is residual
    assert spread_of(np.array([[1.0, 0.0], [0.0, 1.0]])).question == 0.0


def test_the_pooled_variance_by_hand_is_the_pairs_own_where_there_are_two_methods() -> None:
    # residuals ±0.05 each: squares 0.01 over 1 degree, twice that; the differences 0.1 and -0.1 vary by 0.02
    found = pooled_seed_variance({"a": {0: 0.5, 1: 0.7}, "b": {0: 0.4, 1: 0.8}})
    assert found == (pytest.approx(0.02), 1.0)


@pytest.mark.parametrize("missing", [(), (("b", 1),), (("b", 1), ("d", 0), ("d", 3))])
def test_the_pooled_variance_is_that_of_least_squares_with_and_without_missing_runs(missing: tuple[tuple[str, int], ...]) -> None:
    random = np.random.default_rng(len(missing))
    means = {name: {seed: float(random.normal()) for seed in range(4) if (name, seed) not in missing} for name in "abcd"}
    frame = pd.DataFrame([(name, seed, value) for name, row in means.items() for seed, value in row.items()])
    frame.columns = ["method", "seed", "value"]
    fitted = smf.ols("value ~ C(method) + C(seed)", frame).fit()
    assert pooled_seed_variance(means) == (pytest.approx(2 * fitted.mse_resid), fitted.df_resid)
    assert fitted.df_resid == 9 - len(missing)


def test_what_a_seed_does_to_all_methods_alike_falls_out() -> None:
    random = np.random.default_rng(3)
    means = {name: {seed: float(random.normal()) for seed in range(3)} for name in "abc"}
    moved = {name: {seed: value + 5.0 * seed for seed, value in row.items()} for name, row in means.items()}
    assert pooled_seed_variance(moved)[0] == pytest.approx(pooled_seed_variance(means)[0])


def test_equal_means_have_no_variance_and_one_seed_has_no_degrees() -> None:
    assert pooled_seed_variance({name: {0: 0.1, 1: 0.3, 2: 0.7} for name in "abc"}) == (0.0, 4.0)
    assert pooled_seed_variance({"a": {0: 0.5}, "b": {0: 0.4}}) is None


def test_a_plan_by_hand() -> None:
    spread = Spread(seed=0.03, seed_degrees=10.0, question=0.2, residual=1.0, seeds=3, questions=100)
    # training alone: 0.03 - 1/100 = 0.02; with 400 questions 0.02 + 1/400 = 0.0225; degrees (10 / 2) · (6 - 1) = 25
    planned = spread.planned(6, 400)
    assert (planned.seed, planned.seed_degrees) == (pytest.approx(0.0225), 25.0)
    assert planned.variance == pytest.approx(0.0225 / 6 + 0.2 / 400)
    assert spread.planned(3, 100) == spread
    assert spread.planned(3, 10**9).variance == pytest.approx(0.02 / 3)


def test_degrees_lie_between_those_of_the_parts() -> None:
    few = Spread(seed=1e-200, seed_degrees=2.0, question=1e-200, residual=0.0, seeds=3, questions=11)
    assert 2 <= few.degrees <= 12
    assert Spread(0.0, 2.0, 0.0, 0.0, 3, 11).degrees == 2.0
    assert Spread(0.0, 0.0, 0.0, 0.0, 1, 11).degrees == 10.0 < inf
