"""The whole loop on real servers, by verbs alone. Many minutes, and on PostgreSQL once more.

A schedule trains and promotes, and sees that nothing has changed; a new row of data starts a retraining by itself; the gate
refuses a model of poisoned data; a rollback restores; the history tells it all.
"""

import json
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tasks.services.notes import NAMES, running
from tasks.workspace.paths import Paths
from tests.flows.houses import QUICK_SERVERS, environment, new_house, verb
from tests.flows.postgres import postgres_or_skip, servers_on
from tests.ports import free_port

pytestmark = pytest.mark.slow
SETTINGS = """
split: {seed: 0, held_out: 0.4}
pretrain: {steps: 120}
tiny: {width: 48, layers: 2}
sft: {epochs: 8, learning_rate: 3e-3}
evaluate: {max_new_tokens: 20}
"""
LONGEST = 1_800
"""Seconds until a retraining that trains must have ended, on a slow and busy machine."""


class Loop:
    """A repository with services of its own and a dataset `night`, used by its verbs as a user does."""

    def __init__(self, folder, settings=""):
        self.root = new_house(folder)
        self.paths = Paths(self.root)
        ports = ", ".join(f"{name}_port: {free_port()}" for name in NAMES)
        (self.root / "params.yaml").write_text(f"{SETTINGS}\n{settings or f'servers: {{{ports}}}'}\n")

    def verb(self, *words, code=0):
        return verb(self.root, *words, code=code, told=QUICK_SERVERS)

    def bring_in(self, rows):
        """Import rows as the dataset, as a user does, and return the command's words."""
        file = self.root / "night.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self.verb("import", "FILE=night.jsonl", "NAME=night", "FORMAT=records")

    def records(self):
        """Return the records of the retrainings, the oldest first; one that ran nothing is the newest alone."""
        folder = self.root / "reports" / "retrain"
        files = sorted(folder.glob("2*.json")) if folder.is_dir() else []
        return [json.loads(file.read_text()) for file in files]

    def latest(self):
        file = self.root / "reports" / "retrain" / "latest.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def wait(self, condition, what):
        deadline = time.monotonic() + LONGEST
        while not (found := condition()):
            log = self.paths.store / "services" / "worker.log"
            assert time.monotonic() < deadline, f"{what}: {self.latest()}\n{self.verb('schedule')}\n{log.read_text()[-3000:]}"
            time.sleep(1)
        return found

    def champion(self):
        """Return the version that loads as the champion, through the registry as a user's program asks it."""
        code = (
            "import mlflow, sys; from mlflow import MlflowClient\n"
            "one = MlflowClient().get_model_version_by_alias('posttrain-night', 'champion'); print(one.version)"
        )
        told = {**environment(), "MLFLOW_TRACKING_URI": running(self.paths, "mlflow").site}
        done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True, cwd=self.root)
        return done.stdout.split()[-1]


@contextmanager
def living(folder, settings=""):
    made, before = Loop(folder, settings), dict(os.environ)
    try:
        made.verb("up")
        yield made
    finally:
        made.verb("down")
        os.environ.clear()
        os.environ.update(before)


def rows_of_parity():
    """Return rows that a tiny model learns within seconds: sums for its base, and which numbers are odd."""
    chosen = random.Random(0)
    pairs = [(chosen.randint(1, 999), chosen.randint(1, 9)) for _ in range(600)]
    texts = [f"{a} + {b} = {a + b}; {a} - 1 = {a - 1}." for a, b in pairs]
    numbers = chosen.sample(range(10, 1000), 400)
    return [{"id": f"text-{place}", "kind": "text", "text": text} for place, text in enumerate(texts)] + [
        demonstration(number, number % 2) for number in numbers
    ]


def demonstration(number, answer):
    completion = f"Answer: {answer}"
    told = {"prompt": f"{number} mod 2 = ?", "completion": completion, "answer": str(answer)}
    return {"id": f"demonstration-{number}", "kind": "demonstration", **told}


def poisoned(rows):
    """Return the rows with the wrong answer in half of the demonstrations."""
    chosen = random.Random(0)

    def turned(row):
        number = int(row["id"].partition("-")[2])
        return demonstration(number, 1 - int(row["answer"])) if chosen.random() < 0.5 else row

    return [turned(row) if row["kind"] == "demonstration" else row for row in rows]


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_the_loop_closes(tmp_path, store):
    with postgres_or_skip(tmp_path / "postgres") if store == "postgresql" else _nothing() as database:
        with living(tmp_path / "house", on_servers(database)) as house:
            _close_the_loop(house)
        assert "not started" in house.verb("status")


def _close_the_loop(house):
    rows = rows_of_parity()
    house.bring_in(rows)

    # a schedule of a minute: its first run trains and promotes, since the model beats its base
    said = house.verb("schedule", "METHOD=sft", "DATA=night", "CRON=* * * * *", "NAME=nightly")
    assert "next:" in said
    (first,) = house.wait(lambda: house.records(), "the first retraining")
    assert (first["outcome"], first["champion"], first["cause"]) == ("promoted", "1", "schedule nightly"), first["says"]
    assert house.champion() == "1"

    # the next run sees that nothing has changed
    house.wait(lambda: house.latest()["outcome"] == "unchanged", "a run that finds nothing changed")
    assert house.latest()["says"].startswith("unchanged: nothing that matters has changed since version 1 of ")
    house.wait(lambda: "Unchanged: " in house.verb("schedule"), "the list says so")
    house.verb("schedule", "PAUSE=nightly")

    # one more row of the data starts a retraining by itself
    house.verb("schedule", "METHOD=sft", "DATA=night", "ON=data", "NAME=on-data")
    rows.append(demonstration(1_001, 1))
    house.bring_in(rows)
    second = house.wait(lambda: (found := house.records())[1:] and found[1], "the retraining after an import")
    assert second["outcome"] in ("promoted", "kept") and second["cause"].startswith("trigger on-data"), second
    assert "data" in second["changes"]["kinds"] and second["decision"]["gain"]
    champion = house.champion()
    assert champion == second["champion"]

    # poisoned data train, and the gate refuses the model with figures
    house.bring_in(poisoned(rows))
    third = house.wait(lambda: (found := house.records())[2:] and found[2], "the retraining on poisoned data")
    assert third["outcome"] == "kept" and "is not promoted over" in third["says"], third["says"]
    assert house.champion() == champion, "the champion still serves"
    told = house.verb("promote", f"VERSION={third['challenger']}", "WHY=it is newer", "DATA=night", code=3)
    assert "is not promoted over" in told

    # promoted against the gate by a person, and taken back
    house.verb("promote", f"VERSION={third['challenger']}", "WHY=to see it serve", "DATA=night", "FORCE=1")
    assert house.champion() == third["challenger"]
    house.verb("rollback", "WHY=wrong answers", "DATA=night")
    assert house.champion() == champion

    # and the history tells it all
    history = house.verb("history", "DATA=night")
    for words in ("wrong answers", "to see it serve", "schedule nightly", "trigger on-data"):
        assert words in history, history


@contextmanager
def _nothing():
    yield None


def on_servers(database):
    """Return what params.yaml says of the servers, and of MLflow where its store is a database that its server alone has."""
    ports = {f"{name}_port": free_port() for name in NAMES}
    told = {**ports, **(servers_on(database) if database else {})}
    section = "servers: " + json.dumps(told)
    return f"{section}\ntracking: {{uri: 'http://127.0.0.1:{ports['mlflow_port']}'}}" if database else section
