"""Files of records: what is written is what is read."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posttrain.errors import DataError
from posttrain.records import Demonstration, Message, Question
from tasks.workspace.jsonl import read_records, read_rows, required, write_rows

ROWS = st.lists(st.dictionaries(st.text(max_size=5), st.one_of(st.text(), st.integers(), st.none(), st.booleans())), max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS)
def test_rows_come_back_one_a_line(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    assert write_rows(path, iter(rows)) == len(rows)
    assert list(read_rows(path)) == rows
    assert path.read_bytes().count(b"\n") == len(rows)


def test_text_is_written_as_it_reads(tmp_path):
    write_rows(tmp_path / "rows.jsonl", [{"text": "naïve β\u2028"}])
    assert (tmp_path / "rows.jsonl").read_text(encoding="utf-8") == '{"text": "naïve β\u2028"}\n'


def test_records_come_back_as_their_kind(tmp_path):
    records = [
        Question(id="1", prompt="p", answers=("4",)),
        Question(id="2", family="f", prompt=(Message(role="user", content="2 + 2?"),)),
    ]
    write_rows(tmp_path / "questions.jsonl", (record.model_dump(mode="json") for record in records))
    assert list(read_records(tmp_path / "questions.jsonl", Question)) == records
    assert required(tmp_path, "questions", Question, why="…") == records


def test_records_are_read_as_they_are_asked_for(tmp_path):
    with (tmp_path / "questions.jsonl").open("w") as file:
        file.write(Question(id="1", prompt="p").model_dump_json() + "\nbroken\n")
    assert next(iter(read_records(tmp_path / "questions.jsonl", Question))).id == "1"


@pytest.mark.parametrize("empty", [True, False])
def test_what_is_required_must_be_there(tmp_path, empty):
    if empty:
        (tmp_path / "demonstrations.jsonl").touch()
    with pytest.raises(DataError) as caught:
        required(tmp_path, "demonstrations", Demonstration, why="SFT imitates")
    assert str(caught.value) == (
        "the dataset has no demonstrations, which SFT imitates. Import data that have them: make import FORMAT=… FILE=… NAME=…"
    )
