"""What the process itself is told before it works."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.environment import prepare
from posttrain.errors import RequestError
from tasks.services.notes import Service, remember
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

FREED = """
import ctypes, sys
from flows.environment import LARGE, keep_freed_memory
class Figures(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Figures
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
how = {"keep": {}, "smaller": {"mapped_from": LARGE}}.get(sys.argv[1])
kept = None if how is None else keep_freed_memory(**how)
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
        for how in ("leave", "keep", "smaller")
    }
    of_both = {"leave": ["True", "False", "None"], "keep": ["False", "True", "True"]}
    assert told == of_both | {"smaller": ["True", "False", "True"]}, "a block of 300 MB is no small one"


@pytest.mark.parametrize(("is_tiny", "given", "threads"), [(True, None, "1"), (True, "4", "4"), (False, None, None)])
def test_one_thread_is_enough_for_the_tiny_base_unless_somebody_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_tiny: bool, given: str | None, threads: str | None
) -> None:
    monkeypatch.setattr(os, "environ", {} if given is None else {"OMP_NUM_THREADS": given})
    prepare(Paths(tmp_path), is_tiny=is_tiny)
    assert os.environ.get("OMP_NUM_THREADS") == threads
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize(("given", "found"), [({}, "128"), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}, "7")])
def test_a_real_base_does_not_fill_memory_with_what_was_freed_or_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], found: str
) -> None:
    kept: list[int] = []
    monkeypatch.setattr("flows.environment.keep_freed_memory", lambda *, mapped_from: kept.append(mapped_from))
    monkeypatch.setattr(os, "environ", dict(given))
    prepare(Paths(tmp_path), is_tiny=False)
    assert kept == [2**25] and os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == found
    monkeypatch.setattr(os, "environ", {})
    prepare(Paths(tmp_path), is_tiny=True)
    assert kept == [2**25, 2**30] and "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in os.environ


SITE = "http://127.0.0.1:4999"


def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], *, password: str = "", noted: str = ""
) -> dict[str, str]:
    """Return the environment after `prepare`, where a server of `make up` runs."""
    monkeypatch.setattr(os, "environ", dict(given))
    note = Service("prefect", Process.current(), SITE, f"{SITE}/api/health", "p.log", datetime.now(UTC), noted)
    remember(Paths(tmp_path), note)
    prepare(Paths(tmp_path), is_tiny=True, password=password)
    return os.environ  # type: ignore[return-value]


def test_the_server_that_runs_is_used_unless_another_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(tmp_path, monkeypatch, {})
    assert found["PREFECT_API_URL"] == f"{SITE}/api" and "PREFECT_API_AUTH_STRING" not in found
    other = {"PREFECT_API_URL": "http://elsewhere/api"}
    assert told(tmp_path, monkeypatch, other)["PREFECT_API_URL"] == "http://elsewhere/api"


def test_clients_know_the_password_of_the_setting_or_of_the_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"A": "ann:one", "B": "bob:two:three"}
    found = told(tmp_path, monkeypatch, given, noted="env:B")
    names = ("PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    assert [found[name] for name in names] == ["bob:two:three", "bob", "two:three"]
    assert told(tmp_path, monkeypatch, given, noted="env:B", password="env:A")["PREFECT_API_AUTH_STRING"] == "ann:one"
    kept = told(tmp_path, monkeypatch, {**given, "PREFECT_API_AUTH_STRING": "own:one"}, noted="env:B")
    assert kept["PREFECT_API_AUTH_STRING"] == "own:one"


def test_a_password_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=r"^the password of make up is env:C, but the environment's variable C is not set\. "):
        told(tmp_path, monkeypatch, {}, noted="env:C")
    with pytest.raises(RequestError, match=r"^servers\.password is env:C, but "):
        told(tmp_path, monkeypatch, {}, password="env:C")
