"""What single pipelines cost and reach, in a fresh copy of the repository, on the world that is reported.

    python -m benchmarks.pipeline [methods=dpo,reft] [seeds=10,11,12] [world=2] [twice=true] [killed=true] [set="name=value …"]

Without words it runs every method on every seed of `benchmarks.worlds.REPORTED`, about 20 minutes a seed. The study that
README.md shows is `benchmarks.study`; this one looks at time and memory, and at settings: those are chosen on another world,
`benchmarks.worlds.DEVELOPMENT` (`world=1 seeds=0,1,2`).

Prints, for each seed and method: every model with 95 % intervals, its paired gains over the model that the
method started from, wall time, wall time over the time spent inside the training, sampling and evaluation loops, and the
peak memory of all processes together; then the time of a cached repetition, and, with `twice=true`, whether a second fresh
copy arrives at bit-identical weights; with `killed=true`, whether one does that is killed (SIGKILL) as soon as it has written a
checkpoint of PPO's loop, and is started again. A method after the first reuses base and SFT; behind a colon stand settings of
its own.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.worlds import REPORTED
from posttrain.methods import METHODS

ROOT = Path(__file__).parents[1]
LOOPS = ("train_seconds", "evaluate_seconds")
AUDIT = ("labels, gold %", "reward model: labels %", "gold %", "PPO's gold at the end %", "gap at the end")
LOOK = 0.2
"""Seconds between two looks for a checkpoint."""
WATCHED_EVERY = 2.0
"""Seconds. A look takes a tenth of a second of a core, so four a second would slow what is measured."""
ENDS = (("estimate", ""), ("low", "_low"), ("high", "_high"))


def fresh_copy(folder: Path) -> Path:
    """Copy the tracked files as they are now, without stores or caches."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


def in_world(root: Path, seed: int) -> Path:
    """Set `world.seed` in a copy's params.yaml; the data are made anew from it."""
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params.setdefault("world", {})["seed"] = seed
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return root


def run(root: Path, *settings: str) -> tuple[dict[str, Any], float, float]:
    """Return the report of a pipeline, its wall time in seconds, and the peak of all its processes' memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "flows", "pipeline", *settings], cwd=root, stdout=subprocess.DEVNULL)
    seconds, peak = awaited(process, since=started, what="the pipeline")
    return json.loads((root / "reports" / "latest.json").read_text()), seconds, peak


def killed_once(root: Path, *settings: str) -> dict[str, Any]:
    """Kill a pipeline and all its processes at its first checkpoint, start it again, and return the report.

    Ends the benchmark where the pipeline ends before it has written a checkpoint.
    """
    command = [sys.executable, "-m", "flows", "pipeline", *settings]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, start_new_session=True)
    while not any((root / ".posttrain" / "checkpoints").rglob("step-*")):
        if process.poll() is not None:
            sys.exit("the pipeline ended before it wrote a checkpoint, so nothing was killed")
        time.sleep(LOOK)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return run(root, *settings)[0]


def awaited(process: subprocess.Popen[Any], *, since: float, what: str, fine: tuple[int, ...] = (0,)) -> tuple[float, float]:
    """Wait for the end of a process; return the seconds since a moment, and the peak of its family's memory in MB.

    Ends the benchmark at any exit code that isn't `fine`.
    """
    peak, is_over = [0.0], threading.Event()

    def watch() -> None:
        while not is_over.wait(WATCHED_EVERY):
            peak[0] = max(peak[0], tree_mb(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - since
    is_over.set()
    watcher.join()
    if code not in fine:
        sys.exit(f"{what} ended with {code}")
    return seconds, peak[0]


def tree_mb(pid: int) -> float:
    """Return the memory of a process and its descendants: proportional set size where the system tells it, else resident."""
    total = 0.0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for member in family:
        try:
            memory = member.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
        except psutil.Error:
            continue
    return total / 2**20


def loop_seconds(root: Path, report: dict[str, Any]) -> float:
    """Return the seconds that a run's stages spent inside their loops."""
    total = 0.0
    for stage in report["stages"]:
        told = json.loads((root / ".posttrain" / "stages" / stage["name"] / stage["key"] / "stage.json").read_text())
        total += sum(told["costs"].get(name, 0.0) for name in LOOPS) if not stage["cached"] else 0.0
    return total


def weights(root: Path, report: dict[str, Any]) -> dict[str, str]:
    """Return the digest of every stage's weights."""
    digests = {}
    for stage in report["stages"]:
        told = json.loads((root / ".posttrain" / "stages" / stage["name"] / stage["key"] / "stage.json").read_text())
        if "model/model.safetensors" in told["files"]:
            digests[stage["name"]] = told["files"]["model/model.safetensors"]
    return digests


def cell(value: dict[str, float]) -> str:
    return f"{100 * value['estimate']:.1f} [{100 * value['low']:.1f}–{100 * value['high']:.1f}]"


def settings_of(word: str, seed: int, more: list[str]) -> list[str]:
    """Return a pipeline's settings: of `method` or `method:name=value`."""
    method, _, own = word.partition(":")
    return [f"method={method}", f"seed={seed}", *more, *([own] if own else [])]


def bounded(figures: dict[str, float], name: str) -> str:
    """Return a figure in per cent, with its interval where it has one; a dash where it is undefined."""
    if name not in figures:
        return "–"
    if f"{name}_low" not in figures:
        return f"{100 * figures[name]:.1f}"
    return cell({end: figures[f"{name}{tail}"] for end, tail in ENDS})


def audit_row(audit: dict[str, Any]) -> list[str]:
    """Return what labels, reward model and proxy were worth, in the order of `AUDIT`."""
    labels, model, proxy = (audit.get(part) or {} for part in ("labels", "reward_model", "proxy"))
    gap = f"{proxy['end_gap']:+.2f}" if "end_gap" in proxy else "–"
    given = bounded(labels, "accuracy") if audit.get("source") == "judge" else bounded(proxy, "labels_agreement_gold")
    return [given, *(bounded(model, name) for name in ("accuracy", "accuracy_gold")), bounded(proxy, "end_gold"), gap]


def main(words: list[str]) -> None:
    given = dict(word.partition("=")[::2] for word in words)
    world = int(given.get("world", REPORTED.seed))
    seeds = [int(seed) for seed in given.get("seeds", ",".join(map(str, REPORTED.seeds))).split(",")]
    methods = given.get("methods", ",".join(METHODS)).split(",")
    more = given.get("set", "").split()
    console = Console(width=170)
    columns = ("seed", "method", "model", "greedy %", "sampled %", "gain, greedy", "gain, sampled", "win rate %", "KL (nats)")
    quality = Table(*columns, title="held-out, 95 % intervals; gains, win rate and KL against the model a method started from")
    feedback = Table("seed", "method", *AUDIT, title="audit, 95 % intervals")
    cost = Table("seed", "method", "wall s", "loops s", "wall / loops", "peak MB, all processes", title="cost")
    ratios = []
    with TemporaryDirectory() as scratch:
        root = in_world(fresh_copy(Path(scratch, "first")), world)
        for seed in seeds:
            for method in methods:
                report, seconds, peak = run(root, *settings_of(method, seed, more))
                print(f"seed {seed}, {method}: {seconds:.0f} s", file=sys.stderr)
                for name, found in report["models"].items():
                    shown = ("accuracy", "accuracy_sampled", "accuracy_gain", "accuracy_sampled_gain", "win_rate")
                    kl = f"{found['kl']['estimate']:.2f}" if found.get("kl") else "–"  # a prompted model has none
                    quality.add_row(str(seed), method, name, *(cell(found[metric]) for metric in shown), kl)
                if "audit" in report:
                    feedback.add_row(str(seed), method, *audit_row(report["audit"]))
                loops = loop_seconds(root, report)
                ratios += [seconds / loops] if method == methods[0] else []
                cost.add_row(str(seed), method, f"{seconds:.0f}", f"{loops:.0f}", f"{seconds / loops:.2f}", f"{peak:.0f}")
        again, seconds, _ = run(root, *settings_of(methods[-1], seeds[-1], more))
        console.print(quality, *([feedback] if feedback.rows else []), cost)
        if len(ratios) > 1:
            console.print(
                f"wall / loops: {mean(ratios):.2f} ± {stdev(ratios):.2f} (standard deviation; {methods[0]} from nothing)"
            )
        all_cached = all(stage["cached"] for stage in again["stages"])
        same = again["metrics"] == report["metrics"]
        console.print(f"the same command again: {seconds:.1f} s, every stage cached: {all_cached}, same figures: {same}")
        others = {"twice": lambda *told: run(*told)[0], "killed": killed_once}
        for name in (one for one in others if given.get(one) == "true"):
            first = run(root, *settings_of(methods[0], seeds[0], more))[0]
            other = in_world(fresh_copy(Path(scratch, name)), world)
            second = others[name](other, *settings_of(methods[0], seeds[0], more))
            same = weights(root, first) == weights(other, second)
            console.print(f"fresh copy, same seed, {name}: bit-identical weights: {same}")


if __name__ == "__main__":
    os.environ.setdefault("DO_NOT_TRACK", "true")
    main(sys.argv[1:])
