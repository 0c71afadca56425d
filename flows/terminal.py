"""What we write to and what ends us: an output that is gone, or a terminal that was closed, ends a command as Ctrl-C does."""

import _thread
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from tasks.workspace.interrupts import REWARD, interrupting_once

INTERRUPTED = 130
REFUSED = 2
GONE = {
    errno.EPIPE: "was closed by its reader",
    errno.ENOSPC: "has no room left",
    errno.EIO: "is gone: the terminal was closed",
    errno.EBADF: "is closed",
}


class OutputGone(KeyboardInterrupt):
    """Nobody can read what we write; an interruption, so that whatever closes its work at a Ctrl-C closes it now."""


class Watched:
    """A text stream that ends us, once, when it cannot be written; from then on it takes everything and keeps nothing."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        """Write as a text stream does."""
        with self._watch():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush as a text stream does."""
        with self._watch():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Be the stream in everything else."""
        return getattr(self._stream, name)

    @contextmanager
    def _watch(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # what waits in the buffer would fail again at the end of the process
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if threading.current_thread() is not threading.main_thread():
                _thread.interrupt_main(signal.SIGINT)
                return
            raise OutputGone(f"{self._name} {GONE.get(error.errno or 0, error.strerror)}") from None


def hear_signals() -> None:
    """Let Ctrl-C, SIGTERM and the end of the terminal interrupt us, once each; under nohup the last stays ignored."""
    signal.signal(signal.SIGINT, interrupting_once())
    for number in (signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))


def run(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a command on outputs that are watched, and return its exit code."""
    if sys.stdout is None or sys.stderr is None:
        # a file that we open would take the free number, and get what libraries print
        with suppress(OSError):
            os.write(2, b"request: standard output or standard error is closed. To throw it away: > /dev/null\n")
        return REFUSED
    sys.stdout, sys.stderr = Watched(sys.stdout, "standard output"), Watched(sys.stderr, "standard error")
    try:
        code = main(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        with suppress(KeyboardInterrupt):
            print(farewell(error), file=sys.stderr, flush=True)
        return INTERRUPTED
    return code


def farewell(error: KeyboardInterrupt) -> str:
    """Return the last line of a command that was interrupted."""
    return f"{str(error) or 'interrupted'}; finished stages are kept, and the same command goes on from there"


def leave(code: int) -> NoReturn:
    """End the process with an exit code.

    At once where we were interrupted: Python would wait for Prefect's threads, or die of the signal where it fell into an import.
    At once as well where a reward that took too long still computes: torch would abort the process, with a code of its own (-6).
    """
    if code == INTERRUPTED or any(thread.name.startswith(REWARD) for thread in threading.enumerate()):
        with suppress(OSError, ValueError, KeyboardInterrupt):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
