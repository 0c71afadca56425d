"""Locks between processes, which the system releases when their holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.workspace.disk import cannot_write
from tasks.workspace.paths import Paths


def import_lock(name: str) -> str:
    """Return the name of the lock that an import of the dataset holds from its beginning to its end."""
    return f"import-{name}"


@contextmanager
def exclusive(paths: Paths, lock: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold `<store>/<lock>.lock`, waiting while another process does; the system releases it when a process dies.

    DVC's processes inherit it. So one that goes on after its parent was killed keeps it until it has ended, and what comes next
    does not meet it half-way.

    Args:
        paths: of the repository.
        lock: its name.
        wait: False: do not wait.

    Yields:
        Whether the lock is held; always, where it is waited for.
    """
    try:
        paths.store.mkdir(parents=True, exist_ok=True)
        handle = (paths.store / f"{lock}.lock").open("w")
    except OSError as error:
        raise cannot_write(error, paths.store) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        os.set_inheritable(handle.fileno(), True)
        yield True
