"""A note of a service counts while its very process lives, and tells nothing that is secret."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.services.notes import NAMES, Service, folder_of, forget, is_copied, note_of, remember, running
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

SINCE = datetime(2026, 11, 28, 21, 0, tzinfo=UTC)


def service(**changes: object) -> Service:
    site = "http://127.0.0.1:4200"
    made = Service("prefect", Process.current(), site, f"{site}/api/health", "p.log", SINCE, "env:LOGIN")
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


def test_a_note_of_a_living_process_is_found_and_forgotten(paths: Paths) -> None:
    assert note_of(paths, "prefect") is None
    remember(paths, service())
    assert note_of(paths, "prefect") == running(paths, "prefect") == service()
    assert service().port == 4200
    assert running(paths, "mlflow") is None
    forget(paths, "prefect")
    forget(paths, "prefect")
    assert note_of(paths, "prefect") is None


def test_a_process_that_has_ended_or_is_somebody_elses_is_told_but_does_not_run(paths: Paths) -> None:
    ours = Process.current()
    for dead in (replace(ours, started=ours.started - 1), replace(ours, boot="0000aaaa"), replace(ours, host="elsewhere")):
        remember(paths, service(process=dead))
        assert running(paths, "prefect") is None, dead
        assert note_of(paths, "prefect") == service(process=dead)


def test_a_child_runs_until_it_is_a_zombie(paths: Paths) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = Process.of(child.pid)
        assert process
        remember(paths, service(process=process))
        assert running(paths, "prefect")
        child.kill()
        child.wait()
        assert Process.of(child.pid) is None and running(paths, "prefect") is None


@pytest.mark.parametrize("text", ["", "12", "[]", "{}", '{"name": "prefect"}', "\x00"])
def test_a_note_that_says_nothing_is_none(paths: Paths, text: str) -> None:
    remember(paths, service())
    file = folder_of(paths) / "prefect.json"
    file.write_text(text)
    assert note_of(paths, "prefect") is None


@pytest.mark.parametrize(
    "changes", [{"name": "mlflow"}, {"process": "x"}, {"site": "http://127.0.0.1"}, {"since": "2026-11-28T21:00:00"}, {"more": 1}]
)
def test_a_note_with_a_wrong_field_is_none(paths: Paths, changes: dict[str, object]) -> None:
    remember(paths, service())
    file = folder_of(paths) / "prefect.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    assert note_of(paths, "prefect") is None


def test_the_services_of_a_checkout_are_not_those_of_its_copy(tmp_path: Path) -> None:
    here, moved, copy = (Paths(tmp_path / name) for name in ("here", "moved", "copy"))
    remember(here, service())
    shutil.copytree(here.root, copy.root)
    here.root.rename(moved.root)
    assert note_of(copy, "prefect") is running(copy, "prefect") is None and is_copied(copy, "prefect")
    assert running(moved, "prefect") == service() and not is_copied(moved, "prefect")
    remember(copy, service(name="prefect", log="mine.log"))
    assert running(copy, "prefect") == service(log="mine.log")


def test_a_note_of_an_older_version_counts(paths: Paths) -> None:
    remember(paths, service())
    file = folder_of(paths) / "prefect.json"
    told = json.loads(file.read_text())
    del told["folder"]
    file.write_text(json.dumps(told))
    assert running(paths, "prefect") == service() and not is_copied(paths, "prefect")


def test_the_order_is_that_of_a_start() -> None:
    assert NAMES == ("prefect", "mlflow", "worker")
