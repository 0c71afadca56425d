"""What a user says of columns: renamed, taken out of objects, given as a number, left out."""

import pytest

from posttrain.data.formats.columns import Columns
from posttrain.data.formats.items import Item
from posttrain.data.formats.reading import read
from posttrain.errors import DataError, RequestError
from posttrain.records import Demonstration, Question, Rating


def one(text, row, form="trl"):
    items = [Item(row, source="f.csv", unit="line", number=2)]
    (record,) = read(form, Columns.parsed(text).apply(items))
    return record


def test_columns_get_the_names_that_a_format_reads():
    row = {"question": "Hello", "answer": "Good day.", "id": 7}
    assert one("prompt=question completion=answer", row) == Demonstration(id="trl-2", prompt="Hello", completion="Good day.")


def test_two_columns_may_change_places():
    assert one("prompt=completion completion=prompt", {"prompt": "a", "completion": "b"}).prompt == "b"


def test_a_column_with_spaces_and_one_inside_an_object():
    row = {"The question": "q", "extra": {"answer": {"value": 7}}}
    assert one("prompt='The question' answer=extra.answer.value", row) == Question(id="trl-2", prompt="q", answers=("7",))


def test_a_scale_may_be_given_as_numbers():
    row = {"prompt": "q", "completion": "a", "stars_given": "2"}
    assert one("score=stars_given low=1 high=5", row) == Rating(
        id="trl-2", prompt="q", completion="a", score=2.0, low=1.0, high=5.0
    )


def test_a_column_is_left_out_on_purpose():
    assert one("ignore=score", {"prompt": "q", "completion": "a", "score": 3}).completion == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question", "MAP must be words such as \"prompt=question completion=answer\", got 'question'"),
        ("prompt=", "MAP must be words such as \"prompt=question completion=answer\", got 'prompt='"),
        ("prompt='a", 'MAP must be words such as "prompt=question completion=answer", got "prompt=\'a" (No closing quotation)'),
        (
            "promt=question",
            "MAP: promt is no field that a format reads; did you mean prompt? Write field=column, the field first",
        ),
        ("prompt=a prompt=b", "MAP names prompt twice: a and b. Keep one"),
        ("ignore=colour", "MAP ignores colour, and there is no such column (there is: 'a')"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(text, message):
    with pytest.raises(RequestError) as caught:
        one(text, {"a": 1})
    assert str(caught.value) == message


def test_a_column_that_is_not_there_is_the_rows_fault():
    with pytest.raises(DataError) as caught:
        one("prompt=qestion", {"question": "q"})
    assert str(caught.value) == (
        "f.csv line 2: MAP names qestion, and there is no such column (there is: 'question'). "
        "Correct or drop this line, then import again"
    )
