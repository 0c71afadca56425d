"""Which open runs are certainly lost, and which are marked."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from flows import lost_runs
from flows.lost_runs import LOST, STOPPED, lost_among, mark_lost, mark_stopped

NOW = datetime(2026, 11, 28, 21, 0, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)


def run(run_id: UUID = ONE, *, age: float = 3600.0, pid: str = "77", is_final: bool = False) -> Any:
    state = SimpleNamespace(timestamp=NOW - timedelta(seconds=age), is_final=lambda: is_final)
    return SimpleNamespace(id=run_id, name=f"run-{run_id.int}", state=state, infrastructure_pid=pid)


def lost(*runs: Any, living: tuple[str, ...] = (), hidden: tuple[int, ...] = ()) -> list[Any]:
    return lost_among(runs, living=living, is_process=lambda pid: pid in hidden, now=NOW)


def test_a_run_that_no_process_executes_is_lost() -> None:
    assert lost(run()) and lost(run(pid="")) and lost(run(pid="host:77"))


def test_one_that_a_process_here_executes_is_not() -> None:
    assert [one.id for one in lost(run(ONE), run(TWO), living=(str(ONE),))] == [TWO]


def test_one_on_its_way_from_a_worker_to_its_process_is_not() -> None:
    assert lost(run(age=59.0)) == [] and lost(run(age=61.0)) != []
    nothing_known = run()
    nothing_known.state = None
    assert lost(nothing_known) == []


def test_one_whose_process_is_another_users_is_not() -> None:
    assert lost(run(pid="77"), hidden=(77,)) == [] and lost(run(pid="78"), hidden=(77,)) != []


@dataclass
class Client:
    """A server of Prefect, as far as it is asked here."""

    runs: dict[UUID, Any]
    asked: list[Any] = field(default_factory=list)
    client: Any = None

    def read_flow_run(self, run_id: UUID) -> Any:
        return self.runs.get(run_id)

    def read_flow_runs(self, **filters: Any) -> list[Any]:
        self.asked.append(filters)
        return list(self.runs.values())


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is marked as crashed: name and message."""
    found: list[tuple[str, str]] = []

    def crash(client: Any, run: Any, message: str) -> bool:
        found.append((run.name, message))
        return True

    monkeypatch.setattr(lost_runs, "crash_run", crash)
    return found


def test_runs_of_a_worker_that_was_stopped_are_marked_unless_they_ended_by_themselves(marked: list[tuple[str, str]]) -> None:
    client = Client({ONE: run(ONE), TWO: run(TWO, is_final=True)})
    assert mark_stopped(client, {str(ONE), str(TWO), str(UUID(int=3)), "no id"}) == ["run-1"]
    assert marked == [("run-1", STOPPED)]


def test_lost_runs_of_our_pool_are_marked(marked: list[tuple[str, str]]) -> None:
    client = Client({ONE: run(ONE), TWO: run(TWO)})
    assert mark_lost(client, living={str(TWO)}, is_process=lambda pid: False) == ["run-1"]
    assert marked == [("run-1", LOST)]
    (asked,) = client.asked
    assert asked["pool"] == "posttrain" and set(asked["states"]) == {"RUNNING", "PENDING", "CANCELLING"}
