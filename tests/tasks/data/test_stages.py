"""Importing and splitting."""

import errno
import gzip
import json
import os
import subprocess
import sys

import pytest
import yaml

from posttrain.errors import DataError, RequestError, StorageError
from posttrain.records import ANY_RECORD
from tasks.data import dvc as versions
from tasks.data import rows
from tasks.data.__main__ import main
from tasks.data.dataset_code import code_of
from tasks.data.dataset_stage import split_code
from tasks.data.dvc import bring_up_to_date
from tasks.data.importing import import_file
from tasks.data.stages import make_world, read_records, split_dataset
from tests.tasks.datasets import ROOT, gsm8k, importing_of, lines, state


def test_an_import_replaces_an_earlier_one_and_its_roles(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    bring_up_to_date(paths, "mine")
    rows = [{"prompt": f"{word} it is", "chosen": "x", "rejected": "y"} for word in ("red", "green", "blue")]
    importing_of(paths, json.dumps(rows))
    version = bring_up_to_date(paths, "mine")
    assert set(version.files) == {"corpus", "demonstrations", "questions", "preferences", "held_out", "held_out_preferences"}
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    assert not (version.folder / "preferences.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "in.jsonl has no rows. Check that it is the file you meant and was written to its end"),
        (b" \n\n", "in.jsonl has no rows. Check that it is the file you meant and was written to its end"),
        (b"[]", "in.jsonl has no rows. Check that it is the file you meant and was written to its end"),
        (
            b'{"text": "a"}\n{"text": "b"\n',
            "in.jsonl line 2: broken JSON at column 12 (EOF while parsing an object); each line must be one whole JSON object. "
            "Correct or drop this line, then import again; or put it aside: SKIP_BAD=1",
        ),
        (
            b'[{"text": "a"},\n {"text" "b"}]',
            "in.jsonl line 2: broken JSON at column 10 (expected `:`). A file that starts with [ must be one JSON array",
        ),
        (
            b'{"text": "a"}\n{"text": "caf\xe9"}\n',
            "in.jsonl line 2: byte 27 of the file is 0xe9, which is not UTF-8. "
            "Save the file as UTF-8, for example: iconv -f ISO-8859-1 -t UTF-8; or put it aside: SKIP_BAD=1",
        ),
        (
            b'[{"text": "a"},\n{"text": "caf\xe9"}]',
            "in.jsonl: byte 29 of the file (line 2) is 0xe9, which is not UTF-8. "
            "Save the file as UTF-8, for example: iconv -f ISO-8859-1 -t UTF-8",
        ),
        (
            '{"text": "a"}'.encode("utf-16"),
            "in.jsonl is UTF-16, not UTF-8. Save it as UTF-8: iconv -f UTF-16 -t UTF-8 in.jsonl > utf8.jsonl",
        ),
        (
            b'{"text": "a"}\n\n{"prompt": 7}',
            "in.jsonl line 3: prompt must be text or a list of messages, got 7. "
            "Correct or drop this line, then import again; or put it aside: SKIP_BAD=1",
        ),
        (
            b'[{"text": "a"}, {"text": 7}]',
            "in.jsonl item [1]: text must be text, got 7. "
            "Correct or drop this item, then import again; or put it aside: SKIP_BAD=1",
        ),
        (
            gzip.compress(b'{"text": "a"}\n' * 100, mtime=0)[:-9],
            "in.jsonl is a damaged gzip file (Compressed file ended before the end-of-stream marker was reached). "
            "Download or pack it again",
        ),
    ],
)
def test_a_broken_file_is_refused_and_nothing_is_left(paths, no_dvc, content, message):
    with pytest.raises(DataError) as caught:
        importing_of(paths, content)
    assert str(caught.value) == message
    assert not (paths.data / "mine").exists()


@pytest.mark.parametrize(
    "content",
    [
        b'{"text": "a"}\n\n{"text": "b"}',
        b'\xef\xbb\xbf{"text": "a"}\n{"text": "b"}\n',
        b' [{"text": "a"}, {"text": "b"}]',
        b'\xef\xbb\xbf[{"text": "a"}, {"text": "b"}]',
        gzip.compress(b'{"text": "a"}\r\n{"text": "b"}\r\n', mtime=0),
    ],
)
def test_lines_arrays_marks_and_gzip_are_read(paths, no_dvc, content):
    importing_of(paths, content)
    assert [row["text"] for row in lines(paths.data / "mine" / "records.jsonl")] == ["a", "b"]


def test_an_array_too_large_to_hold_is_refused(paths, no_dvc, monkeypatch):
    monkeypatch.setattr(rows, "LARGEST_ARRAY", 10)
    with pytest.raises(
        DataError, match=r"^in\.jsonl is a JSON array of more than 0 MB, which is read whole\. Write it as JSON lines"
    ):
        importing_of(paths, '[{"text": "a"}]')


def test_a_file_that_is_not_there_and_a_folder(paths):
    with pytest.raises(RequestError, match=r"^there is no file none\.jsonl\. Give its path from "):
        import_file(paths, format="trl", file="none.jsonl", name="mine")
    with pytest.raises(
        RequestError, match=r"^tasks is a folder that datasets did not save \(save_to_disk\)\. Name one of the files"
    ):
        import_file(paths, format="trl", file="tasks", name="mine")


@pytest.mark.parametrize("name", ["world", "expectations", "../up", ".hidden", "a b", ""])
def test_names_that_cannot_be_used(paths, name):
    with pytest.raises(RequestError):
        import_file(paths, format="gsm8k", file=gsm8k(paths), name=name)
    assert not paths.data.exists()


def test_an_unknown_format_is_refused_first(paths):
    with pytest.raises(RequestError, match="there is no format gsm8; did you mean gsm8k"):
        import_file(paths, format="gsm8", file="none", name="mine")


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device", "data/mine/records.jsonl")


def test_a_full_disk_leaves_the_earlier_dataset(paths, no_dvc, monkeypatch):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    before = state(paths.data / "mine")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError) as caught:
        importing_of(paths, '{"text": "a"}')
    assert str(caught.value) == (
        "cannot write data/mine/records.jsonl: No space left on device. What was there before is unchanged; "
        "free some space or correct the permissions, then repeat the command"
    )
    assert state(paths.data / "mine") == before
    assert not (paths.data / "mine" / ".incoming").exists()


def test_dvc_that_cannot_write_is_a_storage_error(paths, monkeypatch):
    def full(*_, **__):
        return subprocess.CompletedProcess(
            [], 255, stdout="Running stage 'x'\nERROR: unexpected error - [Errno 28] No space left on device\n"
        )

    monkeypatch.setattr(subprocess, "run", full)
    with pytest.raises(
        StorageError, match=r"^dvc repro did not finish: unexpected error - \[Errno 28\] No space left on device$"
    ):
        bring_up_to_date(paths, "world")


def hub(monkeypatch, rows):
    import datasets

    asked = []

    def load(*arguments, **options):
        asked.append((arguments, options))
        if isinstance(rows, Exception):
            raise rows
        return iter(rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_the_hub_is_streamed(paths, no_dvc, monkeypatch):
    asked = hub(monkeypatch, [{"question": "q", "answer": "#### 7"}])
    report = import_file(paths, format="hub", file="openai/gsm8k:main:test", name="mine")
    assert asked == [(("openai/gsm8k", "main"), {"split": "test", "streaming": True})]
    assert lines(report.path)[0]["answer"] == "7"


def test_a_hub_out_of_reach_is_told(paths, no_dvc, monkeypatch):
    hub(monkeypatch, ConnectionError("Couldn't reach 'a/b' on the Hub\nmore"))
    with pytest.raises(RequestError) as caught:
        import_file(paths, format="hub", file="a/b", name="mine")
    assert str(caught.value).startswith(
        "a/b cannot be read from the Hugging Face hub: Couldn't reach 'a/b' on the Hub. Check the name"
    )
    assert not (paths.data / "mine").exists()


def test_stages_report_on_stderr(paths, capsys):
    assert main(["spilt", "x"]) == 2
    assert capsys.readouterr().err == "'spilt x' is no data stage: say world, or split <name>\n"
    assert main(["split", "nothing"]) == 2
    assert "Import the data (make import) or fetch it (dvc pull)" in capsys.readouterr().err


def test_a_broken_record_is_told_by_line(paths, tmp_path):
    (tmp_path / "r.jsonl").write_text('{"kind":"text","id":"a","text":"t"}\n{"kind":"text","id":"b"}\n')
    with pytest.raises(DataError, match=r"r\.jsonl line 2: text: field required\. Correct or drop the line, or import again"):
        list(read_records(tmp_path / "r.jsonl"))


def test_a_split_that_fails_leaves_the_earlier_files(paths, no_dvc, monkeypatch):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    split_dataset(paths, "mine")
    before = state(paths.data / "mine")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError):
        split_dataset(paths, "mine")
    assert state(paths.data / "mine") == before


@pytest.mark.parametrize("text", ["a: [", "- a\n", "a: \xe9"])
def test_params_that_are_not_yaml_are_told(paths, text):
    (paths.root / "params.yaml").write_bytes(text.encode("latin1"))
    with pytest.raises(RequestError, match=r"^params\.yaml "):
        make_world(paths)


MODULES = """
import sys
from pathlib import Path
from tasks.data.__main__ import main
code = main(sys.argv[1:])
here = Path.cwd()
files = {Path(module.__file__) for module in sys.modules.values() if getattr(module, "__file__", None)}
print(*sorted(str(file.relative_to(here)) for file in files if file.is_relative_to(here)))
print("heavy:", *{"torch", "transformers", "datasets", "mlflow", "prefect"} & sys.modules.keys())
sys.exit(code)
"""


def imported(paths, *arguments):
    done = subprocess.run([sys.executable, "-c", MODULES, *arguments], cwd=paths.root, check=True, capture_output=True, text=True)
    files, heavy = done.stdout.splitlines()
    assert heavy == "heavy:"
    return {file for file in files.split() if not file.endswith("__init__.py")}


def test_every_module_that_a_stage_imports_is_a_dependency_of_it(paths, no_dvc):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert imported(paths, "world") == set(stages["world"]["deps"]) == set(code_of(paths.root, make_world))
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    assert imported(paths, "split", "mine") == set(split_code(paths))
    stage = yaml.safe_load((paths.data / "mine" / "dvc.yaml").read_text())["stages"]["split"]
    assert stage["deps"] == ["data/mine/records.jsonl", *split_code(paths)]


def test_every_line_written_is_a_record(paths, no_dvc):
    rows = [{"prompt": f"{word} it is", "chosen": "x", "rejected": "y"} for word in ("red", "green", "blue")]
    importing_of(paths, json.dumps(rows))
    split_dataset(paths, "mine")
    for path in (paths.data / "mine").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            ANY_RECORD.validate_json(line)


def test_dvc_is_told_whether_there_is_git(paths, monkeypatch):
    calls = []
    monkeypatch.setattr(versions, "run_dvc", lambda _, *arguments: calls.append(arguments))
    config = paths.root / ".dvc" / "config"
    versions.ensure_repository(paths)
    assert calls == []
    config.write_text(versions.CONFIG)  # a download of the repository, without its .git
    versions.ensure_repository(paths)
    assert calls == [("config", "--local", "core.no_scm", "true")]
    config.with_name("config.local").write_text("[core]\n    no_scm = true\n")
    versions.ensure_repository(paths)
    assert len(calls) == 1
    (paths.root / ".git").mkdir()
    versions.ensure_repository(paths)
    assert calls[1:] == [("config", "--local", "--unset", "core.no_scm")]
