"""A ratio of sums as a mean of values: its estimate by hand, its spread against draws of the ratio itself."""

import numpy as np
import pytest

from posttrain.evaluation.reference_loss import per_completion, perplexity
from posttrain.statistics.intervals import Interval, clustered_mean


def test_by_hand():
    # 3 nats over 1 + 2 tokens: R = 1, mean length 1.5; v = 1 + (2 - 1) / 1.5 and 1 + (1 - 2) / 1.5
    assert per_completion([2.0, 1.0], [1, 2]).tolist() == pytest.approx([1 + 2 / 3, 1 - 2 / 3])


def test_long_completions_weigh_more_than_short_ones():
    """1 nat a token in 99 of 100 tokens: the mean of the completions' own losses would be 2."""
    assert per_completion([99.0, 3.0], [99, 1]).mean() == pytest.approx(102 / 100)


def test_equal_lengths_make_it_the_plain_mean():
    assert per_completion([2.0, 4.0, 9.0], [2, 2, 2]).tolist() == pytest.approx([1.0, 2.0, 4.5])


def test_values_of_two_models_differ_by_the_linearisation_of_the_difference():
    draws = np.random.default_rng(0)
    tokens = draws.integers(1, 40, size=50)
    one, other = (draws.gamma(2.0, tokens / 2) for _ in range(2))
    difference = per_completion(list(one), list(tokens)) - per_completion(list(other), list(tokens))
    assert difference == pytest.approx(per_completion(list(one - other), list(tokens)))


def test_the_interval_covers_the_loss_of_the_population():
    """2,000 samples of 200 completions whose length and loss go together; 95 % ± three standard errors of 0.5 points."""
    draws = np.random.default_rng(1)
    hits = 0
    for _ in range(2_000):
        tokens = draws.integers(1, 60, size=200)
        nats = tokens * (1 + 0.5 * draws.standard_normal(200)) + 0.02 * tokens**2
        told = clustered_mean(per_completion(list(nats), list(tokens)))
        # E[tokens] = 30, E[tokens²] = 1190: (30 + 0.02 · 1190) / 30
        hits += told.low <= (30 + 0.02 * 1190) / 30 <= told.high
    assert hits / 2_000 == pytest.approx(0.945, abs=0.017)


def test_perplexity_is_the_exponential_with_its_bounds():
    told = perplexity(Interval(estimate=1.0, low=0.0, high=2.0))
    assert (told.low, told.estimate, told.high) == pytest.approx((1.0, 2.71828, 7.38906), abs=1e-4)


@pytest.mark.parametrize(
    ("nats", "tokens", "sentence"),
    [([], [], "got 0 and 0"), ([1.0], [1, 2], "got 1 and 2"), ([1.0], [0], "got 0 tokens")],
)
def test_what_has_no_loss_is_refused(nats, tokens, sentence):
    with pytest.raises(ValueError, match=sentence):
        per_completion(nats, tokens)
