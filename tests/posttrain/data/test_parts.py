"""Held-out questions parted into those that choose settings and those that are reported."""

import pytest

from posttrain.data.parts import is_development, part_of
from posttrain.errors import DataError
from posttrain.records import Question

NOUNS = ("apples", "pears", "boats", "kites", "stones", "lamps", "maps", "drums", "ropes", "coins")
VERBS = ("buys", "sells", "finds", "loses", "paints", "counts", "hides", "lends", "mends", "wants")


def question(number, *, family=None, prompt=None):
    return Question(id=f"q{number}", family=family, prompt=prompt or prompt_of(number), answers=("1",))


def prompt_of(number):
    """Prompts of which no two share a word 3-gram."""
    noun, verb = NOUNS[number % 10], VERBS[number // 10 % 10]
    return f"n{number}a {verb} n{number}b {noun} n{number}c"


MANY = [question(number) for number in range(1000)]


def ids(questions):
    return {one.id for one in questions}


def test_all_is_everything_and_the_parts_are_the_rest_of_each_other():
    assert part_of(MANY, "all", share=0.2) == MANY
    chosen, reported = (part_of(MANY, part, share=0.2) for part in ("development", "reported"))
    assert not ids(chosen) & ids(reported) and ids(chosen) | ids(reported) == ids(MANY)
    assert [one.id for one in reported] == [one.id for one in MANY if one.id in ids(reported)], "in their order"
    # 1,000 independent draws at 0.2: mean 200, deviation √(1000 · 0.2 · 0.8) = 12.6; within four of them
    assert abs(len(chosen) - 200) < 51


def test_a_larger_share_keeps_whom_a_smaller_one_had():
    small, large = (ids(part_of(MANY, "development", share=share)) for share in (0.1, 0.4))
    assert small < large and abs(len(large) - 400) < 62


def test_neither_order_nor_other_questions_decide_where_a_question_is():
    chosen = ids(part_of(MANY, "development", share=0.2))
    assert ids(part_of(MANY[::-1], "development", share=0.2)) == chosen
    assert ids(part_of(MANY[:300], "development", share=0.2)) == chosen & ids(MANY[:300])


def test_the_same_on_every_machine():
    """The hash is of the text alone: these ids stay, or a stored comparison would be of other questions."""
    assert sorted(ids(part_of(MANY[:40], "development", share=0.2))) == ["q12", "q2", "q21", "q23", "q27", "q35", "q38"]


def test_a_family_is_never_torn_apart():
    """By its name; by prompts that differ in case and spaces; by nearly equal ones, directly or through others."""
    named = [question(number, family=f"f{number % 50}") for number in range(200)]
    is_in = is_development(named, share=0.3)
    assert all(is_in[number] == is_in[number % 50] for number in range(200)) and 0 < is_in[:50].sum() < 50

    spaced = [
        question(number, prompt=text) for number in range(60) for text in (prompt_of(number), f" {prompt_of(number)} ?".upper())
    ]
    is_in = is_development(spaced, share=0.3)
    assert (is_in[::2] == is_in[1::2]).all() and 0 < is_in.sum() < 120

    # 60 words each, of which one differs: 58 3-grams, 55 of them shared, J = 55 / 61 = 0.90
    long = [" ".join(f"w{number}x{place}" for place in range(60)) for number in range(60)]
    near = [question(number, prompt=text) for number, one in enumerate(long) for text in (one, one.replace("x15", "y15"))]
    is_in = is_development(near, share=0.3)
    assert (is_in[::2] == is_in[1::2]).all() and 0 < is_in.sum() < 120


def test_one_family_name_brings_different_prompts_together_and_decides_alone():
    """What a family is called decides, so that it stays where it is when its questions are worded anew."""
    before = is_development([question(number, family=f"f{number}") for number in range(100)], share=0.3)
    after = is_development(
        [question(number, family=f"f{number}", prompt=f"new {number} words here") for number in range(100)], share=0.3
    )
    assert (before == after).all()


def test_one_family_cannot_be_parted():
    with pytest.raises(DataError) as caught:
        part_of([question(number, family="f") for number in range(4)], "reported", share=0.2)
    assert str(caught.value) == (
        "the 4 held-out questions are one family (equal or nearly equal prompts, or one family name), so they cannot be parted "
        "into those that choose settings and those that are reported. Run with evaluate.part=all and without TUNE, or hold other "
        "questions out as well"
    )


def test_a_part_of_one_question_is_refused():
    few = MANY[:6]
    assert len(part_of(few, "reported", share=0.2)) >= 5
    with pytest.raises(DataError, match=r"^evaluate\.part=development has 1 of the 6 held-out questions, and fewer than two"):
        part_of(few, "development", share=0.2)
    with pytest.raises(DataError) as caught:
        part_of(few, "development", share=0.0001)
    assert str(caught.value) == (
        "evaluate.part=development has 0 of the 6 held-out questions, and fewer than two have no interval. Change "
        "evaluate.development_share (0.0001), or hold more questions out"
    )
