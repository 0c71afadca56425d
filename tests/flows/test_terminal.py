"""Outputs that are gone, and terminals that are closed, end a command as Ctrl-C does; each case is a process of its own."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
KEPT = "finished stages are kept, and the same command goes on from there\n"

SCRIPT = """
import sys, threading, time
from pathlib import Path
from flows.terminal import hear_signals, run

def work(arguments):
    try:
        if arguments[0] == "thread":
            thread = threading.Thread(target=lambda: print("from a thread", file=sys.stderr, flush=True))
            thread.start()
            thread.join()
        for number in range(int(arguments[1])):
            print("line", number, flush=arguments[0] == "flushed")
        Path("printed").touch()
        time.sleep(float(arguments[2]))
    except KeyboardInterrupt:
        Path("closed").touch()  # as a pipeline closes its run
        raise
    return 3

hear_signals()
Path("ready").touch()
sys.exit(run(work, sys.argv[1:]))
"""


STUCK = """
import sys, threading
from tasks.rewards.load import within
from posttrain.errors import ContractError
from flows.terminal import leave
import torch

def computes(prompts, completions, records):
    while True:
        torch.randn(300, 300) @ torch.randn(300, 300)

print("printed")
try:
    within(0.5, computes, "mine", ["a"], ["b"], [{"id": "c"}])
except ContractError as error:
    leave(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [3, 130])
def test_a_reward_that_still_computes_does_not_change_how_a_command_ends(tmp_path, code):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", STUCK, str(code)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "printed\n", "")


def start(folder, how, *, lines=1, wait=0.0, **streams):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how, str(lines), str(wait)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
    )


def said(process):
    out, err = process.communicate(timeout=240)
    return process.returncode, (err or b"").decode(), out


def wait_for(file):
    deadline = time.monotonic() + 240
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_command_that_can_print_keeps_its_exit_code(tmp_path):
    assert said(start(tmp_path, "plain")) == (3, "", b"line 0\n")


@pytest.mark.parametrize("how", ["plain", "flushed"])
def test_a_full_output(tmp_path, how):
    with Path("/dev/full").open("wb") as full:
        code, err, _ = said(start(tmp_path, how, stdout=full))
    assert (code, err) == (130, f"standard output has no room left; {KEPT}")


@pytest.mark.parametrize("how", ["plain", "flushed"])
def test_a_reader_that_has_gone(tmp_path, how):
    process = start(tmp_path, how, lines=20_000)
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(240), err) == (130, f"standard output was closed by its reader; {KEPT}")
    assert (tmp_path / "closed").exists()


def test_a_full_standard_error_ends_without_a_word(tmp_path):
    with Path("/dev/full").open("wb") as full:
        process = start(tmp_path, "thread", wait=600, stderr=full)
        process.communicate(timeout=240)
    assert process.returncode == 130
    assert (tmp_path / "closed").exists(), "a thread that cannot write interrupts the main one"


@pytest.mark.parametrize("number", [1, 2])
def test_an_output_that_was_closed_from_the_start_is_refused(tmp_path, number):
    process = start(tmp_path, "plain", preexec_fn=lambda: os.close(number))
    _, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert not (tmp_path / "printed").exists()
    if number == 1:
        assert err == b"request: standard output or standard error is closed. To throw it away: > /dev/null\n"


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_signals_end_alike(tmp_path, name):
    process = start(tmp_path, "flushed", wait=600)
    wait_for(tmp_path / "printed")
    process.send_signal(getattr(signal, name))
    assert said(process)[:2] == (130, f"interrupted; {KEPT}")
    assert (tmp_path / "closed").exists()


def test_a_terminal_that_is_closed(tmp_path):
    """Its end comes as SIGHUP, and whatever is written from then on fails."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.environ["PYTHONPATH"] = str(REPOSITORY)
        os.execv(sys.executable, [sys.executable, "-c", SCRIPT, "flushed", "1", "60"])
    wait_for(tmp_path / "printed")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert (tmp_path / "closed").exists()


def test_under_nohup_the_end_of_the_terminal_is_not_heard(tmp_path):
    process = start(tmp_path, "flushed", wait=1, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(tmp_path / "printed")
    process.send_signal(signal.SIGHUP)
    assert said(process)[0] == 3
