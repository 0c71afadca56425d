"""The prompts of a check: every kind of file, and the roles of a dataset that count as training."""

import gzip
import json

import pytest

from posttrain.drift.check import text_of
from posttrain.errors import DataError, RequestError
from posttrain.records import Demonstration, Preference, Question, Text
from tasks.data.dvc import DatasetVersion
from tasks.data.stages import as_line
from tasks.monitoring.prompts import TRAINING, held_out_prompts, new_prompts, training_prompts


@pytest.fixture
def prompts(tmp_path):
    """Write a file and return the texts of its prompts."""

    def given(name, content, **others):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [text_of(record) for record in new_prompts(path, shown=name, **others)]

    return given


def rows(*objects):
    return "".join(json.dumps(one) + "\n" for one in objects)


def test_lines_of_a_text_file_are_prompts(prompts):
    assert prompts("p.txt", "\ufeffOne?\n\n  Two, three?  \r\n[4]\n{5}") == ["One?", "Two, three?", "[4]", "{5}"]
    assert prompts("P.TXT.gz", gzip.compress(b"One?\nTwo?\n")) == ["One?", "Two?"]


def test_formats_are_told_by_their_rows(prompts):
    assert prompts("p.jsonl", rows({"prompt": "One?"}, {"prompt": "Two?"})) == ["One?", "Two?"]
    assert prompts("p.jsonl", rows({"question": "One?", "answer": "1 #### 1"})) == ["One?"]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"}]
    assert prompts("p.jsonl", rows({"messages": chat})) == ["Be brief.\nOne?"]
    assert prompts("p.csv", "prompt,completion\nOne?,1\n") == ["One?"]
    assert prompts("p.jsonl", rows({"kind": "question", "id": "a", "prompt": "One?"}), form="RECORDS") == ["One?"]
    assert prompts("p.jsonl", rows({"text": "One document."})) == ["One document."]


def test_columns_are_named_where_nothing_tells_them(prompts):
    assert prompts("p.jsonl", rows({"said": "One?"}), columns="prompt=said") == ["One?"]
    # a form or columns say that a text file has rows after all
    assert prompts("p.txt", rows({"said": "One?"}), columns="prompt=said") == ["One?"]
    assert prompts("p.txt", rows({"prompt": "One?"}), form="trl") == ["One?"]


@pytest.mark.parametrize(
    ("name", "content", "others", "sentence"),
    [
        ("p.txt", "", {}, "p.txt has no lines. Check that it is the file you meant and was written to its end"),
        ("p.txt", " \n\n", {}, "p.txt has no lines. Check that it is the file you meant and was written to its end"),
        ("p.jsonl", "", {}, "p.jsonl has no rows. Check that it is the file you meant and was written to its end"),
        (
            "p.txt",
            b"One?\nTw\xf6?\n",
            {},
            "p.txt line 2: byte 0xf6 is not UTF-8. Save the file as UTF-8, for example: iconv -f ISO-8859-1 -t UTF-8",
        ),
    ],
)
def test_files_that_are_wrong(prompts, name, content, others, sentence):
    with pytest.raises(DataError) as refused:
        prompts(name, content, **others)
    assert str(refused.value) == sentence


def test_a_row_that_cannot_be_read_says_where(prompts):
    with pytest.raises(DataError, match=r"p\.jsonl line 2: prompt is null"):
        prompts("p.jsonl", rows({"prompt": "One?"}, {"prompt": None}))


def test_requests_that_are_wrong(prompts, tmp_path):
    with pytest.raises(RequestError, match="there is no format gsm9k; did you mean gsm8k"):
        prompts("p.jsonl", rows({"prompt": "One?"}), form="gsm9k")
    with pytest.raises(RequestError) as refused:
        prompts("p.jsonl", rows({"prompt": "One?"}), form="hub")
    assert str(refused.value) == (
        "monitor reads files, so FORMAT=hub is none that it takes. Download the dataset, then name its file"
    )
    for name in ("missing.jsonl", "missing.txt"):
        with pytest.raises(RequestError, match=name):
            list(new_prompts(tmp_path / name, shown=name))


def test_the_prompts_of_training_are_those_of_every_role_but_corpus_and_held_out(tmp_path):
    assert TRAINING == ("demonstrations", "questions", "preferences", "ratings", "rankings")
    of_role = {
        "corpus": Text(id="c", text="corpus"),
        "demonstrations": Demonstration(id="d", prompt="demonstration", completion="x"),
        "questions": Question(id="q", prompt="question"),
        "preferences": Preference(id="p", prompt="preference", chosen="x", rejected="y"),
        "held_out": Question(id="h", prompt="held out"),
        "held_out_preferences": Preference(id="o", prompt="held out preference", chosen="x", rejected="y"),
    }
    for role, record in of_role.items():
        (tmp_path / f"{role}.jsonl").write_bytes(as_line(record))
    data = DatasetVersion(name="mine", folder=tmp_path, md5="0", files={})
    assert [text_of(record) for record in training_prompts(data)] == ["demonstration", "question", "preference"]
    assert [text_of(record) for record in held_out_prompts(data)] == ["held out"]
