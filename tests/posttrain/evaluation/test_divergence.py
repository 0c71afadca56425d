"""When a training reward and the gold score are said to have come apart, and how often in vain."""

import numpy as np
import pytest
from numpy.random import Generator

from posttrain.evaluation.divergence import divergence
from posttrain.statistics.clusters import clustered_error

RISING = [0.1 * step for step in range(1, 9)]
FALLING = [0.1, 0.3, 0.5, 0.7, 0.7, 0.4, 0.3, 0.0]
RUNS, UPDATES, PATIENCE = 400, 60, 5


def test_a_reward_that_rises_while_gold_falls_is_told_with_the_figures() -> None:
    # over windows of 2: gold 0.2, 0.4, 0.6, 0.7, 0.55, 0.35, 0.15: best after update 5; reward 0.45 there, 0.75 at the end
    assert divergence(RISING, FALLING, gold_error=[0.03] * 8, patience=2) == (
        "the gold score fell from 0.700 (update 5) to 0.150 while the training reward went from 0.450 to 0.750: "
        "the reward is being gamed"
    )


def test_noise_a_falling_reward_and_a_short_run_are_not_hacking() -> None:
    # 7 windows: the normal quantile at 1 - 0.05 / 7 is 2.4499; a fall of 0.55 is 2.4499 · √(2 · e² / 2) at e = 0.2245
    assert divergence(RISING, FALLING, gold_error=[0.225] * 8, patience=2) is None
    assert divergence(RISING, FALLING, gold_error=[0.224] * 8, patience=2) is not None
    assert divergence(RISING[::-1], FALLING, gold_error=[0.03] * 8, patience=2) is None, "both fell: a collapse, not a hack"
    assert divergence(RISING, RISING, gold_error=[0.03] * 8, patience=2) is None
    assert divergence(RISING[:3], FALLING[-3:], gold_error=[0.0] * 3, patience=2) is None
    assert divergence(RISING[:4], FALLING[-4:], gold_error=[0.0] * 4, patience=2) is not None


def test_the_errors_of_the_two_windows_compared_decide() -> None:
    # the best window is updates 4 and 5, the last 7 and 8: √((0.3² + 0.3²) / 4) · 2.4499 = 0.5197 < 0.55, and with 0.35 0.606
    others = [9.0, 9.0, 9.0, 0.0, 0.0, 9.0]
    assert divergence(RISING, FALLING, gold_error=[*others, 0.3, 0.3], patience=2) is not None
    assert divergence(RISING, FALLING, gold_error=[*others, 0.35, 0.35], patience=2) is None


def test_where_an_update_asks_one_question_its_neighbours_tell_the_error() -> None:
    # differences 0.2, 0.2, 0.2, 0, -0.3, -0.1, -0.3: squares 0.31 over 2 · 7: e = 0.1488; a fall of 0.55 is more than 2.4499 e
    assert divergence(RISING, FALLING, gold_error=None, patience=2) is not None
    restless = [0.1, 0.9, 0.2, 1.0, 0.4, 0.8, 0.0, 0.3]  # squares 2.85: e = 0.45, and a fall of 0.45 is less than 2.4499 e
    assert divergence(RISING, restless, gold_error=None, patience=2) is None


def warned(random: Generator, *, samples: int, fall: float, episodes: int = 256) -> bool:
    """Return whether a run is warned of whose reward rises, and whose gold score is 0.5, and falls from halfway on."""
    level = np.full(UPDATES, 0.5)
    level[UPDATES // 2 :] -= fall
    chance = random.beta(level[:, None] * 2, (1 - level[:, None]) * 2, size=(UPDATES, episodes // samples))
    right = (random.random((UPDATES, episodes // samples, samples)) < chance[:, :, None]).astype(float)
    asked = np.repeat(np.arange(episodes // samples), samples).tolist()
    errors = [clustered_error(update.ravel(), asked) for update in right]
    gold = right.mean(axis=(1, 2)).tolist()
    return divergence(np.linspace(0, 1, UPDATES).tolist(), gold, gold_error=errors, patience=PATIENCE) is not None


@pytest.mark.parametrize("samples", [1, 4, 8, 16])
def test_it_is_false_in_at_most_one_run_of_twenty_whatever_the_samples_a_question(samples: int) -> None:
    random = np.random.default_rng(0)
    assert sum(warned(random, samples=samples, fall=0.0) for _ in range(RUNS)) / RUNS <= 0.05


@pytest.mark.parametrize(("samples", "fall"), [(1, 0.1), (4, 0.15), (8, 0.2), (16, 0.25)])
def test_a_fall_that_is_there_is_found(samples: int, fall: float) -> None:
    random = np.random.default_rng(0)
    assert sum(warned(random, samples=samples, fall=fall) for _ in range(100)) >= 95
