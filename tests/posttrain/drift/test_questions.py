"""Which rows can be scored, and what is said where none can."""

import pytest

from posttrain.data.near_duplicates import normalised
from posttrain.digests import text_number
from posttrain.drift.questions import Labels, fresh_questions, question_of
from posttrain.records import Demonstration, Message, Preference, Question, Rating, Text

ASKED = Question(id="q", family="f", prompt="2 + 2?", answers=("4", "four"))
SHOWN = Demonstration(id="d", prompt="3 + 3?", completion="That is 6", answer="6")
PAIR = Preference(id="p", prompt="Hello?", chosen="Hi", rejected="No")


def test_a_question_and_a_demonstration_with_an_answer_can_be_scored():
    assert question_of(ASKED) == ASKED
    assert question_of(SHOWN) == Question(id="d", prompt="3 + 3?", answers=("6",))


@pytest.mark.parametrize(
    "record",
    [
        Question(id="q", prompt="2 + 2?"),
        Demonstration(id="d", prompt="3 + 3?", completion="That is 6"),
        PAIR,
        Rating(id="r", prompt="Hello?", completion="Hi", score=1.0),
        Text(id="t", text="A document"),
    ],
)
def test_nothing_else_can(record):
    assert question_of(record) is None


def test_rows_are_counted_while_they_stream():
    labels = Labels()
    records = [ASKED, SHOWN, PAIR, Question(id="x", prompt="Who?"), Text(id="t", text="A document")]
    assert list(labels.watched(records)) == records
    assert (labels.answered, labels.completed, labels.missing) == (2, 1, "")


def test_what_is_missing_is_said():
    for records, sentence in (
        ([Question(id="x", prompt="Who?"), Text(id="t", text="A document")], "the file has no answers"),
        (
            [PAIR, Question(id="x", prompt="Who?")],
            "the file has 1 rows with completions, pairs or ratings, but no answer that a program can check",
        ),
    ):
        labels = Labels()
        list(labels.watched(records))
        assert labels.missing == sentence


def test_prompts_of_the_dataset_are_not_fresh_however_they_are_written():
    labels = Labels()
    known = {text_number(normalised("two plus two"))}
    chat = Question(id="c", prompt=(Message(role="user", content="Two, plus TWO!"),), answers=("4",))
    assert list(fresh_questions([ASKED, chat, PAIR, SHOWN], known, labels)) == [ASKED, question_of(SHOWN)]
    assert labels.known == 1
