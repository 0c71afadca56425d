"""What labels lean to, how far they agree, and what a flip costs: by hand, by identity, by refusal."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from posttrain.audit import (
    agreement_between,
    agreement_with_gold,
    decision,
    flattened,
    flip_cost,
    flip_cost_of,
    label_figures,
    length_correlation,
    length_lean,
    length_lean_among_equals,
    own_lean,
    position_lean,
)
from posttrain.labels import Label
from posttrain.statistics import Interval


def label(question: str, preference: float, gold: float | None = None, **changes: Any) -> Label:
    facts = {"prompt": question, "first": "a", "second": "b", "annotator": "ann", "source": "person"} | changes
    return Label(id="", question=question, group=question, preference=preference, gold=gold, **facts)


def turned(one: Label) -> Label:
    """Return the same label, the pair shown the other way round."""
    return one.model_copy(
        update={
            "first": one.second,
            "second": one.first,
            "preference": 1 - one.preference,
            "gold": None if one.gold is None else 1 - one.gold,
            "first_model": one.second_model,
            "second_model": one.first_model,
        }
    )


# --- agreement ----------------------------------------------------------------------------------------------------------


def test_agreement_with_gold_by_hand() -> None:
    labels = [
        label("q", 0.9, 1.0),  # agrees
        label("q", 0.4, 1.0),  # does not
        label("r", 0.5, 0.0),  # undecided: half
        label("s", 0.0, 0.0),  # agrees
        label("t", 1.0, 0.5),  # gold is undecided: not counted
        label("u", 1.0),  # nobody knows: not counted
    ]
    found = agreement_with_gold(labels)
    assert found is not None and found.estimate == 2.5 / 4
    assert agreement_with_gold(labels[:2]) is None, "one question has no interval"
    assert decision(0.5) == 0.5 and decision(0.51) == 1 and decision(0.49) == 0


def test_two_sets_of_labels_agree_on_pairs_whatever_the_order_shown() -> None:
    ours = [label("q", 1.0), label("r", 0.8), label("s", 0.2), label("t", 1.0, first="other")]
    theirs = [turned(label("q", 1.0)), label("r", 0.1), label("s", 0.0), label("s", 0.3), label("t", 1.0)]
    found = agreement_between(ours, theirs)  # q agrees, r does not, s agrees; t is another pair
    assert found is not None and found.estimate == pytest.approx(2 / 3)
    assert agreement_between(ours, theirs[:1]) is None
    assert agreement_between(ours, []) is None
    # two annotators of one pair who cancel each other out are undecided
    split = agreement_between([label("q", 1.0), label("q", 0.0), label("r", 1.0)], [label("q", 1.0), label("r", 1.0)])
    assert split is not None and split.estimate == 0.75


# --- leans --------------------------------------------------------------------------------------------------------------


def test_a_lean_to_the_first_shown_is_told_apart_from_quality() -> None:
    labels = [label("q", 1.0, 1.0), label("r", 1.0, 0.0), label("s", 0.7, 1.0), label("t", 0.5, 0.0)]
    found = position_lean(labels)  # decides for the first: 1, 1, 1, ½; gold: 1, 0, 1, 0
    assert found is not None and found.beyond_gold is not None
    assert (found.share.estimate, found.gold, found.beyond_gold.estimate, found.labels) == (0.875, 0.5, 0.375, 4)
    unknown = position_lean([*labels, label("u", 0.0)])
    assert unknown is not None and (unknown.share.estimate, unknown.gold, unknown.beyond_gold) == (0.7, None, None)


def test_a_lean_to_the_longer_by_hand() -> None:
    labels = [
        label("q", 1.0, 1.0, first="long one", second="short"),  # for the longer, as gold
        label("r", 0.0, 1.0, first="short", second="long one"),  # for the longer, against gold
        label("s", 1.0, 1.0, first="short", second="long one"),  # for the shorter, as gold
        label("t", 1.0, 0.0, first="equal", second="equal"[::-1]),  # no difference: not counted
    ]
    found = length_lean(labels)
    assert found is not None and found.beyond_gold is not None
    assert found.labels == 3
    assert (found.share.estimate, found.gold) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found.beyond_gold.estimate == pytest.approx(1 / 3)
    other = length_lean(labels, length=lambda text: -len(text))
    assert other is not None and other.share.estimate == pytest.approx(1 / 3), "the caller's unit of length decides"


def test_only_among_equals_is_a_lean_to_the_longer_nothing_but_length() -> None:
    equals = [label("q", 1.0, 0.5, first="longer"), label("r", 0.0, 0.5, second="longer"), label("s", 0.0, 0.5, first="longer")]
    found = length_lean_among_equals([*equals, label("t", 0.0, 1.0, first="longer"), label("u", 0.0, first="longer")])
    assert found is not None and found.labels == 3 and found.share.estimate == pytest.approx(2 / 3)
    assert length_lean_among_equals([label("q", 1.0, 1.0), label("r", 1.0, 1.0)]) is None


def test_self_preference_needs_two_models_of_which_one_is_the_judges() -> None:
    mixed = [
        label("q", 1.0, 1.0, first_model="judge", second_model="other"),  # its own, rightly
        label("r", 0.0, 1.0, first_model="other", second_model="judge"),  # its own, wrongly
        label("s", 1.0, 0.0, first_model="judge", second_model="judge"),  # both are its own: not counted
        label("t", 1.0, 0.0, first_model="other", second_model="third"),  # neither is: not counted
    ]
    found = own_lean(mixed, model="judge")
    assert found is not None and found.beyond_gold is not None
    assert (found.labels, found.share.estimate, found.gold, found.beyond_gold.estimate) == (2, 1.0, 0.5, 0.5)
    assert own_lean(mixed[2:], model="judge") is None
    unnamed = [label(question, 1.0, second_model="other") for question in "qr"]
    assert own_lean(unnamed, model="") is None, "a judge without a name did not write what nobody is named for"


texts = st.sampled_from(["a", "bb", "ccc", "dddd"])
models = st.sampled_from(["judge", "other"])
chosen = st.sampled_from([0.0, 0.3, 0.5, 1.0])
any_label = st.builds(
    label,
    st.sampled_from("qrst"),
    chosen,
    chosen,
    first=texts,
    second=texts,
    first_model=models,
    second_model=models,
)


@given(st.lists(any_label, min_size=1, max_size=12), st.data())
def test_which_response_is_called_first_changes_nothing_but_the_lean_to_the_first(labels: list[Label], data: Any) -> None:
    swapped = [turned(one) if data.draw(st.booleans()) else one for one in labels]
    ours, theirs = (label_figures(each, model="judge") for each in (labels, swapped))
    told = {name for name in ours if not name.startswith("first")}
    assert told == {name for name in theirs if not name.startswith("first")}
    for name in told:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-9), name


@given(st.lists(any_label, min_size=1, max_size=12))
def test_labels_that_are_gold_lean_to_nothing_beyond_it(labels: list[Label]) -> None:
    true = [one.model_copy(update={"preference": one.gold}) for one in labels]
    figures = label_figures(true, model="judge")
    assert all(value == 0 for name, value in figures.items() if name.endswith("_beyond_gold"))
    assert figures.get("agreement_gold", 1.0) == 1.0


def test_correlation_with_length_by_hand() -> None:
    # p - ½: ½, -½, ½; d: 2, -2, -1; Σ = 1 + 1 - ½ = 1.5 over √(¾ · 9) = 2.598
    labels = [
        label("q", 1.0, 1.0, first="aaa", second="b"),
        label("r", 0.0, 0.0, first="a", second="bbb"),
        label("s", 1.0, 0.0, first="a", second="bb"),
    ]
    mine, gold = length_correlation(labels)
    assert mine == pytest.approx(1.5 / 6.75**0.5)
    assert gold == pytest.approx(2.5 / 6.75**0.5)
    assert length_correlation([*labels, label("t", 1.0)])[1] is None
    assert length_correlation([label("q", 1.0)]) == (None, None), "no difference in length"
    assert length_correlation([label("q", 0.5, first="aaa")]) == (None, None), "no preference"


def test_figures_leave_out_what_is_undefined() -> None:
    found = label_figures([label("q", 1.0), label("r", 0.0)])
    assert set(found) == {"labels", "first", "first_low", "first_high"} and found["labels"] == 2
    assert flattened({"a": Interval(0.5, 0.4, 0.6), "b": None, "c": 2.0}) == {"a": 0.5, "a_low": 0.4, "a_high": 0.6, "c": 2.0}


# --- what a flip costs --------------------------------------------------------------------------------------------------


def test_what_a_flip_costs_by_hand() -> None:
    # a = 0.8, r = 0.1: against labels 0.9 · 0.8 + 0.1 · 0.2 = 0.74, so 6 points for 10 points of flips
    cost = flip_cost(accuracy=0.74, accuracy_gold=0.8, flipped=0.1)
    assert cost.hidden == pytest.approx(0.6) == cost.hidden_expected
    assert cost.label_worth == pytest.approx(0.64)
    # a = Φ(1), r = ¼: 2 · 1 · φ(1) / ½ = 4 · 0.2419707
    assert flip_cost(accuracy=0.7, accuracy_gold=0.8413447, flipped=0.25).lost_at_most == pytest.approx(0.967883, abs=1e-5)


def test_the_cost_of_learning_is_the_slope_of_its_curve() -> None:
    accuracy, flipped, step = 0.77, 0.2, 1e-6
    signal = norm.ppf(accuracy) / (1 - 2 * flipped)
    slope = (norm.cdf((1 - 2 * (flipped + step)) * signal) - norm.cdf((1 - 2 * (flipped - step)) * signal)) / (2 * step)
    found = flip_cost(accuracy=0.7, accuracy_gold=accuracy, flipped=flipped).lost_at_most
    assert found == pytest.approx(-slope, rel=1e-6)


def test_where_labels_are_the_only_limit_the_curve_of_learning_holds() -> None:
    """A score that is the sum of 401 labels, each right 5 points more often than not: the majority's exact accuracy."""

    def accuracy(flipped: float) -> float:
        return float(binom.sf(200, 401, 0.5 + 0.05 * (1 - 2 * flipped)))

    for flipped in (0.1, 0.25, 0.4):
        predicted = norm.cdf(norm.ppf(accuracy(0.0)) * (1 - 2 * flipped))
        assert accuracy(flipped) == pytest.approx(predicted, abs=0.002)
        cost = flip_cost(accuracy=0.6, accuracy_gold=accuracy(flipped), flipped=flipped).lost_at_most
        assert cost == pytest.approx((accuracy(flipped - 0.01) - accuracy(flipped + 0.01)) / 0.02, rel=0.03)


def test_without_flips_below_chance_and_at_half_nothing_is_made_up() -> None:
    assert flip_cost(accuracy=0.8, accuracy_gold=0.8, flipped=0.0).hidden is None
    assert flip_cost(accuracy=0.5, accuracy_gold=0.45, flipped=0.1).lost_at_most == 0
    half = flip_cost(accuracy=0.5, accuracy_gold=0.7, flipped=0.5)
    assert half.lost_at_most is None and half.label_worth == 0
    assert flip_cost(accuracy=1.0, accuracy_gold=1.0, flipped=0.0).lost_at_most == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError) as refusal:
        flip_cost(accuracy=0.5, accuracy_gold=1.2, flipped=0.1)
    assert str(refusal.value) == "accuracy_gold must lie between 0 and 1, got 1.2"


def test_flips_are_counted_on_pairs_that_label_and_gold_decide() -> None:
    rows = [
        (2.0, 1.0, 1.0),  # right by both
        (-1.0, 0.2, 1.0),  # flipped, and the model sides with the label
        (1.0, 1.0, 1.0),
        (0.0, 0.0, 0.0),  # equal scores count half
        (9.0, 0.5, 1.0),  # the label is undecided
        (9.0, 1.0, 0.5),  # gold is
    ]
    found = flip_cost_of(*zip(*rows, strict=True))
    assert found is not None
    assert (found.flipped, found.accuracy, found.accuracy_gold) == (0.25, 3.5 / 4, 2.5 / 4)
    assert found.hidden == pytest.approx(-1.0), "the model has learnt the annotators' error"
    assert flip_cost_of([1.0], [0.5], [1.0]) is None


@given(st.floats(0.5, 0.99), st.floats(0.01, 0.49))
def test_independent_flips_hide_what_is_expected(accuracy: float, flipped: float) -> None:
    measured = accuracy * (1 - flipped) + (1 - accuracy) * flipped
    cost = flip_cost(accuracy=measured, accuracy_gold=accuracy, flipped=flipped)
    assert cost.hidden == pytest.approx(cost.hidden_expected, abs=1e-9)
    assert cost.lost_at_most is not None and cost.lost_at_most >= 0
