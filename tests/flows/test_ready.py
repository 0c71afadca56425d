"""The Python of which runs are forked in tests: a fork is told, and tells, what a process is; and nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.flows.ready import Ready
from tests.processes import has_ended

REPOSITORY = Path(__file__).parents[2]
FLOWS = """
import atexit, os, signal, subprocess, sys, time
import own
atexit.register(print, "at exit")
print(sys.argv[1:], os.environ["SAID"], os.getcwd(), own.__file__, signal.getsignal(signal.SIGINT).__name__)
print("on standard error", file=sys.stderr)
if "sleep" in sys.argv:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    open("child.part", "w").write(str(child.pid))
    os.replace("child.part", "child")
    time.sleep(300)
if "raise" in sys.argv:
    raise KeyError("no such field")
sys.exit(int(sys.argv[-1]))
"""


@pytest.fixture
def house(tmp_path):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").touch()
    (tmp_path / "flows" / "__main__.py").write_text(FLOWS)
    (tmp_path / "own.py").touch()
    return tmp_path


@pytest.fixture
def python(tmp_path_factory):
    """One that loads nothing, and so is there at once."""
    made = Ready(tmp_path_factory.mktemp("ready"), libraries=())
    yield made
    made.end()


def test_a_fork_has_the_words_folder_environment_and_modules_of_its_run_and_no_others(house, python, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for file in ("flows/__init__.py", "flows/__main__.py", "own.py"):
        (other / file).parent.mkdir(exist_ok=True)
        (other / file).write_text((house / file).read_text())
    for folder, said, code in ((house, "first", 3), (other, "second", 0), (house, "third", 130)):
        fork = python.start(folder, ["verb", str(code)], environment={"SAID": said})
        out, err = fork.communicate(timeout=60)
        words, at_exit = out.splitlines()
        assert words == f"['verb', '{code}'] {said} {folder} {folder / 'own.py'} default_int_handler"
        assert (at_exit, err, fork.returncode) == ("at exit", "on standard error\n", code)


def test_a_fork_that_raises_ends_as_python_does(house, python):
    fork = python.start(house, ["raise", "0"], environment={"SAID": ""})
    _, err = fork.communicate(timeout=60)
    assert fork.returncode == 1 and err.endswith("KeyError: 'no such field'\n")


def test_a_fork_that_is_killed_is_told_by_its_signal_and_the_next_one_runs(house, python):
    fork = python.start(house, ["sleep", "0"], environment={"SAID": ""})
    with pytest.raises(subprocess.TimeoutExpired):
        fork.communicate(timeout=0.1)
    while not (house / "child").exists():
        time.sleep(0.01)
    os.killpg(fork.pid, signal.SIGKILL)
    fork.communicate(timeout=60)
    assert fork.returncode == -signal.SIGKILL and has_ended(int((house / "child").read_text()))
    fork = python.start(house, ["0"], environment={"SAID": ""})
    fork.communicate(timeout=60)
    assert fork.returncode == 0


def test_libraries_that_cannot_be_loaded_are_quoted(house, tmp_path):
    broken = Ready(tmp_path, libraries=("no_such_module_of_ours",))
    with pytest.raises(RuntimeError, match="No module named 'no_such_module_of_ours'"):
        broken.start(house, ["0"], environment={"SAID": ""})
    broken.end()


HOLDER = """
import sys, time
from pathlib import Path
from tests.flows.ready import Ready
ready = Ready(Path(sys.argv[1]), libraries=())
fork = ready.start(Path(sys.argv[2]), ["sleep", "0"], environment={"SAID": ""})
print(ready.python.pid, fork.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_however_pytest_ends_the_python_its_run_and_what_that_started_end_too(house, tmp_path_factory, end):
    told = house / "told"
    with told.open("w") as err:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path_factory.mktemp("ready")), str(house)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        )
    try:
        pids = holder.stdout.readline().split()
        assert len(pids) == 2, told.read_text()
        python, run = map(int, pids)
        while not (house / "child").exists():
            time.sleep(0.01)
        child = int((house / "child").read_text())
        assert not has_ended(python, 0) and not has_ended(run, 0)
        holder.send_signal(end)
        holder.communicate(timeout=60)
    finally:
        holder.kill()
        holder.communicate()
    for pid in (python, run, child):
        assert has_ended(pid), psutil.Process(pid).as_dict(["pid", "ppid", "status", "cmdline"])
