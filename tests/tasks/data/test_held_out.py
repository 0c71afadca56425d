"""A dataset that is published with a test file of its own keeps it, and nothing like it is trained on."""

import json

import pytest

from posttrain.errors import DataError, RequestError
from tasks.data.dvc import bring_up_to_date
from tasks.data.importing import import_file
from tests.tasks.datasets import gsm8k, lines, state


def imported(paths, **named):
    return import_file(paths, file=gsm8k(paths), name="mine", **named)


def test_the_second_file_is_what_is_held_out_and_nothing_else(paths):
    test = gsm8k(paths, 3, file="test.jsonl", start=100)
    report = imported(paths, held_out=test)
    folder = paths.data / "mine"
    assert [row["id"] for row in lines(folder / "held_out.jsonl")] == [f"held-out-gsm8k-{line}" for line in (1, 2, 3)]
    assert [len(lines(folder / f"{role}.jsonl")) for role in ("demonstrations", "questions", "corpus")] == [20, 20, 20]
    assert report.kinds == {"demonstration": 23}
    assert report.notes == tuple(
        f"no FORMAT was given: the rows of {file} are read as FORMAT=gsm8k" for file in ("g.jsonl", test)
    )
    before = state(folder)
    bring_up_to_date(paths, "mine")
    assert state(folder) == before, "the split says the same when it is made again"


def test_training_rows_like_a_held_out_one_are_left_out_and_counted(paths):
    report = imported(paths, format="gsm8k", held_out=gsm8k(paths, 4, file="test.jsonl", start=17))
    folder = paths.data / "mine"
    assert report.notes[-1].startswith("3 of 20 training records ask the same, or nearly, as a held-out one: they are left out")
    assert len(lines(folder / "held_out.jsonl")) == 4
    trained = {row["prompt"] for role in ("demonstrations", "questions") for row in lines(folder / f"{role}.jsonl")}
    assert len(trained) == 17
    assert trained.isdisjoint(row["prompt"] for row in lines(folder / "held_out.jsonl"))


def test_rows_of_the_second_file_are_read_as_strictly(paths):
    (paths.root / "test.jsonl").write_text(json.dumps({"question": "q", "answer": "no marker"}) + "\n")
    with pytest.raises(DataError, match=r"test.jsonl line 1: answer must end in"):
        imported(paths, format="gsm8k", held_out="test.jsonl")
    report = imported(paths, format="gsm8k", held_out=gsm8k(paths, 3, file="test.jsonl", start=50), skip_bad=True)
    assert report.kinds == {"demonstration": 23}


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (None, RequestError, "missing.jsonl"),
        ("", DataError, "test.jsonl"),
        ('{"text": "a document"}\n', DataError, "HELD_OUT=test.jsonl holds texts without a prompt"),
    ],
)
def test_a_second_file_that_is_none_refuses_the_import_and_leaves_the_earlier_dataset(paths, text, error, says):
    imported(paths)
    before = state(paths.data / "mine")
    if text is not None:
        (paths.root / "test.jsonl").write_text(text)
    with pytest.raises(error, match=says):
        imported(paths, held_out="missing.jsonl" if text is None else "test.jsonl")
    assert state(paths.data / "mine") == before


def test_all_of_it_held_out_is_refused(paths):
    with pytest.raises(
        DataError, match="nothing is left to train on: each of the dataset's 40 records with a prompt is held out"
    ):
        imported(paths, format="gsm8k", held_out=gsm8k(paths, file="test.jsonl"))
