"""What labels lean to, how far they agree, and what a flip costs: by hand, by identity, by refusal."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.feedback.bias import (
    agreement_between,
    agreement_with_gold,
    decision,
    label_figures,
    length_lean,
    length_lean_among_equals,
    own_lean,
    position_lean,
)
from posttrain.feedback.labels import Label
from posttrain.statistics.figures import flattened
from posttrain.statistics.intervals import Interval


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


def test_a_judge_that_sees_both_orders_has_no_lean_to_the_first_and_tells_gold_s_share_itself() -> None:
    people = [label("q", 1.0, 1.0), label("r", 1.0, 0.0)]
    judged = [one.model_copy(update={"source": "judge"}) for one in people]
    assert position_lean(judged) is None
    mine, theirs = label_figures(people), label_figures(judged)
    assert {name for name in mine if name not in theirs} == {
        *(f"first{end}" for end in ("", "_low", "_high", "_gold")),
        *(f"first_beyond_gold{end}" for end in ("", "_low", "_high")),
        *(f"agreement_gold{end}" for end in ("", "_low", "_high")),
    }


def test_figures_leave_out_what_is_undefined() -> None:
    found = label_figures([label("q", 1.0), label("r", 0.0)])
    assert set(found) == {"labels", "first", "first_low", "first_high"} and found["labels"] == 2
    assert flattened({"a": Interval(0.5, 0.4, 0.6), "b": None, "c": 2.0}) == {"a": 0.5, "a_low": 0.4, "a_high": 0.6, "c": 2.0}
