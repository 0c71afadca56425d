"""What an import says of fields that it did not read, and that a format which it names reads the row."""

import pytest

from posttrain.data.formats.reading import read, recognised, suggestion
from posttrain.data.formats.table import FORMATS
from posttrain.errors import DataError
from posttrain.records import Record
from tests.posttrain.data.formats.test_cases import RUDE, gpt, item, one


def test_what_is_left_aside_is_said():
    turns = gpt(("human", "a"), ("gpt", "first"), ("human", "c"), ("gpt", "second"), ("human", "thanks"))
    record, notes = one("sharegpt", {"conversations": turns, "source": "web", "tags": []})
    assert record.completion == "second"
    assert list(notes) == [
        "a conversation that goes on after the assistant's last turn: what follows is left out",
        "a conversation of several rounds: the assistant's last turn is learnt, the earlier ones are its context",
        "a field that is not read: source",
    ]


@pytest.mark.parametrize(
    ("row", "unread"),
    [
        ({"text": "# Rate these\n…", "completions": ["a", "b"], "models": ["m", "n"]}, "completions"),
        ({"prompt": "q", "completions": ["a", "b"]}, "completions"),
        ({"prompt": "q", "conversations": gpt(("human", "a"))}, "conversations"),
        ({"prompt": "q", "completion": "a", "messages": RUDE}, "messages"),
    ],
)
def test_a_row_that_says_more_than_would_be_read_is_refused(row, unread):
    with pytest.raises(DataError, match=rf"{unread} would not be read, and a \w+ would be made of the rest"):
        one("trl", row)


ROWS = [
    {"instruction": "a", "output": "b"},
    {"instruction": "a", "chosen": "x", "rejected": "y"},
    {"question": "q", "answer": "42"},
    {"question": "q", "choices": ["x", "y"], "answer": 0},
    {"messages": gpt(("human", "a"), ("gpt", "b"))},
    {"prompt": "a", "response": "b"},
    {"question": "q", "answer": True},
    {"messages": RUDE, "images": ["x"]},
    {"Body": "b", "Question": "q", "Equation": "1", "Answer": 1},
    {"kind": "text", "text": "t"},
    {"prompt": "q", "completion": "a", "score": 3},
    {"unknown": 1},
]


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "hub"])
@pytest.mark.parametrize("row", ROWS)
def test_a_format_that_a_message_names_reads_the_row(form, row):
    try:
        one(form, row)
    except DataError as error:
        _, named, rest = str(error).partition("The fields are those of FORMAT=")
        if named:
            assert isinstance(one(rest.partition(".")[0], row)[0], Record)


@pytest.mark.parametrize("row", ROWS)
def test_what_is_suggested_reads_the_row(row):
    form = suggestion(item(row))
    if form:
        assert isinstance(one(form, row)[0], Record)
    else:
        for name in FORMATS:
            with pytest.raises(DataError):
                one(name, row)


def test_no_format_is_named_where_none_reads_the_row():
    with pytest.raises(DataError) as caught:
        one("gsm8k", {"prompt": "q", "completion": "a", "score": 3})
    assert "FORMAT=" not in str(caught.value)


def test_a_format_is_recognised_by_the_first_row_that_can_be_read_and_no_row_is_lost():
    form, rows = recognised([item({"question": "q", "answer": None}), item({"question": "q", "answer": "#### 7"})])
    assert (form, len(list(rows))) == ("gsm8k", 2)


def test_rows_that_no_format_reads_are_told_by_the_likeliest_one():
    form, rows = recognised([item({"messages": RUDE, "images": ["x"]})])
    with pytest.raises(DataError, match="images cannot be learnt"):
        list(read(form, rows))
    with pytest.raises(DataError, match="no format reads these rows, whose fields are 'colour, size'"):
        recognised([item({"colour": "red", "size": 1})])


@pytest.mark.parametrize("name", ["GSM8K", "Gsm8k", " gsm8k "])
def test_the_case_of_a_format_does_not_matter(name):
    assert one(name, {"question": "q", "answer": "#### 7"})[0].id == "gsm8k-1"
