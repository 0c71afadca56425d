"""What a server of Prefect answers to those who only read: deployments, runs, workers, as small records of our own.

It is asked over HTTP. Prefect's own client takes seconds of processor time to import, more than everything else that
`make schedule` does, so it is made only where something is changed: `Server.client`.
"""

import os
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

from flows.prefect_client import client_of

if TYPE_CHECKING:
    from httpx import Response

NOT_FOUND = 404
BUSY = 503
"""SQLite's file was locked for longer than the server waits."""
WAITS = (0.5, 2.0)
"""Seconds before a busy server is asked again."""
LONGEST = 60.0
"""Seconds that one answer may take, as Prefect's own client has it."""
SCHEDULED = "SCHEDULED"
OPEN = ("RUNNING", "PENDING", "CANCELLING")
"""Types of the state of a run that somebody works at, or should."""
FINAL = ("COMPLETED", "CANCELLED", "FAILED", "CRASHED")
STATES = (SCHEDULED, *OPEN, *FINAL, "PAUSED")
"""Every type of state that there is."""
ONLINE = "ONLINE"
"""Status of a worker that has been heard of lately."""


@dataclass(frozen=True)
class State:
    """The state of a run: one of `STATES`, its name, its message, and since when, UTC."""

    type: str
    name: str
    message: str
    timestamp: datetime

    def is_final(self) -> bool:
        """Return whether the run has ended."""
        return self.type in FINAL


@dataclass(frozen=True)
class FlowRun:
    """A run; times are UTC, None where it has none."""

    id: UUID
    name: str
    state: State | None
    expected_start_time: datetime | None
    next_scheduled_start_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    tags: tuple[str, ...]
    work_pool_name: str
    infrastructure_pid: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read a run as the server tells it."""
        told = record.get("state")
        return cls(
            id=UUID(record["id"]),
            name=str(record["name"]),
            state=State(told["type"], told["name"] or "", told["message"] or "", _required(told["timestamp"])) if told else None,
            expected_start_time=_moment(record.get("expected_start_time")),
            next_scheduled_start_time=_moment(record.get("next_scheduled_start_time")),
            start_time=_moment(record.get("start_time")),
            end_time=_moment(record.get("end_time")),
            tags=tuple(record.get("tags") or ()),
            work_pool_name=record.get("work_pool_name") or "",
            infrastructure_pid=record.get("infrastructure_pid") or "",
        )


@dataclass(frozen=True)
class Deployment:
    """A deployment: what it is called and given, whether it is paused, where it runs, and when it changed last, UTC."""

    id: UUID
    name: str
    parameters: dict[str, Any]
    paused: bool
    path: str
    updated: datetime

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read a deployment as the server tells it."""
        return cls(
            id=UUID(record["id"]),
            name=str(record["name"]),
            parameters=dict(record.get("parameters") or {}),
            paused=bool(record.get("paused")),
            path=record.get("path") or "",
            updated=_required(record["updated"]),
        )


@dataclass(frozen=True)
class Worker:
    """A worker of a pool: `ONLINE` or not, and when it was heard of last, UTC."""

    status: str
    last_heartbeat_time: datetime | None


class Server:
    """A server of Prefect at an address; a context, which closes what it opened.

    What does not succeed raises `httpx.HTTPError`; what is not there is None.
    """

    def __init__(self, api: str) -> None:
        import httpx

        user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
        self.api = api
        self._open = ExitStack()
        self._http = self._open.enter_context(
            httpx.Client(
                base_url=api,
                auth=(user, password) if user else None,
                timeout=float(os.environ.get("PREFECT_API_REQUEST_TIMEOUT") or LONGEST),
                verify=_trusted() if api.startswith("https:") else False,
                follow_redirects=True,
            )
        )

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections, and Prefect's client where one was made."""
        self._open.close()

    @cached_property
    def client(self) -> Any:
        """Prefect's own client, for whoever changes something."""
        return self._open.enter_context(client_of(self.api))

    def read_deployments(self, *, tag: str) -> list[Deployment]:
        """Return the deployments that have a tag."""
        found = self._ask("POST", "/deployments/filter", {"deployments": {"tags": {"all_": [tag]}}})
        return [Deployment.from_record(one) for one in found or ()]

    def read_deployment(self, deployment: UUID) -> Deployment | None:
        """Return a deployment; None where it is gone."""
        found = self._ask("GET", f"/deployments/{deployment}")
        return Deployment.from_record(found) if found else None

    def read_flow_run(self, run: UUID) -> FlowRun | None:
        """Return a run; None where it is gone."""
        found = self._ask("GET", f"/flow_runs/{run}")
        return FlowRun.from_record(found) if found else None

    def read_flow_runs(
        self,
        *,
        limit: int,
        states: Sequence[str] = STATES,
        deployment: UUID | None = None,
        pool: str = "",
        sort: str = "ID_DESC",
        started_before: datetime | None = None,
        ended_after: datetime | None = None,
    ) -> list[FlowRun]:
        """Return runs.

        Args:
            limit: how many at most; a server gives no more than 200.
            states: types of states that they may be in.
            deployment: whose they are; None for any.
            pool: of workers that they wait for, or run in; "" for any or none.
            sort: their order, by Prefect's name.
            started_before: the latest start; None: also one that has not started.
            ended_after: the earliest end; None: also one that has not ended.
        """
        runs: dict[str, Any] = {"state": {"type": {"any_": list(states)}}}
        runs |= {"start_time": {"before_": started_before.isoformat()}} if started_before else {}
        runs |= {"end_time": {"after_": ended_after.isoformat()}} if ended_after else {}
        asked: dict[str, Any] = {"flow_runs": runs, "sort": sort, "limit": limit}
        asked |= {"deployments": {"id": {"any_": [str(deployment)]}}} if deployment else {}
        asked |= {"work_pools": {"name": {"any_": [pool]}}} if pool else {}
        return [FlowRun.from_record(one) for one in self._ask("POST", "/flow_runs/filter", asked) or ()]

    def read_workers(self, pool: str) -> list[Worker] | None:
        """Return the workers of a pool; None where there is no pool of this name."""
        found = self._ask("POST", f"/work_pools/{pool}/workers/filter", {})
        return None if found is None else [Worker(one["status"], _moment(one.get("last_heartbeat_time"))) for one in found]

    def is_paused(self, pool: str) -> bool:
        """Return whether a pool that there is has been paused."""
        return bool((self._ask("GET", f"/work_pools/{pool}") or {}).get("is_paused"))

    def _ask(self, method: str, path: str, asked: Mapping[str, Any] | None = None) -> Any:
        """Return what the server answers, as JSON; None for what it has not."""
        from httpx import HTTPStatusError

        headers = self._token if method != "GET" else {}
        answer = self._http.request(method, path, json=asked, headers=headers)
        for wait in WAITS:
            if answer.status_code != BUSY:
                break
            time.sleep(wait)
            answer = self._http.request(method, path, json=asked, headers=headers)
        if answer.status_code == NOT_FOUND:
            return None
        if answer.is_error:
            raise HTTPStatusError(_refusal(answer), request=answer.request, response=answer)
        return answer.json()

    @cached_property
    def _token(self) -> dict[str, str]:
        """The headers that a server wants which lets no foreign page write: to ask by a filter is a POST too."""
        asker = str(uuid4())
        answer = self._http.get("/csrf-token", params={"client": asker})
        if answer.is_error:  # this one has no such protection
            return {}
        return {"Prefect-Csrf-Token": answer.json()["token"], "Prefect-Csrf-Client": asker}


def online(workers: Iterable[Worker] | None) -> bool:
    """Return whether one of them is there."""
    return any(worker.status == ONLINE for worker in workers or ())


def _refusal(answer: "Response") -> str:
    return f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.reason_phrase}: {answer.text[:200]}"


def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("PREFECT_API_SSL_CERT_FILE") or os.environ.get("SSL_CERT_FILE"))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _required(text: str) -> datetime:
    return datetime.fromisoformat(text)
