"""How often the gate is wrong, by a small simulation with a fixed seed: `python -m benchmarks.gate` has the large one."""

from math import sqrt

import numpy as np
import pytest

from benchmarks.gate import AT_THE_LIMITS, GUARDS, SETTINGS, Tally, decisions, known_effect, pair_of, tallied

REPETITIONS, QUESTIONS = 150, 100
ERROR = 100 * sqrt(0.05 * 0.95 / REPETITIONS)
"""Points: one standard error of a rate of 5 %, 1.8; of one of 20 % it is 3.3."""
DESIGNS = {"one seed": (1, 0.0), "three seeds": (3, 2.2)}


def of(design: str) -> tuple[int, int, float]:
    seeds, deviation = DESIGNS[design]
    return seeds, QUESTIONS, deviation


def simulated(design: str, random: int, *, gain: float = 0.0, **how: object) -> Tally:
    seeds, questions, deviation = of(design)
    world = pair_of(seeds, questions, deviation, gain)
    return tallied(decisions(world, np.random.default_rng(random), REPETITIONS, is_noisy=seeds > 1, **how))


@pytest.mark.parametrize("design", DESIGNS)
def test_an_equal_model_is_seldom_promoted_and_one_better_by_the_smallest_effect_seldom_refused(design: str) -> None:
    equal = simulated(design, 0)
    assert equal.decisions == REPETITIONS and equal.rate(equal.promoted) <= 5.0
    # guards of samples at 5 % together, and the warning that a reward is gamed at 5 % of its own where gold stays where it is
    assert equal.rate(equal.broken["any of a sample"]) <= 5.0 and equal.rate(equal.broken["hacking"]) <= 5.0 + 2 * ERROR
    effect = known_effect(pair_of(*of(design)), np.random.default_rng(4), REPETITIONS)
    better = simulated(design, 1, gain=effect)
    assert 100 - better.rate(better.promoted) <= 20.0 + 2 * 3.3
    # the effect is no larger than it must be
    assert 100 - better.rate(better.promoted) >= 3.0


def test_harms_at_their_limits_break_any_guard_of_a_sample_in_5_percent_at_most() -> None:
    gain = -100 * SETTINGS.max_family_loss
    limit = simulated("one seed", 2, gain=gain, harms=AT_THE_LIMITS)
    assert limit.rate(limit.broken["any of a sample"]) <= 5.0 + 2 * ERROR
    assert limit.broken["any"] >= limit.broken["any of a sample"] > 0, "at the limit a guard is not asleep"


def test_the_benchmark_counts_every_kind_of_guard() -> None:
    (decision,) = decisions(pair_of(1, 100, 0.0), np.random.default_rng(3), 1)
    assert {guard.name.partition(":")[0] for guard in decision.guards} == set(GUARDS)
    assert sum(guard.name.startswith("family: ") for guard in decision.guards) == 5
