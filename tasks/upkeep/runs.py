"""The ledger: does it open, which runs have no process, which moves of aliases were cut off, and where do aliases lead."""

import time
from functools import partial
from typing import Any

from posttrain.errors import RequestError
from posttrain.printable import counted
from posttrain.promotion.moves import CHAMPION, Outcome
from tasks.promotion.history import history_of
from tasks.promotion.moves import half_done_moves, set_alias, settle_moves
from tasks.tracking.killed_runs import close_killed, killed_runs, models_without_version, sweep_models
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import moves_lock
from tasks.upkeep.findings import Finding, Stores, named, note, well, wrong
from tasks.workspace.locks import exclusive
from tasks.workspace.presence import Note, Process, left_behind, living

LONG_OPEN = 7 * 86_400.0
"""Seconds after which a run of a process that we cannot ask, another machine's, is told: no pipeline of ours takes a week."""
A_PAGE = 1_000


def ledger(stores: Stores) -> list[Finding]:
    """Open the ledger, as every command does."""
    if not stores.has_ledger:
        return [well("nothing to look at: no pipeline has run here")]
    opened = stores.open_ledger()
    models = opened.client.search_registered_models(max_results=A_PAGE)
    return [well(f"it opens: experiment {stores.config.tracking.experiment}, {counted(len(models), 'registered model')}")]


# --- runs -------------------------------------------------------------------------------------------------------------


def open_runs(stores: Stores) -> list[Finding]:
    """Look for runs that are RUNNING without a process, and for models that never became a version."""
    left = left_behind(stores.paths)
    if not stores.has_ledger and left:
        told = f"{_processes(left)} ended without a word, before there was a ledger. FIX=1 clears what is left"
        return [note(told, partial(_settle_all, stores, None))]
    opened = stores.ledger()
    killed, models = killed_runs(opened), models_without_version(opened)
    found = []
    mend = partial(_settle_all, stores, opened)
    if killed:
        names = named([f"{run.info.run_name} ({run.info.run_id[:8]})" for run in killed])
        found.append(
            wrong(
                f"{counted(len(killed), 'run')} RUNNING in MLflow, but the process is gone (kill, memory, power): {names}. FIX=1 "
                "marks them as KILLED, with the command that goes on; so does the next command of any kind",
                mend,
            )
        )
    elif left:
        found.append(note(f"{_processes(left)} ended without a word and left a note. FIX=1 clears it", mend))
    if models:
        ids = named([str(model.model_id) for model in models])
        told = f"{counted(len(models), 'model')} in MLflow that never became a version: {ids}. FIX=1 takes them out, with files"
        found.append(wrong(told, mend))
    found += _unknown(opened)
    return found or [well("no run is open without a process, and every model is a version")]


def _unknown(opened: Ledger) -> list[Finding]:
    """Return a note on runs that are open for long and whose process we cannot ask."""
    at_work = living(opened.paths)
    old = []
    for run in opened.running("tags.`posttrain.kind` != ''"):
        tags = run.data.tags
        process = Process.from_name(tags.get("posttrain.process", ""), host=tags.get("posttrain.host", ""))
        is_here = process is not None and (process.host == Process.current().host or process.name in at_work)
        if not is_here and time.time() - run.info.start_time / 1000 > LONG_OPEN:
            old.append(f"{run.info.run_name} ({run.info.run_id[:8]}) of {tags.get('posttrain.host') or 'nobody knows where'}")
    if not old:
        return []
    return [
        note(
            f"{counted(len(old), 'run')} RUNNING for more than a week, of which this machine cannot tell whether they live: "
            f"{named(old)}. Run make doctor there; if that machine is gone, end them on MLflow's page"
        )
    ]


def _processes(left: list[Note]) -> str:
    return counted(len(left), "process", "processes")


def _settle_all(stores: Stores, opened: Ledger | None) -> str:
    """Mark what is dead as every command does, and then what left no note."""
    lines: list[str] = []
    killed = killed_runs(opened) if opened else []
    stores.settle(lines.append)
    if opened is not None:
        close_killed(opened)
        lines += [f"model {model} is taken out" for model in sweep_models(opened)]
    told = [f"{counted(len(killed), 'run')} marked as KILLED"] if killed else []
    return "; ".join([*told, *lines])


# --- moves ------------------------------------------------------------------------------------------------------------


def moves(stores: Stores) -> list[Finding]:
    """Look for moves of aliases that were cut off."""
    opened = stores.ledger()
    dead, alive = half_done_moves(opened)
    found = []
    if dead:
        told = (
            f"{counted(len(dead), 'move')} of aliases cut off half-way: {named(dead)}. FIX=1 completes it, or undoes it where "
            "its version does not load; so does the next promotion or rollback"
        )
        found.append(wrong(told, partial(_settle_moves, opened)))
    if alive:
        found.append(note(f"{named(alive)} is under way, or its machine is another one and died within 15 minutes. Look again"))
    return found or [well("none is half-done")]


def _settle_moves(opened: Ledger) -> str:
    lines: list[str] = []
    settle_moves(opened, lines.append)
    return "; ".join(lines)


# --- aliases ----------------------------------------------------------------------------------------------------------


def aliases(stores: Stores) -> list[Finding]:
    """Look whether each alias names a version that is there, and whether the history made it champion."""
    opened = stores.ledger()
    found, count = [], 0
    for name in registered_models(opened):
        known = {str(one.version) for one in versions_of(opened, name)}
        now = opened.client.get_registered_model(name).aliases
        count += len(now)
        found += [_to_nothing(opened, name, alias, str(at)) for alias, at in sorted(now.items()) if str(at) not in known]
        if trouble := _trouble_of_champion(opened, name, str(now.get(CHAMPION, ""))):
            found.append(trouble)
    return found or [well(f"{counted(count, 'alias', 'aliases')}: each names a version that is there")]


def _to_nothing(opened: Ledger, name: str, alias: str, version: str) -> Finding:
    told = f"models:/{name}@{alias} is version {version}, which is not in the registry. FIX=1 takes the alias away"
    return wrong(told, partial(_take_away, opened, name, alias, version))


def _take_away(opened: Ledger, name: str, alias: str, version: str) -> str:
    """Take an alias away that names no version, unless somebody is moving aliases, or has set it meanwhile."""
    with exclusive(opened.paths, moves_lock(name), wait=False) as is_held:
        if not is_held:
            raise RequestError(f"another process moves aliases of {name} now, which takes seconds. Run again")
        now = opened.client.get_registered_model(name).aliases.get(alias)
        if str(now) != version:
            return ""
        set_alias(opened, name, (alias, None))
    return f"models:/{name}@{alias} is taken away: it was version {version}, which is not there"


def _trouble_of_champion(opened: Ledger, name: str, champion: str) -> Finding | None:
    """Return how the champion differs from what the history tells; None where it does not."""
    moved = [one for one in history_of(opened, name) if one.outcome in (Outcome.DONE, Outcome.COMPLETED)]
    last = moved[0].version if moved else ""
    if champion == last:
        return None
    data = name.removeprefix("posttrain-")
    if not champion:
        return wrong(
            f"{name} has no champion, though the history made version {last} champion: models:/{name}@{CHAMPION} does not load. "
            f"Go back: make rollback DATA={data} WHY=…; or take another: make promote DATA={data} VERSION=… WHY=…"
        )
    said = f"the last move of the history made version {last} champion" if last else "the history has no move"
    return note(
        f"models:/{name}@{CHAMPION} is version {champion}, but {said}: somebody set the alias past make promote and make "
        f"rollback. If version {champion} is right, nothing is to be done: the next promotion starts from it (docs/promotion.md)"
    )


def registered_models(opened: Ledger) -> list[str]:
    """Return the names of the registered models."""
    return sorted(str(model.name) for model in opened.client.search_registered_models(max_results=A_PAGE))


def versions_of(opened: Ledger, name: str) -> list[Any]:
    """Return all versions of a registered model."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = opened.client.search_model_versions(f"name = '{name}'", max_results=A_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
