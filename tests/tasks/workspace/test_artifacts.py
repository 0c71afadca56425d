"""Artifacts: keys that follow everything that decides a result, files that are checked, and nothing half-made after a kill."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from posttrain.errors import DataError, StorageError
from tasks.workspace import artifacts as subject
from tasks.workspace.artifacts import Outcome, file_digest, find, make
from tasks.workspace.disk import storage_errors, storage_trouble
from tasks.workspace.paths import Paths

REPOSITORY = Path(__file__).parents[3]
KEY = "a" * 64
OTHER = "b" * 64
REMEDY = "Everything finished before is still there; make room (or make it writable), then give the same command again"


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


def write(text="weights", **told):
    def compute(out, log):
        (out / "model").mkdir()
        (out / "model" / "weights.bin").write_text(text)
        log(1, {"loss": 2.0})
        log(2, {"loss": 1.0})
        return Outcome(**told)

    return compute


def never(out, log):
    raise AssertionError("computed although a whole result was there")


def made(paths, compute=None, *, key=KEY, stage="sft", **named):
    return make(paths, stage, key, compute or write(), settings={"sft.epochs": 1}, inputs={"data": "d"}, **named)


def parts(paths, stage="sft"):
    return sorted(path.name for path in (paths.stages / stage).glob("*.part-*"))


# --- making and finding -----------------------------------------------------------------------------------------------


def test_a_result_is_made_once(paths):
    artifact, was_there = made(paths, write(metrics={"loss": 1.0}, costs={"labels": 3}))
    assert not was_there
    assert (artifact.stage, artifact.key, artifact.path) == ("sft", KEY, paths.stages / "sft" / KEY)
    assert artifact.metrics == {"loss": 1.0}
    assert artifact.costs["labels"] == 3 and artifact.costs["peak_rss_mb"] > 1
    assert (artifact.path / "model" / "weights.bin").read_text() == "weights"
    again, was_there = made(paths, never)
    assert was_there and again == artifact
    assert find(paths, "sft", KEY) == (artifact, "")


def test_what_was_never_made_is_missing_without_a_word(paths):
    assert find(paths, "sft", KEY) == (None, "")


def test_what_is_told_of_a_stage(paths):
    artifact, _ = made(paths)
    told = json.loads((artifact.path / "stage.json").read_text())
    assert told["settings"] == {"sft.epochs": 1} and told["inputs"] == {"data": "d"}
    assert set(told["versions"]) == {"torch", "transformers", "trl"}
    assert told["files"] == {
        "curves.jsonl": hashlib.sha256(b'{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n').hexdigest(),
        "model/weights.bin": hashlib.sha256(b"weights").hexdigest(),
    }


def test_every_point_is_kept_and_handed_on(paths):
    points = []
    artifact, _ = made(paths, forward=lambda step, metrics: points.append((step, metrics)))
    assert points == [(1, {"loss": 2.0}), (2, {"loss": 1.0})]
    assert (artifact.path / "curves.jsonl").read_text() == '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n'


def test_a_stage_without_a_curve_has_no_file_for_it(paths):
    artifact, _ = made(paths, lambda out, log: Outcome())
    assert [path.name for path in artifact.path.iterdir()] == ["stage.json"]


def test_equal_files_have_equal_digests_and_other_files_others(paths):
    def slower(out, log):
        outcome = write()(out, log)
        log(3, {"seconds": 9.0})
        return outcome

    def asked(cached):
        def compute(out, log):
            outcome = write()(out, log)
            (out / "judge.json").write_text(cached)
            return outcome

        return compute

    first, _ = made(paths)
    curve, _ = made(paths, slower, key=OTHER)
    other, _ = made(paths, write("other weights"), key="c" * 64)
    judged, _ = made(paths, asked("all asked"), key="d" * 64)
    again, _ = made(paths, asked("half of it in the cache"), key="e" * 64)
    assert first.digest == curve.digest, "a curve holds times, and no later stage reads it"
    assert judged.digest == again.digest, "what a judge was asked depends on its cache, and labels do not"
    assert first.digest != other.digest
    # they are still held against their own digests
    (again.path / "judge.json").write_text("damaged")
    assert find(paths, "sft", "e" * 64)[0] is None


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda at: (at / "model" / "weights.bin").write_text("weightz"), "model/weights.bin of the cached result {} is damaged"),
        (lambda at: (at / "model" / "weights.bin").unlink(), "the cached result {} lacks model/weights.bin"),
        (lambda at: shutil.rmtree(at / "model"), "the cached result {} lacks model/weights.bin"),
        (lambda at: (at / "curves.jsonl").write_text(""), "curves.jsonl of the cached result {} is damaged"),
        (lambda at: (at / "stage.json").write_text("{"), "the cached result {} has no readable stage.json"),
        (lambda at: (at / "stage.json").write_text("[]"), "the cached result {} has no readable stage.json"),
        (lambda at: (at / "stage.json").write_bytes(b"\xff"), "the cached result {} has no readable stage.json"),
        (lambda at: (at / "stage.json").unlink(), "the cached result {} has no readable stage.json"),
    ],
)
def test_what_is_damaged_is_made_again_and_said_in_one_line(paths, damage, what):
    line = f"sft: {what.format('a' * 12)}, so it is made again"
    before, _ = made(paths)
    damage(before.path)
    assert find(paths, "sft", KEY) == (None, line)
    said = []
    after, was_there = made(paths, say=said.append)
    assert (was_there, said) == (False, [line])
    assert replace(after, seconds=0, costs={}) == replace(before, seconds=0, costs={})
    assert find(paths, "sft", KEY) == (after, "")


def test_a_failing_stage_leaves_nothing_and_says_what_it_said(paths):
    def failing(out, log):
        (out / "half").write_text("half")
        raise DataError("the data are wrong")

    with pytest.raises(DataError, match=r"^the data are wrong$"):
        made(paths, failing)
    assert find(paths, "sft", KEY) == (None, "") and parts(paths) == []
    assert made(paths)[1] is False


def test_a_failing_stage_leaves_a_damaged_result_as_it_was(paths):
    artifact, _ = made(paths)
    (artifact.path / "model" / "weights.bin").write_text("damaged")

    def interrupted(out, log):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(paths, interrupted)
    assert (artifact.path / "model" / "weights.bin").read_text() == "damaged" and parts(paths) == []


def test_stages_and_keys_do_not_meet(paths):
    first, _ = made(paths, write("one"))
    second, was_there = made(paths, write("two"), key=OTHER)
    third, _ = made(paths, write("three"), stage="dpo")
    assert not was_there
    assert [(one.path / "model" / "weights.bin").read_text() for one in (first, second, third)] == ["one", "two", "three"]


# --- kills and races, for real ----------------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
from tasks.workspace.paths import Paths
from tasks.workspace.artifacts import Outcome, make

def say(line):
    print(line, flush=True)

def compute(out, log):
    (out / "weights.bin").write_text("half")
    with open(sys.argv[2], "a") as counter:
        counter.write("computed\\n")
    say("computing")
    sys.stdin.readline()
    (out / "weights.bin").write_text("whole")
    return Outcome()

artifact, was_there = make(Paths(Path(sys.argv[1])), "sft", "a" * 64, compute, settings={}, inputs={}, say=say)
say("found" if was_there else "made")
"""


@pytest.fixture
def child(tmp_path):
    """Start processes that make one artifact, and end those that are left."""
    running = []

    def start():
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(tmp_path / "counter")]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_kill_nine_leaves_no_result_and_the_next_run_makes_it_and_sweeps(paths, child):
    process = child()
    assert process.stdout.readline() == "computing\n"
    assert parts(paths) == [f"{KEY}.part-{process.pid}"]
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert find(paths, "sft", KEY) == (None, "")
    assert parts(paths) == [f"{KEY}.part-{process.pid}"]
    artifact, was_there = made(paths)
    assert not was_there and parts(paths) == []
    assert (artifact.path / "model" / "weights.bin").read_text() == "weights"


def test_the_remains_of_a_killed_run_are_swept_when_another_result_is_made(paths, child):
    process = child()
    assert process.stdout.readline() == "computing\n"
    process.kill()
    process.wait()
    made(paths, key=OTHER)
    assert parts(paths) == []


def test_two_processes_make_a_result_once(paths, child, tmp_path):
    first, second = child(), None
    assert first.stdout.readline() == "computing\n"
    second = child()
    assert second.stdout.readline() == "sft: waiting for the run that is making it\n"
    assert first.communicate("\n")[0] == "made\n"
    assert second.communicate("\n")[0] == "found\n"
    assert (tmp_path / "counter").read_text() == "computed\n"
    artifact, _ = find(paths, "sft", KEY)
    assert (artifact.path / "weights.bin").read_text() == "whole" and parts(paths) == []


def test_who_waits_for_a_run_that_dies_makes_the_result(paths, child, tmp_path):
    first = child()
    assert first.stdout.readline() == "computing\n"
    second = child()
    assert second.stdout.readline() == "sft: waiting for the run that is making it\n"
    first.kill()
    assert second.communicate("\n")[0] == "computing\nmade\n"
    assert (tmp_path / "counter").read_text() == "computed\n" * 2
    assert find(paths, "sft", KEY)[0] and parts(paths) == []


def test_what_another_process_is_making_is_not_swept(paths, child):
    process = child()
    assert process.stdout.readline() == "computing\n"
    made(paths, key=OTHER)
    assert parts(paths) == [f"{KEY}.part-{process.pid}"]
    assert process.communicate("\n")[0] == "made\n"


def test_what_another_thread_is_making_is_not_swept(paths):
    """Two pipelines of one process (a comparison) make different results of one stage at once."""
    begun, go = threading.Event(), threading.Event()
    results = []

    def slow(out, log):
        begun.set()
        assert go.wait(60)
        return write("slow")(out, log)

    thread = threading.Thread(target=lambda: results.append(made(paths, slow)))
    thread.start()
    assert begun.wait(60)
    made(paths, write("quick"), key=OTHER)
    go.set()
    thread.join(60)
    assert (results[0][0].path / "model" / "weights.bin").read_text() == "slow"


def test_a_folder_of_a_strange_name_disturbs_nobody(paths):
    (paths.stages / "sft" / "notes.part-of-mine").mkdir(parents=True)
    assert made(paths)[1] is False


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A real disk of 256 KB, where this machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        os.geteuid()
        or not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "none", folder], capture_output=True).returncode
    ):
        pytest.skip("no leave to mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_takes_nothing_away(small_disk):
    paths = Paths(small_disk)
    kept, _ = made(paths, key=OTHER)
    with pytest.raises(StorageError) as caught:
        made(paths, write("w" * 400_000))
    assert str(caught.value) == f"stage sft: the disk is full ({paths.stages}). {REMEDY}"
    assert find(paths, "sft", OTHER) == (kept, "")
    assert find(paths, "sft", KEY) == (None, "") and parts(paths) == []
    assert made(paths, write("small enough"))[1] is False


def test_a_read_only_disk_is_told_and_results_on_it_are_still_found(small_disk):
    paths = Paths(small_disk)
    kept, _ = made(paths)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError) as caught:
        made(paths, key=OTHER)
    assert str(caught.value) == f"stage sft: the disk is read-only ({paths.stages}). {REMEDY}"
    assert find(paths, "sft", KEY) == (kept, "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told(paths):
    paths.stages.mkdir(parents=True)
    paths.stages.chmod(0o555)
    with pytest.raises(StorageError) as caught:
        made(paths)
    assert str(caught.value) == f"stage sft: the disk may not be written ({paths.stages}). {REMEDY}"


@pytest.mark.parametrize(
    ("number", "trouble"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EDQUOT, "has no quota left"),
        (errno.EROFS, "is read-only"),
        (errno.EACCES, "may not be written"),
    ],
)
def test_what_the_disk_refuses_is_told_wherever_it_happens(paths, number, trouble):
    kept, _ = made(paths, key=OTHER)

    def refused(out, log):
        raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError) as caught:
        made(paths, refused)
    assert str(caught.value) == f"stage sft: the disk {trouble} ({paths.stages}). {REMEDY}"
    assert find(paths, "sft", OTHER) == (kept, "") and find(paths, "sft", KEY) == (None, "")
    assert parts(paths) == []


def test_a_disk_that_fills_while_the_result_is_described_takes_nothing_away(paths, monkeypatch):
    """The files are written, and only bringing them to the disk fails."""
    kept, _ = made(paths)
    (kept.path / "model" / "weights.bin").write_text("damaged")

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(subject, "sync", full)
    with pytest.raises(StorageError):
        made(paths)
    assert (kept.path / "model" / "weights.bin").read_text() == "damaged" and parts(paths) == []


def test_a_full_disk_is_recognised_behind_a_librarys_own_error():
    def wrapped(cause):
        error = RuntimeError("could not write the file")
        error.__cause__ = cause
        return error

    assert storage_trouble(wrapped(OSError(errno.ENOSPC, "no"))) == "is full"
    assert storage_trouble(RuntimeError("sqlite3.OperationalError: database or disk is full")) == "is full"
    assert storage_trouble(RuntimeError("attempt to write a readonly database")) == "is read-only"
    assert storage_trouble(wrapped(ValueError("shapes differ"))) is None
    assert storage_trouble(OSError(errno.ENOENT, "no such file")) is None
    assert storage_trouble(None) is None
    circle = RuntimeError("a")
    circle.__cause__ = circle
    assert storage_trouble(circle) is None


def test_our_own_errors_keep_their_words_whatever_caused_them(paths):
    """A model folder that may not be read is a wrong request, not a disk that may not be written."""

    def unreadable(out, log):
        try:
            raise PermissionError(errno.EACCES, "Permission denied")
        except OSError:
            raise DataError("model.base=/x: it cannot be loaded") from None

    with pytest.raises(DataError, match=r"^model\.base=/x: it cannot be loaded$"):
        made(paths, unreadable)


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError), storage_errors("something", tmp_path):
        raise ZeroDivisionError
    with pytest.raises(StorageError, match=r"^first$"), storage_errors("something", tmp_path):
        raise StorageError("first")


def test_a_file_digest_is_its_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
