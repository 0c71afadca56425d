"""What people said of a dataset: added as a whole or not at all, a version of it, and kept whatever becomes of the rest."""

import errno
import hashlib
import json
import shutil
import subprocess

import pytest

from posttrain.errors import DataError, RequestError, StorageError
from posttrain.feedback.labels import Label
from tasks.data import dvc as versions
from tasks.data.announced import mark_announced, unannounced
from tasks.data.dvc import bring_up_to_date
from tasks.data.dvc_memory import md5_of
from tasks.data.importing import import_file
from tasks.data.labels_file import add_labels, labels_file, labels_of_version, read_people
from tests.tasks.data.test_swap import FAR, Beginning, Failing
from tests.tasks.datasets import dvc, gsm8k, lines, state
from tests.tasks.dvc_stub import stub


def label(number, *, question="questions-1", prompt="Who?", **changes):
    told = {"id": f"people/{number}", "prompt": prompt, "question": question, "group": question, "first": "a", "second": "b"}
    told |= {"preference": 1.0, "annotator": "Ada", "source": "person", "at": "2026-03-31T09:15:00Z", "seconds": 2.5}
    return Label.model_validate(told | {"selection": "random"} | changes)


def asked(paths):
    """Return labels of the questions that the dataset has, one each."""
    rows = lines(paths.data / "mine" / "questions.jsonl")
    return [label(number, question=row["id"], prompt=row["prompt"]) for number, row in enumerate(rows)]


@pytest.fixture
def mine(paths, monkeypatch):
    """A dataset of demonstrations, under a DVC of milliseconds."""
    monkeypatch.setattr(versions, "run_dvc", stub)
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    bring_up_to_date(paths, "mine")
    return paths


def test_labels_are_added_once_and_make_a_version_that_is_announced(mine):
    before = bring_up_to_date(mine, "mine")
    mark_announced(mine, unannounced(mine))
    assert (before.labels, before.md5s) == ("", before.files) and read_people(mine, "mine") == []
    assert (
        before.md5 == hashlib.md5("".join(f"{role} {md5}\n" for role, md5 in sorted(before.files.items())).encode()).hexdigest()
    )

    first = [label(0), label(1, preference=0.5), label(1, preference=0.0)]  # two with one id: the first of them counts
    version = add_labels(mine, "mine", first)
    file = labels_file(mine, "mine")
    assert file == mine.data / "mine" / "labels.jsonl" and read_people(mine, "mine") == first[:2]
    assert version.labels == md5_of(file) and version.notes == () and version.files == before.files, (
        "no stage but labels' changes"
    )
    assert version.md5s == {**before.files, "labels": version.labels} and version.md5 != before.md5
    assert unannounced(mine) == {"mine": version.md5}, "the event dataset.updated is raised"
    assert "/labels.jsonl" in (mine.data / "mine" / ".gitignore").read_text().splitlines()
    assert json.loads(file.read_text().splitlines()[0])["seconds"] == 2.5 and "gold" not in file.read_text()

    assert add_labels(mine, "mine", first) == version == bring_up_to_date(mine, "mine")
    more = add_labels(mine, "mine", [label(1, preference=0.0), label(2)])
    assert read_people(mine, "mine") == [*first[:2], label(2)] and more.md5 != version.md5
    with pytest.raises(RequestError, match="there is no dataset minne; did you mean mine"):
        add_labels(mine, "minne", first)
    assert not (mine.data / "minne").exists()


def test_a_line_without_an_end_is_ended_before_lines_are_added(mine):
    add_labels(mine, "mine", [label(0)])
    file = labels_file(mine, "mine")
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    add_labels(mine, "mine", [label(1)])
    assert read_people(mine, "mine") == [label(0), label(1)]


def test_a_kill_at_any_step_loses_no_label_and_a_second_call_completes(mine, tmp_path_factory):
    add_labels(mine, "mine", [label(0)])
    old = state(mine.data / "mine")
    beginning = Beginning(mine, tmp_path_factory.mktemp("beginning"))

    def add(paths):
        add_labels(paths, "mine", [label(1), label(2)])

    new, found = beginning.whole(add), []
    for _ in beginning.kills(add, every=2):
        there = read_people(mine, "mine")
        assert there in ([label(0)], [label(0), label(1), label(2)]), "all of them or none"
        found.append(len(there))
        notes = bring_up_to_date(mine, "mine").notes
        assert kept(state(mine.data / "mine")) == kept(new if len(there) == 3 else old)
        assert not notes or "by adding labels that was cut off; it is now version" in notes[0]
        add(mine)
        assert kept(state(mine.data / "mine")) == kept(new)
    assert set(found) == {1, 3} and len(found) > 5


def kept(files):
    """Return the files of a dataset without what a kill may leave of one that is being written."""
    return {name: content for name, content in files.items() if not name.endswith((".new", ".part"))}


def test_a_disk_that_refuses_at_any_step_leaves_everything_as_it_was(mine):
    add_labels(mine, "mine", [label(0)])
    old = state(mine.data / "mine")

    def refuse():
        raise OSError(errno.ENOSPC, "No space left on device")

    refused = 0
    for at in range(1, FAR):
        with Failing(at, refuse) as failing:
            try:
                add_labels(mine, "mine", [label(1)])
            except StorageError as error:
                assert "No space left on device" in str(error) and "What was there before is unchanged" in str(error)
                refused += 1
            except OSError:  # of what stands in for DVC
                refused += 1
        if failing.count < at:
            break
        if read_people(mine, "mine") == [label(0)]:
            assert state(mine.data / "mine") == old
            continue
        # it could be done without that step
        assert read_people(mine, "mine") == [label(0), label(1)]
        shutil.rmtree(mine.data / "mine")
        (mine.data / "mine").mkdir()
        for name, content in old.items():
            (mine.data / "mine" / name).write_bytes(content)
    assert refused > 5
    assert read_people(mine, "mine") == [label(0), label(1)], "with room it goes through"


def test_labels_that_dvc_cannot_take_into_its_cache_are_none(mine, monkeypatch):
    add_labels(mine, "mine", [label(0)])
    old = state(mine.data / "mine")

    def full(paths, *arguments):
        if arguments[0] == "add":
            stub(paths, *arguments)  # it has written its note already
            raise StorageError("dvc add did not finish: No space left on device")
        return stub(paths, *arguments)

    monkeypatch.setattr(versions, "run_dvc", full)
    with pytest.raises(StorageError, match="No space left"):
        add_labels(mine, "mine", [label(1)])
    assert state(mine.data / "mine") == old
    monkeypatch.setattr(versions, "run_dvc", stub)
    add_labels(mine, "mine", [label(1)])
    assert read_people(mine, "mine") == [label(0), label(1)]


def test_first_labels_that_are_refused_leave_no_file(mine, monkeypatch):
    old = state(mine.data / "mine")

    def full(paths, *arguments):
        raise StorageError("dvc add did not finish: No space left on device")

    monkeypatch.setattr(versions, "run_dvc", full)
    with pytest.raises(StorageError):
        add_labels(mine, "mine", [label(0)])
    assert {name: text for name, text in state(mine.data / "mine").items() if name != ".gitignore"} == {
        name: text for name, text in old.items() if name != ".gitignore"
    }


def test_a_hand_edit_becomes_a_version_and_a_damaged_line_is_told_where_labels_are_read(mine):
    first = add_labels(mine, "mine", [label(0), label(1)])
    file = labels_file(mine, "mine")
    file.write_text(file.read_text().splitlines()[0] + "\n")
    second = bring_up_to_date(mine, "mine")
    (note,) = second.notes
    assert note == (
        "data/mine/labels.jsonl was changed, by hand or by adding labels that was cut off; it is now version "
        f"{md5_of(file)[:8]} of it"
    )
    assert second.md5 != first.md5 and bring_up_to_date(mine, "mine").notes == ()

    file.write_text(file.read_text() + '{"id": "people/7"}\n')
    assert bring_up_to_date(mine, "mine").files == first.files, "who does not read labels goes on"
    sentence = (
        "data/mine/labels.jsonl: 1 of 2 labels cannot be used, so none was taken:\n"
        "  line 2: there is no field prompt, which a label needs. Add it, or drop the line"
    )
    damaged = bring_up_to_date(mine, "mine")
    for read in (lambda: read_people(mine, "mine"), lambda: labels_of_version(mine, damaged)):
        with pytest.raises(DataError) as told:
            read()
        assert str(told.value) == sentence
    before = file.read_bytes()
    with pytest.raises(DataError, match="line 2: there is no field prompt"):
        add_labels(mine, "mine", [label(3)])
    assert file.read_bytes() == before


def test_a_line_of_one_prompt_twice_or_without_an_annotator_is_damage_too(mine):
    file = labels_file(mine, "mine")
    rows = [label(0), label(0), label(1, second="a"), label(2, annotator=" "), label(3, at="yesterday")]
    file.write_text("".join(one.model_dump_json(exclude_none=True) + "\n" for one in rows))
    with pytest.raises(DataError) as told:
        read_people(mine, "mine")
    assert [line.partition(". ")[0] for line in str(told.value).splitlines()[1:]] == [
        '  line 2: id "people/0" was there before, in line 1',
        "  line 3: first and second are the same text, so neither can be better",
        "  line 4: annotator is empty",
        '  line 5: at must be a time in UTC as ISO 8601 has it, got "yesterday"',
    ]
    file.write_text('{"seconds": -1, ' + label(4).model_dump_json(exclude={"seconds"}, exclude_none=True)[1:] + "\n")
    with pytest.raises(DataError, match="line 1: seconds: input should be greater than or equal to 0, got -1"):
        read_people(mine, "mine")


def test_an_import_keeps_labels_and_those_of_questions_that_are_gone_are_told_and_passed_over(mine):
    given = asked(mine)
    version = add_labels(mine, "mine", given)
    people = labels_of_version(mine, version)
    assert (list(people.labels), people.passed_over, people.digest) == (given, 0, version.labels)

    # the same rows again under other ids, but for half of them
    report = import_file(mine, format="gsm8k", file=gsm8k(mine, count=10, start=5), name="mine")
    again = bring_up_to_date(mine, "mine")
    assert read_people(mine, "mine") == given and again.labels == version.labels and again.files != version.files
    people = labels_of_version(mine, again)
    now = {row["prompt"]: row["id"] for row in lines(again.folder / "questions.jsonl")}
    assert {one.prompt: one.question for one in people.labels} == {
        one.prompt: now[one.prompt] for one in given if one.prompt in now
    }
    gone = len(given) - len(people.labels)
    assert people.passed_over == gone > 0 and people.labels, "some are left, and some are not"
    assert (
        f"{gone} of {len(given)} labels of people are of questions that data/mine does not ask any more: they stay in "
        "data/mine/labels.jsonl, and nothing is learnt from them"
    ) in report.notes

    import_file(mine, format="gsm8k", file=gsm8k(mine, start=100), name="mine")
    assert labels_of_version(mine, bring_up_to_date(mine, "mine")) is None, "none is left: as if nobody had labelled"
    assert not import_file(mine, format="gsm8k", file=gsm8k(mine), name="other").notes


@pytest.mark.parametrize("name", ["labelling", "judges", "expectations", "world"])
def test_a_folder_of_ours_is_no_datasets_name(mine, name):
    with pytest.raises(RequestError, match=f"so no dataset can be imported as {name}. Choose another name"):
        import_file(mine, format="gsm8k", file=gsm8k(mine), name=name)


def test_labels_that_came_since_are_not_those_of_a_version(mine):
    version = add_labels(mine, "mine", asked(mine)[:2])
    cached = mine.root / ".dvc" / "cache" / "files" / "md5" / version.labels[:2] / version.labels[2:]
    cached.parent.mkdir(parents=True)
    shutil.copy(labels_file(mine, "mine"), cached)
    add_labels(mine, "mine", asked(mine)[2:])
    assert len(labels_of_version(mine, version).labels) == 2
    cached.unlink()
    with pytest.raises(DataError, match=r"^data/mine/labels.jsonl is no more what it was when this began \(version "):
        labels_of_version(mine, version)


@pytest.mark.slow
def test_with_dvc_itself_labels_are_fetched_follow_git_and_are_told_where_they_are_lost(paths):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=paths.root, check=True, capture_output=True
        )

    (paths.root / "dvc.yaml").unlink()
    shutil.rmtree(paths.root / ".dvc")
    git("init", "-q")
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    file = labels_file(paths, "mine")
    first = add_labels(paths, "mine", [label(0)])
    git("add", ".")
    git("commit", "-qm", "first")
    tracked = subprocess.run(["git", "ls-files", "data"], cwd=paths.root, check=True, capture_output=True, text=True).stdout
    assert "data/mine/labels.jsonl.dvc" in tracked and "data/mine/labels.jsonl\n" not in tracked
    second = add_labels(paths, "mine", [label(1)])
    assert second.notes == () and len(read_people(paths, "mine")) == 2

    # git moves the note of the version, and the file follows it
    git("checkout", "-q", "--", "data")
    assert bring_up_to_date(paths, "mine") == first and read_people(paths, "mine") == [label(0)]

    # the file alone is gone: it comes back from the cache, and then from the remote
    file.unlink()
    with pytest.raises(DataError) as told:
        read_people(paths, "mine")
    assert (
        str(told.value) == "data/mine/labels.jsonl is not here, but data/mine/labels.jsonl.dvc is. Fetch it: make data DATA=mine"
    )
    assert bring_up_to_date(paths, "mine") == first and file.exists()
    dvc(paths, "push")
    file.unlink()
    shutil.rmtree(paths.root / ".dvc" / "cache")
    assert bring_up_to_date(paths, "mine") == first and file.exists()

    # and where it is nowhere, what to do is said
    file.unlink()
    shutil.rmtree(paths.root / ".dvc" / "cache")
    shutil.rmtree(paths.root / ".dvc-remote")
    with pytest.raises(DataError) as told:
        bring_up_to_date(paths, "mine")
    assert str(told.value).startswith(
        "data/mine/labels.jsonl is not here in the version that data/mine/labels.jsonl.dvc names, and neither DVC's cache nor "
        "its remote has it. Lost are these labels; the dataset itself is as it was. Run dvc push where the labels are and dvc "
        "pull here, or restore it from a backup (make restore), or go on without people's labels: mv data/mine/labels.jsonl.dvc "
        "data/mine/labels.jsonl.dvc.lost. DVC said: "
    )
    note = file.with_name("labels.jsonl.dvc")
    note.write_text("outs: [\n")
    with pytest.raises(DataError, match=r"data/mine/labels.jsonl.dvc is not what DVC writes .* and that file is not here either"):
        bring_up_to_date(paths, "mine")
    note.rename(f"{note}.lost")
    assert bring_up_to_date(paths, "mine").labels == ""
