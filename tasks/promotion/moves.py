"""Moves of aliases in MLflow: an intent, the aliases one by one, an outcome, each move a run of its own.

A run of kind `promotion` is the intent (its tags have the aliases before and after), the place of what was known when it was
decided (the artifact `move.json`), and the outcome. So the history lies wherever runs lie, in the local store as on a server, and
needs no table of ours. docs/decisions/0023-alias-moves.md has the rule for a process that dies in between.
"""

import getpass
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from posttrain.errors import RequestError, StorageError
from posttrain.promotion.moves import CHALLENGER, Kind, Move, Outcome, Settlement, Step, aliases_of, settlement
from tasks.promotion.loading import check_loads
from tasks.tracking.killed_runs import PROMOTION
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import moves_lock
from tasks.tracking.store import plain_errors
from tasks.workspace.locks import exclusive
from tasks.workspace.presence import Process

PROMOTED_TAG, ROLLED_BACK_TAG = "posttrain.promoted", "posttrain.rolled_back"
"""Of a version: when, by whom and why it became champion the last time; and was taken back, until it is champion again."""
INTENT_TAG, WRITTEN_TAG = "posttrain.intent", "posttrain.intent_written"
RECORD = "move.json"
"""Artifact of a move: the aliases, why, the gate's decision, and the evaluations that it was decided by."""
LONGEST_MOVE = 900.0
"""Seconds after which a move of another machine, of whose processes we cannot know, counts as dead. A move takes seconds; MLflow
tries for minutes where the server does not answer, and clocks differ."""
Say = Callable[[str], None]


class UnderWayError(RequestError):
    """Another move of the same model is under way; it takes seconds, so trying again helps."""


@dataclass(frozen=True)
class Reason:
    """What is written down with a move.

    Attributes:
        why: as the person, or the schedule, said it.
        decision: in a word or a phrase: the gate's rule, "by hand, against the gate", "by hand".
        record: the gate's decision and the evaluations behind it, as plain JSON.
        gate: what the gate said, in a sentence; "" where it was not asked.
        actor: who moved it.
    """

    why: str
    decision: str
    record: Mapping[str, Any] = field(default_factory=dict)
    gate: str = ""
    actor: str = ""


def this_actor() -> str:
    """Return user and machine, as the history has them."""
    user = "?"
    with suppress(KeyError, OSError):  # a container's user may have no name
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"


@plain_errors
def read_aliases(ledger: Ledger, name: str) -> dict[str, str | None]:
    """Return the versions of champion, challenger and previous; None where an alias is not set."""
    found = ledger.client.get_registered_model(name).aliases
    return aliases_of({alias: str(version) for alias, version in found.items()})


@contextmanager
def alone(ledger: Ledger, name: str, *, say: Say) -> Iterator[dict[str, str | None]]:
    """Let nobody else move aliases of a model until the block ends, settle what a dead process left, and yield the aliases.

    Raises:
        RequestError: another process moves them now.
    """
    with exclusive(ledger.paths, moves_lock(name), wait=False) as is_held:
        if not is_held:
            raise UnderWayError(
                f"another process of this folder moves aliases of {name} now, which takes seconds. Look at make history, then "
                "run again"
            )
        _settle_model(ledger, name, say=say)
        if alive := [run for run in _open_moves(ledger, name) if not _is_dead(run)]:
            raise UnderWayError(_under_way(alive[0], name))
        yield read_aliases(ledger, name)


@plain_errors
def carry_out(ledger: Ledger, name: str, move: Move, reason: Reason) -> str:
    """Move the aliases and return the id of the run that tells it; to be called within `alone`.

    Raises:
        RequestError: another machine began a move at the same moment, or set an alias since they were read; nothing was moved.
        StorageError: the store refused. What was set so far is completed or undone by the next command.
    """
    run_id = _write_intent(ledger, name, move, reason)
    if others := [run for run in _open_moves(ledger, name) if run.info.run_id != run_id]:
        _close(ledger, run_id, Outcome.REFUSED, "another move began at the same moment")
        raise UnderWayError(_under_way(others[0], name))
    if read_aliases(ledger, name) != move.before:
        _close(ledger, run_id, Outcome.REFUSED, "an alias was set by somebody else since it was decided")
        raise RequestError(
            f"an alias of {name} was set by somebody else just now, so nothing was moved. Look at it, then run again"
        )
    _write_record(ledger, run_id, name, move, reason)
    for step in move.steps:
        if step[0] == CHALLENGER and read_aliases(ledger, name)[CHALLENGER] != move.before[CHALLENGER]:
            continue  # a pipeline on another machine, which our lock does not hold, has just made a new one
        set_alias(ledger, name, step)
    _tell_versions(ledger, name, move, f"{_now()} by {reason.actor}: {reason.why}")
    _close(ledger, run_id, Outcome.DONE, "")
    return run_id


@plain_errors
def record_refusal(ledger: Ledger, name: str, move: Move, reason: Reason, *, why: str) -> str:
    """Write into the history that a move was asked for and refused; no alias is touched. Return the run's id."""
    run_id = _write_intent(ledger, name, move, reason)
    ledger.client.log_dict(run_id, _record(name, move, reason), RECORD)
    _close(ledger, run_id, Outcome.REFUSED, why)
    return run_id


def set_alias(ledger: Ledger, name: str, step: Step) -> None:
    """Set an alias to a version, or take it away."""
    alias, version = step
    if version is None:
        ledger.client.delete_registered_model_alias(name, alias)
    else:
        ledger.client.set_registered_model_alias(name, alias, version)


# --- what a dead process left -----------------------------------------------------------------------------------------


@plain_errors
def settle_moves(ledger: Ledger, say: Say) -> None:
    """Complete or undo every half-done move of a process that is dead, of any model; one that is under way is left alone."""
    for name in sorted({run.data.tags.get("posttrain.model", "") for run in _open_moves(ledger)}):
        with exclusive(ledger.paths, moves_lock(name), wait=False) as is_held:
            if is_held:
                _settle_model(ledger, name, say=say)


@plain_errors
def half_done_moves(ledger: Ledger) -> tuple[list[str], list[str]]:
    """Return what the moves without an outcome are called: those whose process is dead, and those that may be under way."""
    dead: list[str] = []
    alive: list[str] = []
    for run in _open_moves(ledger):
        (dead if _is_dead(run) else alive).append(str(run.info.run_name))
    return dead, alive


@plain_errors
def _settle_model(ledger: Ledger, name: str, *, say: Say) -> None:
    """Settle the half-done moves of one model, whose lock is held."""
    for run in _open_moves(ledger, name):
        if _is_dead(run):
            say(_settle(ledger, name, run))


def _settle(ledger: Ledger, name: str, run: Any) -> str:
    """Complete or undo one move; return a sentence that tells it."""
    tags, run_id = run.data.tags, run.info.run_id
    try:
        move = Move.from_record(json.loads(tags.get(INTENT_TAG, "")))
    except (ValueError, KeyError, TypeError):
        _close(ledger, run_id, Outcome.UNDONE, "its intent cannot be read, so it set no alias")
        return f"{run.info.run_name} ended before it moved anything"
    settled = _settlement(ledger, name, move, is_written=tags.get(WRITTEN_TAG) == "true")
    for step in settled.steps:
        set_alias(ledger, name, step)
    if settled.outcome is Outcome.COMPLETED:
        _tell_versions(
            ledger,
            name,
            move,
            f"{tags.get('posttrain.time', '')} by {tags.get('posttrain.actor', '')}: {tags.get('posttrain.why', '')}",
        )
    _close(ledger, run_id, settled.outcome, settled.why)
    return f"{run.info.run_name} was half-done and is {settled.outcome}: {settled.why}"


def _settlement(ledger: Ledger, name: str, move: Move, *, is_written: bool) -> Settlement:
    known = {str(version.version) for version in ledger.client.search_model_versions(f"name = '{name}'")}
    # of a model that was deleted as a whole, no alias is left to set
    now = read_aliases(ledger, name) if known else aliases_of({})
    loads = move.version in known
    if loads and is_written:
        try:
            check_loads(ledger, name, move.version)
        except StorageError:
            loads = False
    return settlement(move, now, known=known, loads=loads, is_written=is_written)


@plain_errors
def _open_moves(ledger: Ledger, name: str = "") -> list[Any]:
    """Return the moves without an outcome, the oldest first."""
    of_model = f" and tags.`posttrain.model` = '{name}'" if name else ""
    found = ledger.running(f"tags.`posttrain.kind` = '{PROMOTION}'{of_model}")
    return sorted(found, key=lambda run: run.info.start_time)


def _is_dead(run: Any) -> bool:
    """Return whether a move's process has ended; our own, which holds the lock and is not in the middle of one, counts too."""
    tags = run.data.tags
    if tags.get("posttrain.host") != socket.gethostname():
        return bool(time.time() - run.info.start_time / 1000 > LONGEST_MOVE)
    process = Process.from_name(tags.get("posttrain.process", ""), host=tags["posttrain.host"])
    return process is None or process == Process.current() or not process.may_live()


def _under_way(run: Any, name: str) -> str:
    tags = run.data.tags
    return (
        f"{run.info.run_name} by {tags.get('posttrain.actor', 'somebody')} is under way since {tags.get('posttrain.time', '?')}, "
        f"so no other move of {name} begins. It takes seconds: run again. If its machine died, the first command later than "
        f"{LONGEST_MOVE / 60:.0f} minutes after that settles it"
    )


# --- what is written --------------------------------------------------------------------------------------------------


def _write_intent(ledger: Ledger, name: str, move: Move, reason: Reason) -> str:
    """Open the run of a move, which is its intent, and return its id."""
    before = f"version {move.leaves}" if move.leaves else "no champion"
    tags = {
        "posttrain.kind": PROMOTION,
        "posttrain.move": str(move.kind),
        "posttrain.model": name,
        "posttrain.dataset": name.removeprefix("posttrain-"),
        "posttrain.from": move.leaves or "",
        "posttrain.to": move.version,
        "posttrain.why": reason.why,
        "posttrain.actor": reason.actor,
        "posttrain.time": _now(),
        "posttrain.decision": reason.decision,
        "posttrain.gate": reason.gate[:5000],
        INTENT_TAG: json.dumps(move.as_record()),
        WRITTEN_TAG: "false",
        "mlflow.source.name": f"flows {move.kind}",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": f"**{name}: champion from {before} to version {move.version}**\n\n"
        f"{reason.why} ({reason.decision}; {reason.actor})",
    }
    return ledger.start_run(f"{move.kind} {name} {move.leaves or '–'} → {move.version}", tags=tags, parameters={})


def _record(name: str, move: Move, reason: Reason) -> dict[str, Any]:
    return {
        "model": name,
        "move": move.as_record(),
        "why": reason.why,
        "actor": reason.actor,
        "decision": reason.decision,
        **dict(reason.record),
    }


def _write_record(ledger: Ledger, run_id: str, name: str, move: Move, reason: Reason) -> None:
    """Write what was known, then that the intent is whole: from now on a dead process's move is completed."""
    ledger.client.log_dict(run_id, _record(name, move, reason), RECORD)
    ledger.client.set_tag(run_id, WRITTEN_TAG, "true")


def _tell_versions(ledger: Ledger, name: str, move: Move, told: str) -> None:
    """Tag the versions with what became of them."""
    client = ledger.client
    client.set_model_version_tag(name, move.version, PROMOTED_TAG, told)
    if ROLLED_BACK_TAG in client.get_model_version(name, move.version).tags:
        client.delete_model_version_tag(name, move.version, ROLLED_BACK_TAG)
    if move.kind is Kind.ROLLBACK and move.leaves:
        client.set_model_version_tag(name, move.leaves, ROLLED_BACK_TAG, told)


def _close(ledger: Ledger, run_id: str, outcome: Outcome, why: str) -> None:
    """Write the outcome; last of all the status, so that a move whose outcome is half-written is found again."""
    is_moved = outcome in (Outcome.DONE, Outcome.COMPLETED)
    tags = {"posttrain.outcome": str(outcome), "posttrain.outcome_why": why[:5000]}
    if not is_moved:
        tags["posttrain.error"] = why[:5000]
    ledger.tag(run_id, tags)
    ledger.client.set_terminated(run_id, "FINISHED" if is_moved else "FAILED")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
