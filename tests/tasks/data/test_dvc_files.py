"""A damaged file of DVC's is told in one sentence, and the command that this names sets it right."""

import shutil
import subprocess

import pytest
import yaml

from posttrain.errors import DataError
from tasks.data import dvc as versions
from tasks.data.dvc import bring_up_to_date
from tasks.data.dvc_files import check_files, read_lock
from tasks.data.dvc_memory import md5_of
from tasks.data.importing import import_file
from tests.tasks.datasets import dvc, gsm8k, lines, state
from tests.tasks.dvc_stub import stub

DAMAGES = {
    "cut": lambda content: content[: len(content) // 2].rstrip(b"\n") + b": [",
    "empty": lambda _: b"",
    "garbage": lambda _: bytes(range(256)),
    "list": lambda _: b"- a\n- b\n",
    "word": lambda _: b"hello\n",
    "nothing in it": lambda _: b"schema: '2.0'\nstages:\nouts:\n",
    "deep": lambda _: b"[" * 5_000,
}


@pytest.fixture
def quick(paths, monkeypatch):
    monkeypatch.setattr(versions, "run_dvc", stub)
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    bring_up_to_date(paths, "mine")
    return paths


def refused(paths, name="mine"):
    """Return the refusal, which is one line that names no folder of this machine."""
    with pytest.raises(DataError) as caught:
        bring_up_to_date(paths, name)
    said = str(caught.value)
    assert "\n" not in said and str(paths.root) not in said and len(said) < 900
    return said


def follow(paths, said, *, again):
    """Do what the refusal says."""
    command = said.rpartition(": ")[2]
    first, _, second = command.partition(" && ")
    assert second == again
    subprocess.run(first, shell=True, check=True, cwd=paths.root)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["dvc.lock", "dvc.yaml", "records.jsonl.dvc"])
def test_the_command_sets_a_damaged_file_right(quick, file, damage):
    path = quick.data / "mine" / file
    whole, version = state(quick.data / "mine"), bring_up_to_date(quick, "mine")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    said = refused(quick)
    assert said.startswith(f"data/mine/{file} is not what DVC writes (")
    assert "ost " in said or "No data are lost" in said
    follow(quick, said, again="make data DATA=mine")
    again = bring_up_to_date(quick, "mine")
    assert (again.md5, again.files) == (version.md5, version.files)
    found = state(quick.data / "mine")
    assert found.pop(f"{file}.damaged") is not None
    assert found == whole
    assert bring_up_to_date(quick, "mine").notes == ()


def test_a_lock_of_a_newer_dvc_is_told(quick):
    path = quick.data / "mine" / "dvc.lock"
    path.write_text(path.read_text().replace("schema: '2.0'", "schema: '3.0'"))
    said = refused(quick)
    assert said.startswith(
        "data/mine/dvc.lock is not what DVC writes (it is of schema 3.0, and the DVC installed here reads 2.0). "
        "Lost is the note of which version of data/mine lies here; the files themselves are not"
    )
    follow(quick, said, again="make data DATA=mine")
    bring_up_to_date(quick, "mine")


def test_a_hand_edit_outlives_a_damaged_lock(quick):
    folder = quick.data / "mine"
    edited = folder / "demonstrations.jsonl"
    edited.write_text(edited.read_text().replace("So 1.", "Hence 1."))
    (folder / "dvc.lock").write_text("")
    follow(quick, refused(quick), again="make data DATA=mine")
    (note,) = bring_up_to_date(quick, "mine").notes
    copy = note.rpartition("your edit is ")[2]
    assert "Hence 1." in (quick.root / copy).read_text()


def test_a_lock_cut_anywhere_is_told_or_made_good_and_dvc_would_read_what_we_read(quick):
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    path = quick.data / "mine" / "dvc.lock"
    content, version, told = path.read_bytes(), bring_up_to_date(quick, "mine"), 0
    for cut in range(1, len(content) - 1, 41):
        path.write_bytes(content[:cut])
        try:
            read_lock(quick, path, "split")
        except DataError:
            told += 1
            continue
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(content[:cut]))
        again = bring_up_to_date(quick, "mine")
        assert (again.files, again.notes) == (version.files, ())
    assert told > 10


def test_a_stage_cut_anywhere_is_told_or_whole(quick):
    folder = quick.data / "mine"
    path, content, version = folder / "dvc.yaml", (folder / "dvc.yaml").read_bytes(), bring_up_to_date(quick, "mine")
    for cut in range(1, len(content), 7):
        path.write_bytes(content[:cut])
        try:
            again = bring_up_to_date(quick, "mine")
        except DataError as error:
            assert str(error).startswith("data/mine/dvc.yaml is not what DVC writes (")
        else:
            assert again == version
        (folder / "dvc.lock.damaged").unlink(missing_ok=True)


def test_a_damaged_file_of_another_dataset_is_named_before_dvc_stumbles_over_it(quick):
    import_file(quick, format="gsm8k", file=gsm8k(quick), name="other")
    (quick.data / "other" / "records.jsonl.dvc").write_text("outs: [")
    with pytest.raises(DataError, match=r"^data/other/records\.jsonl\.dvc is not what DVC writes "):
        check_files(quick)
    (quick.root / "params.yaml").write_text("split: {seed: 1}\n")
    assert refused(quick).startswith("data/other/records.jsonl.dvc is not what DVC writes ")
    import_file(quick, format="gsm8k", file=gsm8k(quick), name="third")  # an import needs none of them


def test_the_worlds_own_files_are_told_too(paths):
    (paths.root / "dvc.lock").write_text("")
    said = refused(paths, "world")
    assert said.startswith(
        "dvc.lock is not what DVC writes (it is empty). Lost is the note of which version of data/world lies here"
    )
    follow(paths, said, again="make data")
    assert bring_up_to_date(paths, "world").notes == ()
    whole = (paths.root / "dvc.yaml").read_text()
    (paths.root / "dvc.yaml").write_text(whole[: whole.index("    outs:")])
    assert refused(paths, "world") == (
        "dvc.yaml is not what DVC writes (its stage world has no list of outs). No data are lost: it only says how data/world is "
        "made. Take it from the repository again: git checkout dvc.yaml"
    )


@pytest.mark.slow
def test_with_the_real_dvc_the_commands_work_as_well(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    version = bring_up_to_date(paths, "mine")
    for file in ("dvc.lock", "dvc.yaml", "records.jsonl.dvc"):
        (paths.data / "mine" / file).write_text("")
        follow(paths, refused(paths), again="make data DATA=mine")
    again = bring_up_to_date(paths, "mine")
    assert again.files == version.files
    md5 = md5_of(again.folder / "records.jsonl")
    assert again.notes == (f"data/mine/records.jsonl had no .dvc file; it is now version {md5[:8]} of it",)
    assert "up to date" in dvc(paths, "status", "data/mine/dvc.yaml").stdout


@pytest.mark.slow
def test_without_a_cache_data_are_made_again_and_lost_records_are_told(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    version = bring_up_to_date(paths, "mine")
    shutil.rmtree(paths.root / ".dvc" / "cache")
    (version.folder / "held_out.jsonl").unlink()
    assert bring_up_to_date(paths, "mine") == version  # what can be made is made
    shutil.rmtree(paths.root / ".dvc" / "cache")
    (version.folder / "records.jsonl").unlink()
    said = refused(paths)
    assert said.startswith(
        "data/mine/records.jsonl is not here in the version that data/mine/records.jsonl.dvc names, and neither DVC's cache nor "
        "its remote has it. Lost are these records; what was split from them is as it was. "
        "Run dvc push where the records are and dvc pull here, or import the data again: make import FORMAT=… FILE=… NAME=mine."
    )
    import_file(paths, format="gsm8k", file="g.jsonl", name="mine")
    assert bring_up_to_date(paths, "mine") == version


@pytest.mark.slow
def test_records_edited_by_hand_become_the_version_and_records_that_git_moved_follow(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    first = bring_up_to_date(paths, "mine")
    notes = {name: (first.folder / name).read_bytes() for name in ("records.jsonl.dvc", "dvc.lock")}
    records = first.folder / "records.jsonl"
    records.write_text(records.read_text().replace("So 1.", "Hence 1."))
    second = bring_up_to_date(paths, "mine")
    assert second.notes == (f"data/mine/records.jsonl was edited by hand; the edit is now version {md5_of(records)[:8]} of it",)
    assert second.md5 != first.md5 and bring_up_to_date(paths, "mine").notes == ()
    for name, content in notes.items():  # what `git checkout` of the first commit does
        (first.folder / name).write_bytes(content)
    assert bring_up_to_date(paths, "mine") == first
    assert lines(records)[1]["completion"].startswith("So 1.")
