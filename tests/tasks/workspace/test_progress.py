"""What a user sees of a stage: without a terminal, with one, where another line comes between, where stderr is closed."""

import io
from types import SimpleNamespace

import pytest

from tasks.workspace import progress as subject
from tasks.workspace.progress import StageLine, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves; no test waits."""
    now = [100.0]
    monkeypatch.setattr(subject.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture(params=[io.StringIO, Terminal], ids=["file", "terminal"])
def stderr(request, monkeypatch):
    stream = request.param()
    monkeypatch.setattr(subject, "sys", SimpleNamespace(stderr=stream))
    return stream


def line():
    return StageLine(name="sft", doing="imitating 64 demonstrations", number=3, total=9)


def test_begun_and_ended(stderr, clock):
    stage = line()
    stage.begin(about=12.3)
    begun = stderr.getvalue()
    clock[0] += 2.2
    stage.end()
    if stderr.isatty():
        assert begun == "stage 3 of 9, sft: imitating 64 demonstrations, about 12 s\n"
        assert stderr.getvalue() == f"{begun}stage 3 of 9, sft: done in 2 s\n"
    else:
        assert begun == "3/9 sft: imitating 64 demonstrations …"
        assert stderr.getvalue() == "3/9 sft: imitating 64 demonstrations … 2 s\n"


def test_an_estimate_below_a_second(stderr, clock):
    line().begin(about=0.1)
    assert not stderr.isatty() or stderr.getvalue().endswith(", about 1 s\n")


def test_without_an_estimate(stderr, clock):
    stage = line()
    stage.begin(about=None)
    assert "about" not in stderr.getvalue()


def test_reused(stderr):
    line().end("reused")
    assert stderr.getvalue() in ("3/9 sft: reused\n", "stage 3 of 9, sft: reused\n")


def test_stopped(stderr, clock):
    stage = line()
    stage.begin(about=None)
    clock[0] += 75
    stage.end("stopped")
    assert stderr.getvalue().splitlines()[-1].endswith((" … stopped after 75 s", "sft: stopped after 75 s"))


def test_another_line_gets_one_of_its_own(monkeypatch, clock):
    stream = io.StringIO()
    monkeypatch.setattr(subject, "sys", SimpleNamespace(stderr=stream))
    stage = line()
    stage.begin(about=None)
    stage.pause()
    stream.write("sft: waiting for the run that is making it\n")
    stage.pause()
    clock[0] += 4
    stage.end()
    assert stream.getvalue().splitlines() == [
        "3/9 sft: imitating 64 demonstrations …",
        "sft: waiting for the run that is making it",
        "3/9 sft: done in 4 s",
    ]


def test_a_line_without_a_name_is_silent(stderr):
    StageLine().end("reused")
    StageLine().pause()
    assert stderr.getvalue() == ""


def test_a_closed_stderr_stops_nothing(monkeypatch, clock):
    monkeypatch.setattr(subject, "sys", SimpleNamespace(stderr=None))
    stage = line()
    stage.begin(about=1.0)
    stage.pause()
    stage.end()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "under 1 s"),
        (0.49, "under 1 s"),
        (0.51, "1 s"),
        (119.4, "119 s"),
        (119.6, "2 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds, told):
    assert duration(seconds) == told
