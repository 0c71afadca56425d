"""When a training reward and the gold score are said to have come apart."""

from posttrain.monitor import divergence

RISING = [0.1 * step for step in range(1, 9)]


def test_a_reward_that_rises_while_gold_falls_is_told_with_the_figures() -> None:
    # over windows of 2: gold 0.2, 0.4, 0.6, 0.7, 0.55, 0.35, 0.15: best after update 5; reward 0.45 there, 0.75 at the end
    gold = [0.1, 0.3, 0.5, 0.7, 0.7, 0.4, 0.3, 0.0]
    assert divergence(RISING, gold, gold_error=0.03, patience=2) == (
        "the gold score fell from 0.700 (update 5) to 0.150 while the training reward went from 0.450 to 0.750: "
        "the reward is being gamed"
    )


def test_noise_a_falling_reward_and_a_short_run_are_not_hacking() -> None:
    gold = [0.1, 0.3, 0.5, 0.7, 0.7, 0.4, 0.3, 0.0]
    # a fall of 0.55 is within 3 standard errors of a difference of two windows: 3 · 0.19 · √(2/2) = 0.57
    assert divergence(RISING, gold, gold_error=0.19, patience=2) is None
    assert divergence(RISING, gold, gold_error=0.18, patience=2) is not None
    assert divergence(RISING[::-1], gold, gold_error=0.03, patience=2) is None, "both fell: that is a collapse, not a hack"
    assert divergence(RISING, RISING, gold_error=0.03, patience=2) is None
    assert divergence(RISING[:3], gold[-3:], gold_error=0.0, patience=2) is None
    assert divergence(RISING[:4], gold[-4:], gold_error=0.0, patience=2) is not None
