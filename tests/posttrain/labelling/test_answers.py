import pytest

from posttrain.errors import RequestError
from posttrain.labelling.answers import Event, checked_choice, checked_seconds, labels_of, scores
from posttrain.labelling.items import Item, Response


def item(name, kind, *texts, question="q", **told):
    responses = tuple(Response(text=text, model=f"stage:{text}", finished=text != "cut") for text in texts)
    return Item(
        id=name, kind=kind, question=question, family="f", prompt="p", responses=responses, **{"selection": "random", **told}
    )


def answer(name, of, order, choice, *, person="Ada", seconds=6.0, at="2026-01-02T03:04:05.000+00:00"):
    told = {"id": name, "at": at, "person": person, "kind": "answer", "item": of, "turn": f"t{name}"}
    return Event(**told, order=order, choice=choice, seconds=seconds)


def undo(name, of, undoes, person="Ada"):
    return Event(id=name, at="", person=person, kind="undo", item=of, turn="t", undoes=undoes)


def test_a_pair_gives_one_label_in_the_order_shown():
    pair = item("1", "pair", "good", "cut", selection="uncertain", gold=0.75)
    (label,) = labels_of([pair], [answer("e", "1", (1, 0), 0.0)], prompt_version="v")
    # shown the other way round: first is the item's second, and gold turns with it
    assert label.model_dump() == {
        "id": "people/e",
        "family": "f",
        "kind": "label",
        "prompt": "p",
        "question": "q",
        "group": "q",
        "first": "cut",
        "second": "good",
        "preference": 0.0,
        "margin": None,
        "annotator": "Ada",
        "source": "person",
        "at": "2026-01-02T03:04:05.000+00:00",
        "prompt_version": "v",
        "first_model": "stage:cut",
        "second_model": "stage:good",
        "first_finished": False,
        "second_finished": True,
        "gold": 0.25,
        "seconds": 6.0,
        "selection": "uncertain",
    }
    (same,) = labels_of([pair], [answer("e", "1", (0, 1), 0.5)], prompt_version="v")
    assert (same.first, same.preference, same.gold) == ("good", 0.5, 0.75)


def test_a_ranking_gives_all_its_pairs_in_one_group_and_ties_are_halves():
    ranking = item("1", "ranking", "a", "b", "c")
    # shown c, a, b with ranks 2, 1, 2: a is best, c and b are equal
    labels = labels_of([ranking], [answer("e", "1", (2, 0, 1), (2, 1, 2))], prompt_version="")
    assert [(one.first, one.second, one.preference) for one in labels] == [("c", "a", 0.0), ("c", "b", 0.5), ("a", "b", 1.0)]
    assert [one.id for one in labels] == ["people/e/0", "people/e/1", "people/e/2"]
    assert {one.group for one in labels} == {"people/e"}
    assert [one.seconds for one in labels] == [2.0, 2.0, 2.0]  # 6 s of one answer
    assert {one.first_model for one in labels} == {"stage:c", "stage:a"}


def test_ratings_of_one_question_by_one_person_make_pairs():
    items = [item("1", "rating", "a"), item("2", "rating", "b"), item("3", "rating", "c"), item("4", "rating", "d", question="r")]
    events = [
        answer("e1", "1", (0,), 5, seconds=1.0),
        answer("x1", "1", (0,), 1, person="Ben"),
        answer("e2", "2", (0,), 3, seconds=2.0, at="2026-01-02T03:05:00+00:00"),
        answer("e4", "4", (0,), 4),
        answer("e3", "3", (0,), 3, seconds=4.0, at="2026-01-02T03:06:00+00:00"),
    ]
    labels = labels_of(items, events, prompt_version="v")
    # Ben's one rating and the one of question r have no partner
    told = {frozenset((one.first, one.second)): one for one in labels}
    assert set(told) == {frozenset("ab"), frozenset("ac"), frozenset("bc")}
    ab, bc = told[frozenset("ab")], told[frozenset("bc")]
    assert ab.preference == (1.0 if ab.first == "a" else 0.0) and ab.margin == 0.5  # (5 - 3) / 4
    assert bc.preference == 0.5 and bc.margin == 0.0
    assert {one.group for one in labels} == {"people/e1"} and {one.annotator for one in labels} == {"Ada"}
    assert (ab.id, bc.id) == ("people/e1/e2", "people/e2/e3")
    assert (ab.at, bc.at) == ("2026-01-02T03:05:00+00:00", "2026-01-02T03:06:00+00:00")
    # each time is shared between the two pairs that its text is in: (1 + 2) / 2 and (2 + 4) / 2; all add up to 1 + 2 + 4
    assert (ab.seconds, bc.seconds) == (1.5, 3.0) and sum(one.seconds for one in labels) == 7.0
    assert {(one.source, one.prompt_version, one.family, one.selection) for one in labels} == {("person", "v", "f", "random")}
    assert ab.first_model == f"stage:{ab.first}" and ab.first_finished is True


def test_a_rating_that_is_repeated_counts_as_the_mean_of_both():
    items = [item("1", "rating", "a"), item("2", "rating", "b"), item("3", "rating", "a", repeats="1")]
    events = [answer("e1", "1", (0,), 5), answer("e2", "2", (0,), 3), answer("e3", "3", (0,), 1)]
    (label,) = labels_of(items, events, prompt_version="")
    assert (label.id, label.preference, label.margin, label.seconds) == ("people/e1/e2", 0.5, 0.0, 18.0)


def test_a_repeated_pair_is_a_label_of_its_own():
    items = [item("1", "pair", "a", "b"), item("2", "pair", "a", "b", repeats="1")]
    labels = labels_of(items, [answer("e1", "1", (0, 1), 1.0), answer("e2", "2", (1, 0), 1.0)], prompt_version="")
    assert [(one.id, one.first, one.preference) for one in labels] == [("people/e1", "a", 1.0), ("people/e2", "b", 1.0)]


def test_what_was_taken_back_is_gone_and_each_person_counts_once_an_item():
    pair = item("1", "pair", "a", "b")
    events = [
        answer("e1", "1", (0, 1), 1.0),
        undo("u1", "1", "e1"),
        answer("e2", "1", (1, 0), 1.0),
        answer("e3", "1", (1, 0), 0.0),  # no desk writes this line; the first one stands
        answer("e4", "1", (0, 1), 0.5, person="Ben"),
        Event(id="s", at="", person="Cyd", kind="skip", item="1", turn="t"),
        Event(id="l", at="", person="Dan", kind="lease", item="1", turn="t2", order=(0, 1)),
    ]
    labels = labels_of([pair], iter(events), prompt_version="")
    assert [(one.id, one.annotator, one.preference) for one in labels] == [("people/e2", "Ada", 1.0), ("people/e4", "Ben", 0.5)]


@pytest.mark.parametrize(
    ("kind", "choice", "kept"),
    [("pair", 1, 1.0), ("pair", 0.5, 0.5), ("pair", 0, 0.0), ("rating", 5, 5), ("ranking", [3, 1, 1], (3, 1, 1))],
)
def test_an_answer_is_kept_in_one_form(kind, choice, kept):
    asked = item("1", kind, *{"pair": "ab", "rating": "a", "ranking": "abc"}[kind])
    assert checked_choice(asked, choice) == kept and type(checked_choice(asked, choice)) is type(kept)
    event = answer("e", "1", tuple(range(len(asked.responses))), checked_choice(asked, choice))
    assert Event.model_validate_json(event.model_dump_json(exclude_defaults=True)) == event


@pytest.mark.parametrize("choice", [True, 0.4, 2, -1, "1", None, (1,), float("nan"), [], {}])
@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("pair", r"a pair must be 1 \(the first shown is better\), 0 \(the second is\) or 0.5 \(equally good\), got"),
        ("ranking", "a ranking must be 3 ranks from 1, the best, to 3, equal ones for ties, got"),
        ("rating", "a rating must be a whole number from 1, the worst, to 5, got"),
    ],
)
def test_what_is_no_answer_is_refused(kind, choice, rule):
    if kind == "rating" and choice == 2:
        choice = 6
    with pytest.raises(RequestError, match=rule):
        checked_choice(item("1", kind, *{"pair": "ab", "rating": "a", "ranking": "abc"}[kind]), choice)


@pytest.mark.parametrize("ranks", [(0, 1, 2), (1, 2, 4), (1, 2), (1, 2, 3, 3), (1.0, 2, 3), (True, 2, 3), "123"])
def test_ranks_outside_their_range_are_refused(ranks):
    with pytest.raises(RequestError, match="Choose again"):
        checked_choice(item("1", "ranking", "a", "b", "c"), ranks)


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf"), "3", None, True])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(RequestError, match="seconds must be a finite number of at least 0"):
        checked_seconds(seconds)
    assert checked_seconds(1.23456) == 1.235


def test_scores_stand_in_the_items_own_order():
    assert scores(answer("e", "1", (1, 0), 1.0)) == (0.0, 1.0)
    assert scores(answer("e", "1", (2, 0, 1), (1, 2, 3))) == (-2.0, -3.0, -1.0)
    assert scores(answer("e", "1", (0,), 4)) == (4.0,)
