"""What tests ask about processes that they started, or that those started."""

import time
from multiprocessing import forkserver

import psutil


def has_ended(pid: int, seconds: float = 30.0) -> bool:
    """Tell whether a process ends in time; one that nobody has taken notice of yet (a zombie) has ended."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def left_of_launches() -> list[str]:
    """Return what launched stages have left behind: descendants of the forkserver that do not end in time, as text."""
    server = psutil.Process(forkserver._forkserver._forkserver_pid)
    return [str(child) for child in server.children(recursive=True) if not has_ended(child.pid)]
