"""Importing, splitting and versioning, with a real DVC in a folder of its own."""

import errno
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from posttrain.errors import DataError, RequestError, StorageError
from posttrain.records import ANY_RECORD
from tasks import data, importing
from tasks import dvc as versions
from tasks.data import make_world, read_records, split_dataset
from tasks.dvc import bring_up_to_date, datasets_of
from tasks.importing import SPLIT_MODULES, import_file
from tasks.places import Places

ROOT = Path(__file__).resolve().parents[2]

WORLD = """
from posttrain.records import Question, Text
def generate(settings):
    for number in range(settings.questions):
        yield "questions", Question(id=str(number), prompt=f"q{settings.seed}", answers=("1",))
    yield "corpus", Text(id="0", text="t")
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A project without git: the code a stage imports, settings, and a stub of the world."""
    for room in ("posttrain", "tasks"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "posttrain" / "world.py").write_text(WORLD)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text("world: {seed: 0, questions: 3}\nsplit: {seed: 0}\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(versions.CONFIG + "    no_scm = true\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Places(tmp_path)


def gsm8k(places, count=20, *, file="g.jsonl", start=0):
    rows = [
        {"question": " ".join(f"w{number}x{word}" for word in range(6)), "answer": f"So {number}.\n#### {number}"}
        for number in range(start, start + count)
    ]
    (places.root / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def state(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def dvc(places, *arguments):
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=places.root, check=True, capture_output=True, text=True)


@pytest.fixture
def no_dvc(monkeypatch):
    """Leave DVC out where only the files matter."""
    monkeypatch.setattr(versions, "_dvc", lambda *_: "")


def importing_of(places, text, *, form="trl", mode="w"):
    path = places.root / "in.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_file(places, format=form, file="in.jsonl", name="mine")


def test_an_import_is_split_versioned_and_made_once(places, monkeypatch):
    report = import_file(places, format="gsm8k", file=gsm8k(places), name="gsm")
    assert (report.name, report.path, report.kinds) == ("gsm", places.data / "gsm" / "records.jsonl", {"demonstration": 20})
    assert report.seconds > 0
    assert not (places.data / "gsm" / ".incoming").exists()

    version = bring_up_to_date(places, "gsm")
    assert (version.name, version.folder, version.notes) == ("gsm", places.data / "gsm", ())
    assert set(version.files) == {"corpus", "demonstrations", "questions", "held_out"}
    for role, md5 in version.files.items():
        assert versions._md5(places.data / "gsm" / f"{role}.jsonl") == md5
    held_out = {row["id"] for row in lines(version.folder / "held_out.jsonl")}
    assert len(held_out) == 2
    for role in ("demonstrations", "questions", "corpus"):
        seen = {row["id"] for row in lines(version.folder / f"{role}.jsonl")}
        assert len(seen) == 18 and not seen & held_out

    def refuse(*_):
        raise AssertionError("DVC was started although nothing had changed")

    monkeypatch.setattr(versions, "_dvc", refuse)
    assert bring_up_to_date(places, "gsm") == version
    assert datasets_of(places) == ["world", "gsm"]


def test_what_changes_the_data_changes_the_version(places):
    import_file(places, format="gsm8k", file=gsm8k(places), name="gsm")
    first = bring_up_to_date(places, "gsm")
    (places.root / "params.yaml").write_text("world: {seed: 0}\nsplit: {seed: 0, held_out: 0.5}\n")
    second = bring_up_to_date(places, "gsm")
    assert len(lines(second.folder / "held_out.jsonl")) == 10
    assert second.md5 != first.md5 and second.notes == ()
    (places.root / "params.yaml").write_text("split: {seed: 0}\n")
    assert bring_up_to_date(places, "gsm") == first


def test_a_hand_edit_is_kept_as_a_version_and_copied_before_it_would_be_lost(places):
    import_file(places, format="gsm8k", file=gsm8k(places), name="gsm")
    first = bring_up_to_date(places, "gsm")
    edited = first.folder / "demonstrations.jsonl"
    text = edited.read_text().replace("So 1.", "Hence 1.")
    edited.write_text(text)

    second = bring_up_to_date(places, "gsm")
    md5 = versions._md5(edited)
    assert second.notes == (f"data/gsm/demonstrations.jsonl was edited by hand; the edit is now version {md5[:8]} of it",)
    assert second.files == first.files | {"demonstrations": md5}
    assert edited.read_text() == text
    assert bring_up_to_date(places, "gsm").notes == ()

    (places.root / "params.yaml").write_text("split: {seed: 1}\n")
    third = bring_up_to_date(places, "gsm")
    copy = first.folder / f"demonstrations.jsonl.edited-{md5[:8]}"
    assert third.notes == (
        "data/gsm/demonstrations.jsonl was edited by hand, but what it is made from changed too: it was made anew, "
        f"your edit is {copy.relative_to(places.root)}",
    )
    assert copy.read_text() == text
    assert "Hence" not in edited.read_text()
    assert bring_up_to_date(places, "gsm").notes == ()


def test_a_deleted_output_comes_back(places):
    import_file(places, format="gsm8k", file=gsm8k(places), name="gsm")
    first = bring_up_to_date(places, "gsm")
    before = (first.folder / "questions.jsonl").read_bytes()
    (first.folder / "questions.jsonl").unlink()
    assert bring_up_to_date(places, "gsm") == first
    assert (first.folder / "questions.jsonl").read_bytes() == before


def test_an_unfinished_run_is_repeated_and_its_remains_are_no_hand_edit(places):
    import_file(places, format="gsm8k", file=gsm8k(places), name="gsm")
    first = bring_up_to_date(places, "gsm")
    memory = versions._Memory.load(places)
    memory.making = ["gsm"]
    memory.save()
    (first.folder / "questions.jsonl").write_text("half a li")
    assert bring_up_to_date(places, "gsm") == first


@pytest.mark.slow
def test_push_pull_and_checkout_of_an_older_version(places):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=places.root, check=True, capture_output=True
        )

    (places.root / "dvc.yaml").unlink()  # else dvc pull asks the remote for the world, which nobody made here
    shutil.rmtree(places.root / ".dvc")
    git("init", "-q")
    import_file(places, format="gsm8k", file=gsm8k(places), name="gsm")
    first = bring_up_to_date(places, "gsm")
    assert "/records.jsonl" in (first.folder / ".gitignore").read_text()
    git("add", ".")
    git("commit", "-qm", "first")
    dvc(places, "push")
    import_file(places, format="gsm8k", file=gsm8k(places, start=100), name="gsm")
    second = bring_up_to_date(places, "gsm")
    assert second.md5 != first.md5
    git("commit", "-qam", "second")
    assert (places.root / ".dvc-remote").is_dir()

    shutil.rmtree(places.root / ".dvc" / "cache")  # only the remote is left
    git("checkout", "-q", "HEAD~1")
    dvc(places, "pull", "--force")  # forced: what lies there is in no cache any more
    assert bring_up_to_date(places, "gsm") == first

    shutil.rmtree(first.folder)
    git("checkout", "-q", "--", "data")
    shutil.rmtree(places.root / ".dvc" / "cache")
    assert bring_up_to_date(places, "gsm") == first  # a fresh clone fetches by itself


def test_two_pipelines_at_once_both_get_the_version(places):
    import_file(places, format="gsm8k", file=gsm8k(places), name="gsm")
    code = "from pathlib import Path; from tasks.dvc import *; print(bring_up_to_date(Places(Path.cwd()), 'gsm').md5)"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert said[0] == said[1] != ""


def test_the_world_is_made_from_its_section_of_params(places):
    shutil.rmtree(places.root / ".dvc")
    version = bring_up_to_date(places, "world")
    assert (places.root / ".dvc" / "config").read_text() == versions.CONFIG + "    no_scm = true\n"
    assert set(version.files) == {"corpus", "demonstrations", "questions", "held_out"}
    assert [row["prompt"] for row in lines(version.folder / "questions.jsonl")] == ["q0"] * 3
    (places.root / "params.yaml").write_text("world: {seed: 5, questions: 3}\n")
    assert bring_up_to_date(places, "world").md5 != version.md5
    assert lines(version.folder / "questions.jsonl")[0]["prompt"] == "q5"


def test_a_failing_stage_says_why_without_a_traceback(places):
    import_file(places, format="gsm8k", file=gsm8k(places, count=1), name="one")
    with pytest.raises(DataError) as caught:
        bring_up_to_date(places, "one")
    assert str(caught.value).startswith(
        "dvc repro did not finish: nothing can be held out: the dataset's 1 records with a prompt"
    )
    assert "Traceback" not in str(caught.value)


def test_an_unknown_dataset_lists_those_there_are(places):
    with pytest.raises(RequestError) as caught:
        bring_up_to_date(places, "wrld")
    assert str(caught.value) == (
        "there is no dataset wrld; did you mean world?; datasets are world. "
        "Bring one in: make import FORMAT=<format> FILE=<file> NAME=wrld"
    )


def test_a_params_file_without_the_section_is_told(places):
    (places.root / "params.yaml").write_text("split: {seed: 0}\n")
    with pytest.raises(RequestError) as caught:
        bring_up_to_date(places, "world")
    assert str(caught.value) == (
        "params.yaml has no section world, from which DVC sees whether data must be made anew. "
        "Add it, with one setting at least: world: {seed: 0}"
    )


def test_a_damaged_lock_is_told(places):
    (places.root / "dvc.lock").write_text("a: [")
    with pytest.raises(DataError, match=r"dvc\.lock is not what DVC writes .*Restore it: git checkout"):
        bring_up_to_date(places, "world")


def test_an_import_replaces_an_earlier_one_and_its_roles(places):
    import_file(places, format="gsm8k", file=gsm8k(places), name="mine")
    bring_up_to_date(places, "mine")
    rows = [{"prompt": f"{word} it is", "chosen": "x", "rejected": "y"} for word in ("red", "green", "blue")]
    importing_of(places, json.dumps(rows))
    version = bring_up_to_date(places, "mine")
    assert set(version.files) == {"corpus", "demonstrations", "questions", "preferences", "held_out", "held_out_preferences"}
    import_file(places, format="gsm8k", file=gsm8k(places), name="mine")
    assert not (version.folder / "preferences.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "in.jsonl has no rows. Check that it is the file you meant and was written to its end"),
        (b" \n\n", "in.jsonl has no rows. Check that it is the file you meant and was written to its end"),
        (b"[]", "in.jsonl has no rows. Check that it is the file you meant and was written to its end"),
        (
            b'{"text": "a"}\n{"text": "b"\n',
            "in.jsonl line 2: broken JSON at column 12 (EOF while parsing an object). "
            "Each line must be one whole JSON object; correct or drop the line, then import again",
        ),
        (
            b'[{"text": "a"},\n {"text" "b"}]',
            "in.jsonl line 2: broken JSON at column 10 (expected `:`). A file that starts with [ must be one JSON array",
        ),
        (
            b'{"text": "a"}\n{"text": "caf\xe9"}\n',
            "in.jsonl line 2: byte 27 of the file is 0xe9, which is not UTF-8. "
            "Save the file as UTF-8, for example: iconv -f ISO-8859-1 -t UTF-8",
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
            "in.jsonl line 3: prompt must be text or a list of messages, got 7. Correct or drop this line, then import again",
        ),
        (
            b'[{"text": "a"}, {"text": 7}]',
            "in.jsonl item [1]: text must be text, got 7. Correct or drop this item, then import again",
        ),
        (
            gzip.compress(b'{"text": "a"}\n' * 100, mtime=0)[:-9],
            "in.jsonl is a damaged gzip file (Compressed file ended before the end-of-stream marker was reached). "
            "Download or pack it again",
        ),
    ],
)
def test_a_broken_file_is_refused_and_nothing_is_left(places, no_dvc, content, message):
    with pytest.raises(DataError) as caught:
        importing_of(places, content)
    assert str(caught.value) == message
    assert not (places.data / "mine").exists()


@pytest.mark.parametrize(
    "content",
    [
        b'{"text": "a"}\n\n{"text": "b"}',
        b'\xef\xbb\xbf{"text": "a"}\n{"text": "b"}\n',
        b' [{"text": "a"}, {"text": "b"}]',
        b'\xef\xbb\xbf[{"text": "a"}, {"text": "b"}]',
        gzip.compress(b'{"text": "a"}\r\n{"text": "b"}\r\n'),
    ],
)
def test_lines_arrays_marks_and_gzip_are_read(places, no_dvc, content):
    importing_of(places, content)
    assert [row["text"] for row in lines(places.data / "mine" / "records.jsonl")] == ["a", "b"]


def test_an_array_too_large_to_hold_is_refused(places, no_dvc, monkeypatch):
    monkeypatch.setattr(importing, "LARGEST_ARRAY", 10)
    with pytest.raises(
        DataError, match=r"^in\.jsonl is a JSON array of more than 0 MB, which is read whole\. Write it as JSON lines"
    ):
        importing_of(places, '[{"text": "a"}]')


def test_a_file_that_is_not_there_and_a_folder(places):
    with pytest.raises(RequestError, match=r"^there is no file none\.jsonl\. Give its path from "):
        import_file(places, format="trl", file="none.jsonl", name="mine")
    with pytest.raises(RequestError, match=r"^tasks cannot be read: Is a directory"):
        import_file(places, format="trl", file="tasks", name="mine")


@pytest.mark.parametrize("name", ["world", "expectations", "../up", ".hidden", "a b", ""])
def test_names_that_cannot_be_used(places, name):
    with pytest.raises(RequestError):
        import_file(places, format="gsm8k", file=gsm8k(places), name=name)
    assert not places.data.exists()


def test_an_unknown_format_is_refused_first(places):
    with pytest.raises(RequestError, match="there is no format gsm8; did you mean gsm8k"):
        import_file(places, format="gsm8", file="none", name="mine")


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device", "data/mine/records.jsonl")


@pytest.mark.parametrize("step", ["fsync", "add_file", "retire"])
def test_a_full_disk_leaves_the_earlier_dataset(places, no_dvc, monkeypatch, step):
    import_file(places, format="gsm8k", file=gsm8k(places), name="mine")
    before = state(places.data / "mine")
    monkeypatch.setattr(
        *{"fsync": (os, "fsync"), "add_file": (importing, "add_file"), "retire": (importing, "retire")}[step], no_space
    )
    with pytest.raises(StorageError) as caught:
        importing_of(places, '{"text": "a"}')
    assert str(caught.value) == (
        "cannot write data/mine/records.jsonl: No space left on device. What was there before is unchanged; "
        "free some space or correct the permissions, then repeat the command"
    )
    assert state(places.data / "mine") == before
    assert not (places.data / "mine" / ".incoming").exists()


def test_a_killed_import_leaves_the_earlier_dataset(places, no_dvc, monkeypatch):
    import_file(places, format="gsm8k", file=gsm8k(places), name="mine")
    before = state(places.data / "mine")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "add_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        importing_of(places, '{"text": "a"}')
    assert state(places.data / "mine") == before


def test_dvc_that_cannot_write_is_a_storage_error(places, monkeypatch):
    def full(*_, **__):
        return subprocess.CompletedProcess(
            [], 255, stdout="Running stage 'x'\nERROR: unexpected error - [Errno 28] No space left on device\n"
        )

    monkeypatch.setattr(subprocess, "run", full)
    with pytest.raises(
        StorageError, match=r"^dvc repro did not finish: unexpected error - \[Errno 28\] No space left on device$"
    ):
        bring_up_to_date(places, "world")


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


def test_the_hub_is_streamed(places, no_dvc, monkeypatch):
    asked = hub(monkeypatch, [{"question": "q", "answer": "#### 7"}])
    report = import_file(places, format="hub", file="openai/gsm8k:main:test", name="mine")
    assert asked == [(("openai/gsm8k", "main"), {"split": "test", "streaming": True})]
    assert lines(report.path)[0]["answer"] == "7"


def test_a_hub_out_of_reach_is_told(places, no_dvc, monkeypatch):
    hub(monkeypatch, ConnectionError("Couldn't reach 'a/b' on the Hub\nmore"))
    with pytest.raises(RequestError) as caught:
        import_file(places, format="hub", file="a/b", name="mine")
    assert str(caught.value).startswith(
        "a/b cannot be read from the Hugging Face hub: Couldn't reach 'a/b' on the Hub. Check the name"
    )
    assert not (places.data / "mine").exists()


def test_stages_report_on_stderr(places, capsys):
    assert data.main(["spilt", "x"]) == 2
    assert capsys.readouterr().err == "'spilt x' is no data stage: say world, or split <name>\n"
    assert data.main(["split", "nothing"]) == 2
    assert "Import the data (make import) or fetch it (dvc pull)" in capsys.readouterr().err


def test_a_broken_record_is_told_by_line(places, tmp_path):
    (tmp_path / "r.jsonl").write_text('{"kind":"text","id":"a","text":"t"}\n{"kind":"text","id":"b"}\n')
    with pytest.raises(DataError, match=r"r\.jsonl line 2: text: field required\. Correct or drop the line, or import again"):
        list(read_records(tmp_path / "r.jsonl"))


def test_a_split_that_fails_leaves_the_earlier_files(places, no_dvc, monkeypatch):
    import_file(places, format="gsm8k", file=gsm8k(places), name="mine")
    split_dataset(places, "mine")
    before = state(places.data / "mine")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError):
        split_dataset(places, "mine")
    assert state(places.data / "mine") == before


@pytest.mark.parametrize("text", ["a: [", "- a\n", "a: \xe9"])
def test_params_that_are_not_yaml_are_told(places, text):
    (places.root / "params.yaml").write_bytes(text.encode("latin1"))
    with pytest.raises(RequestError, match=r"^params\.yaml "):
        make_world(places)


MODULES = """
import sys
from pathlib import Path
from tasks.data import main
code = main(sys.argv[1:])
here = Path.cwd()
files = {Path(module.__file__) for module in sys.modules.values() if getattr(module, "__file__", None)}
print(*sorted(str(file.relative_to(here)) for file in files if file.is_relative_to(here)))
print("heavy:", *{"torch", "transformers", "datasets", "mlflow", "prefect"} & sys.modules.keys())
sys.exit(code)
"""


def imported(places, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", MODULES, *arguments], cwd=places.root, check=True, capture_output=True, text=True
    )
    files, heavy = done.stdout.splitlines()
    assert heavy == "heavy:"
    return {file for file in files.split() if not file.endswith("__init__.py")}


def test_every_module_that_a_stage_imports_is_a_dependency_of_it(places, no_dvc):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert imported(places, "world") == set(stages["world"]["deps"])
    import_file(places, format="gsm8k", file=gsm8k(places), name="mine")
    assert imported(places, "split", "mine") == set(SPLIT_MODULES)
    stage = yaml.safe_load((places.data / "mine" / "dvc.yaml").read_text())["stages"]["split"]
    assert stage["deps"] == ["data/mine/records.jsonl", *SPLIT_MODULES]


def test_every_line_written_is_a_record(places, no_dvc):
    rows = [{"prompt": f"{word} it is", "chosen": "x", "rejected": "y"} for word in ("red", "green", "blue")]
    importing_of(places, json.dumps(rows))
    split_dataset(places, "mine")
    for path in (places.data / "mine").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            ANY_RECORD.validate_json(line)


def test_dvc_is_told_whether_there_is_git(places, monkeypatch):
    calls = []
    monkeypatch.setattr(versions, "_dvc", lambda _, *arguments: calls.append(arguments))
    config = places.root / ".dvc" / "config"
    versions._ensure_repository(places)
    assert calls == []
    config.write_text(versions.CONFIG)  # a download of the repository, without its .git
    versions._ensure_repository(places)
    assert calls == [("config", "--local", "core.no_scm", "true")]
    config.with_name("config.local").write_text("[core]\n    no_scm = true\n")
    versions._ensure_repository(places)
    assert len(calls) == 1
    (places.root / ".git").mkdir()
    versions._ensure_repository(places)
    assert calls[1:] == [("config", "--local", "--unset", "core.no_scm")]


def test_a_stale_role_that_was_edited_is_renamed_not_removed(places):
    folder = places.data / "mine"
    folder.mkdir(parents=True)
    for role in ("corpus", "ratings", "rankings"):
        (folder / f"{role}.jsonl").write_text(role)
    outs = [
        {"path": f"data/mine/{role}.jsonl", "md5": versions._md5(folder / f"{role}.jsonl")}
        for role in ("corpus", "ratings", "rankings")
    ]
    (folder / "dvc.lock").write_text(yaml.safe_dump({"stages": {"split": {"outs": outs}}}))
    (folder / "rankings.jsonl").write_text("edited")
    versions.retire(places, "mine", ("corpus",))
    assert sorted(path.name for path in folder.iterdir()) == ["corpus.jsonl", "dvc.lock", "rankings.jsonl.edited-683dc527"]
