import pytest

from posttrain.labelling.items import Item, Response
from posttrain.labelling.progress import batch_progress, progress_of
from posttrain.labelling.standing import likeness
from posttrain.statistics.intervals import wilson
from tests.posttrain.labelling.played import Play, pair, pairs


def test_a_person_who_has_done_nothing():
    told = progress_of(Play(pairs(3), per_item=2).standing, "Ada")
    assert (told.person, told.done, told.skipped, told.left_for_him, told.batch_done, told.batch_size) == ("Ada", 0, 0, 3, 0, 6)
    assert (told.own_agreement, told.agreement_with_others, told.known_right, told.seconds) == (None, None, (0, 0), None)


def test_counts_and_times():
    play = Play(pairs(4), per_item=2)
    for item, seconds in (("0", 1.0), ("1", 9.0), ("2", 2.0)):
        play.answer("Ada", item, seconds=seconds)
    play.skip("Ada", "3")
    play.answer("Ben", "0", seconds=4.0)
    told = progress_of(play.standing, "Ada")
    assert (told.done, told.skipped, told.left_for_him, told.batch_done, told.batch_size) == (3, 1, 0, 4, 8)
    assert told.seconds == 2.0  # the median of 1, 9 and 2
    whole = batch_progress(play.standing, ["Ben", "Cyd"])
    assert [one.person for one in whole.people] == ["Ada", "Ben", "Cyd"]
    assert (whole.done, whole.size, whole.skipped, whole.seconds) == (4, 8, 1, 16.0)
    assert whole.hours_left == pytest.approx(4 * 3.0 / 3600)  # four answers, the median of 1, 2, 4 and 9
    play.undo("Ada")
    play.undo("Ada")
    assert progress_of(play.standing, "Ada").seconds == 5.0
    assert batch_progress(play.standing).skipped == 0


def test_the_last_answers_say_how_long_one_takes():
    play = Play(pairs(110))
    for number in range(110):
        play.answer("Ada", str(number), seconds=100.0 if number < 60 else 2.0)
    assert progress_of(play.standing, "Ada").seconds == 2.0
    assert batch_progress(play.standing).hours_left == 0.0
    assert batch_progress(Play(pairs(1)).standing).hours_left is None


def test_agreement_with_others_counts_items_and_follows_what_is_taken_back():
    play = Play(pairs(3), per_item=3)
    play.answer("Ada", "0", 1.0)
    play.answer("Ben", "0", 0.0, order=(1, 0))  # the second shown is the item's first: he agrees
    play.answer("Cyd", "0", 0.5)
    play.answer("Ada", "1", 1.0)
    assert progress_of(play.standing, "Ada").agreement_with_others == wilson(0.5, 1)  # with Ben, not with Cyd
    assert progress_of(play.standing, "Cyd").agreement_with_others == wilson(0, 1)
    play.answer("Ben", "1", 1.0)
    assert progress_of(play.standing, "Ada").agreement_with_others == wilson(1.5, 2)
    play.undo("Cyd")
    assert progress_of(play.standing, "Ada").agreement_with_others == wilson(2, 2)
    assert progress_of(play.standing, "Cyd").agreement_with_others is None
    play.undo("Ben")
    play.undo("Ben")
    assert progress_of(play.standing, "Ada").agreement_with_others is None


def test_agreement_with_oneself_counts_repetitions():
    play = Play([*pairs(3), pair("r0", repeats="0"), pair("r1", repeats="1")])
    play.answer("Ada", "0", 1.0)
    play.answer("Ada", "1", 1.0)
    play.answer("Ada", "r0", 0.0, order=(1, 0))  # the same choice, shown the other way round
    assert progress_of(play.standing, "Ada").own_agreement == wilson(1, 1)
    play.answer("Ada", "r1", 1.0, order=(1, 0))  # by position, not by text
    assert progress_of(play.standing, "Ada").own_agreement == wilson(1, 2)
    assert progress_of(play.standing, "Ada").agreement_with_others is None
    play.undo("Ada")
    play.undo("Ada")
    assert progress_of(play.standing, "Ada").own_agreement is None


def test_checks_of_known_order():
    play = Play(pairs(4, **{str(number): {"known": (1, 0)} for number in range(3)}))
    play.answer("Ada", "0", 0.0)
    play.answer("Ada", "1", 0.0, order=(1, 0))
    play.answer("Ada", "2", 0.5)  # "equal" misses a known order
    play.answer("Ada", "3", 1.0)
    assert progress_of(play.standing, "Ada").known_right == (1, 3)
    play.undo("Ada")
    play.undo("Ada")
    assert progress_of(play.standing, "Ada").known_right == (1, 2)


def ranked(choice, order=(0, 1, 2), known=None):
    responses = tuple(Response(text=text) for text in "abc")
    item = Item(id="0", kind="ranking", question="q", prompt="p", responses=responses, selection="random", known=known)
    play = Play([item])
    play.answer("Ada", "0", choice, order)
    return play


def test_likeness_of_rankings_is_the_share_of_pairs_in_one_order():
    def like(*two):
        return likeness(*(ranked(*each).standing.answers["0"]["Ada"] for each in two))

    assert like([(1, 2, 3)], [(1, 2, 3)]) == 1.0
    assert like([(1, 2, 3)], [(3, 2, 1)]) == 0.0
    assert like([(1, 2, 3)], [(3, 2, 1), (2, 1, 0)]) == 1.0  # shown the other way round
    assert like([(1, 2, 3)], [(1, 3, 2)]) == pytest.approx(2 / 3)
    assert like([(1, 2, 2)], [(1, 2, 3)]) == pytest.approx(2 / 3)


def test_a_known_ranking_is_found_as_a_whole():
    for choice, right in (((2, 3, 1), 1), ((2, 3, 2), 0), ((1, 2, 3), 0)):
        assert progress_of(ranked(choice, known=(2, 0, 1)).standing, "Ada").known_right == (right, 1)


def test_ratings_are_alike_where_they_are_the_same_number():
    items = [Item(id="0", kind="rating", question="q", prompt="p", responses=(Response(text="a"),), selection="random")]
    play = Play(items, per_item=2)
    play.answer("Ada", "0", 4)
    play.answer("Ben", "0", 5)
    assert progress_of(play.standing, "Ada").agreement_with_others == wilson(0, 1)
