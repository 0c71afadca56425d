"""What a comparison costs: six methods on several seeds from an empty store, beside one pipeline at a time, and again cached.

    python -m benchmarks.compare [methods="sft dpo reft rlhf rlaif ppo"] [seeds=3] [workers=cores] [kills=5] [set="name=value …"]

Prints wall time with `workers` pipelines at a time and with one, their ratio, the peak memory of all processes together, and the
time of a cached repetition. With `kills=N` a third copy is killed with -9, its whole process group, at N moments spread over the
run, and started again each time; its record must be that of the first to the last digit, but for times and ids. On two cores
with the default methods and three seeds: about two hours, of which the run with one worker takes more than half.
"""

import json
import os
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
    """Return a comparison's record, its wall time in seconds, and the peak of all its processes' memory in MB."""
    started = time.perf_counter()
    seconds, peak = awaited(start(root, words), since=started, what="the comparison")
    return record_of(root), seconds, peak


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
    walls = {}
    with TemporaryDirectory() as scratch:
        for count in dict.fromkeys((workers, 1)):
            root = fresh_copy(Path(scratch, f"with-{count}"))
            record, walls[count], peak = run(root, [*asked, f"WORKERS={count}"])
            again, cached, _ = run(root, [*asked, f"WORKERS={count}"])
            table.add_row(str(count), f"{walls[count]:.0f}", f"{peak:.0f}", f"{cached:.1f}")
            print(
                f"{count} workers: {walls[count]:.0f} s; cached: {cached:.1f} s, same record: {same(again) == same(record)}",
                file=sys.stderr,
            )
        console.print(table)
        console.print(f"{workers} workers are {walls[1] / walls[workers]:.2f} times as quick as one")
        console.print(record["verdict"])
        if kills := int(given.get("kills", "0")):
            root = fresh_copy(Path(scratch, "killed"))
            killed = kill_and_go_on(root, [*asked, f"WORKERS={workers}"], kills=kills, seconds=walls[workers])
            console.print(f"killed {kills} times: the same record to the last digit: {same(killed) == same(record)}")


if __name__ == "__main__":
    os.environ.setdefault("DO_NOT_TRACK", "true")
    main(sys.argv[1:])
