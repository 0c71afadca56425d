"""A stage's own share of the machine's memory: its peak alone, and nothing kept when it has ended."""

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SELF = Path("/proc/self")


@contextmanager
def own_memory() -> Iterator[None]:
    """Measure the peak of what is done within anew, and give the memory back at its end.

    A trainer refers to itself, so only the collector frees it; and the C library keeps what was freed for later. Together that
    is 2.7 GB after SFT of 135 M weights (docs/decisions/0038-memory-between-stages.md), beside which the next stage would run.
    """
    _restart_peak()
    try:
        yield
    finally:
        give_back()


def peak_rss_mb() -> float:
    """Return the most memory that this process has held since the stage began, MB.

    Where the system cannot begin anew with a stage (not Linux, or /proc is not writable), it is since the process began.
    """
    try:
        for line in (_SELF / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return round(kilobytes / 1024, 1)


def give_back() -> None:
    """Free what nothing refers to, on a GPU too, and return it to the system where its C library can."""
    gc.collect()
    torch = sys.modules.get("torch")  # importing it takes seconds, and who has not done so holds none of its memory
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return_freed()


def return_freed() -> None:
    """Return what the C library keeps of freed memory to the system, where it can: what is asked for next starts from there.

    Blocks of ever other sizes leave gaps that no later one fits into (docs/decisions/0030-profiles.md).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def _restart_peak() -> None:
    try:
        (_SELF / "clear_refs").write_text("5")  # Linux, proc(5): resets the peak of resident memory, and nothing else
    except OSError:
        return
