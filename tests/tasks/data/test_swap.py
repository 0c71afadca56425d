"""Whenever an import or `make data` dies, one whole dataset stands: the earlier one, byte for byte, or the new one."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from posttrain.errors import DataError, StorageError
from tasks.data import dvc as versions
from tasks.data.dvc import bring_up_to_date, settle_imports
from tasks.data.dvc_memory import md5_of
from tasks.data.importing import import_file
from tasks.data.swap import PLAN, incoming
from tasks.workspace.locks import exclusive, import_lock
from tests.tasks.datasets import dvc, gsm8k, lines, state
from tests.tasks.dvc_stub import stub

STEPS = (
    (Path, "replace"),
    (Path, "unlink"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (os, "fsync"),
    (os, "link"),
    (shutil, "rmtree"),
    (shutil, "copy2"),
)
"""What changes the disk: before each call of one of these a process may die."""
FAR = 10_000


@pytest.fixture
def quick_dvc(monkeypatch):
    monkeypatch.setattr(versions, "run_dvc", stub)


@pytest.fixture
def imported(paths, quick_dvc):
    """Have a dataset of demonstrations, and a file of preferences that is to replace it."""
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    bring_up_to_date(paths, "mine")
    rows = [{"prompt": f"{word} it is", "chosen": "x", "rejected": "y"} for word in ("red", "green", "blue", "white")]
    (paths.root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def replace_it(paths):
    return import_file(paths, format="trl", file="pairs.jsonl", name="mine")


class Failing:
    """Count the steps that change the disk, and do something else instead of one of them."""

    def __init__(self, at, instead):
        self.at, self.instead, self.count = at, instead, 0

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for owner, name in STEPS:
            self.patch.setattr(owner, name, self.wrapped(getattr(owner, name)))
        return self

    def __exit__(self, *_):
        self.patch.undo()

    def wrapped(self, function):
        def step(*arguments, **options):
            self.count += 1
            if self.count == self.at:
                self.instead()
            return function(*arguments, **options)

        return step


def forked(action):
    """Run `action` in a process of its own, whose exit code is 4 after a StorageError; return its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's threads, of which the child uses none
        child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except StorageError:
            code = 4
        finally:
            os._exit(code)
    return child


def exit_code(child):
    """Wait for the process; return its exit code, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(action, at):
    """Kill a process before the given step of `action`; return whether it died of that."""

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def act():
        with Failing(at, die):
            action()

    code = exit_code(forked(act))
    assert code in (0, -signal.SIGKILL)
    return code != 0


class Beginning:
    """The data and the store of a project as they are now, to begin each try from."""

    def __init__(self, paths, aside):
        self.paths, self.aside = paths, aside
        for folder in (paths.data, paths.store):
            if folder.exists():
                shutil.copytree(folder, aside / folder.name)

    def again(self):
        for folder in (self.paths.data, self.paths.store):
            shutil.rmtree(folder, ignore_errors=True)
            if (self.aside / folder.name).exists():
                shutil.copytree(self.aside / folder.name, folder)

    def whole(self, action):
        """Return the files that stand where nothing goes wrong."""
        action(self.paths)
        bring_up_to_date(self.paths, "mine")
        return state(self.paths.data / "mine")

    def kills(self, action, *, every=1):
        """Kill `action` before one step after the other, until it comes to its end; the caller looks at what each kill left."""
        for at in range(1, FAR, every):
            self.again()
            is_killed = killed(lambda: action(self.paths), at)
            yield at
            if not is_killed:
                return


@pytest.fixture
def beginning(imported, tmp_path_factory):
    return Beginning(imported, tmp_path_factory.mktemp("beginning"))


def test_a_kill_at_any_step_of_an_import_leaves_one_whole_dataset(imported, beginning):
    old, new = state(imported.data / "mine"), beginning.whole(replace_it)
    said = {True: set(), False: set()}
    for _ in beginning.kills(replace_it):
        notes = bring_up_to_date(imported, "mine").notes
        found = state(imported.data / "mine")
        assert found in (old, new)
        assert not incoming(imported.data / "mine").exists()
        said[found == new].add(notes)
    assert said[False] == {(), ("an import of mine was stopped before its end; data/mine is as it was before",)}
    assert said[True] == {
        (),
        ("an import of mine was stopped while its files were put in place; now they all are: data/mine is the new dataset",),
    }


def test_an_import_that_fails_after_a_kill_loses_nothing_either(imported, beginning):
    old, new = state(imported.data / "mine"), beginning.whole(replace_it)
    (imported.root / "bad.jsonl").write_text('{"question": 7}\n')
    seen = []
    for _ in beginning.kills(replace_it, every=3):
        with pytest.raises(DataError):
            import_file(imported, format="gsm8k", file="bad.jsonl", name="mine")
        found = state(imported.data / "mine")
        assert found in (old, new)
        assert not incoming(imported.data / "mine").exists()
        seen.append(found == new)
    assert len(seen) > 10 and set(seen) == {True, False}


def test_a_kill_of_a_first_import_leaves_nothing_or_all(paths, quick_dvc, tmp_path):
    gsm8k(paths)
    beginning = Beginning(paths, tmp_path / "beginning")

    def first(project):
        import_file(project, format="gsm8k", file="g.jsonl", name="mine")

    new = beginning.whole(first)
    seen = []
    for _ in beginning.kills(first, every=2):
        settle_imports(paths)
        seen.append((paths.data / "mine").exists())
        assert not seen[-1] or state(paths.data / "mine") == new
    assert set(seen) == {True, False}


def test_a_kill_at_any_step_of_make_data_is_made_good_and_an_edit_survives_it(imported, tmp_path_factory):
    edited = imported.data / "mine" / "demonstrations.jsonl"
    edited.write_text(edited.read_text().replace("So 1.", "Hence 1."))
    (imported.root / "params.yaml").write_text("split: {seed: 1}\n")
    beginning = Beginning(imported, tmp_path_factory.mktemp("beginning"))

    def make(project):
        return bring_up_to_date(project, "mine")

    new, steps = beginning.whole(make), 0
    for _ in beginning.kills(make):
        steps += 1
        make(imported)
        found = state(imported.data / "mine")
        assert {name: text for name, text in found.items() if name != "dvc.lock.damaged"} == new
        assert sum(b"Hence 1." in text for text in found.values()) == 1
    assert steps > 10


def test_an_error_at_any_step_of_an_import_leaves_one_whole_dataset(imported, beginning):
    old, new = state(imported.data / "mine"), beginning.whole(replace_it)

    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    seen = set()
    for at in range(1, FAR):
        beginning.again()
        with Failing(at, full) as failing, suppress(StorageError, OSError):
            replace_it(imported)
        found = state(imported.data / "mine")
        assert found in (old, new)
        seen.add(found == new)
        if failing.count < at:
            break
    assert seen == {True, False}


@pytest.mark.parametrize("most", [0, 100, 700])
def test_a_disk_that_takes_no_more_leaves_the_earlier_dataset(imported, most):
    before = state(imported.data / "mine")

    def on_a_full_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        replace_it(imported)

    assert exit_code(forked(on_a_full_disk)) == 4
    assert state(imported.data / "mine") == before
    assert not incoming(imported.data / "mine").exists()


def test_a_refused_split_leaves_the_earlier_dataset_and_says_so(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    before, version = state(paths.data / "mine"), bring_up_to_date(paths, "mine")
    with pytest.raises(DataError) as caught:
        import_file(paths, format="gsm8k", file=gsm8k(paths, count=1), name="mine")
    assert str(caught.value).startswith(
        "mine was not imported; data/mine is as it was before: nothing can be held out: the dataset's 1 records with a prompt"
    )
    assert state(paths.data / "mine") == before
    assert bring_up_to_date(paths, "mine") == version


def test_an_interrupted_import_leaves_the_earlier_dataset(imported, monkeypatch):
    before = state(imported.data / "mine")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(versions, "run_dvc", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_it(imported)
    assert state(imported.data / "mine") == before
    assert not incoming(imported.data / "mine").exists()


def test_ctrl_c_while_files_are_exchanged_waits_for_the_end(imported, monkeypatch):
    real, pressed = Path.replace, []

    def press(self, target):
        if self.name == "records.jsonl" and not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", press)
    with pytest.raises(KeyboardInterrupt):
        replace_it(imported)
    assert "preferences.jsonl" in state(imported.data / "mine")
    assert settle_imports(imported) == () and bring_up_to_date(imported, "mine").notes == ()


def test_two_imports_at_once_leave_one_of_both_whole(imported, monkeypatch):
    def slow(*arguments):
        time.sleep(0.05)
        return stub(*arguments)

    monkeypatch.setattr(versions, "run_dvc", slow)
    gsm8k(imported, file="other.jsonl", start=50)
    children = [
        forked(lambda form=form, file=file: import_file(imported, format=form, file=file, name="mine"))
        for form, file in (("trl", "pairs.jsonl"), ("gsm8k", "other.jsonl"))
    ]
    assert [exit_code(child) for child in children] == [0, 0]
    version = bring_up_to_date(imported, "mine")
    kinds = {row["kind"] for row in lines(version.folder / "records.jsonl")}
    assert (kinds, "preferences" in version.files) in (({"preference"}, True), ({"demonstration"}, False))
    assert version.notes == ()


def test_an_import_at_work_is_left_alone(imported):
    part = incoming(imported.data / "mine") / "part"
    part.parent.mkdir()
    part.write_text("being written")
    with exclusive(imported, import_lock("mine")):
        assert settle_imports(imported) == () and bring_up_to_date(imported, "mine").notes == ()
        assert part.exists()
    assert settle_imports(imported) == ("an import of mine was stopped before its end; data/mine is as it was before",)
    assert not part.exists()


def test_edits_of_the_earlier_dataset_are_kept_beside_the_new_one(imported):
    folder = imported.data / "mine"
    for file in ("records.jsonl", "demonstrations.jsonl"):
        (folder / file).write_text((folder / file).read_text().replace("So 1.", "Hence 1."))
    (folder / "rankings.jsonl").write_text("put here by hand\n")
    report = replace_it(imported)
    kept = sorted(folder.glob("*.edited-*"))
    assert [path.name.partition(".jsonl")[0] for path in kept] == ["demonstrations", "rankings", "records"]
    assert all("Hence 1." in path.read_text() or "by hand" in path.read_text() for path in kept)
    assert not (folder / "rankings.jsonl").exists()
    assert sorted(report.notes) == [
        f"data/mine/{path.name.partition('.edited')[0]} was edited by hand; it is kept as data/mine/{path.name}" for path in kept
    ]
    assert bring_up_to_date(imported, "mine").notes == ()


def test_lines_of_the_users_own_in_gitignore_stay(imported):
    ignored = imported.data / "mine" / ".gitignore"
    ignored.write_text("/notes.txt\n/records.jsonl\n")
    replace_it(imported)
    assert ignored.read_text().splitlines()[:2] == ["/notes.txt", "/records.jsonl"]
    assert ignored.read_text().count("/records.jsonl\n") == 1
    assert "/preferences.jsonl\n" in ignored.read_text()


def test_a_damaged_plan_is_told_and_the_command_sets_it_right(imported):
    plan = incoming(imported.data / "mine") / PLAN
    plan.parent.mkdir()
    plan.write_text('{"keep": {}, "rem')
    with pytest.raises(DataError) as caught:
        bring_up_to_date(imported, "mine")
    said = str(caught.value)
    assert said.startswith("data/mine/.incoming/swap.json is damaged (")
    command = said.rpartition(": ")[2]
    assert command == "mv data/mine/.incoming stopped-import"
    subprocess.run(command, shell=True, check=True, cwd=imported.root)
    assert bring_up_to_date(imported, "mine").notes == ()


def test_files_that_cannot_be_moved_are_moved_by_the_next_command(imported, monkeypatch):
    real, final = Path.replace, imported.data / "mine" / "records.jsonl"

    def refuse(self, target):
        if target == final:
            raise PermissionError(errno.EACCES, "Permission denied", str(target))
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(StorageError) as caught:
            replace_it(imported)
    assert str(caught.value) == (
        f"data/mine: the new dataset is whole, but cannot be put in place: {final}: Permission denied. "
        "Correct the permissions; the next command of any kind completes it"
    )
    assert bring_up_to_date(imported, "mine").notes[0].endswith("now they all are: data/mine is the new dataset")
    assert "preferences.jsonl" in state(imported.data / "mine")


KILLED = """
import os, subprocess, sys
from pathlib import Path
from tasks.data import dvc
from tasks.data.importing import import_file
from tasks.workspace.paths import Paths
real = subprocess.run
def run(command, **options):
    if sys.argv[1] not in command:
        return real(command, **options)
    started = {name: value for name, value in options.items() if name in ("cwd", "env", "close_fds")}
    subprocess.Popen(command, **started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.kill(os.getpid(), 9)
dvc.subprocess.run = run
paths = Paths(Path.cwd())
if sys.argv[2] == "import":
    import_file(paths, format="gsm8k", file="next.jsonl", name="mine")
else:
    dvc.bring_up_to_date(paths, "mine")
"""
"""Die when the DVC command named first was started, and leave it running."""


@pytest.mark.slow
def test_dvc_that_outlives_a_killed_import_is_waited_for(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    version, before = bring_up_to_date(paths, "mine"), state(paths.data / "mine")
    gsm8k(paths, file="next.jsonl", start=100)
    died = subprocess.run([sys.executable, "-c", KILLED, "repro", "import"], cwd=paths.root, check=False)
    assert died.returncode == -signal.SIGKILL
    assert settle_imports(paths) == ()  # DVC is at work in the preparation, so that is not ours to take away
    assert bring_up_to_date(paths, "mine") == version
    assert state(paths.data / "mine") == before
    report = import_file(paths, format="gsm8k", file="next.jsonl", name="mine")
    assert report.notes == ("an import of mine was stopped before its end; data/mine is as it was before",)
    assert lines(report.path)[0]["prompt"].startswith("w100x0 ")
    assert bring_up_to_date(paths, "mine").notes == ()
    assert "Data and pipelines are up to date" in dvc(paths, "status", "data/mine/dvc.yaml").stdout


@pytest.mark.slow
def test_dvc_that_outlives_a_killed_make_data_is_waited_for(paths):
    import_file(paths, format="gsm8k", file=gsm8k(paths), name="mine")
    first = bring_up_to_date(paths, "mine")
    (paths.root / "params.yaml").write_text("split: {seed: 1}\n")
    died = subprocess.run([sys.executable, "-c", KILLED, "repro", "data"], cwd=paths.root, check=False)
    assert died.returncode == -signal.SIGKILL
    second = bring_up_to_date(paths, "mine")
    assert second.notes == () and second.md5 != first.md5
    assert {role: md5_of(second.folder / f"{role}.jsonl") for role in second.files} == second.files
