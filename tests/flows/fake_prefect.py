"""A server of Prefect, as far as schedules ask it: deployments, runs, automations and workers, in memory."""

from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

from posttrain.schedules.rules import Schedule

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
MADE = datetime(2026, 11, 1, tzinfo=UTC)


class FakeClient:
    """What is kept, and what was asked: it answers as `flows.prefect_server.Server` does, and is its own `client`.

    Attributes:
        deployments: by id.
        runs: that `read_flow_runs` gives, whatever is asked; a function of the query where it matters.
        automations: of all deployments.
        workers: of our pool.
        asked: names of calls with what they were given.
    """

    def __init__(self):
        self.deployments = {}
        self.runs = lambda query: []
        self.automations = []
        self.workers = [SimpleNamespace(status="ONLINE", last_heartbeat_time=NOW)]
        self.is_pool_paused = False
        self.asked = []
        self.events = []
        self.client = self

    def add(self, schedule, *, root, paused=False, number=None):
        key = UUID(int=number or len(self.deployments) + 1)
        self.deployments[key] = SimpleNamespace(
            id=key, name=schedule.name, parameters={"schedule": schedule.as_record()}, paused=paused, path=str(root), updated=MADE
        )
        return key

    def read_deployments(self, *, tag):
        return list(self.deployments.values())

    def read_deployment(self, key):
        return self.deployments.get(key)

    def create_flow_from_name(self, name):
        self.asked.append(("flow", name))
        return UUID(int=99)

    def create_deployment(self, flow, name, **told):
        self.asked.append(("deployment", name, told))
        key = next((key for key, one in self.deployments.items() if one.name == name), UUID(int=len(self.deployments) + 1))
        self.deployments[key] = SimpleNamespace(
            id=key, name=name, parameters=told["parameters"], paused=told["paused"], path=told["path"], updated=MADE
        )
        return key

    def delete_deployment(self, key):
        del self.deployments[key]

    def pause_deployment(self, key):
        self.deployments[key].paused = True

    def resume_deployment(self, key):
        self.deployments[key].paused = False

    def create_automation(self, automation):
        self.asked.append(("automation", automation))
        self.automations.append(SimpleNamespace(id=UUID(int=77), owner_resource=automation.owner_resource, enabled=True))

    def read_resource_related_automations(self, resource):
        return list(self.automations)

    def pause_automation(self, key):
        self.asked.append(("pause automation", key))

    def resume_automation(self, key):
        self.asked.append(("resume automation", key))

    def delete_resource_owned_automations(self, resource):
        self.automations = [one for one in self.automations if one.owner_resource != resource]

    def create_flow_run_from_deployment(self, key, *, parameters):
        from prefect.exceptions import ObjectNotFound

        if key not in self.deployments:
            raise ObjectNotFound(Exception("gone"))
        self.asked.append(("run", key, parameters))
        return SimpleNamespace(name=f"again-{key.int}")

    def read_flow_runs(self, **query):
        self.asked.append(("runs", query))
        return self.runs(query)

    def read_workers(self, pool):
        return self.workers

    def is_paused(self, pool):
        return self.is_pool_paused

    def request(self, method, address, **told):
        self.events.append((method, address, told))


@contextmanager
def lent(client):
    yield client


def nightly(**other):
    told = {
        "name": "nightly",
        "verb": "retrain",
        "dataset": "mine",
        "words": ("method=dpo", "data.name=mine"),
        "cron": "0 3 * * *",
    }
    return Schedule(**(told | other))


def past(at, name, message, *, start=None, end=None):
    return SimpleNamespace(
        expected_start_time=at,
        state=SimpleNamespace(name=name, message=message),
        start_time=start,
        end_time=end,
        name=f"run-{name}",
    )
