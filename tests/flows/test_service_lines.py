"""What is printed of a service: up, silent, down, elsewhere, never started."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.service_lines import StatusLine, duration, ended_before, started_line
from tasks.services.notes import Service
from tasks.workspace.presence import Process

SINCE = datetime(2026, 11, 28, 21, 0, tzinfo=UTC)
SITE = "http://127.0.0.1:5000"
NOTE = Service("mlflow", replace(Process.current(), pid=12), SITE, f"{SITE}/health", "services/mlflow.log", SINCE)
LOCAL = f"{SINCE.astimezone():%Y-%m-%d %H:%M}"
NOW = SINCE + timedelta(hours=3, minutes=10)


def test_one_that_was_never_started_is_not_down() -> None:
    line = StatusLine("mlflow", None)
    assert line.as_text(NOW) == "MLflow   not started" and not line.is_down


def test_one_that_is_well() -> None:
    line = StatusLine("mlflow", NOTE, is_running=True, memory_mb=1210)
    assert not line.is_down
    assert line.as_text(NOW) == f"MLflow   {SITE}    up since {LOCAL} (3 h 10 min), 1,210 MB, log services/mlflow.log"


def test_one_that_does_not_answer_is_down_though_its_process_is_there() -> None:
    line = StatusLine("mlflow", NOTE, is_running=True, trouble="it answers 503", memory_mb=1)
    assert line.is_down
    assert "does not answer: it answers 503; make down && make up starts it anew since" in line.as_text(NOW)


def test_one_whose_process_is_gone() -> None:
    line = StatusLine("mlflow", NOTE, last="no luck")
    assert line.is_down
    assert line.as_text(NOW) == (
        "MLflow   down: it ended without a word (process 12, started 2026-11-28 21:00 UTC): kill, memory or power; "
        "make up starts it again; log services/mlflow.log: no luck"
    )
    assert replace(line, last="").as_text(NOW).endswith("log services/mlflow.log")


def test_one_of_another_machine_is_not_ours_to_judge() -> None:
    line = StatusLine("mlflow", replace(NOTE, process=replace(NOTE.process, host="elsewhere")))
    assert line.as_text(NOW) == "MLflow   was started on elsewhere; ask there" and not line.is_down


def test_what_make_up_says() -> None:
    assert started_line("MLflow", NOTE, was_there=False) == f"MLflow   {SITE}    log services/mlflow.log"
    worker = replace(NOTE, name="worker", log="w.log")
    assert started_line("worker", worker, was_there=True) == (
        "worker   work pool posttrain      log w.log   (it was running already)"
    )
    assert ended_before(NOTE).startswith("ended without a word (process 12, ")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d 0 h"),
        (187200, "2 d 4 h"),
    ],
)
def test_times_as_one_says_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
