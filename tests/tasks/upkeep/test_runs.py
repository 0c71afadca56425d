"""Runs, moves and aliases: broken in each way, seen, mended, and gone."""

import json
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from flows.aftermath import settle
from posttrain.errors import RequestError, StorageError
from posttrain.promotion.moves import CHALLENGER, CHAMPION, PREVIOUS, promotion
from posttrain.settings.config import Config
from tasks.promotion import moves as moving
from tasks.promotion.moves import Reason, alone, carry_out, read_aliases, set_alias
from tasks.tracking.killed_runs import VERSION_TAG
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import moves_lock
from tasks.upkeep import runs as subject
from tasks.upkeep.findings import Check, Finding, Looked, NotLookedError, Severity, Stores, examine
from tasks.upkeep.runs import LONG_OPEN, aliases, moves, open_runs
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process, folder_of
from tests.tasks.promotion.versions import NAME, answered, pipeline, start

WHY = Reason(why="nightly", decision="better", actor="ann@here")


def quiet(line: str) -> None:
    pass


def mended(look: str, stores: Stores) -> Looked:
    return examine(Check(look, "", getattr(subject, look)), stores, mends=True)


def one(findings: list[Finding]) -> tuple[Severity, str]:
    (found,) = findings
    return found.severity, found.says


# --- the ledger -------------------------------------------------------------------------------------------------------


def test_a_ledger_is_opened_once_for_all_checks(looked_at: Stores) -> None:
    stores = Stores(looked_at.paths, Config())
    assert one(subject.ledger(stores)) == (Severity.OK, "it opens: experiment posttrain, 0 registered models")
    assert stores.ledger() is stores.open_ledger()


def test_without_a_ledger_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    stores = Stores(Paths(tmp_path), Config())
    assert one(subject.ledger(stores)) == (Severity.OK, "nothing to look at: no pipeline has run here")
    assert not stores.paths.ledger.exists()


def test_a_ledger_that_cannot_be_opened_is_told_once(tmp_path: Path) -> None:
    stores = Stores(Paths(tmp_path), Config())
    stores.paths.ledger.mkdir(parents=True)
    (stores.paths.ledger / "mlflow.db").touch()
    with pytest.raises(StorageError, match="is empty"):
        subject.ledger(stores)
    with pytest.raises(NotLookedError, match="MLflow's ledger cannot be opened"):
        aliases(stores)


# --- runs -------------------------------------------------------------------------------------------------------------


def give_to(ledger: Ledger, run_id: str, process: Process) -> str:
    ledger.client.set_tag(run_id, "posttrain.process", process.name)
    ledger.client.set_tag(run_id, "posttrain.host", process.host)
    return run_id


def leave_note(stores: Stores, process: Process) -> Path:
    note = folder_of(stores.paths) / f"{process.name}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"host": process.host, "command": "make pipeline METHOD=dpo", "in_prefect": False}))
    return note


@pytest.mark.parametrize("has_note", [True, False])
def test_a_run_without_a_process(looked_at: Stores, ledger: Ledger, dead: Process, has_note: bool) -> None:
    looked_at.settle = partial(settle, looked_at.paths)
    alive, left = start(ledger), give_to(ledger, start(ledger), dead)
    note = leave_note(looked_at, dead) if has_note else None
    severity, says = one(open_runs(looked_at))
    assert severity is Severity.WRONG
    assert says.startswith(
        f"1 run RUNNING in MLflow, but the process is gone (kill, memory, power): dpo world seed 0 ({left[:8]})."
    )

    looked = mended("open_runs", looked_at)
    assert looked.severity is Severity.OK and looked.mended[0].startswith("1 run marked as KILLED")
    if note:
        assert looked.mended[0].endswith("To go on: make pipeline METHOD=dpo") and not note.exists()
    statuses = [ledger.client.get_run(run_id).info.status for run_id in (alive, left)]
    assert statuses == ["RUNNING", "KILLED"]


def test_a_note_of_a_dead_process(looked_at: Stores, dead: Process) -> None:
    looked_at.settle = partial(settle, looked_at.paths)
    leave_note(looked_at, dead)
    assert one(open_runs(looked_at)) == (
        Severity.NOTE,
        "1 process ended without a word and left a note. FIX=1 clears it",
    )
    assert mended("open_runs", looked_at).severity is Severity.OK


def test_a_note_of_a_process_that_died_before_there_was_a_ledger(tmp_path: Path, dead: Process) -> None:
    stores = Stores(Paths(tmp_path), Config())
    stores.settle = partial(settle, stores.paths)
    leave_note(stores, dead)
    assert open_runs(stores)[0].severity is Severity.NOTE
    looked = mended("open_runs", stores)
    assert [found.says for found in looked.findings] == ["nothing to look at: there is no ledger yet: no pipeline has run here"]


def test_a_model_that_never_became_a_version(looked_at: Stores, ledger: Ledger) -> None:
    ended = start(ledger)
    ledger.fail_pipeline(ended, "interrupted", status="KILLED")
    tags = {VERSION_TAG: "none"}
    model = ledger.client.create_logged_model(ledger.experiment_id, name=NAME, source_run_id=ended, tags=tags)
    Path(model.artifact_location).mkdir(parents=True)
    severity, says = one(open_runs(looked_at))
    assert severity is Severity.WRONG and says.startswith(f"1 model in MLflow that never became a version: {model.model_id}. ")
    looked = mended("open_runs", looked_at)
    assert (looked.severity, looked.mended) == (Severity.OK, (f"model {model.model_id} is taken out",))
    assert not Path(model.artifact_location).exists()


def test_a_run_of_another_machine_is_told_after_a_week(
    looked_at: Stores, ledger: Ledger, dead: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = give_to(ledger, start(ledger), replace(dead, host="elsewhere"))
    assert one(open_runs(looked_at))[0] is Severity.OK
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LONG_OPEN + 60)
    severity, says = one(open_runs(looked_at))
    assert severity is Severity.NOTE and f"dpo world seed 0 ({run_id[:8]}) of elsewhere" in says
    ledger.client.set_terminated(run_id, "KILLED")
    assert one(open_runs(looked_at))[0] is Severity.OK


# --- moves ------------------------------------------------------------------------------------------------------------


def two_versions(ledger: Ledger, models: Path) -> None:
    """Two versions, of which the first is champion."""
    pipeline(ledger, models, 1.0, answered(20))
    pipeline(ledger, models, 2.0, answered(30))
    move(ledger, "1")


def move(ledger: Ledger, version: str) -> str:
    with alone(ledger, NAME, say=quiet) as now:
        return carry_out(ledger, NAME, promotion(now, version), WHY)


def cut_off(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, process: Process) -> None:
    """A promotion of version 2 whose process dies before it sets champion."""

    def dying(ledger: Ledger, name: str, step: moving.Step) -> None:
        if step[0] == CHAMPION:
            raise KeyboardInterrupt
        set_alias(ledger, name, step)

    with monkeypatch.context() as patched:
        patched.setattr(moving, "set_alias", dying)
        with pytest.raises(KeyboardInterrupt):
            move(ledger, "2")
    (run,) = ledger.running("tags.`posttrain.kind` = 'promotion'")
    give_to(ledger, run.info.run_id, process)


def test_a_move_that_was_cut_off(
    looked_at: Stores, ledger: Ledger, models: Path, monkeypatch: pytest.MonkeyPatch, dead: Process
) -> None:
    two_versions(ledger, models)
    assert one(moves(looked_at)) == (Severity.OK, "none is half-done")
    cut_off(ledger, monkeypatch, dead)
    severity, says = one(moves(looked_at))
    assert severity is Severity.WRONG
    assert says.startswith(f"1 move of aliases cut off half-way: promote {NAME} 1 → 2. FIX=1 completes it, or undoes it")
    looked = mended("moves", looked_at)
    assert looked.severity is Severity.OK and looked.mended[0].startswith(f"promote {NAME} 1 → 2 was half-done and is completed")
    assert read_aliases(ledger, NAME) == {CHAMPION: "2", PREVIOUS: "1", CHALLENGER: None}


def test_a_move_that_may_be_under_way_is_left_alone(
    looked_at: Stores, ledger: Ledger, models: Path, monkeypatch: pytest.MonkeyPatch, dead: Process
) -> None:
    two_versions(ledger, models)
    cut_off(ledger, monkeypatch, replace(dead, host="elsewhere"))
    looked = mended("moves", looked_at)
    assert (looked.severity, looked.mended) == (Severity.NOTE, ())
    assert looked.findings[0].says.startswith(f"promote {NAME} 1 → 2 is under way, or its machine is another one")


# --- aliases ----------------------------------------------------------------------------------------------------------


def lose(stores: Stores, version: str) -> None:
    """Take a version out of the registry's table, as a half-restored backup does; MLflow itself takes its aliases along."""
    with closing(sqlite3.connect(stores.paths.ledger / "mlflow.db")) as opened, opened:
        opened.execute("DELETE FROM model_versions WHERE version = ?", (version,))


def test_aliases_of_versions_that_are_there(looked_at: Stores, ledger: Ledger, models: Path) -> None:
    assert one(aliases(looked_at)) == (Severity.OK, "0 aliases: each names a version that is there")
    two_versions(ledger, models)
    assert one(aliases(looked_at)) == (Severity.OK, "2 aliases: each names a version that is there")


def test_a_challenger_that_is_not_there(looked_at: Stores, ledger: Ledger, models: Path) -> None:
    two_versions(ledger, models)
    lose(looked_at, "2")
    assert one(aliases(looked_at)) == (
        Severity.WRONG,
        f"models:/{NAME}@challenger is version 2, which is not in the registry. FIX=1 takes the alias away",
    )
    looked = mended("aliases", looked_at)
    assert looked.severity is Severity.OK
    assert looked.mended == (f"models:/{NAME}@challenger is taken away: it was version 2, which is not there",)
    assert read_aliases(ledger, NAME) == {CHAMPION: "1", PREVIOUS: None, CHALLENGER: None}


def test_a_champion_that_is_not_there_needs_a_person(looked_at: Stores, ledger: Ledger, models: Path) -> None:
    two_versions(ledger, models)
    move(ledger, "2")
    lose(looked_at, "2")
    looked = mended("aliases", looked_at)
    assert looked.mended == (f"models:/{NAME}@champion is taken away: it was version 2, which is not there",)
    assert [(found.severity, found.says) for found in looked.findings] == [
        (
            Severity.WRONG,
            f"{NAME} has no champion, though the history made version 2 champion: models:/{NAME}@champion does not load. "
            "Go back: make rollback DATA=world WHY=…; or take another: make promote DATA=world VERSION=… WHY=…",
        )
    ]
    set_alias(ledger, NAME, (PREVIOUS, None))
    move(ledger, "1")
    assert one(aliases(looked_at))[0] is Severity.OK


def test_an_alias_is_left_alone_while_somebody_moves_aliases_or_has_set_it_meanwhile(
    looked_at: Stores, ledger: Ledger, models: Path
) -> None:
    two_versions(ledger, models)
    lose(looked_at, "2")
    (found,) = aliases(looked_at)
    assert found.fix
    with exclusive(ledger.paths, moves_lock(NAME)), pytest.raises(RequestError, match="moves aliases of posttrain-world now"):
        found.fix()
    set_alias(ledger, NAME, (CHALLENGER, "1"))
    assert found.fix() == "" and read_aliases(ledger, NAME)[CHALLENGER] == "1"


def test_a_champion_that_was_set_past_the_history(looked_at: Stores, ledger: Ledger, models: Path) -> None:
    two_versions(ledger, models)
    set_alias(ledger, NAME, (CHAMPION, "2"))
    severity, says = one(aliases(looked_at))
    assert severity is Severity.NOTE
    assert says.startswith(f"models:/{NAME}@champion is version 2, but the last move of the history made version 1 champion: ")
    set_alias(ledger, NAME, (CHAMPION, "1"))
    assert one(aliases(looked_at))[0] is Severity.OK


def test_a_champion_without_any_history(looked_at: Stores, ledger: Ledger, models: Path) -> None:
    pipeline(ledger, models, 1.0, answered(20))
    set_alias(ledger, NAME, (CHAMPION, "1"))
    assert "but the history has no move: " in one(aliases(looked_at))[1]
    shutil.rmtree(models)
