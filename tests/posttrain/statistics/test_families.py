"""Holm's correction: statsmodels' numbers, and the level that each test had to reach."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from posttrain.statistics.families import holm, holm_levels

pytestmark = pytest.mark.usefixtures("no_collection")

PS = st.lists(st.floats(0, 1), min_size=1, max_size=9)


def test_by_hand() -> None:
    # 3 · 0.01 = 0.03; 2 · 0.02 = 0.04; 1 · 0.03 = 0.03, which may not be below the one before: 0.04
    assert holm([0.03, 0.01, 0.02]) == pytest.approx((0.04, 0.03, 0.04))
    assert holm([0.9, 0.6]) == (1.0, 1.0)
    assert holm([]) == ()


@given(PS)
def test_it_is_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(tuple(multipletests(p, method="holm")[1]), abs=1e-15)


@given(PS)
def test_a_test_is_rejected_exactly_below_its_level(p: list[float]) -> None:
    levels = holm_levels(p, alpha=0.05)
    for own, (one, adjusted, level) in enumerate(zip(p, holm(p), levels, strict=True)):
        assert (adjusted < 0.05) == (one < level) or abs(adjusted - 0.05) < 1e-12
        # and the level says so of any other p in its place
        for tried in (level * 0.999, level * 1.001):
            assert (holm([*p[:own], tried, *p[own + 1 :]])[own] < 0.05) == (tried < level)


def test_levels_by_hand() -> None:
    # for the last: 0.001 · 3 and 0.02 · 2 are below 0.05, so all of alpha is left; for the first two, the other one and 0.5
    assert holm_levels([0.001, 0.02, 0.5], alpha=0.05) == pytest.approx((0.05 / 3, 0.05 / 2, 0.05))
    assert holm_levels([0.3], alpha=0.05) == (0.05,)
    assert holm_levels([0.5, 0.5], alpha=0.05) == (0.025, 0.025)


def test_a_p_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"each p must lie between 0 and 1, got \[nan, 1.5\]"):
        holm([0.1, np.nan, 1.5])
