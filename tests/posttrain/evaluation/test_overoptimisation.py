"""Best-of-n, scales and PPO's path: by hand, against brute force, by identity, by refusal."""

from itertools import combinations, pairwise
from math import comb, log, pi, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.evaluation.overoptimisation import Point, Scale, best_of_n, best_of_n_kl, ppo_points, scale_of


def estimates(proxy: Any, gold: Any) -> list[tuple[float, float]]:
    return [(one.proxy.estimate, one.gold.estimate) for one in best_of_n(proxy, gold)]


def test_best_of_n_by_hand() -> None:
    """One prompt, twice, so that there is an interval: proxies 3, 1, 2 with gold 0, 1, ½.

    n = 1: means 2 and ½. n = 2: the best of {3, 1}, {3, 2}, {1, 2} are 3, 3, 2: proxy 8/3, gold (0 + 0 + ½) / 3. n = 3: 3 and 0.
    """
    found = estimates([[3, 1, 2]] * 2, [[0, 1, 0.5]] * 2)
    assert found == [pytest.approx((2, 0.5)), pytest.approx((8 / 3, 1 / 6)), pytest.approx((3, 0))]
    last = best_of_n([[3, 1, 2]] * 2, [[0, 1, 0.5]] * 2)[-1]
    assert (last.proxy_gain.estimate, last.gold_gain.estimate) == pytest.approx((1, -0.5))


def test_equal_proxies_are_picked_equally_often() -> None:
    # of 1, 1, 0 two are drawn: {1, 1} gives the mean of both golds, ½; {1, 0} gives 1; {1', 0} gives 0
    found = estimates([[1, 1, 0], [0, 1, 1]], [[1, 0, 0], [0, 0, 1]])
    assert found[1] == pytest.approx((1, 0.5)) and found[2] == pytest.approx((1, 0.5))


prompts = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 0.5, 1.0])), min_size=4, max_size=6), min_size=2, max_size=5
)


def split(samples: list[list[tuple[int, float]]]) -> tuple[list[list[float]], list[list[float]]]:
    return [[float(a) for a, _ in row] for row in samples], [[b for _, b in row] for row in samples]


def brute_force(proxy: list[float], gold: list[float], n: int) -> tuple[float, float]:
    """Draw every n of the samples and take the best, the mean of the best where several are."""
    total = [0.0, 0.0]
    for drawn in combinations(range(len(proxy)), n):
        top = max(proxy[place] for place in drawn)
        best = [gold[place] for place in drawn if proxy[place] == top]
        total[0] += top
        total[1] += sum(best) / len(best)
    return total[0] / comb(len(proxy), n), total[1] / comb(len(proxy), n)


@given(prompts)
def test_it_is_the_mean_over_every_draw(samples: list[list[tuple[int, float]]]) -> None:
    proxy, gold = split(samples)
    found = estimates(proxy, gold)
    assert len(found) == min(map(len, proxy)), "N is the fewest samples of a prompt"
    for n, one in enumerate(found, start=1):
        every = [brute_force(mine, true, n) for mine, true in zip(proxy, gold, strict=True)]
        assert one == pytest.approx(tuple(np.mean(every, axis=0)), abs=1e-9)


@given(prompts)
def test_best_of_one_is_the_mean_and_gold_as_its_own_proxy_only_rises(samples: list[list[tuple[int, float]]]) -> None:
    proxy, gold = split(samples)
    assert estimates(proxy, gold)[0] == pytest.approx(
        (np.mean([np.mean(row) for row in proxy]), np.mean([np.mean(row) for row in gold])), abs=1e-9
    )
    rising = [one for _, one in estimates(gold, gold)]
    assert all(after >= before - 1e-9 for before, after in pairwise(rising))
    assert rising[-1] >= max(one for _, one in estimates(proxy, gold)) - 1e-9, "nothing picks better than gold"


@given(prompts)
def test_only_the_order_of_the_proxy_decides_what_gold_gets(samples: list[list[tuple[int, float]]]) -> None:
    proxy, gold = split(samples)
    bent = [[np.exp(score) + 7 for score in row] for row in proxy]
    assert [true for _, true in estimates(bent, gold)] == pytest.approx([true for _, true in estimates(proxy, gold)], abs=1e-9)
    against = [[-score for score in row] for row in gold]
    falling = [true for _, true in estimates(against, gold)]
    assert all(after <= before + 1e-9 for before, after in pairwise(falling))


def test_it_has_no_bias() -> None:
    """Normal proxies, whose maximum of 2 is 1/√π on average, of 4 1.02938; gold is ½ and 0.1 for each unit of proxy.

    200 data sets: the mean estimate lies within 4 of its standard errors.
    tests/posttrain/statistics/test_coverage.py has the intervals.
    """
    random = np.random.default_rng(0)
    found = []
    for _ in range(200):
        proxy = random.normal(size=(60, 4)).clip(-5, 5)
        picked = best_of_n(proxy.tolist(), (0.5 + 0.1 * proxy).tolist())
        found.append([picked[1].proxy.estimate, picked[3].proxy.estimate, picked[1].gold.estimate, picked[3].gold_gain.estimate])
    expected = np.array([1 / sqrt(pi), 1.02938, 0.5 + 0.1 / sqrt(pi), 0.1 * 1.02938])
    errors = np.std(found, axis=0) / sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - expected) < 4 * errors).all()


def test_gains_are_paired_so_that_hard_prompts_do_not_widen_them() -> None:
    samples = np.array([[0.0, 1.0, 2.0], [100.0, 101.0, 102.0], [50.0, 51.0, 52.0]]).tolist()
    right = [[0.0, 0.5, 1.0]] * 3
    last = best_of_n(samples, right)[-1]
    assert (last.proxy_gain.low, last.proxy_gain.estimate, last.proxy_gain.high) == pytest.approx((1, 1, 1))
    assert last.proxy.high - last.proxy.low > 50
    assert best_of_n(samples, right)[0].gold_gain.high == 0
    narrow, wide = best_of_n(samples, right, confidence=0.5)[0].proxy, best_of_n(samples, right)[0].proxy
    assert wide.low < narrow.low < narrow.high < wide.high


def test_kl_of_best_of_n() -> None:
    assert best_of_n_kl(1) == 0
    assert best_of_n_kl(2) == pytest.approx(log(2) - 0.5)
    assert best_of_n_kl(8) == pytest.approx(2.0794415 - 0.875)
    kls = [one.kl for one in best_of_n([[1, 2, 3]] * 2, [[0, 1, 1]] * 2)]
    assert kls == [best_of_n_kl(n) for n in (1, 2, 3)] and kls == sorted(kls)
    with pytest.raises(ValueError, match=r"^n must be at least 1, got 0$"):
        best_of_n_kl(0)


@pytest.mark.parametrize(
    ("proxy", "gold", "message"),
    [
        ([[1.0]], [[1.0]], "there must be at least two prompts, got 1: one says nothing about the spread"),
        ([[1.0], []], [[1.0], []], "every prompt must have at least one sample"),
        ([[1.0], [2.0]], [[1.0]], "proxy and gold must score the same samples of the same prompts"),
        ([[1.0], [2.0]], [[1.0], [0.0, 1.0]], "proxy and gold must score the same samples of the same prompts"),
        ([[1.0], [float("nan")]], [[1.0], [0.0]], "every score must be finite"),
        ([[1.0], [2.0]], [[1.0], [2.0]], "every gold score must lie between 0 and 1"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(proxy: Any, gold: Any, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        best_of_n(proxy, gold)
    assert str(refusal.value) == message


def test_a_confidence_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^confidence must lie between 0 and 1, got 1$"):
        best_of_n([[1.0]] * 2, [[1.0]] * 2, confidence=1.0)


# --- scales -------------------------------------------------------------------------------------------------------------


def test_the_scale_of_samples_by_hand() -> None:
    # means 2 and 3, so 2.5; squares (1 + 1) + (1 + 1 + 4) = 8 over (2 - 1) + (3 - 1) = 3
    scale = scale_of([[1, 3], [2, 2, 5]])
    assert scale is not None and scale == Scale(mean=2.5, deviation=pytest.approx(sqrt(8 / 3)))
    assert scale.of(2.5 + 2 * sqrt(8 / 3)) == pytest.approx(2)
    assert scale.of_gain(sqrt(8 / 3)) == pytest.approx(1)


@given(prompts, st.lists(st.integers(-50, 50), min_size=5, max_size=5))
def test_what_a_proxy_says_between_prompts_is_no_part_of_its_scale(
    samples: list[list[tuple[int, float]]], offsets: list[int]
) -> None:
    proxy, _ = split(samples)
    moved = scale_of([[score + offset for score in row] for row, offset in zip(proxy, offsets, strict=False)])
    scale = scale_of(proxy)
    assert (scale is None) == (moved is None)
    if scale and moved:
        assert moved.deviation == pytest.approx(scale.deviation)
        doubled = scale_of([[2 * score + 1 for score in row] for row in proxy])
        assert doubled is not None and doubled.of(2 * 0.3 + 1) == pytest.approx(scale.of(0.3)), "units fall out"


@pytest.mark.parametrize("scores", [[], [[1.0], [2.0]], [[1.0, 1.0], [2.0, 2.0]], [[]]])
def test_samples_that_do_not_differ_have_no_scale(scores: list[list[float]]) -> None:
    assert scale_of(scores) is None


# --- PPO's path ---------------------------------------------------------------------------------------------------------

CURVE = [
    {"ppo/reward": 1.0, "ppo/kl": -0.1, "ppo/gold": 0.4},
    {"ppo/reward": 2.0, "ppo/kl": 1.1, "ppo/gold": 0.6},
    {"ppo/reward": 6.0, "ppo/kl": 4.0, "ppo/gold": 0.5},
]


def test_a_path_by_hand() -> None:
    points = ppo_points(CURVE)
    assert points[1] == Point(update=2, kl=1.1, proxy=2.0, gold=0.6)
    assert [point.sqrt_kl for point in points] == [0, pytest.approx(sqrt(1.1)), 2]
    averaged = ppo_points(CURVE, over=2)
    assert [(one.update, one.kl, one.proxy, one.gold) for one in averaged] == [
        (2, pytest.approx(0.5), 1.5, pytest.approx(0.5)),
        (3, pytest.approx(2.55), 4.0, pytest.approx(0.55)),
    ]
    assert ppo_points(CURVE, over=9) == ppo_points(CURVE, over=3), "a short run is averaged whole"


def test_gold_that_is_not_known_throughout_is_not_known() -> None:
    bare = [{name: value for name, value in row.items() if name != "ppo/gold"} for row in CURVE]
    assert [point.gold for point in ppo_points([bare[0], *CURVE[1:]], over=2)] == [None, pytest.approx(0.55)]
    assert ppo_points([CURVE[0], bare[1], CURVE[2]], over=3)[0].gold is None


def test_a_path_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the curve of a PPO run must have at least one update, got none$"):
        ppo_points([])
    with pytest.raises(ValueError, match=r"^over must be at least 1, got 0$"):
        ppo_points(CURVE, over=0)
