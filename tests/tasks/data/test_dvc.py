"""Versions of datasets, with a real DVC in a folder of its own."""

import shutil
import subprocess
import sys

import pytest

from posttrain.errors import DataError, RequestError
from tasks.data import dvc as versions
from tasks.data.dvc import bring_up_to_date, datasets_of
from tasks.data.dvc_memory import md5_of
from tasks.data.importing import import_file
from tests.tasks.datasets import dvc, gsm8k, lines


def test_an_import_is_split_versioned_and_made_once(paths, monkeypatch):
    report = import_file(paths, format="gsm8k", file=gsm8k(paths), name="gsm")
    assert (report.name, report.path, report.kinds) == ("gsm", paths.data / "gsm" / "records.jsonl", {"demonstration": 20})
    assert report.seconds > 0
    assert not (paths.data / "gsm" / ".incoming").exists()

    version = bring_up_to_date(paths, "gsm")
    assert (version.name, version.folder, version.notes) == ("gsm", paths.data / "gsm", ())
    assert set(version.files) == {"corpus", "demonstrations", "questions", "held_out"}
    for role, md5 in version.files.items():
        assert md5_of(paths.data / "gsm" / f"{role}.jsonl") == md5
    held_out = {row["id"] for row in lines(version.folder / "held_out.jsonl")}
    assert len(held_out) == 2
    for role in ("demonstrations", "questions", "corpus"):
        seen = {row["id"] for row in lines(version.folder / f"{role}.jsonl")}
        assert len(seen) == 18 and not seen & held_out

    def refuse(*_):
        raise AssertionError("DVC was started although nothing had changed")

    monkeypatch.setattr(versions, "run_dvc", refuse)
    assert bring_up_to_date(paths, "gsm") == version
    assert datasets_of(paths) == ["world", "gsm"]


def test_what_changes_the_data_changes_the_version(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="gsm")
    first = bring_up_to_date(paths, "gsm")
    (paths.root / "params.yaml").write_text("world: {seed: 0}\nsplit: {seed: 0, held_out: 0.5}\n")
    second = bring_up_to_date(paths, "gsm")
    assert len(lines(second.folder / "held_out.jsonl")) == 10
    assert second.md5 != first.md5 and second.notes == ()
    (paths.root / "params.yaml").write_text("split: {seed: 0}\n")
    assert bring_up_to_date(paths, "gsm") == first


def test_a_hand_edit_is_kept_as_a_version_and_copied_before_it_would_be_lost(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="gsm")
    first = bring_up_to_date(paths, "gsm")
    edited = first.folder / "demonstrations.jsonl"
    text = edited.read_text().replace("So 1.", "Hence 1.")
    edited.write_text(text)

    second = bring_up_to_date(paths, "gsm")
    md5 = md5_of(edited)
    assert second.notes == (f"data/gsm/demonstrations.jsonl was edited by hand; the edit is now version {md5[:8]} of it",)
    assert second.files == first.files | {"demonstrations": md5}
    assert edited.read_text() == text
    assert bring_up_to_date(paths, "gsm").notes == ()

    (paths.root / "params.yaml").write_text("split: {seed: 1}\n")
    third = bring_up_to_date(paths, "gsm")
    copy = first.folder / f"demonstrations.jsonl.edited-{md5[:8]}"
    assert third.notes == (
        "data/gsm/demonstrations.jsonl was edited by hand, but what it is made from changed too: it was made anew, "
        f"your edit is {copy.relative_to(paths.root)}",
    )
    assert copy.read_text() == text
    assert "Hence" not in edited.read_text()
    assert bring_up_to_date(paths, "gsm").notes == ()


def test_files_follow_a_lock_that_git_moved_and_an_edit_back_is_an_edit(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="gsm")
    first = bring_up_to_date(paths, "gsm")
    lock, file = first.folder / "dvc.lock", first.folder / "demonstrations.jsonl"
    old_lock, old_text = lock.read_text(), file.read_text()
    file.write_text(old_text.replace("So 1.", "Hence 1."))
    second = bring_up_to_date(paths, "gsm")

    lock.write_text(old_lock)  # what `git checkout` of the first commit does: the lock goes back, the ignored data stay
    assert bring_up_to_date(paths, "gsm") == first
    assert file.read_text() == old_text

    file.write_text(old_text.replace("So 1.", "Hence 1."))
    bring_up_to_date(paths, "gsm")
    file.write_text(old_text)  # the user takes the edit back, though DVC's cache knows these bytes
    third = bring_up_to_date(paths, "gsm")
    assert (third.files, file.read_text()) == (first.files, old_text)
    assert second.files != first.files
    assert "was edited by hand" in third.notes[0]


def test_a_deleted_output_comes_back(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="gsm")
    first = bring_up_to_date(paths, "gsm")
    before = (first.folder / "questions.jsonl").read_bytes()
    (first.folder / "questions.jsonl").unlink()
    assert bring_up_to_date(paths, "gsm") == first
    assert (first.folder / "questions.jsonl").read_bytes() == before


def test_an_unfinished_run_is_repeated_and_its_remains_are_no_hand_edit(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="gsm")
    first = bring_up_to_date(paths, "gsm")
    memory = versions.Memory.load(paths)
    memory.making = ["gsm"]
    memory.save()
    (first.folder / "questions.jsonl").write_text("half a li")
    assert bring_up_to_date(paths, "gsm") == first


@pytest.mark.slow
def test_push_pull_and_checkout_of_an_older_version(paths):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=paths.root, check=True, capture_output=True
        )

    (paths.root / "dvc.yaml").unlink()  # else dvc pull asks the remote for the world, which nobody made here
    shutil.rmtree(paths.root / ".dvc")
    git("init", "-q")
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="gsm")
    first = bring_up_to_date(paths, "gsm")
    assert "/records.jsonl" in (first.folder / ".gitignore").read_text()
    git("add", ".")
    git("commit", "-qm", "first")
    dvc(paths, "push")
    import_file(paths, format="gsm8k", file=gsm8k(paths, start=100), name="gsm")
    second = bring_up_to_date(paths, "gsm")
    assert second.md5 != first.md5
    git("commit", "-qam", "second")
    assert (paths.root / ".dvc-remote").is_dir()

    shutil.rmtree(paths.root / ".dvc" / "cache")  # only the remote is left
    git("checkout", "-q", "HEAD~1")
    dvc(paths, "pull", "--force")  # forced: what lies there is in no cache any more
    assert bring_up_to_date(paths, "gsm") == first

    shutil.rmtree(first.folder)
    git("checkout", "-q", "--", "data")
    shutil.rmtree(paths.root / ".dvc" / "cache")
    assert bring_up_to_date(paths, "gsm") == first  # a fresh clone fetches by itself


def test_two_pipelines_at_once_both_get_the_version(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="gsm")
    code = "from pathlib import Path; from tasks.data.dvc import *; print(bring_up_to_date(Paths(Path.cwd()), 'gsm').md5)"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert said[0] == said[1] != ""


def test_the_world_is_made_from_its_section_of_params(paths):
    shutil.rmtree(paths.root / ".dvc")
    version = bring_up_to_date(paths, "world")
    assert (paths.root / ".dvc" / "config").read_text() == versions.CONFIG + "    no_scm = true\n"
    assert set(version.files) == {"corpus", "demonstrations", "questions", "held_out"}
    assert [row["prompt"] for row in lines(version.folder / "questions.jsonl")] == ["q0"] * 3
    (paths.root / "params.yaml").write_text("world: {seed: 5, questions: 3}\n")
    assert bring_up_to_date(paths, "world").md5 != version.md5
    assert lines(version.folder / "questions.jsonl")[0]["prompt"] == "q5"


def test_a_failing_stage_says_why_without_a_traceback(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="one")
    (paths.root / "params.yaml").write_text("split: {max_held_out: 1, near_duplicate: 0.01}\n")
    records = paths.data / "one" / "records.jsonl"
    records.write_text(records.read_text().partition("\n")[0] + "\n")
    with pytest.raises(DataError) as caught:
        bring_up_to_date(paths, "one")
    assert str(caught.value).startswith(
        "dvc repro did not finish: nothing can be held out: the dataset's 1 records with a prompt"
    )
    assert "Traceback" not in str(caught.value)


def test_an_unknown_dataset_lists_those_there_are(paths):
    with pytest.raises(RequestError) as caught:
        bring_up_to_date(paths, "wrld")
    assert str(caught.value) == (
        "there is no dataset wrld; did you mean world?; datasets are world. "
        "Bring one in: make import FORMAT=<format> FILE=<file> NAME=wrld"
    )


def test_a_params_file_without_the_section_is_told(paths):
    (paths.root / "params.yaml").write_text("split: {seed: 0}\n")
    with pytest.raises(RequestError) as caught:
        bring_up_to_date(paths, "world")
    assert str(caught.value) == (
        "params.yaml has no section world, from which DVC sees whether data must be made anew. "
        "Add it, with one setting at least: world: {seed: 0}"
    )
