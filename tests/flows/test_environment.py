"""What the process itself is told before it works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.environment import prepare
from tasks.workspace.paths import Paths

FREED = """
import ctypes, sys
from flows.environment import keep_freed_memory
class Figures(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Figures
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
mapped = libc.mallinfo2().hblkhd
block = libc.malloc(300 * 2**20)
print(libc.mallinfo2().hblkhd - mapped >= 300 * 2**20)
libc.free(block)
print(libc.mallinfo2().fordblks >= 300 * 2**20, kept)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_large_blocks_stay_with_the_process_when_they_are_freed() -> None:
    """Without it they are mapped one by one and given back; with it they come from the heap, which keeps them."""
    import ctypes

    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("a C library without mallinfo2")
    told = {
        how: subprocess.run([sys.executable, "-c", FREED, how], capture_output=True, text=True, check=True).stdout.split()
        for how in ("leave", "keep")
    }
    assert told == {"leave": ["True", "False", "None"], "keep": ["False", "True", "True"]}


@pytest.mark.parametrize(("is_tiny", "given", "threads"), [(True, None, "1"), (True, "4", "4"), (False, None, None)])
def test_one_thread_is_enough_for_the_tiny_base_unless_somebody_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_tiny: bool, given: str | None, threads: str | None
) -> None:
    monkeypatch.setattr(os, "environ", {} if given is None else {"OMP_NUM_THREADS": given})
    prepare(Paths(tmp_path), is_tiny=is_tiny)
    assert os.environ.get("OMP_NUM_THREADS") == threads
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
