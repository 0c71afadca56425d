"""The difference of two independent shares: a published example, identities, and how often its interval covers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.statistics.independent import independent_difference
from posttrain.statistics.intervals import Interval, wilson


def test_newcombes_first_example() -> None:
    # Newcombe 1998, table II: 56/70 - 48/80 is 0.2000, and by method 10 from 0.0524 to 0.3339
    found = independent_difference(wilson(56, 70), wilson(48, 80))
    assert found.estimate == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_by_hand() -> None:
    # a = 0.5 [0.2, 0.6], b = 0.9 [0.85, 0.94]: √(0.3² + 0.04²) = 0.302655, √(0.1² + 0.05²) = 0.111803
    found = independent_difference(Interval(0.5, 0.2, 0.6), Interval(0.9, 0.85, 0.94))
    assert (found.estimate, found.low, found.high) == pytest.approx((-0.4, -0.702655, -0.288197), abs=1e-6)


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 1), st.floats(0, 1))
def test_turned_round_it_is_the_mirror_image_and_stays_within_its_bounds(m: int, n: int, share: float, other: float) -> None:
    a, b = wilson(round(share * m), m), wilson(round(other * n), n)
    one, mirrored = independent_difference(a, b), independent_difference(b, a)
    assert (one.estimate, one.low, one.high) == pytest.approx((-mirrored.estimate, -mirrored.high, -mirrored.low))
    assert -1 - 1e-12 <= one.low <= one.estimate <= one.high <= 1 + 1e-12


def test_a_sample_without_error_leaves_the_interval_of_the_other() -> None:
    found = independent_difference(wilson(30, 40), Interval(0.5, 0.5, 0.5))
    alone = wilson(30, 40)
    assert (found.low, found.high) == pytest.approx((alone.low - 0.5, alone.high - 0.5))


def test_it_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    right, shares = 0, ((0.8, 0.9), (0.5, 0.5), (0.95, 0.9))
    for mine, yours in shares:
        drawn = zip(random.binomial(100, mine, 400).tolist(), random.binomial(200, yours, 400).tolist(), strict=True)
        for a, b in drawn:
            found = independent_difference(wilson(a, 100), wilson(b, 200))
            right += found.low <= mine - yours <= found.high
    # 95 % of 1,200 with a standard error of 0.6 %
    assert 0.93 <= right / 1_200 <= 0.97
