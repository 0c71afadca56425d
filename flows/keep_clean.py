"""`make clean KEEP=…`: what is older than asked for and needed by nothing, listed first and removed with APPLY=1."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from uuid import UUID

from flows.environment import prefect_home
from flows.prefect_database import prefect_database
from posttrain.errors import RequestError
from posttrain.keeping.retention import Keep, Retention, retain
from posttrain.printable import printable
from posttrain.settings.config import Config
from tasks.keeping.collect import deployments_in
from tasks.keeping.exchange import CLEANING, LOCK, notes_folder
from tasks.keeping.facts import collect_facts
from tasks.keeping.removal import PREFECT_RUNS, SAYS, Removal, empty_trash, removals
from tasks.services.notes import PREFECT, running
from tasks.tracking.killed_runs import sweep_models
from tasks.tracking.ledger import Ledger
from tasks.tracking.registry import moves_lock
from tasks.workspace.databases import check
from tasks.workspace.disk import storage_errors
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths
from tasks.workspace.presence import living

Say = Callable[[str], None]
A_PAGE = 200
"""Prefect's largest page."""
MOST_NAMED = 5
"""Names that a line lists; all are counted."""


def clean(paths: Paths, config: Config, say: Say, *, keep: Keep, is_applied: bool) -> list[Removal]:
    """List what is old, or remove it; return it.

    Args:
        paths: of the repository.
        config: names the ledger and the servers.
        say: prints a note.
        keep: how many of the newest pipelines stay, or for how long.
        is_applied: remove it.

    Raises:
        RequestError: a pipeline runs, aliases move, or nobody can say what the schedules need.
        StorageError: the disk refuses; the next clean goes on.
    """
    if not config.tracking.uri and not (paths.ledger / "mlflow.db").exists():
        raise RequestError(f"there is nothing to clean in {paths.root}: no pipeline has run here")
    with storage_errors("clean", paths.root), _alone(paths, is_applied=is_applied):
        ledger = Ledger.open(paths, config.tracking)
        with _aliases_at_rest(ledger, is_applied=is_applied):
            if is_applied:
                empty_trash(paths)
                sweep_models(ledger)
            facts = collect_facts(ledger, schedules_of(paths, config))
            retention = retain(facts.pipelines, facts.holders, keep, now=time.time())
            found = list(removals(ledger, facts, retention))
            found += flow_runs(paths, retention, say)
            for line in listing(found, retention, keep, pipelines=len(facts.pipelines), is_applied=is_applied):
                print(printable(line))
            for one in found if is_applied else ():
                _require_rest(paths)
                one.act()
    if is_applied and not ledger.is_local and retention.goes:
        say(f"note: {config.tracking.uri} keeps those runs as deleted; on its machine: mlflow gc")
    return found


@contextmanager
def _alone(paths: Paths, *, is_applied: bool) -> Iterator[None]:
    """Let no other backup, restore or clean run beside one that removes, and other commands wait for it."""
    if not is_applied:
        yield
        return
    with exclusive(paths, LOCK, wait=False) as is_held:
        if not is_held:
            raise RequestError(
                "another backup, restore or clean of this folder is at work. Wait until it is done, then run again"
            )
        _require_rest(paths)
        note = notes_folder(paths) / CLEANING
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
        try:
            yield
        finally:
            note.unlink(missing_ok=True)


def _require_rest(paths: Paths) -> None:
    """Refuse to remove while a pipeline runs here: which stages it will still read, nobody knows."""
    if names := sorted(living(paths)):
        raise RequestError(
            f"process {names[0].partition('-')[0]} runs a pipeline here, or another command, which may need what is old. Wait "
            "until it has ended, then run again; without APPLY=1 this only lists"
        )


@contextmanager
def _aliases_at_rest(ledger: Ledger, *, is_applied: bool) -> Iterator[None]:
    """Let nobody move aliases between the look at them and the removal."""
    with ExitStack() as held:
        for model in ledger.client.search_registered_models() if is_applied else ():
            if not held.enter_context(exclusive(ledger.paths, moves_lock(model.name), wait=False)):
                raise RequestError(f"another process of this folder moves aliases of {model.name} now. Run again in some seconds")
        yield


def listing(found: Sequence[Removal], retention: Retention, keep: Keep, *, pipelines: int, is_applied: bool) -> list[str]:
    """Return what goes, by kind with its bytes, and what stays although it is older."""
    verb = "removes" if is_applied else "would remove"
    if not found:
        return [f"make clean KEEP={keep} finds nothing that is old: {pipelines:,} pipelines, all of which stay"]
    lines = [f"make clean KEEP={keep} {verb}, of {pipelines:,} pipelines, {len(retention.goes):,}:"]
    for kind, says in SAYS.items():
        ours = [one for one in found if one.kind == kind]
        if ours:
            names = ", ".join(one.name for one in ours[:MOST_NAMED]) + (", …" if len(ours) > MOST_NAMED else "")
            told = "" if kind == PREFECT_RUNS else f", {megabytes(sum(one.size for one in ours))}"
            lines.append(f"  {kind}: {len(ours):,}{told} ({says})")
            lines.append(f"    {names}")
    lines.append(f"together {megabytes(sum(one.size for one in found))}{_kept(retention)}")
    if not is_applied:
        lines.append(f"nothing was removed. To do it: make clean KEEP={keep} APPLY=1")
    return lines


def _kept(retention: Retention) -> str:
    """Return why older pipelines stay, counted by reason."""
    counted: dict[str, int] = {}
    for reason in retention.stays.values():
        if reason != "new":
            counted[reason] = counted.get(reason, 0) + 1
    told = ", ".join(f"{count:,} ({reason})" for reason, count in sorted(counted.items()))
    return f". Older ones that stay: {told}" if told else ""


def megabytes(size: int) -> str:
    """Return a size for people."""
    return f"{size / 2**20:,.1f} MB"


# --- Prefect ----------------------------------------------------------------------------------------------------------


def schedules_of(paths: Paths, config: Config) -> list[str]:
    """Return the parameters of each schedule as text: from the server that runs, else from its database.

    Raises:
        RequestError: nobody can tell them.
    """
    if api := os.environ.get("PREFECT_API_URL", "") or _api(paths):
        with _asking(api) as client:
            return [str(one.parameters) for one in _pages(client.read_deployments)]
    if config.servers.prefect_database:
        raise RequestError(
            "Prefect keeps its schedules in servers.prefect_database, and its server does not run, so nobody can say which "
            "versions they name. Start it, then run again: make up"
        )
    database = prefect_database(prefect_home(paths))
    check(database)
    return deployments_in(database.file) if database.file.exists() else []


def _api(paths: Paths) -> str:
    """Return the address of our own server of Prefect where it runs, "" where it does not: another's runs are not ours."""
    service = running(paths, PREFECT)
    return f"{service.site}/api" if service else ""


@contextmanager
def _asking(api: str) -> Iterator[Any]:
    """Give a client of a server.

    Raises:
        RequestError: it does not answer, or refuses.
    """
    from httpx import HTTPError

    from flows.prefect_client import client_of

    try:
        with client_of(api) as client:
            yield client
    except HTTPError as error:
        raise RequestError(
            f"Prefect's server ({api}) does not answer as it should: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ". Look at it (make status), then run again: what is not removed yet still is there"
        ) from None


def flow_runs(paths: Paths, retention: Retention, say: Say) -> list[Removal]:
    """Return the runs of Prefect that ended before the horizon, but for the last one of each schedule."""
    if retention.horizon is None:
        return []
    api = _api(paths)
    if not api:
        say("note: Prefect's old runs stay, since its server does not run; with it: make up, then run again")
        return []
    from prefect.client.schemas.sorting import FlowRunSort

    with _asking(api) as client:
        runs = list(_pages(partial(client.read_flow_runs, sort=FlowRunSort.START_TIME_DESC)))
    old = old_flow_runs(runs, retention.horizon)
    return [Removal(PREFECT_RUNS, str(run.name), 0, partial(_delete_flow_run, api, run.id)) for run in old]


def old_flow_runs(runs: Sequence[Any], horizon: float) -> list[Any]:
    """Return the runs that ended before the horizon, but for the last one of each schedule.

    Args:
        runs: of Prefect, the newest first.
        horizon: the moment, in seconds since 1970 UTC.
    """
    shown, old = set(), []
    for run in runs:
        is_last = run.deployment_id is not None and run.deployment_id not in shown
        if not (run.state and run.state.is_final()):
            continue
        shown.add(run.deployment_id)
        if not is_last and run.end_time is not None and run.end_time.timestamp() < horizon:
            old.append(run)
    return old


def _delete_flow_run(api: str, run_id: UUID) -> None:
    from prefect.exceptions import ObjectNotFound

    with _asking(api) as client:
        try:
            client.delete_flow_run(run_id)
        except ObjectNotFound:
            return


def _pages(read: Callable[..., Sequence[Any]]) -> Iterator[Any]:
    offset = 0
    while page := read(limit=A_PAGE, offset=offset):
        yield from page
        offset += len(page)
