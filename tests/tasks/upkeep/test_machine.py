"""Disks, tools and clocks: each broken, seen, mended, and gone."""

import os
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from flows.disk import LEAST_FREE_MB as OF_COMMANDS
from posttrain.settings.config import Config, merge
from tasks.upkeep import machine as subject
from tasks.upkeep.findings import Severity, Stores
from tasks.upkeep.machine import LEAST_FREE_MB, LEAST_INODES, TIGHT_FREE_MB, TIGHT_INODES, Room, clocks, disks, time_at, tools
from tasks.workspace.paths import Paths

PROJECT = '[project]\nrequires-python = "{python}"\ndependencies = [{needs}]\n'


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(subject, "room_of", lambda folder: Room(50_000, 1_000_000))
    return Stores(Paths(tmp_path), Config())


def told(findings: object) -> list[tuple[Severity, str]]:
    return [(one.severity, one.says) for one in findings]  # type: ignore[attr-defined]


# --- disks ------------------------------------------------------------------------------------------------------------


def test_room_is_told(stores: Stores) -> None:
    ((severity, says),) = told(disks(stores))
    assert severity is Severity.OK
    assert says == f"{stores.paths.root}: 50,000 MB and 1,000,000 files are free"
    assert list(stores.paths.root.iterdir()) == [], "looking leaves nothing behind, and makes no folder"


def test_a_folder_that_cannot_be_written(stores: Stores) -> None:
    stores.paths.reports.touch()  # a file lies where the folder belongs
    ((severity, says),) = told(disks(stores))
    assert severity is Severity.WRONG
    assert says.startswith(f"{stores.paths.reports} cannot be written: Not a directory. Correct the permissions of")
    stores.paths.reports.unlink()
    assert disks(stores)[0].severity is Severity.OK


@pytest.mark.parametrize(
    ("room", "severity", "says"),
    [
        (Room(LEAST_FREE_MB - 1, None), Severity.WRONG, "499 MB are free, so no command that writes begins. Make room"),
        (Room(LEAST_FREE_MB, None), Severity.NOTE, "500 MB are free. Make room before it is full"),
        (Room(TIGHT_FREE_MB - 1, None), Severity.NOTE, "1,999 MB are free. Make room before it is full"),
        (Room(TIGHT_FREE_MB, None), Severity.OK, "2,000 MB are free"),
        (Room(9_000, LEAST_INODES - 1), Severity.WRONG, "9,000 MB and 999 files are free, so no command that writes begins."),
        (Room(9_000, TIGHT_INODES - 1), Severity.NOTE, "9,000 MB and 19,999 files are free. Make room before"),
        (Room(9_000, TIGHT_INODES), Severity.OK, "9,000 MB and 20,000 files are free"),
    ],
)
def test_a_disk_that_fills_up(stores: Stores, monkeypatch: pytest.MonkeyPatch, room: Room, severity: Severity, says: str) -> None:
    monkeypatch.setattr(subject, "room_of", lambda folder: room)
    (found,) = disks(stores)
    assert found.severity is severity and found.says.startswith(f"{stores.paths.root}: {says}") and found.fix is None


def test_the_limit_is_that_of_the_commands() -> None:
    assert LEAST_FREE_MB == OF_COMMANDS


def test_room_is_what_the_system_says(tmp_path: Path) -> None:
    import shutil

    # between the two questions others may write
    assert subject.room_of(tmp_path).megabytes == pytest.approx(shutil.disk_usage(tmp_path).free / 2**20, rel=0.1)


# --- tools ------------------------------------------------------------------------------------------------------------


def write(stores: Stores, *, python: str = ">=3.11", needs: str = "", pins: str = "") -> None:
    (stores.paths.root / "pyproject.toml").write_text(PROJECT.format(python=python, needs=needs))
    (stores.paths.root / "constraints.txt").write_text(pins)


def test_tools_as_they_should_be(stores: Stores) -> None:
    numpy = version("numpy")
    pins = f"numpy=={numpy}+cu126\nnot-installed-here==1.0\nrandom text\npyyaml==0.1 ; python_full_version < '3'\nregex>=1\n"
    write(stores, needs='"numpy>=1", "pyyaml"', pins=pins)
    ((severity, says),) = told(tools(stores))
    # the builder's mark, what is not installed, what is for another Python and what is no pin make no difference
    assert severity is Severity.OK and says.endswith("2 dependencies as needed, 2 pins kept")


def test_a_tool_that_does_not_do(stores: Stores) -> None:
    write(stores, needs='"numpy<1", "not-installed-here>=2"')
    ((severity, says),) = told(tools(stores))
    assert severity is Severity.WRONG
    assert says == (
        f"numpy is {version('numpy')}, not <1 and not-installed-here is not installed (pyproject.toml). "
        "Set the environment up anew: rm -f .venv/.ready && make setup"
    )
    write(stores, needs='"numpy>=1"')
    assert tools(stores)[0].severity is Severity.OK


def test_a_tool_of_another_version_than_is_pinned(stores: Stores) -> None:
    write(stores, needs='"numpy"', pins="numpy==0.1\n")
    ((severity, says),) = told(tools(stores))
    assert severity is Severity.NOTE
    assert says.startswith(f"1 package of another version than constraints.txt pins: numpy {version('numpy')} instead of 0.1. ")


def test_another_python(stores: Stores) -> None:
    write(stores, python="<3.0")
    ((severity, says),) = told(tools(stores))
    assert severity is Severity.WRONG and says.endswith(", and posttrain needs <3.0. Name one: make setup PYTHON=…")


def test_without_the_files_that_name_the_versions(stores: Stores) -> None:
    assert tools(stores)[0].severity is Severity.NOTE


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_a_file_from_the_future(stores: Stores) -> None:
    file = stores.paths.reports / "20261128-1.json"
    file.parent.mkdir()
    file.touch()
    now = time.time()
    os.utime(file, (now + 3_630, now + 3_630))
    ((severity, says),) = told(clocks(stores))
    assert severity is Severity.NOTE
    assert says.startswith(
        "1 file from the future, by up to 60 min (reports/20261128-1.json): this clock is behind, or was ahead"
    )
    assert says.endswith("touch reports/20261128-1.json")
    os.utime(file)
    assert told(clocks(stores)) == [(Severity.OK, "no file is from the future; 0 servers asked for the time")]


def test_half_a_minute_is_no_future(stores: Stores) -> None:
    stores.paths.reports.mkdir()
    file = stores.paths.reports / "a.json"
    file.touch()
    os.utime(file, (time.time() + 30, time.time() + 30))
    assert clocks(stores)[0].severity is Severity.OK


class Server:
    """Tells a time that is off by some seconds."""

    def __init__(self) -> None:
        outer = self
        self.off, self.code = 0.0, 200

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response_only(outer.code)
                self.send_header("Date", formatdate(time.time() + outer.off, usegmt=True))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()
    started.thread.join()


@pytest.mark.parametrize(("off", "says"), [(300.0, "s ahead of this machine's"), (-300.0, "s behind this machine's")])
def test_a_server_with_another_clock(stores: Stores, server: Server, off: float, says: str) -> None:
    stores.config = merge({}, [f"tracking.uri={server.address}"])
    server.off, server.code = off, 401  # it asks for a password, and tells the time all the same
    ((severity, told_of),) = told(clocks(stores))
    assert severity is Severity.WRONG and f"the clock of the server at {server.address}/health is " in told_of
    assert says in told_of
    server.off = 0.0
    assert told(clocks(stores)) == [(Severity.OK, "no file is from the future; 1 server asked for the time")]


def test_prefects_server_is_asked_too(stores: Stores, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{server.address}/api")
    server.off = 40.0
    assert f"{server.address}/api/health is " in clocks(stores)[0].says


def test_a_server_that_does_not_answer_has_no_clock(stores: Stores) -> None:
    assert time_at("http://127.0.0.1:9/health") is None and time_at("no address") is None
    stores.config = merge({}, ["tracking.uri=http://127.0.0.1:9"])
    assert clocks(stores)[0].severity is Severity.OK
