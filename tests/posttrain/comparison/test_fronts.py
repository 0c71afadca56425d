import pytest

from posttrain.comparison.fronts import Priced, cost_axes, pareto_front, priced
from tests.fabricated_comparison import comparison, logs


def names(points, **kinds):
    return [one.name for one in pareto_front([Priced(*point) for point in points], **kinds)]


def test_the_front_is_what_no_other_beats():
    # b is dearer than a and better; c is dearer than b and worse; d is as dear as b and worse
    points = [("a", 1, 0.5), ("b", 2, 0.8), ("c", 3, 0.7), ("d", 2, 0.6)]
    assert names(points, higher_is_better=True) == ["a", "b"]
    # of losses the lowest is best: a is the cheapest and has the lowest, so it beats all
    assert names(points, higher_is_better=False) == ["a"]


def test_two_that_are_equal_in_both_stay():
    assert names([("a", 1, 0.5), ("b", 1, 0.5)], higher_is_better=True) == ["a", "b"]


@pytest.mark.parametrize(("second", "front"), [((1, 0.6), ["b"]), ((0.5, 0.5), ["b"]), ((2, 0.5), ["a"])])
def test_better_in_one_and_equal_in_the_other_beats(second, front):
    assert names([("a", 1, 0.5), ("b", *second)], higher_is_better=True) == front


def test_a_cost_that_nobody_paid_or_measured_is_no_axis():
    made = comparison()
    for one in made["methods"]:
        one["costs"]["labels"] = 0
        one["costs"]["flops"] = None
    assert [key for key, _, _ in cost_axes(made)] == ["train_seconds", "trained_tokens", "generated_tokens"]
    assert priced(logs(), "train_seconds") == [] and cost_axes(logs()) == []
