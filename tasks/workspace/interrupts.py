"""Ctrl-C where it does no harm: never in the middle of a write to the ledger, and once even if it is pressed twice."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

REWARD = "reward "
"""Beginning of the names of threads in which rewards compute: one that takes too long is left behind."""
Handler = Callable[[int, FrameType | None], None]
PATIENCE = 5.0
"""Seconds in which another Ctrl-C is the first one, pressed again; a later one means it."""


def interrupting_once() -> Handler:
    """Return a handler that raises KeyboardInterrupt, and lets the runs be closed in peace if it is called again at once."""
    last = -math.inf

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last >= PATIENCE:
            last = time.monotonic()
            raise KeyboardInterrupt

    return handle


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is done; one that is repeated after `PATIENCE` seconds gets through.

    SQLite would keep the lock of a transaction that was interrupted, and refuse the write that closes the run as KILLED.
    Outside the main thread nothing is held back: Python interrupts no other.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {int(number): handler for number, handler in handlers.items() if callable(handler)}
    came: list[tuple[int, float]] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if came and time.monotonic() - came[0][1] >= PATIENCE:
            before[number](number, frame)
        came.append((number, time.monotonic()))

    for number in before:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            before[came[0][0]](came[0][0], None)
