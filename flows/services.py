"""`make up`, `make down` and `make status`: Prefect's server, MLflow's server and a worker, in the background on this machine.

They outlive the terminal, and each has a note and a log in `.posttrain/services/`. One command at a time changes them.
"""

import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from flows.prefect_database import has_answered
from flows.server import one_at_a_time, wait_for_prefect
from flows.service_lines import StatusLine, ended_before, started_line
from flows.service_plans import WORK_POOL, Plan, check_stores, is_of_this_machine, make_ledger, plan_of
from posttrain.errors import ContractError, PosttrainError, RequestError
from posttrain.settings.config import Config
from posttrain.settings.evaluation import TrackingSettings
from posttrain.settings.servers import ServersSettings
from tasks.services.notes import MLFLOW, NAMES, PREFECT, WORKER, Service, forget, note_of, remember, running
from tasks.services.passwords import login_of
from tasks.services.processes import (
    end_with_descendants,
    flow_runs_below,
    flow_runs_here,
    is_free,
    is_hidden,
    last_line,
    memory_of,
    start,
    trouble_at,
    wait_until_well,
)
from tasks.services.webhook_key import key_environment
from tasks.workspace.interrupts import uninterrupted
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

Say = Callable[[str], None]
SUBJECTS = {PREFECT: "Prefect's server", MLFLOW: "MLflow's server", WORKER: "The worker"}
"""The services, where a sentence begins with one."""
REMEDIES = {
    PREFECT: "make up PORT={next}",
    MLFLOW: 'make up SET="servers.mlflow_port={next}"',
    WORKER: 'make up SET="servers.worker_port={next}"',
}
"""How another port is asked for."""


@dataclass
class Started:
    """A service that this command started."""

    plan: Plan
    process: subprocess.Popen[bytes]


def up(paths: Paths, config: Config, say: Say, *, names: Sequence[str] = NAMES) -> list[str]:
    """Start the services that do not run, and wait until each is well; returns a line for each.

    What is wrong with a port, a password or a database is told before anything starts. A service that does not come up is ended
    again; the others stay.

    Args:
        paths: of the repository.
        config: its sections `servers` and `tracking`.
        say: prints a note.
        names: of the services.

    Raises:
        RequestError: a setting, a password or a port cannot be used.
        StorageError: a database cannot be used, or a service does not come up.
        ContractError: one runs and does not answer.
    """
    with exclusive(paths, "services"):
        there = {name: service for name in NAMES if (service := running(paths, name))}
        settings = _as_running(config.servers, there.get(PREFECT))
        api = f"{there[PREFECT].site}/api" if PREFECT in there else ""
        plans = {name: plan_of(name, paths, settings, api=api) for name in names}
        missing = [plans[name] for name in names if name not in there]
        _tell_dead(paths, missing, say)
        for plan in missing:
            _require_free(plan)
        check_stores(paths, settings, [plan.name for plan in missing])
        _start_missing(paths, settings, config.tracking, missing, say)
    lines = [
        started_line(plans[name].title, there[name] if name in there else _note(paths, name), was_there=name in there)
        for name in names
    ]
    _require_answers({name: service for name, service in there.items() if name in names})
    return lines


def _as_running(settings: ServersSettings, prefect: Service | None) -> ServersSettings:
    """Return the settings with the password of a server that runs already, where they name none: a new worker needs it."""
    if settings.password or prefect is None:
        return settings
    return settings.model_copy(update={"password": prefect.password})


def _note(paths: Paths, name: str) -> Service:
    service = note_of(paths, name)
    if service is None:
        raise RequestError(f"the note of {name} was removed while it was started. Run again: make up")
    return service


def _tell_dead(paths: Paths, plans: Sequence[Plan], say: Say) -> None:
    for plan in plans:
        note = note_of(paths, plan.name)
        if note and note.process.host != socket.gethostname():
            say(f"note: {plan.title} was started on {note.process.host} before; it is started here")
        elif note:
            say(f"note: {plan.title} {ended_before(note)}; it is started again")


def _require_free(plan: Plan) -> None:
    if not is_free(plan.port):
        what = SUBJECTS[plan.name] if plan.name != WORKER else "the worker's health"
        other = "make ui of this folder, or the server of another clone" if plan.name == MLFLOW else "the server of another clone"
        raise RequestError(
            f"port {plan.port} must be free for {what}, but another program listens there, perhaps {other}. "
            f"End that one, or take another port: {REMEDIES[plan.name].format(next=plan.port + 1)}"
        )


def _start_missing(paths: Paths, settings: ServersSettings, tracking: TrackingSettings, plans: Sequence[Plan], say: Say) -> None:
    """Start all side by side: while Prefect makes its database, MLflow's is made here, and the worker loads and waits."""
    by_name = {plan.name: plan for plan in plans}
    with _started_or_ended(paths) as begin:
        with one_at_a_time(paths) as home:  # an ephemeral server would race in making a fresh database
            prefect = begin(by_name[PREFECT], settings) if PREFECT in by_name else None
            worker = begin(by_name[WORKER], settings) if WORKER in by_name else None
            if MLFLOW in by_name:
                make_ledger(paths, settings, tracking)
            ledger = begin(by_name[MLFLOW], settings) if MLFLOW in by_name else None
            if prefect:
                api = f"{prefect.plan.site}/api"
                wait_for_prefect(api, prefect.process, log=prefect.plan.log, home=home)
                has_answered(paths)
        if worker:
            _mark_lost(paths, settings, say)
        for one in (ledger, worker):
            if one:
                _wait(paths, settings, one)


def _wait(paths: Paths, settings: ServersSettings, one: Started) -> None:
    asked = partial(trouble_of_worker, paths, settings, one.plan.health) if one.plan.name == WORKER else None
    wait_until_well(SUBJECTS[one.plan.name], one.plan.health, one.process, log=one.plan.log, asked=asked)


def trouble_of_worker(paths: Paths, settings: ServersSettings, health: str) -> str:
    """Return what is wrong with the worker: it says so itself, or Prefect's server knows none that serves the pool."""
    if trouble := trouble_at(health):
        return trouble
    prefect = running(paths, PREFECT)
    if prefect is None:
        return "Prefect's server does not run"
    login = login_of(settings.password, setting="servers.password")
    trouble = trouble_at(f"{prefect.site}/api/work_pools/{WORK_POOL}", wants={"status": "READY"}, login=login)
    return f"work pool {WORK_POOL}: {trouble}" if trouble else ""


@contextmanager
def _started_or_ended(paths: Paths) -> Iterator[Callable[[Plan, ServersSettings], Started]]:
    """Start services, each noted at once; those that are not up when the block fails are ended and forgotten."""
    begun: list[Started] = []

    def begin(plan: Plan, settings: ServersSettings) -> Started:
        with uninterrupted():
            key = key_environment(paths) if plan.name == MLFLOW else {}
            process = start(plan.command, environment={**plan.environment, **key}, log=plan.log)
            begun.append(Started(plan, process))
            identity = Process.of(process.pid) or Process(process.pid, 0, "", "")
            remember(paths, _service(plan, identity, settings.password))
        return begun[-1]

    try:
        yield begin
    except BaseException:
        for one in reversed(begun):
            if one.process.poll() is not None or trouble_at(one.plan.health, timeout=2.0):
                end_with_descendants(one.process.pid)
                one.process.wait()
                forget(paths, one.plan.name)
        raise
    finally:
        for one in begun:
            if one.process.returncode is None:
                one.process.returncode = 0  # it outlives this object, which would warn of that


def _service(plan: Plan, process: Process, password: str) -> Service:
    now = datetime.now(UTC)
    return Service(plan.name, process, plan.site, plan.health, str(plan.log), now, password)


def _mark_lost(paths: Paths, settings: ServersSettings, say: Say) -> None:
    """Mark the runs that a killed worker left, unless they may be another machine's."""
    prefect = running(paths, PREFECT)
    if prefect is None or not is_of_this_machine(settings):
        return
    from flows.lost_runs import mark_lost
    from flows.prefect_server import Server

    with _told(say), Server(f"{prefect.site}/api") as server:
        for name in mark_lost(server, living=flow_runs_here(), is_process=is_hidden):
            say(f"note: run {name} had lost its process (kill, memory, power); it is marked as crashed, and its schedule goes on")


@contextmanager
def _told(say: Say) -> Iterator[None]:
    """Tell of a server that answers strangely: the services themselves are not to fail of it."""
    try:
        yield
    except PosttrainError:
        raise
    except Exception as error:
        say(f"note: runs of the worker cannot be marked now: {type(error).__name__}: {error}. make up tries again")


def _require_answers(there: dict[str, Service]) -> None:
    silent = {name: trouble for name, service in there.items() if (trouble := trouble_at(service.health))}
    if silent:
        told = [f"{name} runs but does not answer at {there[name].health}: {trouble}" for name, trouble in silent.items()]
        raise ContractError(f"{'; '.join(told)}. See its log, then: make down && make up")


def down(paths: Paths, say: Say) -> list[str]:
    """Stop the services, the worker first and what it runs with it; returns a line for each."""
    lines = []
    with exclusive(paths, "services"):
        for name in reversed(NAMES):
            note = note_of(paths, name)
            if note is None:
                lines.append(f"{SUBJECTS[name]} is not running")
            elif not note.lives:
                lines.append(f"{SUBJECTS[name]} {ended_before(note)}")
            else:
                runs = flow_runs_below(note.process.pid) if name == WORKER else set()
                end_with_descendants(note.process.pid)
                lines.append(f"{SUBJECTS[name]} is stopped")
                if runs:
                    _mark_stopped(paths, runs, say)
            forget(paths, name)
    return lines


def _mark_stopped(paths: Paths, runs: set[str], say: Say) -> None:
    prefect = running(paths, PREFECT)
    if prefect is None:
        say(f"note: {len(runs)} runs of the worker cannot be marked, since Prefect's server does not run; make up marks them")
        return
    from flows.lost_runs import mark_stopped
    from flows.prefect_server import Server

    with _told(say), Server(f"{prefect.site}/api") as server:
        for name in mark_stopped(server, runs):
            say(f"note: run {name} was stopped with the worker; it is marked as crashed")


def status(paths: Paths) -> list[StatusLine]:
    """Return how each service is, without changing anything."""
    return [_status_of(paths, name) for name in NAMES]


def _status_of(paths: Paths, name: str) -> StatusLine:
    note = note_of(paths, name)
    if note is None or not note.lives:
        return StatusLine(name, note, last=last_line(Path(note.log)) if note else "")
    return StatusLine(name, note, trouble=trouble_at(note.health), memory_mb=memory_of(note.process.pid), is_running=True)
