"""The state of labels, from batches that people answered and from labels that came from elsewhere."""

import json

import pytest
from rich.console import Console

from posttrain.errors import DataError
from posttrain.labelling.items import Response
from tasks.data.labels_file import add_labels
from tasks.labelling.finish import finish_batch
from tasks.labelling.people import add_person
from tasks.labelling.state import read_state
from tasks.labelling.terminal import print_state
from tests.tasks.labelling.labelled_world import NAME, answer, batch, dataset, item
from tests.tasks.labelling.test_exchange_transfer import label


@pytest.fixture
def questions(paths, monkeypatch):
    return dataset(paths, monkeypatch)


def printed(state, width=80):
    console = Console(width=width, record=True, file=open("/dev/null", "w"), highlight=False)  # noqa: SIM115, PTH123
    try:
        print_state(state, console=console)
    finally:
        console.file.close()
    return console.export_text()


def test_nobody_has_labelled_yet(paths, questions):
    state = read_state(paths, NAME)
    assert printed(state).strip() == f"{NAME} has no labels and no batch. Begin: make label DATA={NAME}"
    assert (state.labels, state.left, state.hours_left, state.agreement) == (0, 0, 0.0, None)


def test_a_batch_that_nobody_has_begun(paths, questions):
    made = batch(paths, [item(questions[0], 1), item(questions[1], 2)], per_item=3)
    add_person(made, "Ada")
    state = read_state(paths, NAME)
    assert (state.left, state.hours_left, state.waiting) == (6, None, ["Ada"])
    text = printed(state)
    assert "not begun yet: Ada\n" in text
    assert "mine: 0 labels by 0 annotators" in text
    assert "left: 6 answers; nobody has answered yet, so nothing says how long they take" in text


def test_the_figures_of_a_batch(paths, questions):
    """Four pairs for two people; the last one repeats the first, the third has a known order. Ada says 1 1 1 0, Ben 1 0 0."""
    repeated = item(questions[0], 1).model_copy(update={"id": "again", "repeats": "item-1"})
    items = [
        item(questions[0], 1),
        item(questions[1], 2, selection="uncertain"),
        item(questions[2], 3, known=(0, 1)),
        repeated,
    ]
    made = batch(paths, items, per_item=2)
    answer(made, {"Ada": [1, 1, 1, 0]}, seconds=2.0)
    answer(made, {"Ben": [1, 0, 0]}, seconds=9.0)
    add_labels(paths, NAME, [label(questions[3], 9, annotator="Cy", selection="", seconds=None)])
    state = read_state(paths, NAME)
    assert (state.labels, state.in_dataset) == (8, 1)
    assert state.kinds == {"pair": 7, "imported": 1}
    assert state.selections == {"random": 5, "uncertain": 2, "not said": 1}
    ada, ben, cy = (state.people[name] for name in ("Ada", "Ben", "Cy"))
    assert (ada.labels, ben.labels, cy.labels) == (4, 3, 1)
    assert (ada.left, ben.left, cy.left) == (0, 1, 0)  # what repeats the first pair is still to come for Ben
    assert (ada.seconds, ben.seconds, cy.seconds) == (2.0, 9.0, None)
    assert (ada.own.estimate, ada.repeated, ben.own) == (0.0, 1, None)
    assert (ada.right.estimate, ben.right.estimate, cy.right) == (1.0, 0.0, None)
    assert ada.contradictions == 1 and ben.contradictions == 0
    # Ada's two answers to the first pair average to neither, so two pairs are left on which both choose, and both differ
    assert (ada.dissent.estimate, ada.against_others) == (1.0, 2)
    assert (ben.dissent.estimate, ben.against_others, cy.dissent) == (1.0, 2, None)
    assert (state.left, state.batches[0].progress.done, state.batches[0].progress.size) == (1, 7, 8)
    # the median of 2 2 2 2 9 9 9 is 2 seconds, for the one answer that is left
    assert state.hours_left == pytest.approx(2 / 3600)


def test_the_screen_holds_eighty_columns(paths, questions):
    made = batch(paths, [item(questions[0], number) for number in range(3)], per_item=2)
    answer(made, {"Ada": [1, 1, 0.5], "Konstantina-Maria of the Northern Labelling Team": [1, 0, None]})
    text = printed(read_state(paths, NAME))
    assert max(map(len, text.splitlines())) <= 80
    for part in ("left: 1 answer, about 0.0 hours of one person (an estimate,", "Krippendorff's α", "by selection: random 5"):
        assert part in " ".join(text.split())
    assert made.name in text and "Konstantina" in text


def test_names_cannot_command_the_terminal(paths, questions):
    add_labels(paths, NAME, [label(questions[0], 1, annotator="Eve\x1b[31m", selection="a\x1b[0m")])
    assert "\x1b[31m" not in printed(read_state(paths, NAME)) and "\\x1b[31m" in printed(read_state(paths, NAME))


def test_a_finished_batch_counts_once(paths, questions):
    made = batch(paths, [item(questions[0], 1)])
    answer(made, {"Ada": [1]})
    open_one = read_state(paths, NAME)
    assert (open_one.labels, open_one.in_dataset, open_one.batches[0].state) == (1, 0, "open")
    assert "left: nothing. Finish the batch: make labels DATA=mine FINISH=1" in printed(open_one)
    finish_batch(paths, made)
    state = read_state(paths, NAME)
    assert (state.labels, state.in_dataset, state.batches[0].state, state.left) == (1, 1, "finished", 0)
    assert state.kinds == {"pair": 1} and "left:" not in printed(state)


def test_rankings_and_ratings_count_by_their_labels(paths, questions):
    three = tuple(Response(text=text) for text in ("a", "b", "c"))
    made = batch(paths, [item(questions[0], 1, kind="ranking", responses=three)], kind="ranking")
    from tasks.labelling.desk import Desk

    desk = Desk(made)
    desk.answer("Ada", desk.next("Ada").turn, (1, 2, 2), seconds=3.0)
    desk.close()
    state = read_state(paths, NAME)
    assert state.kinds == {"ranking": 3} and state.people["Ada"].seconds == 1.0


def test_everything_stands_in_the_json(paths, questions):
    made = batch(paths, [item(questions[0], 1), item(questions[1], 2)], per_item=2)
    answer(made, {"Ada": [1, 1], "Ben": [1, 0]})
    told = json.loads(json.dumps(read_state(paths, NAME).as_json()))
    assert told["agreement"]["agreement"].keys() == {"estimate", "low", "high"}
    assert told["people"]["Ada"]["dissent"]["estimate"] == 0.5 and told["people"]["Ada"]["right"] is None
    assert told["batches"][0]["people"][1]["person"] == "Ben" and told["batches"][0]["left"] == 0


def test_a_damaged_batch_is_told(paths, questions):
    made = batch(paths, [item(questions[0], 1)])
    made.log.write_text("{}\n")
    with pytest.raises(DataError, match=r"events\.jsonl line 1 is no event of a batch"):
        read_state(paths, NAME)
