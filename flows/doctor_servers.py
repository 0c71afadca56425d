"""What `make doctor` asks of the servers: their databases, their processes, Prefect's open runs and its schedules."""

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial

from flows.environment import prefect_home
from flows.lost_runs import LOST, crash, lost_among
from flows.prefect_database import SETTINGS, prefect_database
from flows.prefect_server import OPEN, FlowRun, Server, online
from flows.schedule_list import entries
from flows.service_lines import StatusLine, ended_before
from flows.service_plans import TITLES, WORK_POOL, check_stores, is_of_this_machine
from flows.services import status, trouble_of_worker
from posttrain.errors import PosttrainError
from posttrain.printable import counted
from posttrain.schedules.rules import TIMES
from tasks.judges.cache import FILE, VERSION
from tasks.services.notes import MLFLOW, NAMES, PREFECT, WORKER, folder_of, forget, is_copied, note_of, running
from tasks.services.processes import flow_runs_here, is_hidden, trouble_at
from tasks.tracking.store import ledger_database
from tasks.upkeep.findings import Finding, Stores, megabytes, named, note, well, wrong
from tasks.workspace.databases import Database, check
from tasks.workspace.presence import Process, living

WAIT = 5.0
"""Seconds that a database may be held by somebody who writes; a program that holds it longer is told."""
ANSWER = 5.0
"""Seconds that a server gets for one answer."""


# --- databases --------------------------------------------------------------------------------------------------------


def databases(stores: Stores) -> list[Finding]:
    """Look at every database of ours, page by page where that takes no longer than a second, or all of it if deep."""
    found, budget, sizes = [], stores.budget(), []
    for database in _files(stores):
        if not database.file.exists():
            continue
        size = database.file.stat().st_size
        is_read = budget.takes(size)
        try:
            check(database, wait=WAIT, every_page=is_read)
        except PosttrainError as error:
            found.append(wrong(str(error)))
            if database.file.name == "mlflow.db":
                stores.unusable = "MLflow's database cannot be used (databases, above)"
        else:
            sizes.append(f"{database.file.name} {megabytes(size)}{'' if is_read else ' (its head; DEEP=1 reads all)'}")
    found += _addressed(stores)
    return found or [well(f"whole and of a known version: {', '.join(sizes)}" if sizes else "there is none yet")]


def _files(stores: Stores) -> list[Database]:
    paths = stores.paths
    local = [] if stores.config.tracking.uri else [ledger_database(paths.ledger / "mlflow.db")]
    prefect = [] if any(name in os.environ for name in SETTINGS) else [prefect_database(prefect_home(paths))]
    replies = Database(
        file=paths.store / "judge" / FILE,
        what="the cache of the judge's answers",
        loses="the answers in it, which the judge is asked for again",
        keeps="finished labels, stages and models",
        version=VERSION,
    )
    return [*local, *prefect, replies]


def _addressed(stores: Stores) -> list[Finding]:
    """Ask the PostgreSQL that the settings name."""
    servers = stores.config.servers
    names = [name for name, text in ((PREFECT, servers.prefect_database), (MLFLOW, servers.mlflow_database)) if text]
    found = []
    for name in names:
        try:
            check_stores(stores.paths, servers, [name])
        except PosttrainError as error:
            found.append(wrong(str(error)))
    return found


# --- services ---------------------------------------------------------------------------------------------------------


def services(stores: Stores) -> list[Finding]:
    """Look at what `make up` started."""
    found = [_unreadable(stores, name) for name in NAMES if _is_unreadable(stores, name)]
    lines = status(stores.paths)
    found += [wrong(_trouble_of(line)) for line in lines if line.is_down]
    found += _of_the_pool(stores)
    up = [TITLES[line.name] for line in lines if line.is_running and not line.trouble]
    return found or [well(f"{' and '.join(up)} up" if up else "none was started; none is needed but for schedules (make up)")]


def _is_unreadable(stores: Stores, name: str) -> bool:
    is_there = (folder_of(stores.paths) / f"{name}.json").exists()
    return is_there and note_of(stores.paths, name) is None and not is_copied(stores.paths, name)


def _unreadable(stores: Stores, name: str) -> Finding:
    told = f"the note of {TITLES[name]} ({folder_of(stores.paths) / f'{name}.json'}) cannot be read, so nobody finds the service"

    def take_away() -> str:
        forget(stores.paths, name)
        return f"the note of {TITLES[name]} is taken away"

    return wrong(f"{told}. FIX=1 takes it away; if the service still runs, its port is taken: end it by hand", take_away)


def _trouble_of(line: StatusLine) -> str:
    assert line.note is not None
    title = TITLES[line.name]
    if not line.is_running:
        last = f" Its log ends with: {line.last}" if line.last else ""
        return f"{title} {ended_before(line.note)}. make up starts it again; make down forgets it.{last}"
    return f"{title} runs and does not answer at {line.note.health}: {line.trouble}. Start it anew: make down && make up"


def _of_the_pool(stores: Stores) -> list[Finding]:
    """Ask Prefect's server whether the worker, which says that it is well, serves the pool."""
    worker = running(stores.paths, WORKER)
    if worker is None or running(stores.paths, PREFECT) is None or trouble_at(worker.health, timeout=ANSWER):
        return []
    trouble = trouble_of_worker(stores.paths, stores.config.servers, worker.health)
    return [wrong(f"the worker runs, but {trouble}. Start it anew: make down && make up")] if trouble else []


# --- runs of Prefect --------------------------------------------------------------------------------------------------


def flow_runs(stores: Stores) -> list[Finding]:
    """Look for runs that Prefect believes to go on, and that no process executes: each holds a place in its schedule's limit."""
    with _server(stores) as server:
        if isinstance(server, Finding):
            return [server]
        runs = _open_runs(server)
        lost = _lost(stores, runs)
        if lost:
            names = named([run.name for run in lost])
            told = f"{counted(len(lost), 'run')} open in Prefect without a process: {names}. Each may hold up its schedule"
            return [wrong(f"{told}. FIX=1 marks them as crashed, and so does make up", partial(_mark, stores))]
        told = "" if _knows_all(stores) else "; those of other machines cannot be told from here"
        return [well(f"{counted(len(runs), 'run')} open, each with its process{told}")]


def _open_runs(server: Server) -> list[FlowRun]:
    from flows.aftermath import OPEN_RUNS

    return server.read_flow_runs(states=OPEN, limit=OPEN_RUNS)


def _lost(stores: Stores, runs: list[FlowRun]) -> list[FlowRun]:
    """Return the runs that are certainly lost: of the worker here, and of commands by hand whose process has ended."""
    of_worker = [run for run in runs if run.work_pool_name == WORK_POOL] if _knows_all(stores) else []
    lost = lost_among(of_worker, living=flow_runs_here(), is_process=is_hidden, now=datetime.now(UTC))
    at_work = living(stores.paths)
    lost += [run for run in runs if _is_of_the_dead(run, at_work)]
    return list({run.id: run for run in lost}.values())


def _knows_all(stores: Stores) -> bool:
    """Return whether no other machine can have a part in the runs."""
    with suppress(PosttrainError):
        own = running(stores.paths, PREFECT)
        is_own = own is not None and os.environ.get("PREFECT_API_URL") == f"{own.site}/api"
        return is_own and is_of_this_machine(stores.config.servers)
    return False


def _is_of_the_dead(run: FlowRun, at_work: Collection[str]) -> bool:
    """Return whether a run has the tag of a process of this very start of this machine that has ended."""
    here = Process.current()
    names = [tag.removeprefix("process-") for tag in run.tags if tag.startswith("process-")]
    processes = [process for name in names if name not in at_work and (process := Process.from_name(name, host=here.host))]
    return any(process.boot == here.boot and not process.may_live() for process in processes)


def _mark(stores: Stores) -> str:
    with _server(stores) as server:
        if isinstance(server, Finding):
            return ""
        names = [run.name for run in _lost(stores, _open_runs(server)) if crash(server, run, LOST)]
    return f"{named(names)} marked as crashed" if names else ""


# --- schedules --------------------------------------------------------------------------------------------------------


def schedules(stores: Stores) -> list[Finding]:
    """Look whether each schedule of this checkout has its next run at the right time, and whether somebody would start it."""
    with _server(stores) as server:
        if isinstance(server, Finding):
            return [_without_server(stores, server)]
        awake = [one for one in entries(server, stores.paths) if not (one.kept.is_paused or one.end)]
        at_pools = [one for one in awake if one.kept.schedule.pool]
        told = [one for one in awake if one.trouble and (one.is_served or one in at_pools)]
        found = [wrong(f"schedule {one.kept.schedule.name}: {one.trouble}") for one in told]
        if (here := len(awake) - len(at_pools)) and (why := _trouble_of_workers(server)):
            found.append(wrong(f"{counted(here, 'schedule')} and no worker: {why}. Start one: make up"))
        timed = sum(one.kept.schedule.on == TIMES for one in awake)
        waiting = f", {counted(len(awake) - timed, 'trigger')} waiting for an event" if timed < len(awake) else ""
        return found or [well(f"{counted(timed, 'schedule')} with a next run{waiting}")]


def _trouble_of_workers(server: Server) -> str:
    """Return why nobody serves our pool, "" where somebody does."""
    workers = server.read_workers(WORK_POOL)
    if workers is None:
        return f"there is no work pool {WORK_POOL}"
    if server.is_paused(WORK_POOL):
        return f"work pool {WORK_POOL} is paused (.venv/bin/prefect work-pool resume {WORK_POOL})"
    if online(workers):
        return ""
    seen = max((worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time), default=None)
    return f"the last one was seen at {seen:%Y-%m-%d %H:%M} UTC" if seen else "there never was one"


def _without_server(stores: Stores, finding: Finding) -> Finding:
    """Return what is wrong where no server answers: schedules that wait for one, as its own file tells."""
    waiting = _waiting_in(prefect_database(prefect_home(stores.paths)))
    if waiting is None:
        return finding
    if waiting:
        return wrong(f"{counted(waiting, 'schedule')} and no server of Prefect: nothing runs at its time. Start it: make up")
    return well("no schedule is set")


def _waiting_in(database: Database) -> int | None:
    """Return how many schedules a local database of Prefect holds that are neither paused nor off; None where it cannot tell."""
    if any(name in os.environ for name in SETTINGS):
        return None
    if not database.file.exists():
        return 0
    query = (
        "SELECT count(DISTINCT deployment.id) FROM deployment JOIN deployment_schedule "
        "ON deployment_schedule.deployment_id = deployment.id WHERE deployment_schedule.active AND NOT deployment.paused"
    )
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{database.file.resolve().as_uri()}?mode=ro", uri=True)) as opened:
        return int(opened.execute(query).fetchone()[0])
    return None


@contextmanager
def _server(stores: Stores) -> Iterator[Server | Finding]:
    """Yield the server that answers; else the finding that nothing was looked at, and why."""
    api = os.environ.get("PREFECT_API_URL", "")
    if not api:
        yield well("no server of Prefect runs here, so none was asked (make up starts it)")
    elif trouble := trouble_at(f"{api}/health", timeout=ANSWER):
        yield note(f"not looked at: Prefect's server at {api} does not answer: {trouble}")
    else:
        with Server(api) as server:
            yield server
