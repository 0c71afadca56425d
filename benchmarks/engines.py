"""Does PPO learn as much from responses that an inexact engine drew, corrected, as from the policy's own? docs/scale.md.

    python -m benchmarks.engines [engine=bfloat16] [method=reft] [seeds=10,11,12] [world=2]

For each seed one checkout, in which the method runs three times: with the policy as its own sampler, with the engine, and with
the engine uncorrected, which must be refused (exit code 3). Prints for each seed the accuracy of both and the paired difference
over the same held-out questions, then the same of all seeds together, with 95 % intervals that cover the choice of questions;
and what PPO told of the engine: nats a token by which it differed, and the mean weight, over all updates.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.kills import environment
from benchmarks.pipeline import fresh_copy, in_world, run
from benchmarks.worlds import REPORTED
from posttrain.statistics.figures import mean
from posttrain.statistics.intervals import Interval, paired_gain
from tasks.workspace.jsonl import PROBLEMS, read_rows

REFUSED = 3
"""Exit code of a stage that a contract stops."""
Right = Mapping[str, float]


def main(words: Sequence[str]) -> int:
    given = dict(word.partition("=")[::2] for word in words)
    engine, method = given.get("engine", "bfloat16"), given.get("method", "reft")
    seeds = [int(seed) for seed in given.get("seeds", ",".join(map(str, REPORTED.seeds[:3]))).split(",")]
    table = Table(
        "seed", "itself %", f"{engine} %", "difference (points)", "nats a token", "mean weight", "uncorrected", title=method
    )
    pooled: list[tuple[Right, Right]] = []
    for seed in seeds:
        with TemporaryDirectory() as scratch:
            root = in_world(fresh_copy(Path(scratch, "copy")), int(given.get("world", REPORTED.seed)))
            same = (f"method={method}", f"seed={seed}")
            itself = _right(root, run(root, *same)[0], seed)
            report, _, _ = run(root, *same, f"ppo.engine={engine}")
            other = _right(root, report, seed)
            curve = _curve(root, report)
            refused = _exit_code(root, *same, f"ppo.engine={engine}", "ppo.sampler_correction=false")
        pooled.append((itself, other))
        told = (f"{curve['mismatch']:.4f}", f"{curve['correction']:.4f}", "refused" if refused == REFUSED else f"code {refused}")
        table.add_row(str(seed), *_compared([(itself, other)]), *told)
        print(f"seed {seed} is done", file=sys.stderr)
    table.add_row("all", *_compared(pooled), "", "", "")
    Console(width=120).print(table)
    return 0


def _stage(report: Mapping[str, Any], root: Path, name: str) -> Path:
    key = next(stage["key"] for stage in report["stages"] if stage["name"] == name)
    return root / ".posttrain" / "stages" / name / str(key)


def _right(root: Path, report: Mapping[str, Any], seed: int) -> Right:
    """Return by held-out question whether the greedy answer is right."""
    folder = _stage(report, root, f"evaluate-{report['method']}")
    return {f"{seed}/{row['id']}": float(row["greedy"]["is_right"]) for row in read_rows(folder / PROBLEMS)}


def _curve(root: Path, report: Mapping[str, Any]) -> dict[str, float]:
    """Return means over the updates of what PPO told of its engine."""
    told = list(read_rows(_stage(report, root, "ppo") / "curves.jsonl"))
    return {name: mean([float(point[f"ppo/sampler_{name}"]) for point in told]) for name in ("mismatch", "correction")}


def _compared(pairs: Sequence[tuple[Right, Right]]) -> list[str]:
    itself, other = ({name: value for pair in pairs for name, value in pair[place].items()} for place in (0, 1))
    difference = paired_gain([other[name] for name in itself], list(itself.values()))
    return [*(f"{100 * mean(list(one.values())):.1f}" for one in (itself, other)), _points(difference)]


def _points(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def _exit_code(root: Path, *settings: str) -> int:
    command = [sys.executable, "-m", "flows", "pipeline", *settings]
    return subprocess.run(command, cwd=root, env=environment(), capture_output=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
