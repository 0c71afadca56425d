"""Two workers that share stages: kills of either, and what sharing costs a pipeline: docs/scale.md.

    python -m benchmarks.shared_stages [kills=20] [random=0] [uri=s3://bucket/folder] [only=kills,overhead]

Kills: two checkouts of a small world start the same pipeline at once, with stages shared at `uri` (a folder unless it is given);
at a random moment one of them is killed. The other must come to its end, and so must the killed one when it is started again.
Then both must hold the same stages with the same digests, and every stage at the address must come back whole.

Overhead: the default pipeline METHOD=dpo without sharing, and the seconds in which all its stages are put at the address, and
fetched from there.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.kills import SETTINGS, environment
from benchmarks.pipeline import fresh_copy, run
from posttrain.settings.store import StoreSettings
from tasks.workspace.shared_stages import SharedStages, open_shared

LEASE = 6
"""Seconds: whoever waits for a stage of a worker that was killed waits so long."""
WORKERS = ("ann", "ben")


def main(words: Sequence[str]) -> int:
    given = dict(word.partition("=")[::2] for word in words)
    only = given.get("only", "kills,overhead").split(",")
    with TemporaryDirectory() as scratch:
        uri = given.get("uri", (Path(scratch) / "shared").as_uri())
        faults = 0
        if "kills" in only:
            chosen = random.Random(int(given.get("random", "0")))
            faults = kills(Path(scratch), uri, count=int(given.get("kills", "20")), chosen=chosen)
        if "overhead" in only:
            overhead(Path(scratch), f"{uri}/overhead")
    return 3 if faults else 0


@dataclass
class Worker:
    """A checkout, and its pipeline."""

    root: Path
    uri: str

    def start(self, seed: int) -> "subprocess.Popen[bytes]":
        """Start the pipeline of a seed in a process group of its own."""
        words = ["method=sft", f"seed={seed}", f"store.uri={self.uri}", f"store.lease_seconds={LEASE}"]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-m", "flows", "pipeline", *words]
        return subprocess.Popen(command, cwd=self.root, env=environment(), start_new_session=True, **quiet)

    def made(self) -> dict[str, str]:
        """Return the digest of each stage that is there, by name and key."""
        from tasks.workspace.artifacts import find
        from tasks.workspace.paths import Paths

        paths = Paths(self.root)
        found = {}
        for file in paths.stages.glob("*/*/stage.json"):
            stage, key = file.parts[-3:-1]
            artifact, _ = find(paths, stage, key)
            found[f"{stage}/{key}"] = artifact.digest if artifact else "damaged"
        return found


def kills(scratch: Path, uri: str, *, count: int, chosen: random.Random) -> int:
    """Kill one of two workers at random moments, print what came of each, and return how many left a fault."""
    workers = {name: Worker(fresh_copy(scratch / name / "checkout"), uri) for name in WORKERS}
    for worker in workers.values():
        (worker.root / "params.yaml").write_text(SETTINGS)
    usual = _seconds_of(workers["ann"], seed=0)
    shared = open_shared(StoreSettings(uri=uri, lease_seconds=LEASE))
    assert shared
    table = Table("killed", "at, s", "the other", "started again", "digests", "at the address", title="kills of a worker")
    faults = 0
    for number in range(1, count + 1):
        victim, at = chosen.choice(WORKERS), chosen.random() * usual
        running = {name: worker.start(number) for name, worker in workers.items()}
        time.sleep(at)
        with suppress(ProcessLookupError):
            os.killpg(running[victim].pid, signal.SIGKILL)
        codes = {name: process.wait() for name, process in running.items()}
        (other,) = (codes[name] for name in WORKERS if name != victim)
        again = workers[victim].start(number).wait()
        ours, theirs = (worker.made() for worker in workers.values())
        differs = sorted(stage for stage in set(ours) & set(theirs) if ours[stage] != theirs[stage])
        troubles = (
            ("ended well", f"ended with {other}" if other else ""),
            ("ended well", f"ended with {again}" if again else ""),
            ("equal", ", ".join(differs)),
            ("whole", ", ".join(damaged_at(shared, [*ours]))),
        )
        faults += any(trouble for _, trouble in troubles)
        table.add_row(victim, f"{at:.1f}", *(trouble or well for well, trouble in troubles))
        print(victim, f"{at:.1f}", *(trouble or well for well, trouble in troubles), file=sys.stderr)
    Console(width=120).print(table)
    print(f"{faults} of {count} kills left a fault")
    return faults


def _seconds_of(worker: Worker, *, seed: int) -> float:
    began = time.perf_counter()
    if code := worker.start(seed).wait():
        sys.exit(f"a pipeline that nobody kills ended with {code}")
    return time.perf_counter() - began


def damaged_at(shared: SharedStages, stages: Sequence[str]) -> list[str]:
    """Return the stages that do not come back whole."""
    bad = []
    for name in stages:
        stage, key = name.split("/")
        with TemporaryDirectory() as folder:
            try:
                if not shared.fetch(stage, key, Path(folder)):
                    bad.append(f"{stage}: not there")
            except Exception as error:  # whatever it is, another worker would not get the stage
                bad.append(f"{stage}: {error}")
    return bad


def overhead(scratch: Path, uri: str) -> None:
    """Print what putting and fetching the stages of a default pipeline takes, beside the pipeline."""
    root = fresh_copy(scratch / "default")
    _, seconds, _ = run(root, "method=dpo")
    shared = open_shared(StoreSettings(uri=uri))
    assert shared
    stages = [file.parent for file in (root / ".posttrain" / "stages").glob("*/*/stage.json")]
    size = sum(file.stat().st_size for stage in stages for file in stage.rglob("*") if file.is_file()) / 2**20
    put = _timed(lambda stage: shared.offer(stage.parent.name, stage.name, stage), stages)
    fetched = _timed(lambda stage: shared.fetch(stage.parent.name, stage.name, scratch / "fetched" / stage.name), stages)
    table = Table("", "seconds", "% of the pipeline", title=f"sharing the {len(stages)} stages of METHOD=dpo, {size:.0f} MB")
    for name, took in (("the pipeline, nothing shared", seconds), ("putting them there", put), ("fetching them", fetched)):
        table.add_row(name, f"{took:.2f}", f"{100 * took / seconds:.1f}")
    Console(width=100).print(table)


def _timed(act: Any, stages: Sequence[Path]) -> float:
    began = time.perf_counter()
    for stage in stages:
        act(stage)
    return time.perf_counter() - began


if __name__ == "__main__":
    os.environ.setdefault("DO_NOT_TRACK", "true")
    sys.exit(main(sys.argv[1:]))
