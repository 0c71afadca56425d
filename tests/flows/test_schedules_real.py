"""Schedules on a real server with a real worker: times, triggers, late runs, merged runs, kills. Minutes.

What is retrained is a stand-in here, in the copy of the repository alone: it says what it was asked for and trains nothing.
"""

import json
import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

import psutil
import pytest

from flows.prefect_client import client_of
from tasks.schedules.turns import turn, wanted_of
from tasks.services.notes import NAMES, WORKER, note_of, running
from tasks.workspace.paths import Paths
from tests.flows.houses import QUICK_SERVERS, SMALL, new_house, verb
from tests.flows.test_services_real import wait_for
from tests.ports import free_port

pytestmark = pytest.mark.slow
RETRAIN = '''"""A stand-in that trains nothing."""

from types import SimpleNamespace


def retrain(paths, config, say, *, cause, is_forced=False):
    say("a note of the retraining")
    return SimpleNamespace(outcome="unchanged", says=f"{config.method} of {config.data.name} by {cause}")


def check_request(config, paths):
    pass
'''
LONGEST = 400
"""Seconds until a run that is due must have ended: a minute to its time, a slow start, and a busy machine."""


class House:
    """A repository with services of its own, used by its verbs as a user does."""

    def __init__(self, folder):
        self.root = new_house(folder)
        ports = ", ".join(f"{name}_port: {free_port()}" for name in NAMES)
        (self.root / "params.yaml").write_text(f"{SMALL}\nservers: {{{ports}}}\n")
        (self.root / "flows" / "retrain.py").write_text(RETRAIN)
        self.paths = Paths(self.root)

    def verb(self, *words, code=0):
        return verb(self.root, *words, code=code, told=QUICK_SERVERS)

    def client(self):
        return client_of(f"{running(self.paths, 'prefect').site}/api")

    def deployment(self, name):
        with self.client() as client:
            return next(one for one in client.read_deployments() if one.name == name)

    def runs(self, name):
        from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
        from prefect.client.schemas.sorting import FlowRunSort

        with self.client() as client:
            named = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
            return client.read_flow_runs(deployment_filter=named, sort=FlowRunSort.EXPECTED_START_TIME_ASC)

    def ended(self, name, count=1):
        def look():
            found = [run for run in self.runs(name) if run.state and run.state.is_final()]
            return found if len(found) >= count else None

        found = wait_for(look, LONGEST)
        assert found, [(run.name, run.state) for run in self.runs(name)] + [
            (self.paths.store / "services/worker.log").read_text()[-3000:]
        ]
        return [(run.state.name, run.state.message) for run in found]

    def start(self, name, **told):
        with self.client() as client:
            return client.create_flow_run_from_deployment(UUID(str(self.deployment(name).id)), **told)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = House(tmp_path_factory.mktemp("schedules") / "house")
    before = dict(os.environ)
    try:
        made.verb("up")
        os.environ["PREFECT_API_URL"] = f"{running(made.paths, 'prefect').site}/api"
        yield made
    finally:
        made.verb("down")
        os.environ.clear()
        os.environ.update(before)


def test_a_schedule_of_a_minute_runs_by_itself_and_the_list_says_how_it_went(house):
    said = house.verb("schedule", "METHOD=sft", "CRON=* * * * *", "TZ=Europe/Berlin", "NAME=minutely", "RUNS=2")
    assert '"* * * * *" in Europe/Berlin, next:' in said
    assert wait_for(lambda: [run for run in house.runs("minutely") if run.state and run.state.is_scheduled()], LONGEST)
    assert house.ended("minutely", 2)[:1] == [("Unchanged", "sft of world by schedule minutely")]
    assert house.ended("minutely", 2)[1][1].endswith("It was the last run: it has made its 2 runs (RUNS=2)")
    listed = house.verb("schedule")
    assert "2 of 2 runs made; ended: it has made its 2 runs (RUNS=2)" in listed and "  last: " in listed and "  ! " not in listed
    assert house.deployment("minutely").paused


def test_a_new_version_of_the_data_starts_a_retraining(house):
    house.verb("schedule", "METHOD=sft", "ON=data")
    assert house.runs("world-sft-on-data") == [], "the version of today is no news"
    file = house.root / "data" / "world" / "demonstrations.jsonl"
    rows = file.read_text().splitlines()
    file.write_text("\n".join(rows[:-1]) + "\n")
    md5 = house.verb("data").split("world  ")[1].split()[0]
    assert house.ended("world-sft-on-data") == [
        ("Unchanged", f"sft of world by trigger world-sft-on-data: version {md5[:8]} of the data")
    ]
    house.verb("data")
    house.verb("schedule", "DELETE=world-sft-on-data")
    assert "world-sft-on-data" not in house.verb("schedule")


def test_a_drift_starts_a_retraining_with_its_verdict(house):
    from flows.monitor import announce

    house.verb("schedule", "METHOD=sft", "ON=drift")
    test = {"auc": 0.7, "p": 0.001}
    told = {"id": "check-1", "verdict": "AUC 0.70, p 0.001", "alarms": ["prompts"], "is_drift": True, "score": None}
    record = {"dataset": {"name": "world"}, "test": test, **told}
    assert announce(record, print)
    assert house.ended("world-sft-on-drift") == [
        ("Unchanged", "sft of world by trigger world-sft-on-drift: drift. AUC 0.70, p 0.001")
    ]


def test_a_run_of_an_hour_ago_is_skipped_and_one_that_is_caught_up_is_not(house):
    from prefect.states import Scheduled

    for name, words in (("yearly", []), ("kept", ["CATCH_UP=1"])):
        house.verb("schedule", "METHOD=sft", "CRON=0 3 1 1 *", f"NAME={name}", *words)
        house.start(name, state=Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=1)))
    ((state, message),) = house.ended("yearly")
    assert state == "Skipped" and "when no worker was there" in message
    assert house.ended("kept") == [("Unchanged", "sft of world by schedule kept")]
    assert "  skipped: " in house.verb("schedule")


def test_a_run_that_comes_while_another_retrains_is_merged_into_one_more(house):
    house.verb("schedule", "METHOD=sft", "CRON=0 3 1 1 *", "NAME=merged")
    with turn(house.paths, "world", "make retrain"):
        house.start("merged")
        house.start("merged")
        found = house.ended("merged", 2)
        assert [state for state, _ in found] == ["Skipped", "Skipped"]
        assert all("world is being retrained by make retrain" in message for _, message in found)
        assert len(wanted_of(house.paths, "world")) == 1
        assert "  wanted: one more run" in house.verb("schedule")
    assert "which was wanted while another retraining ran" in house.verb("up")
    assert house.ended("merged", 3)[2] == ("Unchanged", "sft of world by schedule merged")
    assert wanted_of(house.paths, "world") == []


def test_pausing_takes_the_next_run_away_and_resuming_brings_it_back(house):
    house.verb("schedule", "METHOD=sft", "CRON=0 3 * * *", "NAME=nightly", "TZ=America/New_York")

    def ahead():
        return [run for run in house.runs("nightly") if run.state and run.state.is_scheduled()]

    assert wait_for(ahead, LONGEST)
    house.verb("schedule", "PAUSE=nightly")
    assert wait_for(lambda: not ahead(), LONGEST)
    assert "paused; to go on: make schedule RESUME=nightly" in house.verb("schedule")
    house.verb("schedule", "RESUME=nightly")
    assert wait_for(ahead, LONGEST)
    assert "03:00 E" in house.verb("schedule")


def test_schedules_survive_kills_of_server_and_worker(house):
    before = {line for line in house.verb("schedule").splitlines() if not line.startswith("  ")}
    for name in NAMES:
        psutil.Process(note_of(house.paths, name).process.pid).kill()
    house.verb("up")
    listed = house.verb("schedule")
    assert {line for line in listed.splitlines() if not line.startswith("  ")} == before
    assert wait_for(lambda: "  ! " not in house.verb("schedule"), LONGEST)


def test_without_a_worker_the_list_says_so(house):
    psutil.Process(note_of(house.paths, WORKER).process.pid).kill()
    assert wait_for(lambda: "  ! no worker asks for its runs. Start one: make up" in house.verb("schedule"), LONGEST)
    house.verb("up")


def test_what_is_wrong_is_refused_and_nothing_is_made(house):
    for words in (["CRON=0 0 31 2 *"], ["CRON=0 3 * * *", "TZ=Mars/Olympus"], ["CRON=0 3 * * *", "SET=dpo.bta=1"]):
        house.verb("schedule", *words, "NAME=wrong", code=2)
    house.verb("schedule", "CRON=0 3 * * *", "DATA=nowhere", "NAME=wrong", code=2)
    house.verb("schedule", "PAUSE=wrong", code=2)
    assert "wrong" not in house.verb("schedule")


def test_the_record_is_whole_json(house):
    told = SimpleNamespace(**house.deployment("nightly").parameters)
    assert json.loads(json.dumps(told.schedule))["zone"] == "America/New_York"
