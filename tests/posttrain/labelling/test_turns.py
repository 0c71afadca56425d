from itertools import count

import pytest

from posttrain.labelling.answers import Event
from posttrain.labelling.items import APART, Item, Response
from posttrain.labelling.standing import Standing
from posttrain.labelling.turns import going_on, has_room, is_over, left_for, next_item
from tests.posttrain.labelling.played import Play, pair, pairs


def shown_next(play, person):
    item = next_item(play.standing, person, **play.clock)
    return item and item.id


def test_items_come_in_their_order_and_never_twice_to_one_person():
    play = Play(pairs(3), per_item=2)
    for name in "012":
        assert shown_next(play, "Ada") == name
        play.answer("Ada", name)
    assert shown_next(play, "Ada") is None
    assert shown_next(play, "Ben") == "0"
    play.skip("Ben", "0")
    assert shown_next(play, "Ben") == "1"


def test_an_item_goes_to_no_more_people_than_it_wants():
    play = Play(pairs(2), per_item=2)
    play.answer("Ada", "0")
    turn = play.lease("Ben", "0", until=50.0)
    assert shown_next(play, "Cyd") == "1"  # one answered item 0, one has it before him
    play.now = 49.9
    assert shown_next(play, "Cyd") == "1"
    play.now = 50.0  # the lease has ended
    assert shown_next(play, "Cyd") == "0" and has_room(play.standing, "0", "Cyd", **play.clock)
    play.answer("Cyd", "0")
    assert not has_room(play.standing, "0", "Ben", **play.clock)
    assert going_on(play.standing, "Ben", **play.clock) == (None, [turn])


def test_a_lease_that_ended_goes_on_where_nobody_took_the_item():
    play = Play(pairs(1))
    turn = play.lease("Ada", "0", until=50.0)
    play.now = 60.0
    assert going_on(play.standing, "Ada", **play.clock) == (turn, [])
    play.lease("Ben", "0", until=100.0)
    assert going_on(play.standing, "Ada", **play.clock) == (None, [turn])
    play.now = 100.0
    assert going_on(play.standing, "Ada", **play.clock) == (turn, [])


def test_an_answer_taken_back_makes_room_again_and_the_item_has_its_place():
    play = Play(pairs(3))
    play.answer("Ada", "0")
    play.answer("Ada", "1")
    assert play.standing.open == [2]
    play.undo("Ada")
    assert play.standing.open == [1, 2] and shown_next(play, "Ben") == "1"
    play.undo("Ada")
    assert play.standing.open == [0, 1, 2] and shown_next(play, "Ben") == "0"
    assert play.standing.answered == 0


def test_the_newest_showing_goes_on_first():
    play = Play(pairs(2))
    first, second = play.lease("Ada", "0"), play.lease("Ada", "1")
    assert going_on(play.standing, "Ada", **play.clock) == (second, [])
    play.end(second)
    assert going_on(play.standing, "Ada", **play.clock) == (first, [])


def test_a_repetition_comes_at_its_place_but_not_too_soon_and_only_to_who_answered():
    soon = [pair("0"), pair("again", repeats="0"), *pairs(20)[1:]]
    play = Play(soon, per_item=2)
    order = []
    while (name := shown_next(play, "Ada")) is not None:
        order.append(name)
        play.answer("Ada", name)
    # its place is long past when APART others have been answered
    assert order == [*(str(n) for n in range(APART + 1)), "again", *(str(n) for n in range(APART + 1, 20))]
    play.skip("Ben", "0")
    assert shown_next(play, "Ben") == "1"  # he did not answer 0, so nothing of his can be repeated
    late = Play([*pairs(20), pair("again", repeats="0")])
    for number in count():
        if shown_next(late, "Ada") == "again":
            break
        late.answer("Ada", str(number))
    assert number == 20
    late.undo("Ada")
    assert shown_next(late, "Ada") == "19"


def test_a_repetition_comes_soon_where_nothing_else_is_left():
    play = Play([pair("0"), pair("again", repeats="0")])
    play.answer("Ada", "0")
    assert shown_next(play, "Ada") == "again" and shown_next(play, "Ben") is None
    play.undo("Ada")
    assert shown_next(play, "Ada") == "0"


def rating(question, text):
    return Item(
        id=f"{question}{text}", kind="rating", question=question, prompt="p", responses=(Response(text=text),), selection="random"
    )


def test_ratings_of_one_question_stay_with_one_person():
    play = Play([rating(question, text) for question in "qrs" for text in "ab"])
    play.lease("Ada", "qa", until=50.0)
    assert shown_next(play, "Ben") == "ra"
    play.answer("Ben", "ra", choice=3)
    play.lease("Ben", "rb")
    assert shown_next(play, "Cyd") == "sa"
    play.answer("Cyd", "sa", choice=3)
    play.answer("Cyd", "sb", choice=3)
    assert shown_next(play, "Cyd") == "qb"  # nothing else is left
    play.now = 60.0  # Ada has gone
    assert shown_next(play, "Cyd") == "qa"


def test_what_is_left_for_a_person():
    play = Play([*pairs(4), pair("again", repeats="0")], per_item=2)
    assert left_for(play.standing, "Ada") == 4  # repetitions of what he has not answered are none of his
    play.answer("Ada", "0")
    assert left_for(play.standing, "Ada") == 4  # three, and the repetition
    play.skip("Ada", "1")
    play.lease("Ben", "2")
    play.lease("Cyd", "2")
    assert left_for(play.standing, "Ada") == 3  # others may not come back
    play.answer("Ben", "3")
    play.answer("Cyd", "3")
    assert left_for(play.standing, "Ada") == 2
    play.answer("Ada", "again")
    assert left_for(play.standing, "Ada") == 1
    assert left_for(play.standing, "Ben") == 3


def test_a_batch_is_over_when_each_item_has_its_answers():
    play = Play(pairs(2), per_item=2)
    for person, item in (("Ada", "0"), ("Ada", "1"), ("Ben", "0")):
        play.answer(person, item)
        assert not is_over(play.standing, {"Ada", "Ben"})
    play.answer("Ben", "1")
    assert is_over(play.standing, {"Ada", "Ben", "Cyd"})
    play.undo("Ben")
    assert not is_over(play.standing, {"Ada", "Ben"})


def test_a_skipped_item_is_over_when_nobody_is_left_to_ask():
    play = Play(pairs(1), per_item=2)
    play.answer("Ada", "0")
    assert not is_over(play.standing, {"Ada"})  # it wants a second person, who has no link yet
    play.skip("Ben", "0")
    assert is_over(play.standing, {"Ada", "Ben"})
    assert not is_over(play.standing, {"Ada", "Ben", "Cyd"})
    play.undo("Ben")
    assert not is_over(play.standing, {"Ada", "Ben"})


def test_a_repetition_is_waited_for_as_long_as_who_it_is_for_may_come():
    play = Play([pair("0"), pair("again", repeats="0")])
    play.answer("Ada", "0")
    assert not is_over(play.standing, {"Ada", "Ben"})
    assert is_over(play.standing, {"Ben"})  # her link has ended
    play.skip("Ada", "again")
    assert is_over(play.standing, {"Ada", "Ben"})


def event(kind, **told):
    return Event(**{"id": "x", "at": "", "person": "Ada", "kind": kind, "item": "0", "turn": "t", **told})


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (event("lease", item="9"), "event x names item 9, which the batch does not have"),
        (event("lease", turn="t0", order=(0, 1)), "event x shows turn t0 a second time, or not each response once"),
        (event("lease", order=(0, 0)), "event x shows turn t a second time, or not each response once"),
        (event("answer", order=(0, 1), choice=1.0), "event x ends turn t, which was not Ada's, or ended before"),
        (event("skip", turn="t0", person="Ben"), "event x ends turn t0, which was not Ben's, or ended before"),
        (event("skip", turn="t0", item="1"), "event x ends turn t0, which was not Ada's, or ended before"),
        (event("skip", turn="t1"), "event x ends turn t1, which was not Ada's, or ended before"),
        (event("skip", turn="t0"), "event x answers item 0 once more, or not as it was shown"),
        (event("answer", item="1", turn="t3", order=(1, 0), choice=1.0), "event x answers item 1 once more, or not as"),
        (event("answer", item="1", turn="t3", order=(0, 1)), "event x answers item 1 once more, or not as it was shown"),
        (event("undo", undoes="e0"), "event x takes back e0, which is not Ada's last answer or skip"),
        (event("undo", person="Ben", undoes="e2"), "event x takes back e2, which is not Ben's last answer or skip"),
    ],
)
def test_events_that_do_not_fit_are_refused(wrong, reason):
    play = Play(pairs(2))
    play.lease("Ada", "0")  # t0
    play.end(play.lease("Ada", "0"))  # t1, e2
    play.lease("Ada", "1")  # t3
    with pytest.raises(ValueError, match=reason):
        play.standing.apply(wrong)


def test_folding_at_once_and_one_by_one_is_the_same():
    play = Play([*pairs(5), pair("again", repeats="1")], per_item=2)
    for person in ("Ada", "Ben"):
        for name in "012":
            play.answer(person, name, choice=0.5, order=(1, 0))
        play.skip(person, "3")
    play.undo("Ben")
    play.answer("Ada", "again")
    whole = Standing(list(play.standing.items.values()), per_item=2, events=play.events)
    assert vars(whole) == vars(play.standing)
