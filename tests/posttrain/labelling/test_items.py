import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from posttrain.labelling.items import APART, Candidate, Item, Response, Shown, draw_items


def candidate(number, *texts, known=None, gold=None, selection="random"):
    responses = tuple(Response(text=text, model="stage:sft/1") for text in texts or ("a", "b"))
    return Candidate(
        question=f"q{number}",
        prompt=f"prompt {number}",
        responses=responses,
        selection=selection,
        family=f"f{number}",
        known=known,
        gold=gold,
    )


def item(kind="pair", *texts, **told):
    responses = tuple(Response(text=text) for text in texts)
    return Item(id="1", kind=kind, question="q", prompt="p", responses=responses, selection="random", **told)


@pytest.mark.parametrize(
    ("kind", "texts", "told", "rule"),
    [
        ("pair", "abc", {}, "a pair needs two responses, got 3"),
        ("ranking", "a", {}, "a ranking needs two responses or more, got 1"),
        ("rating", "ab", {}, "a rating needs one response, got 2"),
        ("pair", "aa", {}, "responses of a pair must be different texts"),
        ("ranking", "abc", {"known": (0, 1)}, r"once, best first, got \[0, 1\]"),
        ("pair", "ab", {"known": (1, 1)}, r"once, best first, got \[1, 1\]"),
        ("rating", "a", {"known": (0,)}, r"once, best first, got \[0\]"),
    ],
)
def test_an_item_that_nobody_could_answer_is_refused(kind, texts, told, rule):
    with pytest.raises(ValidationError, match=rule):
        item(kind, *texts, **told)


def test_shown_responses_stand_in_the_order_shown():
    assert [one.text for one in Shown(item("ranking", "a", "b", "c"), (2, 0, 1), "t").responses] == ["c", "a", "b"]


def test_a_batch_takes_the_first_candidates_in_their_order():
    items = draw_items([candidate(n, gold=1.0, selection="uncertain") for n in range(5)], kind="pair", size=3, seed=0)
    assert [(one.question, one.family, one.prompt) for one in items] == [(f"q{n}", f"f{n}", f"prompt {n}") for n in range(3)]
    assert {(one.kind, one.selection, one.gold, one.known, one.repeats) for one in items} == {
        ("pair", "uncertain", 1.0, None, "")
    }
    assert len({one.id for one in items}) == 3


def test_each_response_of_a_rated_candidate_is_an_item():
    items = draw_items([candidate(0, "a", "b", "c", gold=1.0), candidate(1)], kind="rating", size=4, seed=0)
    assert [[one.text for one in each.responses] for each in items] == [["a"], ["b"], ["c"], ["a"]]
    assert [each.question for each in items] == ["q0", "q0", "q0", "q1"]
    assert items[0].gold is None  # of pairs alone


def test_shares_of_repetitions_and_checks():
    checks = [candidate(f"c{n}", known=(1, 0), selection="known") for n in range(50)]
    items = draw_items([candidate(n) for n in range(99)], kind="pair", size=40, repeated=0.25, checks=checks, known=0.1, seed=3)
    repeats = [one for one in items if one.repeats]
    tests = [one for one in items if one.known is not None]
    assert (len(items), len(repeats), len(tests)) == (40, 10, 4)  # 40 · 0.25 and 40 · 0.1
    assert {one.selection for one in tests} == {"known"} and all(one.known == (1, 0) for one in tests)
    # the rest are the first 26 candidates, in their order, and some of them are asked once more
    assert [one.question for one in items if not one.repeats and one.known is None] == [f"q{n}" for n in range(26)]
    by_id = {one.id: one for one in items}
    assert len(by_id) == 40 and len({one.repeats for one in repeats}) == 10
    for one in repeats:
        again = by_id[one.repeats]
        assert one.model_copy(update={"id": "", "repeats": ""}) == again.model_copy(update={"id": ""})
        assert again.known is None
        assert items.index(one) - items.index(again) > APART or items.index(one) >= 40 - 10


def test_chance_is_of_the_seed_alone():
    def draw(seed):
        checks = [candidate(f"c{n}", known=(0, 1)) for n in range(9)]
        return draw_items(
            [candidate(n) for n in range(30)], kind="pair", size=30, repeated=0.2, checks=checks, known=0.2, seed=seed
        )

    assert draw(1) == draw(1)
    assert [one.question for one in draw(1)] != [one.question for one in draw(2)]
    assert not {one.id for one in draw(1)} & {one.id for one in draw(2)}


@given(
    st.integers(1, 40),
    st.integers(1, 60),
    st.integers(0, 9),
    st.floats(0, 0.25),
    st.floats(0, 0.25),
    st.sampled_from(["pair", "rating", "ranking"]),
)
def test_a_batch_is_never_larger_than_asked_for(count, size, checks, repeated, known, kind):
    items = draw_items(
        [candidate(n) for n in range(count)],
        kind=kind,
        size=size,
        repeated=repeated,
        checks=[candidate(f"c{n}", known=(0, 1)) for n in range(checks)],
        known=known,
        seed=0,
    )
    assert 1 <= len(items) <= size
    place = {one.id: number for number, one in enumerate(items)}
    assert len(place) == len(items)
    assert all(place[one.repeats] < place[one.id] for one in items if one.repeats)
    assert sum(bool(one.repeats) for one in items) <= round(repeated * size)


@pytest.mark.parametrize(
    ("told", "rule"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"repeated": 0.3, "known": 0.3}, "repeated and known must be at least 0 and together at most 0.5, got 0.3 and 0.3"),
        ({"repeated": -0.1}, "got -0.1 and 0"),
        ({"known": float("nan")}, "got 0 and nan"),
        ({"candidates": []}, "candidates must hold at least one, got none"),
        ({"checks": [candidate(0)]}, "checks must have a known order, and one has none"),
    ],
)
def test_what_cannot_be_drawn_is_refused(told, rule):
    with pytest.raises(ValueError, match=rule):
        draw_items(**{"candidates": [candidate(0)], "kind": "pair", "size": 2, "seed": 0, **told})
