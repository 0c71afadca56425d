"""Which evaluations compare, and on which questions."""

import numpy as np
import pytest

from posttrain.errors import ContractError
from posttrain.promotion.evaluated import Pair, paired, refuse_other_questions
from tests.posttrain.promotion.evaluations import model

NAN = float("nan")


def test_a_list_of_one_seed_is_a_table_of_one_seed() -> None:
    pair = paired("tokens", model("a", tokens=[1.0, 2.0]), model("b", tokens=[[3.0, 4.0]]))
    assert pair is not None and pair.ours.tolist() == [[1.0, 2.0]] and pair.theirs.tolist() == [[3.0, 4.0]]
    assert pair.places == (0, 1)


def test_questions_without_the_quantity_are_left_out_and_places_stay_those_of_all() -> None:
    pair = paired("scores", model("a", [[1, NAN, 0, 1]]), model("b", [[0, NAN, 0, 1]]))
    assert pair is not None and pair.ours.tolist() == [[1, 0, 1]] and pair.places == (0, 2, 3)
    inside = pair.within(frozenset({1, 2, 3}))
    assert inside is not None and inside.ours.tolist() == [[0, 1]] and inside.places == (2, 3)
    assert pair.within(frozenset({1, 2})) is None, "one of the two has no score, and one question says nothing"


@pytest.mark.parametrize(
    ("ours", "theirs"), [(None, [[1, 0]]), ([[1, 0]], None), ([[NAN, NAN]], [[NAN, NAN]]), ([[1, NAN]], [[0, NAN]])]
)
def test_what_is_not_there_is_none(ours: object, theirs: object) -> None:
    assert paired("scores", model("a", ours), model("b", theirs)) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        (
            [[1, 0, 1]],
            [[1, 0]],
            "scores of a and b must have the same seeds and questions, got (seeds, questions) (1, 3) and",
        ),
        ([[1, 0]], [[1, 0], [1, 1]], "got (seeds, questions) (1, 2) and (2, 2). Give as many trainings of each"),
        ([[1, 0, NAN]], [[1, 0, 1]], "scores of a and b must be undefined for the same questions in every seed"),
        ([[1, 0, NAN], [1, 0, 1]], [[1, 0, NAN], [1, 0, NAN]], "must be undefined for the same questions in every seed"),
        ([[1, float("inf")]], [[1, 0]], "scores of a must be finite, or NaN where a question has none"),
        ([[1, 0]], [[1, 1.5]], "scores of b must be shares between 0 and 1"),
        ([[1, 0]], [[1, -0.5]], "scores of b must be shares between 0 and 1"),
        (np.zeros((1, 1, 2)), [[1, 0]], "scores of a must have the axes (seeds, questions), got shape (1, 1, 2)"),
        ([], [[1, 0]], "scores of a must have the axes (seeds, questions), got shape (0,)"),
    ],
)
def test_tables_that_do_not_compare_are_refused(ours: object, theirs: object, says: str) -> None:
    with pytest.raises(ContractError) as told:
        paired("scores", model("a", ours), model("b", theirs))
    assert says in str(told.value)


def test_a_table_with_another_number_of_questions_than_families_is_refused() -> None:
    with pytest.raises(ContractError, match="a has 3 families and tokens of 2 questions: there must be one a question"):
        paired("tokens", model("a", tokens=[1, 2], families=["x", "x", None]), model("b", tokens=[1, 2]))


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        ({"held_out": "a1"}, {"held_out": "b2"}, "version 7 was evaluated on the held-out questions a1, and version 5 on b2"),
        ({"families": ["x", "y"]}, {"families": ["x", None]}, "have the same held-out questions in different families"),
        ({"scores": [[1, 0]]}, {}, "version 5 has no scores of the held-out questions, and the other model has"),
        ({}, {"scores": [[1, 0]]}, "version 7 has no scores of the held-out questions, and the other model has"),
        (
            {"scores": [[1, 0]]},
            {"scores": [[1, 0]], "metric": "accuracy_sampled"},
            "version 7 is scored by accuracy, and version 5 by accuracy_sampled: they do not compare",
        ),
    ],
)
def test_other_questions_and_other_metrics_are_refused(ours: dict, theirs: dict, says: str) -> None:
    with pytest.raises(ContractError) as told:
        refuse_other_questions(model("version 7", **ours), model("version 5", **theirs))
    assert says in str(told.value)


def test_families_that_one_model_lacks_are_no_others() -> None:
    refuse_other_questions(model("a", families=["x", None]), model("b"))
    refuse_other_questions(model("a", families=["x", None]), model("b", families=("x", None)))


def test_a_pair_keeps_seeds_apart() -> None:
    pair = Pair(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.zeros((2, 3)), (0, 1, 2))
    inside = pair.within(frozenset({0, 2}))
    assert inside is not None and inside.ours.tolist() == [[1.0, 3.0], [4.0, 6.0]]
