"""A background process: started so that it outlives the terminal, asked whether it is well, ended with all that it started."""

import base64
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]

from posttrain.errors import StorageError

LONGEST_START = 180.0
"""Seconds that a server may take until it answers: a fresh database on a busy machine takes 20 or more."""
LONGEST_END = 10.0
"""Seconds that a process may take to end by itself; then it is killed."""
LONGEST_ANSWER = 10.0
"""Seconds that a server which is up may take for one answer."""
FLOW_RUN = "PREFECT__FLOW_RUN_ID"
"""In the environment of a process that runs a flow for a worker: which run."""


def start(command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, where neither our terminal's Ctrl-C nor its end reaches it.

    What we catch (Ctrl-C, SIGTERM) it hears as every program does; what nohup told us to ignore it ignores as well. The log of
    the one before is kept as `<log>.1`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size:
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command], env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def trouble_at(address: str, *, wants: Mapping[str, Any] | None = None, login: str = "", timeout: float = LONGEST_ANSWER) -> str:
    """Return why an address does not answer as a healthy service does, "" where it does.

    Args:
        address: that is asked.
        wants: fields that its answer, as JSON, must have.
        login: `user:password`, where it asks for one.
        timeout: seconds to wait.
    """
    token = base64.b64encode(login.encode()).decode()
    request = urllib.request.Request(address, headers={"Authorization": f"Basic {token}"} if login else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            told = json.loads(answer.read()) if wants else {}
        if not isinstance(told, dict):
            return "its answer is no JSON object"
        wrong = [f"{name} is {told.get(name)}" for name, value in (wants or {}).items() if told.get(name) != value]
        return ", ".join(wrong)
    except ValueError as error:
        return f"its answer is no JSON: {error}"
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answers {error.code} {error.reason}"
    except OSError as error:
        return str(getattr(error, "reason", error))


def wait_until_well(
    title: str, address: str, process: subprocess.Popen[bytes], *, log: Path, asked: Callable[[], str] | None = None
) -> None:
    """Wait until a service that was just started answers.

    Args:
        title: its name in a sentence.
        address: that answers while it is well.
        process: its own.
        log: that it writes to.
        asked: returns what is wrong, "" where nothing is; None: the address is asked.

    Raises:
        StorageError: it ended, or does not answer in time; with the last line of its log.
    """
    deadline = time.monotonic() + LONGEST_START
    trouble = "no answer"
    while time.monotonic() < deadline:
        trouble = asked() if asked else trouble_at(address)
        if not trouble:
            return
        if process.poll() is not None:
            trouble = last_line(log) or f"it ended with {process.returncode}"
            break
        time.sleep(0.1)
    raise StorageError(f"{title} does not answer at {address}: {trouble}. See {log}, then run again")


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, "" where there is none."""
    with suppress(OSError):
        return next((line.strip() for line in reversed(log.read_text(errors="replace").splitlines()) if line.strip()), "")
    return ""


def end(process: psutil.Process | subprocess.Popen[bytes]) -> None:
    """End a process, by force where it does not end by itself."""
    process.terminate()
    try:
        process.wait(LONGEST_END)
    except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
        process.kill()
        process.wait(LONGEST_END)


def end_with_descendants(pid: int) -> None:
    """End a process, and then whatever it had started and did not take along."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        descendants = root.children(recursive=True)
        end(root)
        for left in descendants:
            with suppress(psutil.NoSuchProcess):
                left.terminate()
        for left in psutil.wait_procs(descendants, timeout=LONGEST_END)[1]:
            with suppress(psutil.NoSuchProcess):
                left.kill()


def memory_of(pid: int) -> int:
    """Return the MB of memory that a process and its descendants have; 0 where it is gone."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return int(total / 2**20)


def flow_runs_below(pid: int) -> set[str]:
    """Return the ids of the flow runs that descendants of a process execute."""
    with suppress(psutil.NoSuchProcess):
        return _flow_runs(psutil.Process(pid).children(recursive=True))
    return set()


def flow_runs_here() -> set[str]:
    """Return the ids of the flow runs that processes of this machine execute, as far as we may look into them."""
    return _flow_runs(psutil.process_iter())


def is_hidden(pid: int) -> bool:
    """Tell whether a process is there that we may not look into: another user's."""
    try:
        psutil.Process(pid).environ()
    except psutil.AccessDenied:
        return True
    except (psutil.Error, OSError):
        return False
    return False


def _flow_runs(processes: Iterable[psutil.Process]) -> set[str]:
    found = set()
    for process in processes:
        with suppress(psutil.Error, OSError):
            found.add(process.environ().get(FLOW_RUN, ""))
    return found - {""}


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen at a port of this machine now."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError:
            return False
    return True
