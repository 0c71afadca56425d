"""Schedules as Prefect's server keeps them: a deployment each, and an automation for one that an event starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from flows.deploy_files import ROOT_NAME
from flows.prefect_server import NOT_FOUND, Deployment, Server
from flows.service_plans import WORK_POOL
from posttrain.errors import RequestError, did_you_mean
from posttrain.schedules.rules import DATA, EVENTS, RETRAIN, TIMES, Schedule
from posttrain.settings.config import Config
from tasks.base_model.identity import TINY
from tasks.services.notes import PREFECT, running
from tasks.services.processes import trouble_at
from tasks.workspace.paths import Paths

TAG = "posttrain-schedule"
"""Of every deployment that is a schedule of ours."""
FLOWS = {RETRAIN: "retraining", "monitor": "monitoring"}
"""The flow in flows/scheduled.py that runs each verb."""
FILE = "flows/scheduled.py"
UP = "Start it: make up"


@dataclass(frozen=True)
class Kept:
    """A schedule on the server.

    Attributes:
        deployment: its id.
        schedule: what it is.
        is_paused: it makes no runs until it is resumed.
        root: the checkout that it runs in.
        changed: when it was made or changed last, UTC.
    """

    deployment: UUID
    schedule: Schedule
    is_paused: bool
    root: str
    changed: datetime

    @property
    def resource(self) -> str:
        """Its name as an owner of automations."""
        return f"prefect.deployment.{self.deployment}"


@contextmanager
def connected(paths: Paths) -> Iterator[Server]:
    """Have the server that keeps schedules: the one of `make up`, else the one that PREFECT_API_URL names.

    Raises:
        RequestError: there is none, it does not answer, or it refuses what is asked.
    """
    service = running(paths, PREFECT)
    api = f"{service.site}/api" if service else os.environ.get("PREFECT_API_URL", "")
    if not api:
        raise RequestError(f"schedules need Prefect's server and a worker, and Prefect's server does not run. {UP}")
    if trouble := trouble_at(f"{api}/health"):
        raise RequestError(f"schedules need Prefect's server, but {api} does not answer: {trouble}. See make status; {UP}")
    from httpx import HTTPError

    try:
        with Server(api) as server:
            yield server
    except HTTPError as error:
        raise RequestError(f"Prefect's server at {api} did not do it: {' '.join(str(error).split())[:300]}") from None


def all_kept(server: Server) -> list[Kept]:
    """Return every schedule on the server, by name; those of other checkouts too."""
    kept = [one for deployment in server.read_deployments(tag=TAG) if (one := _kept(deployment))]
    return sorted(kept, key=lambda one: one.schedule.name)


def kept_of(server: Server, deployment: UUID) -> Kept | None:
    """Return the schedule that a deployment is, None where it is none or is gone."""
    found = server.read_deployment(deployment)
    return _kept(found) if found else None


def _kept(deployment: Deployment) -> Kept | None:
    try:
        schedule = Schedule.from_record(deployment.parameters["schedule"])
    except (KeyError, TypeError):  # somebody gave our tag to a deployment of their own
        return None
    return Kept(deployment.id, schedule, deployment.paused, deployment.path, deployment.updated)


def of_checkout(kept: list[Kept], paths: Paths) -> list[Kept]:
    """Return the schedules that run in this checkout."""
    return [one for one in kept if one.root == str(paths.root.resolve())]


def named(server: Server, paths: Paths, name: str) -> Kept:
    """Return one schedule of this checkout.

    Raises:
        RequestError: there is none of this name.
    """
    known = {one.schedule.name: one for one in of_checkout(all_kept(server), paths)}
    if name not in known:
        listed = f"schedules are {', '.join(known)}" if known else "there is none yet"
        raise RequestError(f"there is no schedule {name}{did_you_mean(name, known)}; {listed}")
    return known[name]


def save(server: Server, paths: Paths, schedule: Schedule, config: Config) -> UUID:
    """Make a schedule, or replace the one of its name; return the deployment's id.

    Raises:
        RequestError: another checkout has one of this name, or there is no work pool.
    """
    from httpx import HTTPStatusError

    for other in all_kept(server):
        if other.schedule.name == schedule.name and other.root != str(paths.root.resolve()):
            raise RequestError(f"a schedule {schedule.name} runs in {other.root}; take another name: NAME={schedule.name}-2")
        if other.schedule.name == schedule.name and other.schedule.verb != schedule.verb:
            delete(server, other)
    client = server.client
    flow = client.create_flow_from_name(FLOWS[schedule.verb])
    try:
        deployment: UUID = client.create_deployment(flow, schedule.name, **_deployment(paths, schedule, config))
    except HTTPStatusError as error:
        if error.response.status_code != NOT_FOUND:
            raise
        start = f"Make and start it: make deploy NAME={schedule.pool}" if schedule.pool else UP
        raise RequestError(f"there is no work pool {pool_of(schedule)}: no worker has run yet. {start}") from None
    client.delete_resource_owned_automations(f"prefect.deployment.{deployment}")
    if schedule.on != TIMES:
        trigger = trigger_of(schedule)
        trigger.set_deployment_id(deployment)
        client.create_automation(trigger.as_automation())
    return deployment


def _deployment(paths: Paths, schedule: Schedule, config: Config) -> dict[str, Any]:
    """Return what the deployment is beside its flow and name."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    root = str(paths.root.resolve())
    times = []
    if schedule.on == TIMES:
        cron = CronSchedule(cron=schedule.cron, timezone=schedule.zone)
        times = [DeploymentScheduleCreate(schedule=cron, active=True)]
    return {
        "schedules": times,
        "paused": False,
        "parameters": {
            "words": list(schedule.words),
            "cause": "schedule" if schedule.on == TIMES else schedule.on,
            "schedule": schedule.as_record(),
        },
        "description": schedule.command,
        "tags": [TAG],
        "work_pool_name": pool_of(schedule),
        "path": root,
        "entrypoint": f"{FILE}:{FLOWS[schedule.verb]}",
        "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": _folder_of_runs(schedule, root)}}],
        # elsewhere, what the pool's own files set is enough (flows/deploy_files.py)
        "job_variables": {} if schedule.pool else {"working_dir": root, "env": environment_of(config, paths)},
        "enforce_parameter_schema": False,
    }


def pool_of(schedule: Schedule) -> str:
    """Return the work pool that a schedule's runs are put in."""
    return schedule.pool or WORK_POOL


def _folder_of_runs(schedule: Schedule, root: str) -> str:
    """Return where a run works: this checkout, or the one that its worker names in the environment."""
    return f"{{{{ ${ROOT_NAME} }}}}" if schedule.pool else root


def environment_of(config: Config, paths: Paths) -> dict[str, str]:
    """Return what a run's process needs beside the worker's environment, which `make up` made for the settings of that moment."""
    told = {"PYTHONPATH": str(paths.root.resolve())}
    if config.model.base != TINY:  # the worker may have been told to stay off the hub, and to take one thread
        told |= {name: os.environ.get(name, own) for name, own in (("HF_HUB_OFFLINE", "0"), ("OMP_NUM_THREADS", _cores()))}
    return told


def _cores() -> str:
    return str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def trigger_of(schedule: Schedule) -> Any:
    """Return the trigger that runs a schedule's deployment on each event of its dataset, with what the event says."""
    from prefect.events import DeploymentEventTrigger

    says = {"md5": "{{ event.payload.md5 }}"} if schedule.on == DATA else {"verdict": "{{ event.payload.verdict }}"}
    return DeploymentEventTrigger(
        name=f"{schedule.name}: {schedule.on} of {schedule.dataset}",
        expect={EVENTS[schedule.on]},
        match={"prefect.resource.id": f"dataset.{schedule.dataset}"},
        parameters={"cause": schedule.on, "event": says},  # not its id: Prefect makes JSON of each value, and a UUID is none
    )


def set_paused(server: Server, kept: Kept, is_paused: bool) -> None:
    """Pause or resume a schedule: its times, and the automation that listens for it."""
    client = server.client
    (client.pause_deployment if is_paused else client.resume_deployment)(kept.deployment)
    for automation in automations_of(server, kept):
        (client.pause_automation if is_paused else client.resume_automation)(automation.id)


def automations_of(server: Server, kept: Kept) -> list[Any]:
    """Return the automations that start a schedule."""
    if kept.schedule.on == TIMES:
        return []
    return [one for one in server.client.read_resource_related_automations(kept.resource) if one.owner_resource == kept.resource]


def delete(server: Server, kept: Kept) -> None:
    """Delete a schedule, the automation that listens for it, and with the deployment the runs that were to come."""
    server.client.delete_resource_owned_automations(kept.resource)
    server.client.delete_deployment(kept.deployment)


def run_again(server: Server, deployment: str, parameters: dict[str, Any]) -> str:
    """Have a schedule's deployment make one more run now; return the run's name, "" where the schedule was deleted meanwhile."""
    from prefect.exceptions import ObjectNotFound

    try:
        return str(server.client.create_flow_run_from_deployment(UUID(deployment), parameters=parameters).name)
    except (ObjectNotFound, ValueError):
        return ""
