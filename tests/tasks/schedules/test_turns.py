"""One retraining of a dataset at a time; who comes meanwhile is remembered, and nobody is forgotten."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.schedules import turns as subject
from tasks.schedules.turns import (
    Wanted,
    ask,
    datasets_wanted,
    folder_of,
    holder_of,
    take_wanted,
    turn,
    turn_or_request,
    wanted_of,
)
from tasks.workspace.paths import Paths

ROOT = Path(__file__).resolve().parents[3]
A, B = Wanted("a", "schedule", {}, ("run-a",)), Wanted("b", "data", {"md5": "12"}, ("run-b",))


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


def test_one_has_the_turn_and_says_who_it_is(paths):
    with turn(paths, "mine", "first") as is_ours:
        assert is_ours and holder_of(paths, "mine").name == "first"
        with turn(paths, "mine", "second") as is_theirs:
            assert not is_theirs
        assert holder_of(paths, "mine").name == "first", "who was refused takes no note away"
        with turn(paths, "other", "third") as is_theirs:
            assert is_theirs, "another dataset is another turn"
    assert holder_of(paths, "mine") is None
    with turn(paths, "mine", "again") as is_ours:
        assert is_ours


def test_a_turn_is_given_back_after_a_failure(paths):
    with pytest.raises(ZeroDivisionError), turn(paths, "mine", "first"):
        1 / 0  # noqa: B018
    with turn(paths, "mine", "second") as is_ours:
        assert is_ours


def test_a_killed_holder_gives_it_back(paths):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from tasks.schedules.turns import turn; from tasks.workspace.paths import Paths\n"
        "with turn(Paths(Path(sys.argv[1])), 'mine', 'killed') as is_ours:\n"
        "    print(is_ours, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(paths.root)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n" and done.returncode == -9
    with turn(paths, "mine", "next") as is_ours:
        assert is_ours and holder_of(paths, "mine").name == "next"


def test_who_comes_meanwhile_leaves_a_request_and_learns_who_is_at_work(paths):
    with turn(paths, "mine", "first"), turn_or_request(paths, "mine", "run-a", A) as holder:
        assert holder.name == "first" and str(holder).startswith("first (since 2")
        assert wanted_of(paths, "mine") == [A] and datasets_wanted(paths) == ["mine"]
    assert take_wanted(paths, "mine") == [A]
    assert take_wanted(paths, "mine") == [] and datasets_wanted(paths) == []


def test_several_requests_of_one_schedule_are_one_and_those_of_two_are_two(paths):
    ask(paths, "mine", A)
    ask(paths, "mine", Wanted("a", "drift", {"verdict": "x"}, ("run-c",)))
    ask(paths, "mine", B)
    assert wanted_of(paths, "mine") == [Wanted("a", "drift", {"verdict": "x"}, ("run-a", "run-c")), B]
    assert take_wanted(paths, "mine", deployment="b") == [B]
    assert [one.deployment for one in wanted_of(paths, "mine")] == ["a"]


def test_who_has_the_turn_takes_the_requests_of_its_own_schedule_alone(paths):
    ask(paths, "mine", A)
    ask(paths, "mine", B)
    with turn_or_request(paths, "mine", "run-a2", Wanted("a", "schedule", {}, ("run-a2",))) as holder:
        assert holder is None and wanted_of(paths, "mine") == [B]


def test_a_request_without_a_schedule_is_not_kept(paths):
    with turn(paths, "mine", "first"), turn_or_request(paths, "mine", "x", Wanted("", "schedule", {}, ("x",))) as holder:
        assert holder is not None
    assert datasets_wanted(paths) == []


def test_a_holder_that_ends_while_a_request_is_written_loses_none(paths, monkeypatch):
    # the holder lets go between the first look at the lock and the second: the turn is ours, and nothing is left to start
    held = turn(paths, "mine", "first")
    held.__enter__()
    told = subject.ask

    def ask_late(*arguments):
        told(*arguments)
        held.__exit__(None, None, None)

    monkeypatch.setattr(subject, "ask", ask_late)
    with turn_or_request(paths, "mine", "run-a", A) as holder:
        assert holder is None and datasets_wanted(paths) == []


def test_a_damaged_note_is_none(paths):
    folder_of(paths).mkdir(parents=True)
    (folder_of(paths) / "mine.wanted.json").write_text("{")
    (folder_of(paths) / "mine.turn.json").write_text("[]")
    assert wanted_of(paths, "mine") == [] and holder_of(paths, "mine") is None
    (folder_of(paths) / "mine.wanted.json").write_text(json.dumps({"a": {"cause": "x"}, "b": 3}))
    assert wanted_of(paths, "mine") == []
    ask(paths, "mine", B)
    assert wanted_of(paths, "mine") == [B]
