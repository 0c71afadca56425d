"""What a comparison costs: six methods on several seeds from an empty store, beside one pipeline at a time, and again cached.

    python -m benchmarks.compare [methods="sft dpo reft rlhf rlaif ppo"] [seeds=3] [workers=cores] [kills=5]
                                 [set="name=value …"] [keep=FOLDER] [ratio=true]

Prints wall time with `workers` pipelines at a time and with one, their ratio, the peak memory of all processes together, and the
time of a cached repetition. With `kills=N` a third copy is killed with -9, its whole process group, at N moments spread over the
run, and started again each time; its record must be that of the first to the last digit, but for times and ids. On two cores
with the default methods and three seeds: about two hours, of which the run with one worker takes more than half. With
`keep=FOLDER` stores and figures stay there, and a benchmark that was stopped goes on behind its last whole part. `ratio=false`
leaves out the run with one worker: what then follows does not have to wait for an hour.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.pipeline import awaited, fresh_copy

METHODS = "sft dpo reft rlhf rlaif ppo"
OF_A_RUN = ("id", "created", "seconds", "mlflow", "command", "machine", "workers")
"""Fields of the record that another run of the same has otherwise."""
TIMES = ("train_seconds", "evaluate_seconds", "peak_rss_mb", "pipeline_id", "run_id", "report", "model_uri")


def start(root: Path, words: list[str]) -> subprocess.Popen[bytes]:
    """Start a comparison in a process group of its own."""
    command = [sys.executable, "-m", "flows", "compare", *words]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, start_new_session=True)


def run(root: Path, words: list[str]) -> tuple[dict[str, Any], float, float]:
    """Return a comparison's record, its wall time in seconds, and the peak of all its processes' memory in MB.

    A method whose contract fails (exit code 3) is a result: the record says which run it was.
    """
    started = time.perf_counter()
    seconds, peak = awaited(start(root, words), since=started, what="the comparison", fine=(0, 3))
    return record_of(root), seconds, peak


def measured(root: Path, words: list[str], *, kills: int = 0, seconds: float = 0.0) -> dict[str, Any]:
    """Measure a comparison in a fresh copy, and its cached repetition; what was measured there before is read, not run again.

    With `kills` it is killed so many times, spread over so many seconds, and takes no times.
    """
    told = root.with_suffix(".json")
    if told.exists():
        found: dict[str, Any] = json.loads(told.read_text())
        return found
    shutil.rmtree(root, ignore_errors=True)
    fresh_copy(root)
    if kills:
        found = {"record": kill_and_go_on(root, words, kills=kills, seconds=seconds)}
    else:
        record, wall, peak = run(root, words)
        again, cached, _ = run(root, words)
        found = {"record": record, "wall": wall, "peak": peak, "cached": cached, "cached_is_same": same(again) == same(record)}
    told.write_text(json.dumps(found))
    return found


def record_of(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "reports" / "compare" / "latest.json").read_text())
    return found


def same(told: Any) -> Any:
    """Return a record without what differs between two runs of one command: ids and times."""
    if isinstance(told, dict):
        return {name: same(value) for name, value in told.items() if name not in (*OF_A_RUN, *TIMES)}
    return [same(value) for value in told] if isinstance(told, list) else told


def kill_and_go_on(root: Path, words: list[str], *, kills: int, seconds: float) -> dict[str, Any]:
    """Kill a process group at moments spread over a run of so many seconds, go on each time, and return the record."""
    for _ in range(kills):
        process = start(root, words)
        time.sleep(seconds / (kills + 1))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return run(root, words)[0]


def main(words: list[str]) -> None:
    given = dict(word.partition("=")[::2] for word in words)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = int(given.get("workers", cores))
    asked = [f"METHODS={given.get('methods', METHODS)}", f"SEEDS={given.get('seeds', '3')}", f"SET={given.get('set', '')}"]
    console = Console(width=120)
    table = Table("workers", "wall s", "peak MB, all processes", "cached repetition s", title="a comparison from an empty store")
    with TemporaryDirectory() as scratch:
        folder = Path(given["keep"]).absolute() if "keep" in given else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        walls = {}
        for count in dict.fromkeys((workers,) if given.get("ratio") == "false" else (workers, 1)):
            found = measured(folder / f"with-{count}", [*asked, f"WORKERS={count}"])
            walls[count], cached = found["wall"], found["cached"]
            table.add_row(str(count), f"{walls[count]:.0f}", f"{found['peak']:.0f}", f"{cached:.1f}")
            say = f"{count} workers: {walls[count]:.0f} s; cached: {cached:.1f} s, same record: {found['cached_is_same']}"
            print(say, file=sys.stderr)
        record = found["record"]
        console.print(table)
        if 1 in walls:
            console.print(f"{workers} workers are {walls[1] / walls[workers]:.2f} times as quick as one")
        console.print(record["verdict"])
        if kills := int(given.get("kills", "0")):
            killed = measured(folder / "killed", [*asked, f"WORKERS={workers}"], kills=kills, seconds=walls[workers])
            console.print(f"killed {kills} times: the same record to the last digit: {same(killed['record']) == same(record)}")


if __name__ == "__main__":
    os.environ.setdefault("DO_NOT_TRACK", "true")
    main(sys.argv[1:])
