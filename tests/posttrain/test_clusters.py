"""Intervals of draws in clusters: by hand, against equal clusters, by coverage, by refusal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.clusters import clustered_difference, clustered_share
from posttrain.statistics import clustered_mean, clustered_proportion, wilson


def test_a_share_of_clusters_of_different_size_by_hand() -> None:
    # p = 3/4; residuals summed by cluster: a 1/4 + 1/4 = 1/2, b -3/4, c 1/4; squares 1/4 + 9/16 + 1/16 = 7/8;
    # SE² = 3/2 · 7/8 / 4² = 21/256; n_eff = 3/16 / (21/256) = 16/7
    found = clustered_share([1, 1, 0, 1], ["a", "a", "b", "c"])
    assert found == wilson(0.75 * 16 / 7, 16 / 7)
    assert clustered_share([1, 1, 0, 1], ["a", "d", "b", "c"]).low > found.low + 0.01, "four clusters say more than three"
    # the difference's SE is √21/16 = 0.28641, times 1.95996
    difference = clustered_difference([1, 1, 0, 1], ["a", "a", "b", "c"])
    assert difference.estimate == 0.75
    assert difference.high - 0.75 == pytest.approx(0.561355, abs=1e-6) == 0.75 - difference.low


def test_where_no_cluster_differs_they_count_as_one_trial_each() -> None:
    assert clustered_share([1] * 6, list("aabbcc")) == wilson(3, 3)
    assert clustered_share([1, 0] * 3, list("aabbcc")) == wilson(1.5, 3)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3), min_size=2, max_size=12))
def test_clusters_of_one_size_get_the_interval_of_statistics(values: list[list[float]]) -> None:
    flat, clusters = [hit for row in values for hit in row], [place for place, row in enumerate(values) for _ in row]
    found, expected = clustered_share(flat, clusters), clustered_proportion(values)
    assert (found.estimate, found.low, found.high) == pytest.approx((expected.estimate, expected.low, expected.high), abs=1e-9)
    mean, same = clustered_difference(flat, clusters), clustered_mean(values)
    assert (mean.estimate, mean.low, mean.high) == pytest.approx((same.estimate, same.low, same.high), abs=1e-9)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Clusters of 1 to 9 with rates of their own; 600 draws put the share of intervals that cover within 4 SE, 3.6 points."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        sizes = random.integers(1, 10, size=60)
        rates = random.beta(1.4, 0.6, size=60)  # mean 0.7
        clusters = np.repeat(np.arange(60), sizes)
        found = clustered_share((random.random(len(clusters)) < rates[clusters]).astype(float).tolist(), clusters.tolist())
        covered += found.low <= 0.7 <= found.high
    assert covered / 600 == pytest.approx(0.95, abs=0.036)


@pytest.mark.parametrize(
    ("hits", "clusters", "message"),
    [
        ([1.0], ["a", "b"], "every value needs its cluster, got 1 values and 2 clusters"),
        ([1.0, 0.0], ["a", "a"], "there must be at least two clusters, got 1: one says nothing about the spread"),
        ([1.0, 1.5], ["a", "b"], "hits must lie between 0 and 1, got 1 to 1.5"),
    ],
)
def test_shares_that_cannot_be_are_refused(hits: list[float], clusters: list[str], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        clustered_share(hits, clusters)
    assert str(refusal.value) == message
