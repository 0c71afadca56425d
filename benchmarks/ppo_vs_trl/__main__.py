"""Our PPO against TRL 1.12.0's, the last release that has one, in one run and in turn.

    python -m benchmarks.ppo_vs_trl [size=default|30m|both] [repeats=3] [updates=4] [race=45] [threads=2] [page=true]

Prints episodes a second of both, the ratio of each repetition, peak memory, phases, the reward after equal wall time, the
comparison on fixed tensors and the profile of an update; writes reports/ppo_vs_trl.json, and with `page=true` the tables of
docs/ppo-vs-trl.md. Exit code 1 where a tensor differs by more than 1e-5. README.md says how to read it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.ppo_vs_trl.environment import ROOT, STORE, TRL, theirs
from benchmarks.ppo_vs_trl.tables import rewrite_page, tables

PACKAGE = Path(__file__).parent
WORK = STORE / "ppo_vs_trl"
DEFAULTS = {"size": "both", "repeats": "3", "updates": "4", "race": "45", "threads": str(os.cpu_count() or 1), "page": "false"}


class Bench:
    """Runs the workers, one at a time, each a process of its own that starts from nothing."""

    def __init__(self, *, threads: int) -> None:
        self.theirs = theirs()
        quiet = {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        limits = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
        self.environment = {**os.environ, **quiet, **limits}

    def folder(self, size: str) -> Path:
        """Return the inputs of a size, made at the first call and again when the code that makes them has changed."""
        folder = WORK / size
        source = (PACKAGE / "inputs.py").read_text()
        made_by = folder / "made_by.txt"
        if not made_by.is_file() or made_by.read_text() != source:
            self.ours("inputs", size, str(folder))
            made_by.write_text(source)
        return folder

    def ours(self, module: str, *words: str) -> None:
        self._call([sys.executable, "-m", f"benchmarks.ppo_vs_trl.{module}", *words])

    def trained(self, side: str, folder: Path, **words: float) -> dict[str, Any]:
        """Return what one training run of a side measured."""
        out = WORK / f"{side}.json"
        given = [str(folder), str(out), *(f"{name}={value}" for name, value in words.items())]
        if side == "ours":
            self.ours("ours", *given)
        else:
            self._call([str(self.theirs), str(PACKAGE / "theirs.py"), *given])
        found: dict[str, Any] = json.loads(out.read_text())
        return found

    def told(self, module: str, *words: str) -> Any:
        out = WORK / f"{module}.json"
        self.ours(module, *words, str(out))
        return json.loads(out.read_text())

    def fixed(self, folder: Path) -> Any:
        dump = WORK / "tensors.safetensors"
        self._call([str(self.theirs), str(PACKAGE / "theirs.py"), str(folder), str(WORK / "none.json"), f"dump={dump}"])
        return self.told("fixed", str(folder), str(dump))

    def _call(self, command: list[str]) -> None:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def speed(bench: Bench, size: str, *, repeats: int, updates: int) -> dict[str, Any]:
    folder = bench.folder(size)
    given = json.loads((folder / "settings.json").read_text())
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for repeat in range(repeats):
        for side, found in runs.items():
            found.append(bench.trained(side, folder, seed=repeat, updates=updates))
    return {"given": given, "runs": runs, "updates": updates}


def race(bench: Bench, *, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Train both for equal wall time, with two seeds."""
    folder = bench.folder("default")
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for seed in (0, 1):
        for side, found in runs.items():
            found.append(bench.trained(side, folder, seed=seed, updates=10_000, seconds=seconds))
    return runs


def main(words: list[str]) -> int:
    given = DEFAULTS | dict(word.partition("=")[::2] for word in words)
    unknown = sorted(set(given) - set(DEFAULTS))
    sizes = ["default", "30m"] if given["size"] == "both" else [given["size"]]
    if unknown or not set(sizes) <= {"default", "30m"}:
        sys.exit(f"unknown: {', '.join(unknown) or 'size=' + given['size']}. Say size=default|30m|both, {', '.join(DEFAULTS)}")
    bench = Bench(threads=int(given["threads"]))
    WORK.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"trl": TRL, "threads": int(given["threads"]), "speed": {}, "costs": {}}
    for size in sizes:
        # an update at 30 M takes some ten times as long, so half as many are measured
        updates = int(given["updates"]) if size == "default" else max(1, int(given["updates"]) // 2)
        found["speed"][size] = speed(bench, size, repeats=int(given["repeats"]), updates=updates)
        found["costs"][size] = bench.told("costs", str(bench.folder(size)))
    if float(given["race"]):
        found["race"] = race(bench, seconds=float(given["race"]))
    found["fixed"] = bench.fixed(bench.folder("default"))
    report = ROOT / "reports" / "ppo_vs_trl.json"
    report.parent.mkdir(exist_ok=True)
    report.write_text(json.dumps(found, indent=1))
    made = tables(found)
    Console(width=150).print(*(table.rich() for table in made.values()))
    if given["page"] == "true":
        rewrite_page(ROOT / "docs" / "ppo-vs-trl.md", made)
    return int(any(row["binds"] and not row["difference"] <= 1e-5 for row in found["fixed"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
