"""Who counts as dead: only a process whose lock is free and whose id and start are gone, on this machine."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.workspace import presence as subject
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Note, Process, folder_of, forget, left_behind, living, present, words_of

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


WORK = """
import sys, time
from pathlib import Path
from tasks.workspace.paths import Paths
from tasks.workspace.presence import present
with present(Paths(Path(sys.argv[1])), command="make pipeline METHOD=dpo") as note:
    print(note.file.stem, flush=True)
    sys.stdin.read()
"""


def at_work(paths):
    """Start another process that keeps a note until its input ends; return it and its name."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(paths.root)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def test_a_killed_process_leaves_its_note_and_one_that_ends_does_not(paths):
    assert left_behind(paths) == []
    killed, name = at_work(paths)
    ending, other = at_work(paths)
    assert left_behind(paths) == [], "both live"
    assert living(paths) == {name, other}
    killed.kill()
    killed.communicate()
    ending.communicate()
    (note,) = left_behind(paths)
    assert note.file == folder_of(paths) / f"{name}.json"
    assert note.facts == {"host": socket.gethostname(), "command": "make pipeline METHOD=dpo"}
    assert living(paths) == set()
    forget(note)
    assert left_behind(paths) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_nobody_hears_is_a_kill(paths, number):
    process, name = at_work(paths)
    process.send_signal(number)
    process.communicate()
    assert [note.file.stem for note in left_behind(paths)] == [name]


def test_this_process_lives_while_it_works(paths):
    with present(paths) as note:
        assert left_behind(paths) == []
        assert note.process == Process.current()
        note.add(more="x" * 500)
        note.add(more="y")
        assert json.loads(note.file.read_text()) == {"host": socket.gethostname(), "more": "y"}
        assert left_behind(paths) == [], "what is added keeps the lock"
    assert not note.file.exists()


def abandoned(paths, process, **facts):
    folder_of(paths).mkdir(parents=True, exist_ok=True)
    file = folder_of(paths) / f"{process.name}.json"
    file.write_text(json.dumps({"host": process.host, **facts}))
    return file


def gone():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return replace(Process.current(), pid=process.pid)


def test_a_lock_alone_keeps_a_process_alive(paths):
    """A process of another container has an id that means nothing here; the kernel knows its lock all the same."""
    file = abandoned(paths, gone())
    with file.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        assert left_behind(paths) == []
    assert len(left_behind(paths)) == 1


def test_a_living_process_alone_keeps_it_alive(paths):
    """A disk that knows no locks."""
    abandoned(paths, Process.current())
    assert left_behind(paths) == []


def test_an_id_that_is_somebody_elses_by_now_is_dead(paths):
    abandoned(paths, replace(Process.current(), started=Process.current().started - 1))
    assert len(left_behind(paths)) == 1


def test_what_another_machine_runs_is_left_alone(paths):
    abandoned(paths, replace(gone(), host=f"not-{socket.gethostname()}", boot="ffffffff"))
    assert left_behind(paths) == []


def test_a_machine_that_was_started_again_or_renamed_is_this_one(paths):
    abandoned(paths, replace(Process.current(), boot="ffffffff"))
    assert len(left_behind(paths)) == 1, "everything from before its start is dead"
    abandoned(paths, replace(gone(), host="its-old-name"))
    assert len(left_behind(paths)) == 2, "it has not been started again since"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\x00"])
def test_a_note_that_was_not_finished_counts_all_the_same(paths, text):
    folder_of(paths).mkdir(parents=True)
    file = folder_of(paths) / f"{gone().name}.json"
    file.write_text(text)
    assert [note.file for note in left_behind(paths)] == [file]


def test_a_dead_process_that_nobody_has_waited_for_is_dead():
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    process.stdout.read()
    started = subject._started(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert subject._started(process.pid) is None, "it is a zombie"
    assert not replace(Process.current(), pid=process.pid, started=started or 0).may_live()
    process.communicate()


def test_names_come_back_and_other_texts_are_none():
    process = Process.current()
    assert Process.from_name(process.name, host=process.host) == process
    for text in ("", "1-2", "a-b-c", "1-2-3-4"):
        assert Process.from_name(text, host="x") is None


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["method=sft"], "make pipeline METHOD=sft"),
        (
            ["method=dpo", "data.name=mine", "dpo.beta=0.2", "seed=1"],
            'make pipeline METHOD=dpo DATA=mine SET="dpo.beta=0.2 seed=1"',
        ),
        ([], "make pipeline"),
        (None, "make pipeline"),
    ],
)
def test_words_become_the_command_that_one_types(words, command):
    assert words_of(words) == command


def test_a_note_has_a_process_only_if_its_name_is_one(paths):
    assert Note(folder_of(paths) / "mine.json").process is None
