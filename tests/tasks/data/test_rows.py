"""What a file is, whatever it is called: rows of each container, the name of each that has none, and bounded memory."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import tracemalloc
import zipfile

import pyarrow
import pytest
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from posttrain.errors import DataError, RequestError
from tasks.data import rows
from tasks.data.rows import file_items

ONCE = "The first line must name each column once, with ',' between them"
TEXTS = [{"text": "a"}, {"text": "é"}]
LINES = b'{"text": "a"}\n{"text": "\xc3\xa9"}\n'


def packed(data, tmp_path):
    """Return data as a zstandard frame, which Arrow writes to a file only."""
    path = tmp_path / "packed"
    with pyarrow.output_stream(str(path), compression="zstd") as stream:
        stream.write(data)
    return path.read_bytes()


def read(tmp_path, data, name="in.jsonl"):
    path = tmp_path / name
    path.write_bytes(data)
    return list(file_items(path, shown=name))


def refused(tmp_path, data, name="in.jsonl"):
    with pytest.raises(DataError) as caught:
        read(tmp_path, data, name)
    return str(caught.value)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, "zstandard"])
@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.zst", "in.txt"])
def test_a_compression_is_told_by_its_bytes(tmp_path, pack, name):
    data = packed(LINES, tmp_path) if pack == "zstandard" else pack(LINES)
    assert [item.row for item in read(tmp_path, data, name)] == TEXTS
    twice = data + data  # what cat of two packed files gives
    assert [item.row for item in read(tmp_path, twice, name)] == TEXTS * 2


@pytest.mark.parametrize(
    ("pack", "kind"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz"), ("zstandard", "zstandard")]
)
def test_a_damaged_compression_is_called_by_its_name(tmp_path, pack, kind):
    data = packed(LINES * 500, tmp_path) if pack == "zstandard" else pack(LINES * 500)
    message = refused(tmp_path, data[: len(data) // 2])
    assert message.startswith(f"in.jsonl is a damaged {kind} file (")
    assert message.endswith("). Download or pack it again")


def a_zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("in.jsonl", LINES)
    return file.getvalue()


def a_tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("in.jsonl")
        member.size = len(LINES)
        archive.addfile(member, io.BytesIO(LINES))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (a_zip(), "a zip archive"),
        (a_tar(), "a tar archive"),
        (gzip.compress(a_tar(), mtime=0), "a tar archive inside gzip"),
        (gzip.compress(gzip.compress(LINES, mtime=0), mtime=0), "gzip inside gzip"),
        (bz2.compress(a_zip()), "a zip archive (or an Excel or Word file, which is one) inside bzip2"),
        (b"SQLite format 3\0" + bytes(90), "a SQLite database"),
        (pickle.dumps(TEXTS), "a pickle, which could run code"),
        (b"<!DOCTYPE html><title>Sign in</title>", "a web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS, not the data"),
        (b"%PDF-1.7\n", "a PDF"),
        (bytes(600), "begins with NUL bytes"),
        (b"\x01\x02\x00\x03" * 40, "a binary file of an unknown kind"),
    ],
)
def test_a_container_without_rows_is_called_by_its_name(tmp_path, data, name):
    message = refused(tmp_path, data)
    assert name in message
    assert "iconv" not in message
    assert message.count("\n") == 0


def test_parquet_inside_gzip_is_called_by_its_name(tmp_path):
    parquet.write_table(pyarrow.Table.from_pylist(TEXTS), tmp_path / "t.parquet")
    assert "is parquet inside gzip" in refused(tmp_path, gzip.compress((tmp_path / "t.parquet").read_bytes(), mtime=0))


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl"])
def test_parquet_is_read_whatever_it_is_called(tmp_path, name):
    table = [{"messages": [{"role": "user", "content": "q"}], "number": number} for number in range(2_500)]
    parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / name, row_group_size=700)
    items = list(file_items(tmp_path / name, shown=name))
    assert [item.row for item in items] == table
    assert (items[-1].place, items[-1].number) == (f"{name} row 2499", 2499)


def test_damaged_parquet_is_called_by_its_name(tmp_path):
    parquet.write_table(pyarrow.Table.from_pylist(TEXTS), tmp_path / "t.parquet")
    assert refused(tmp_path, (tmp_path / "t.parquet").read_bytes()[:-20]).startswith("in.jsonl is a damaged parquet file (")


def test_what_datasets_saved_is_read(tmp_path):
    Dataset.from_list(TEXTS).save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": Dataset.from_list(TEXTS), "test": Dataset.from_list(TEXTS[:1])}).save_to_disk(str(tmp_path / "two"))
    assert [item.row for item in file_items(tmp_path / "one", shown="one")] == TEXTS
    assert [item.row for item in file_items(tmp_path / "two:test", shown="two:test")] == TEXTS[:1]
    (arrow,) = (tmp_path / "one").glob("*.arrow")
    assert [item.row for item in file_items(arrow, shown="x.arrow")] == TEXTS


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("two", "two has the splits train, test. Name one of them: FILE=two:train"),
        ("two:dev", "two:dev has the splits train, test. Name one of them: FILE=two:train"),
        ("one:dev", "one:dev: the folder has no splits, so dev is not one of them. Leave :dev out"),
        ("plain", "plain is a folder that datasets did not save (save_to_disk). Name one of the files in it: a.jsonl, b.csv"),
    ],
)
def test_a_folder_that_is_not_clear_is_refused(tmp_path, file, message):
    Dataset.from_list(TEXTS).save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": Dataset.from_list(TEXTS), "test": Dataset.from_list(TEXTS)}).save_to_disk(str(tmp_path / "two"))
    (tmp_path / "plain").mkdir()
    for name in ("b.csv", "a.jsonl"):
        (tmp_path / "plain" / name).touch()
    with pytest.raises(RequestError) as caught:
        list(file_items(tmp_path / file, shown=file))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.csv", b'question,answer\n"Two, or\nthree?",7\nq,\n'),
        ("in.csv", b'\xef\xbb\xbfquestion;answer\r\n"Two, or\nthree?";7\r\nq;\r\n'),
        ("in.tsv", b'question\tanswer\n"Two, or\nthree?"\t7\nq\t\n'),
        ("in.v2.CSV", b'question,answer\n"Two, or\nthree?",7\nq,\n'),
        ("in.csv.gz", gzip.compress(b'question,answer\n"Two, or\nthree?",7\n\nq,\n', mtime=0)),
    ],
)
def test_tables_of_text_are_read(tmp_path, name, data):
    items = read(tmp_path, data, name)
    assert [item.row for item in items] == [{"question": "Two, or\nthree?", "answer": "7"}, {"question": "q", "answer": None}]
    assert items[0].place == f"{name} line 2"


def test_json_in_a_cell_is_read_where_a_column_has_structure(tmp_path):
    data = b'messages,text\n"[{""role"": ""user"", ""content"": ""q""}]","[x]"\n'
    assert read(tmp_path, data, "in.csv")[0].row == {"messages": [{"role": "user", "content": "q"}], "text": "[x]"}


def test_a_row_with_another_number_of_cells_is_the_rows_fault(tmp_path):
    good, bad = read(tmp_path, b"a,b\n1,2\n1,2,3\n", "in.csv")
    assert (good.fault, bad.fault) == ("", "the row has 3 cells, the first line names 2 columns")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"a,a\n1,2\n",
            "in.csv line 1 names the column 'a' twice. The first line must name each column once, with ',' between them",
        ),
        (
            b"a,\n1,2\n",
            "in.csv line 1 has a column without a name. The first line must name each column once, with ',' between them",
        ),
        (b'a\n"x" y\n', "in.csv line 2: ',' expected after '\"'. Correct the quotes of that row, then import again"),
        (
            b"a\ncaf\xe9\n",
            "in.csv line 2: byte 0xe9 is not UTF-8. Save the file as UTF-8 (in Excel: CSV UTF-8), for example: "
            "iconv -f WINDOWS-1252 -t UTF-8",
        ),
    ],
)
def test_a_table_that_is_not_clear_is_refused(tmp_path, data, message):
    assert refused(tmp_path, data, "in.csv") == message


@pytest.mark.parametrize(
    "data",
    [
        b'{\n  "text": "a"\n}\n',
        b'{\n  "text": "a"\n}',
        b'\xef\xbb\xbf{"text":\n "a"}\n',
        b'{"version": 1, "data": [{"text": "a"}]}\n',
        b'{\n "rows": [\n  {"text": "a"}\n ]\n}',
    ],
)
def test_one_object_is_one_row_or_holds_the_rows(tmp_path, data):
    assert [item.row for item in read(tmp_path, data)] == [{"text": "a"}]


def test_objects_printed_one_after_the_other_are_rows(tmp_path):
    assert [item.row for item in read(tmp_path, b'{\n"text": "a"\n}\n{\n"text": "\xc3\xa9"\n}\n')] == TEXTS


def test_a_wrapper_is_only_unwrapped_where_it_is_all_there_is(tmp_path):
    assert len(read(tmp_path, b'{"data": [{"text": "a"}]}\n{"text": "b"}\n')) == 2


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"a": 1, "a": 2}', "the field 'a' stands twice in one object"),
        (b'{"a": {"b": 1, "b": 1}}', "the field 'b' stands twice in one object"),
        (b'{"a": "x\0\0"}', "NUL bytes stand in the line, as after a crash or on a full disk"),
        (b'{"a": ' + b"[" * 100_000, "the JSON is nested too deeply"),
        (b'{"a": 1}{"a": 2}', "broken JSON at column 9 (trailing characters); each line must be one whole JSON object"),
        (
            b'{"a": 1}\r{"a": 2}',
            "broken JSON at column 10 (trailing characters); lines that end in CR alone: tr '\\r' '\\n' mends that",
        ),
        (b"a,b", "broken JSON at column 1 (expected value); a file of csv or tsv is told by its name, .csv or .tsv"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "broken JSON at column 4308 (number out of range)"),
    ],
)
def test_a_broken_line_is_one_fault_and_the_next_line_is_read(tmp_path, line, fault):
    bad, good = read(tmp_path, line + b'\n{"text": "a"}\n')
    assert bad.fault.startswith(fault)
    assert good.row == {"text": "a"}


@pytest.mark.parametrize(
    "data", [rb'{"text": "x \ud83d"}', rb'[{"text": "x \ud83d"}]', rb'{"a": {"\udc00": 1}, "text": "x \uD83D"}']
)
def test_half_a_character_becomes_the_mark_of_a_broken_one(tmp_path, data):
    (item,) = read(tmp_path, data)
    assert item.row["text"] == "x \ufffd"
    assert list(item.notes) == ["half a character (a lone surrogate) became U+FFFD: the data gate puts the row aside"]


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path):
    (item,) = read(tmp_path, rb'{"text": "\ud83d\ude00 \\ud83d"}')
    assert item.row["text"] == "\N{GRINNING FACE} \\ud83d"
    assert not item.notes


@pytest.mark.parametrize("data", ['{"text": "a"}'.encode("utf-16"), '{"text": "a"}'.encode("utf-16-le")])
def test_utf_16_is_called_by_its_name_with_and_without_its_mark(tmp_path, data):
    assert refused(tmp_path, data).startswith("in.jsonl is UTF-16, not UTF-8. Save it as UTF-8: iconv -f UTF-16")


@pytest.mark.parametrize(
    ("name", "opening"), [("in.jsonl", b'{"text": "'), ("in.jsonl", b'{"text": "a"}\n{"text": "'), ("in.csv", b"text\n")]
)
def test_one_line_of_gigabytes_in_a_small_file_takes_little_memory(tmp_path, monkeypatch, name, opening):
    monkeypatch.setattr(rows, "LONGEST_LINE", 1 << 20)
    path = tmp_path / f"{name}.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(opening)
        for _ in range(200):
            stream.write(b"x" * (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"line \d is longer than 1 MB"):
            list(file_items(path, shown=name))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_rows_stream(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "a"}\n' * 3 + b"broken")
    rows_of_file = file_items(path, shown="in.jsonl")
    assert next(rows_of_file).row == {"text": "a"}
    rows_of_file.close()


def test_json_of_numbers_that_are_none_is_read_and_left_to_the_format(tmp_path):
    (item,) = read(tmp_path, b'{"a": NaN, "b": Infinity}')
    assert json.dumps(item.row) == '{"a": NaN, "b": Infinity}'
