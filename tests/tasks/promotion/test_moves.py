"""Moves on a real store: what they write, what a kill leaves, and who may not move at the same time."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from posttrain.errors import RequestError, StorageError
from posttrain.promotion.moves import CHALLENGER, CHAMPION, ORDER, PREVIOUS, promotion, rollback
from tasks.promotion import moves as subject
from tasks.promotion.evaluated import evaluated
from tasks.promotion.evaluations import evaluation_of
from tasks.promotion.history import history_lines, history_of
from tasks.promotion.moves import (
    PROMOTED_TAG,
    ROLLED_BACK_TAG,
    Reason,
    alone,
    carry_out,
    read_aliases,
    record_refusal,
    settle_moves,
)
from tasks.tracking.killed_runs import close_killed
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import moves_lock
from tasks.workspace.locks import exclusive
from tests.tasks.promotion.versions import NAME, answered, pipeline

WHY = Reason(why="nightly", decision="better", record={"gate": {"promoted": True}}, gate="it is better", actor="ann@here")


def quiet(line: str) -> None:
    pass


def aliases(champion: str | None = None, previous: str | None = None, challenger: str | None = None) -> dict[str, str | None]:
    return {PREVIOUS: previous, CHAMPION: champion, CHALLENGER: challenger}


def promote(ledger: Ledger, version: str) -> str:
    with alone(ledger, NAME, say=quiet) as now:
        return carry_out(ledger, NAME, promotion(now, version), WHY)


def go_back(ledger: Ledger) -> str:
    with alone(ledger, NAME, say=quiet) as now:
        return carry_out(ledger, NAME, rollback(now), WHY)


def test_there_and_back_and_all_of_it_in_the_history(ledger: Ledger, tmp_path: Path) -> None:
    first = pipeline(ledger, tmp_path, 1.0, answered(20))
    assert (first.standing and first.standing.is_challenger) is True
    assert read_aliases(ledger, NAME) == aliases(challenger="1")
    run_id = promote(ledger, "1")
    assert read_aliases(ledger, NAME) == aliases("1")
    run = ledger.client.get_run(run_id)
    assert (run.info.status, run.data.tags["posttrain.kind"], run.data.tags["posttrain.outcome"]) == (
        "FINISHED",
        "promotion",
        "done",
    )
    file = Path(ledger.client.download_artifacts(run_id, "move.json", str(tmp_path)))
    record = json.loads(file.read_text())
    assert (record["model"], record["why"], record["gate"]) == (NAME, "nightly", {"promoted": True})
    assert record["move"]["after"] == aliases("1")

    # a worse one stays a plain version, a better one becomes challenger, on other questions nothing compares
    worse = pipeline(ledger, tmp_path, 2.0, answered(19))
    assert worse.standing and worse.standing.why.startswith("is not challenger: -2.5 points [")  # 19 of 40 against 20
    assert worse.standing.why.endswith("] against version 1, the champion, which keeps its name")
    assert read_aliases(ledger, NAME) == aliases("1")
    better = pipeline(ledger, tmp_path, 3.0, answered(30))
    assert better.standing and better.standing.is_challenger and read_aliases(ledger, NAME)[CHALLENGER] == "3"
    other = pipeline(ledger, tmp_path, 4.0, answered(1, prefix="x"), data_md5="e" * 32)
    assert other.standing and "without a comparison: version 3, challenger until now" in other.standing.why
    assert read_aliases(ledger, NAME)[CHALLENGER] == "4"

    promote(ledger, "3")
    assert read_aliases(ledger, NAME) == aliases("3", "1", "4")
    go_back(ledger)
    assert read_aliases(ledger, NAME) == aliases("1", "3", "4")
    tags = {number: ledger.client.get_model_version(NAME, number).tags for number in ("1", "3")}
    assert PROMOTED_TAG in tags["1"] and ROLLED_BACK_TAG not in tags["1"]
    assert tags["3"][ROLLED_BACK_TAG].endswith(" by ann@here: nightly")
    # made again, the version that was taken back does not come up by itself
    again = pipeline(ledger, tmp_path, 3.0, answered(30))
    assert again.version == "3" and again.standing and not again.standing.is_challenger

    with alone(ledger, NAME, say=quiet) as now:
        record_refusal(ledger, NAME, promotion(now, "2"), WHY, why="the gate said no")
    assert read_aliases(ledger, NAME) == aliases("1", "3", "4")
    told = history_of(ledger, NAME)
    assert [(one.kind, one.leaves, one.version, one.outcome) for one in told] == [
        ("promote", "1", "2", "refused"),
        ("rollback", "3", "1", "done"),
        ("promote", "1", "3", "done"),
        ("promote", "", "1", "done"),
    ]
    lines = history_lines(NAME, read_aliases(ledger, NAME), told)
    assert lines[0] == "posttrain-world: champion 1, previous 3, challenger 4"
    assert "promote   1 → 2     refused  better   ann@here  nightly" in lines[3]
    assert lines[4] == "  the gate said no; it is better"


def test_what_the_gate_is_given_of_a_version(ledger: Ledger, tmp_path: Path) -> None:
    pipeline(ledger, tmp_path, 1.0, answered(30))
    found = evaluation_of(ledger, NAME, "1")
    told = evaluated(ledger, found)
    assert (told.name, told.held_out, told.metric) == ("version 1", found.held_out, "accuracy")
    assert list(told.scores) == [1.0] * 30 + [0.0] * 10  # type: ignore[arg-type]
    assert list(told.finished) == [1.0] * 40 and list(told.tokens) == [7.0] * 40  # type: ignore[arg-type]
    assert list(told.reference_loss) == [1.0] * 40  # type: ignore[arg-type]
    assert told.seconds == pytest.approx(12 / 120)  # 12 s for 40 greedy and 80 sampled responses
    assert told.training is None and told.warnings is None and told.families is None


# --- what a kill leaves -----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for kill -9: nothing of ours runs after it."""


def cut_off(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, version: str, *, after: int) -> None:
    """Promote a version, and end after some of its steps."""
    left = [after]

    def set_some(one: Ledger, name: str, step: Any) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        set_alias(one, name, step)

    set_alias = subject.set_alias
    with monkeypatch.context() as patch:
        patch.setattr(subject, "set_alias", set_some)
        patch.setattr(subject, "_close", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            promote(ledger, version)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_the_next_command_completes_what_a_kill_left(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    pipeline(ledger, tmp_path, 1.0, answered(20))
    promote(ledger, "1")
    pipeline(ledger, tmp_path, 2.0, answered(30))
    cut_off(monkeypatch, ledger, "2", after=after)
    assert read_aliases(ledger, NAME)[CHAMPION] in ("1", "2")
    assert close_killed(ledger) == [], "a half-done move is not marked as killed: nobody would find it any more"
    said: list[str] = []
    settle_moves(ledger, said.append)
    assert read_aliases(ledger, NAME) == aliases("2", "1")
    assert len(said) == 1 and said[0].startswith("promote posttrain-world 1 → 2 was half-done and is completed: ")
    (last, _) = history_of(ledger, NAME)
    assert (last.version, last.outcome) == ("2", "completed")
    settle_moves(ledger, said.append)
    assert len(said) == 1


def test_a_move_to_a_version_that_is_gone_is_undone(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline(ledger, tmp_path, 1.0, answered(20))
    promote(ledger, "1")
    lost = pipeline(ledger, tmp_path, 2.0, answered(30))
    cut_off(monkeypatch, ledger, "2", after=2)
    assert read_aliases(ledger, NAME) == aliases("2", "1", "2")
    (Path(lost.path) / "model.safetensors").write_bytes(b"noise")
    with alone(ledger, NAME, say=quiet) as now:
        assert now == aliases("1", None, "2")
    assert [(one.version, one.outcome) for one in history_of(ledger, NAME)] == [("2", "undone"), ("1", "done")]


def test_an_intent_without_its_record_is_withdrawn(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline(ledger, tmp_path, 1.0, answered(20))

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(subject, "_write_record", killed)
        with pytest.raises(Killed):
            promote(ledger, "1")
    settle_moves(ledger, quiet)
    assert read_aliases(ledger, NAME) == aliases(challenger="1")
    assert [one.outcome for one in history_of(ledger, NAME)] == ["undone"]


# --- two at once ------------------------------------------------------------------------------------------------------


def foreign_move(ledger: Ledger, *, seconds_ago: float) -> str:
    """A move of another machine, which has set nothing yet."""
    tags = {
        "posttrain.kind": "promotion",
        "posttrain.model": NAME,
        "posttrain.actor": "bob@there",
        "posttrain.time": "2026-11-28T02:00:00+00:00",
        "posttrain.host": "another-machine",
        "posttrain.process": "1-2-00000000",
        "posttrain.intent": json.dumps(promotion(read_aliases(ledger, NAME), "1").as_record()),
        "posttrain.intent_written": "true",
    }
    moment = int((time.time() - seconds_ago) * 1000)
    name = "promote posttrain-world – → 1"
    return str(ledger.client.create_run(ledger.experiment_id, start_time=moment, tags=tags, run_name=name).info.run_id)


def test_two_moves_at_once_are_one(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline(ledger, tmp_path, 1.0, answered(20))
    with exclusive(ledger.paths, moves_lock(NAME)), pytest.raises(RequestError) as told:
        promote(ledger, "1")
    assert str(told.value) == (
        "another process of this folder moves aliases of posttrain-world now, which takes seconds. Look at make history, then "
        "run again"
    )
    run_id = foreign_move(ledger, seconds_ago=10)
    with pytest.raises(RequestError, match=r"– → 1 by bob@there is under way since 2026-11-28T02:00:00\+00:00, so no other move"):
        promote(ledger, "1")
    settle_moves(ledger, quiet)
    assert read_aliases(ledger, NAME) == aliases(challenger="1"), "it may live: it is left alone"
    ledger.client.set_terminated(run_id, "FAILED")

    # it begins between the look and the intent: neither moves
    write_intent = subject._write_intent

    def both(*arguments: Any) -> str:
        foreign_move(ledger, seconds_ago=0)
        return write_intent(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(subject, "_write_intent", both)
        with pytest.raises(RequestError, match="bob@there is under way"):
            promote(ledger, "1")
    assert read_aliases(ledger, NAME) == aliases(challenger="1")
    assert history_of(ledger, NAME)[0].outcome in ("refused", "under way")


def test_a_move_of_another_machine_is_settled_once_it_cannot_live(ledger: Ledger, tmp_path: Path) -> None:
    pipeline(ledger, tmp_path, 1.0, answered(20))
    foreign_move(ledger, seconds_ago=1000)
    settle_moves(ledger, quiet)
    assert read_aliases(ledger, NAME) == aliases("1")
    assert [one.outcome for one in history_of(ledger, NAME)] == ["completed"]


def test_an_alias_that_was_set_by_hand_meanwhile_stops_a_move(ledger: Ledger, tmp_path: Path) -> None:
    pipeline(ledger, tmp_path, 1.0, answered(20))
    pipeline(ledger, tmp_path, 2.0, answered(30))
    with alone(ledger, NAME, say=quiet) as now:
        ledger.client.set_registered_model_alias(NAME, CHAMPION, "1")
        with pytest.raises(RequestError, match="was set by somebody else just now, so nothing was moved"):
            carry_out(ledger, NAME, promotion(now, "2"), WHY)
    assert read_aliases(ledger, NAME) == aliases("1", challenger="2")
    assert set(ORDER) == set(read_aliases(ledger, NAME))


def test_a_challenger_that_another_machine_made_meanwhile_stays(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline(ledger, tmp_path, 1.0, answered(20))
    pipeline(ledger, tmp_path, 2.0, answered(19))
    write_record = subject._write_record

    def meanwhile(*arguments: Any) -> None:
        write_record(*arguments)
        ledger.client.set_registered_model_alias(NAME, CHALLENGER, "2")

    monkeypatch.setattr(subject, "_write_record", meanwhile)
    promote(ledger, "1")
    assert read_aliases(ledger, NAME) == aliases("1", challenger="2")


def test_a_full_disk_leaves_a_move_that_the_next_command_settles(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    pipeline(ledger, tmp_path, 1.0, answered(20))
    with monkeypatch.context() as patch:
        patch.setattr(subject, "set_alias", full)
        with pytest.raises(StorageError, match="the disk is full"):
            promote(ledger, "1")
    settle_moves(ledger, quiet)
    assert read_aliases(ledger, NAME) == aliases("1")
