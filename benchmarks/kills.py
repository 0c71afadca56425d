"""Kills at random moments of all that runs, and what one command brings back: docs/operations.md.

    python -m benchmarks.kills [kills=30] [random=0] [only=prefect,mlflow,worker,training,promotion,labels] [keep=FOLDER]

In a copy of the repository with a small world, servers of its own, people's labels and two promoted versions, each kill takes one
of six: Prefect's server, MLflow's server or the worker while a scheduled retraining runs; a retraining by hand; a move of
aliases; labels that become part of the dataset, after which the same command is run again.
Moments are uniform over what the thing killed usually takes. Meanwhile a reader loads the champion from the store.
After each kill come `make up` and `make doctor FIX=1`; then these are looked at:

- lost: a version, a finished run of MLflow or stage, a line of the history, a schedule or a label that was there before and is
  no more, or a label that was to come and did not;
- half: a move without an outcome, or a champion that is not the one of the newest move that was done or completed;
- doctor: whether `make doctor` finds nothing wrong;
- champion: how often it did not load for the reader.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.pipeline import fresh_copy
from flows.prefect_client import client_of
from posttrain.promotion.moves import Outcome
from posttrain.settings.evaluation import TrackingSettings
from tasks.data.labels_file import read_people
from tasks.promotion.history import history_of
from tasks.promotion.loading import check_loads
from tasks.promotion.moves import read_aliases
from tasks.services.notes import note_of, running
from tasks.tracking.ledger import Ledger
from tasks.workspace.paths import Paths

TARGETS = ("prefect", "mlflow", "worker", "training", "promotion", "labels")
SERVICES = TARGETS[:3]
SETTINGS = """
world: {seed: 3, corpus_documents: 1500, demonstrations: 64, questions: 40, held_out: 120, review_share: 0.0}
pretrain: {steps: 200}
tiny: {width: 64, layers: 2}
evaluate: {max_new_tokens: 40}
promotion: {margin: 1.0}
"""
"""A margin of 1 lets any model be promoted: the moves are looked at here, not the gate."""
NAME = "posttrain-world"
LABELS = "labels.jsonl"
IMPORTED = 30
"""Labels that come at a time."""


def main(words: Sequence[str]) -> int:
    given = dict(word.partition("=")[::2] for word in words)
    chosen, targets = random.Random(int(given.get("random", "0"))), given.get("only", ",".join(TARGETS)).split(",")
    table = Table("kill", "at, s", "what was lost", "half a move", "doctor", "champion did not load", title="kills")
    faults = 0
    with ExitStack() as stack:
        folder = Path(given["keep"]) if "keep" in given else Path(stack.enter_context(TemporaryDirectory()))
        house = House(fresh_copy(folder / "house"))
        stack.callback(house.verb, "down")
        house.prepare()
        for _ in range(int(given.get("kills", "30"))):
            target = chosen.choice(targets)
            told = house.kill(target, chosen)
            faults += told.is_fault
            table.add_row(target, f"{told.at:.1f}", told.lost, told.half, told.doctor, f"{told.misses} of {told.looks}")
            print(target, told, file=sys.stderr)
    Console(width=140).print(table)
    print(f"{faults} of the kills left a fault")
    return 3 if faults else 0


@dataclass
class Told:
    """What came of a kill."""

    at: float
    lost: str = "nothing"
    half: str = "no"
    doctor: str = "well"
    misses: int = 0
    looks: int = 0

    @property
    def is_fault(self) -> bool:
        """Whether anything is not as it was."""
        return (self.lost, self.half, self.doctor, self.misses) != ("nothing", "no", "well", 0)


class House:
    """A copy of the repository with servers, a schedule and two promoted versions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        ports = ", ".join(f"{name}_port: {free_port()}" for name in SERVICES)
        (root / "params.yaml").write_text(f"{SETTINGS}\nservers: {{{ports}}}\n")
        self.seed = 1
        self.usual = {"training": 0.0, "promotion": 0.0, "labels": 0.0}
        self.imports = 0

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a verb in a process group of its own."""
        command = [sys.executable, "-m", "flows", *words]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=self.root, env=environment(), start_new_session=True, **quiet)

    def verb(self, *words: str) -> tuple[int, str]:
        """Run a verb, and return its exit code and what it printed."""
        command = [sys.executable, "-m", "flows", *words]
        done = subprocess.run(command, cwd=self.root, env=environment(), capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def must(self, *words: str) -> float:
        """Run a verb that has to succeed, and return its seconds."""
        began = time.perf_counter()
        code, told = self.verb(*words)
        if code:
            sys.exit(f"{' '.join(words)} ended with {code}: {told}")
        return time.perf_counter() - began

    def prepare(self) -> None:
        """Start the servers, train and promote two versions, and make a schedule."""
        self.must("up")
        self.must("pipeline", "method=sft", "seed=0")
        self.must("promote", "VERSION=1", "WHY=first", "FORCE=1")
        self.usual["training"] = self.must("pipeline", "method=sft", "seed=1")
        self.usual["promotion"] = self.must("promote", "VERSION=2", "WHY=second", "FORCE=1")
        self.must("schedule", "METHOD=sft", "CRON=0 3 1 1 *", "NAME=yearly")
        self.usual["labels"] = self.must(*self._import())

    def _import(self) -> tuple[str, ...]:
        """Write a file of labels that are not there yet, and return the words that make them part of the dataset."""
        self.imports += 1
        prompts = [
            str(json.loads(line)["prompt"]) for line in (self.root / "data/world/questions.jsonl").read_text().splitlines()
        ]
        rows = [
            {"prompt": prompt, "chosen": f"{number} of {self.imports}", "rejected": f"not {number}", "annotator": "Ada"}
            for number, prompt in enumerate(prompts[:IMPORTED])
        ]
        (self.root / LABELS).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return ("labels", "IMPORT=jsonl", f"FILE={LABELS}")

    def kill(self, target: str, chosen: random.Random) -> Told:
        """Kill one thing at a random moment, let one command bring all back, and say what came of it."""
        before = self.state()
        with Reader(self.root) as reader:
            told = self._strike(target, chosen)
            up, said = self.verb("up")
            if up:
                told.doctor = f"make up ended with {up}: {said.splitlines()[-1]}"
            code, said = self.verb("doctor", "FIX=1")
            if code:
                told.doctor = "; ".join(line.strip() for line in said.splitlines() if "WRONG" in line) or f"ended with {code}"
            if target == "labels":
                self.must("labels", "IMPORT=jsonl", f"FILE={LABELS}")
        told.looks, told.misses = reader.looks, len(reader.misses)
        after = self.state()
        told.lost = "; ".join(f"{kind}: {sorted(before[kind] - after[kind])}" for kind in KEPT if before[kind] - after[kind])
        if target == "labels" and len(after["labels"] - before["labels"]) != IMPORTED:
            told.lost += f" of {IMPORTED} new labels {len(after['labels'] - before['labels'])} are there"
        told.lost = told.lost or "nothing"
        if after["open moves"]:
            told.half = f"{len(after['open moves'])} without an outcome"
        elif after["champion"] != after["champion by history"]:
            told.half = f"champion is {sorted(after['champion'])}, and by the history {sorted(after['champion by history'])}"
        return told

    def _strike(self, target: str, chosen: random.Random) -> Told:
        """Start what is to be killed, wait for a random moment of it, and kill it."""
        if target == "promotion":
            champion = next(iter(self.state()["champion"]))
            other = "1" if champion == "2" else "2"
            words = ["rollback", "WHY=kill"] if chosen.random() < 0.5 else ["promote", f"VERSION={other}", "WHY=kill", "FORCE=1"]
            return self._kill_command(words, chosen.uniform(0.3, 1.0) * self.usual["promotion"])
        if target == "labels":
            return self._kill_command(self._import(), chosen.uniform(0.3, 1.0) * self.usual["labels"])
        self.seed += 1
        if target == "training":
            return self._kill_command(
                ["retrain", "METHOD=sft", f"SET=seed={self.seed}"], chosen.random() * self.usual["training"]
            )
        self._start_scheduled()
        at = chosen.random() * self.usual["training"]
        time.sleep(at)
        kill_family(note_of(Paths(self.root), target).process.pid, with_children=target != "worker")
        return Told(at)

    def _kill_command(self, words: Sequence[str], at: float) -> Told:
        process = self.start(*words)
        time.sleep(at)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return Told(at)

    def _start_scheduled(self) -> None:
        """Let the worker retrain with a seed of its own."""
        site = running(Paths(self.root), "prefect").site
        with client_of(f"{site}/api") as client:
            deployment = next(one for one in client.read_deployments() if one.name == "yearly")
            words = [*deployment.parameters["words"], f"seed={self.seed}"]
            client.create_flow_run_from_deployment(deployment.id, parameters={"words": words, "cause": "benchmark"})

    def state(self) -> dict[str, set[str]]:
        """Return what must not be lost, read straight from the stores."""
        ledger = Ledger.open(Paths(self.root), TrackingSettings())
        runs = ledger.client.search_runs([ledger.experiment_id], "attributes.status = 'FINISHED'", max_results=50_000)
        moves = history_of(ledger, NAME)
        stages = self.root.glob(".posttrain/stages/*/*/stage.json")
        listed = self.verb("schedule")[1] if running(Paths(self.root), "prefect") else ""
        return {
            "versions": {one.version for one in ledger.client.search_model_versions(f"name = '{NAME}'")},
            "runs": {run.info.run_id for run in runs},
            "moves": {move.run_id for move in moves},
            "open moves": {move.run_id for move in moves if move.outcome == "under way"},
            "stages": {str(file.relative_to(self.root)) for file in stages},
            "schedules": {line.partition(":")[0] for line in listed.splitlines() if line[:1].isalnum()},
            "labels": {label.id for label in read_people(Paths(self.root), "world")},
            "champion": set(filter(None, [read_aliases(ledger, NAME)["champion"]])),
            "champion by history": {move.version for move in [one for one in moves if one.outcome in SETTLED][:1]},
        }


SETTLED = (Outcome.DONE, Outcome.COMPLETED)
KEPT = ("versions", "runs", "moves", "stages", "schedules", "labels")


class Reader:
    """Loads the champion again and again from the store, as a server of answers would; counts when it could not."""

    def __init__(self, root: Path) -> None:
        self.looks, self.misses, self._over = 0, list[str](), threading.Event()
        self._ledger = Ledger.open(Paths(root), TrackingSettings())
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._over.wait(0.5):
            self.looks += 1
            try:
                version = self._ledger.client.get_model_version_by_alias(NAME, "champion").version
                check_loads(self._ledger, NAME, str(version))
            except Exception as error:  # whatever it is, an answer was not given
                self.misses.append(f"{type(error).__name__}: {error}")


def kill_family(pid: int, *, with_children: bool) -> None:
    """Kill a process and, where it is a server of several, its children with it."""
    process = psutil.Process(pid)
    for one in [*(process.children(recursive=True) if with_children else ()), process]:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue


def environment() -> dict[str, str]:
    """Return the environment of a user's shell: nothing of Prefect or MLflow is set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return kept | {"OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


if __name__ == "__main__":
    os.environ.setdefault("DO_NOT_TRACK", "true")
    sys.exit(main(sys.argv[1:]))
