"""What annotators' noise does to RLHF: reward model, gold win rate, and the gap between proxy and gold.

    python -m benchmarks.feedback [rates=0,0.25,0.45] [seed=0] [method=rlhf] [set="name=value …"]

Runs the pipeline in a fresh copy of the repository once a rate of flipped labels (base, SFT and samples are made once), and
prints one row each; a rate at which the reward model's contract refuses to go on has its sentence in the place of figures.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.pipeline import bounded, cell, fresh_copy

COLUMNS = ("flipped %", "labels agree %", "reward model, labels %", "… gold %", "win rate %", "greedy %", "gap", "KL", "s")


def run(root: Path, *settings: str) -> tuple[dict[str, Any] | None, str]:
    """Return a pipeline's report, or None and what it said where a contract refused."""
    command = [sys.executable, "-m", "flows", "pipeline", *settings]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        return None, done.stderr.strip()
    if done.returncode:
        sys.exit(f"the pipeline ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads((root / "reports" / "latest.json").read_text()), ""


def row(rate: str, report: dict[str, Any], method: str) -> list[str]:
    """Return one pipeline's figures in the order of `COLUMNS`."""
    audit, final = report["audit"], report["models"][method]
    proxy = audit.get("proxy", {})
    return [
        f"{100 * float(rate):g}",
        bounded(audit["labels"], "agreement"),
        bounded(audit.get("reward_model", {}), "accuracy"),
        bounded(audit.get("reward_model", {}), "accuracy_gold"),
        cell(final["win_rate"]),
        cell(final["accuracy"]),
        f"{proxy['end_gap']:+.2f}" if "end_gap" in proxy else "–",
        f"{final['kl']['estimate']:.2f}",
        f"{sum(stage['seconds'] for stage in report['stages'] if not stage['cached']):.0f}",
    ]


def main(words: list[str]) -> None:
    given = dict(word.partition("=")[::2] for word in words)
    method, seed, more = given.get("method", "rlhf"), given.get("seed", "0"), given.get("set", "").split()
    console = Console(width=150)
    table = Table(*COLUMNS, title=f"{method}, seed {seed}: simulated annotators with more and more noise; 95 % intervals")
    refused = []
    with TemporaryDirectory() as scratch:
        root = fresh_copy(Path(scratch, "copy"))
        for rate in given.get("rates", "0,0.25,0.45").split(","):
            report, said = run(root, f"method={method}", f"seed={seed}", f"labels.flip_rate={rate}", *more)
            if report is None:
                table.add_row(f"{100 * float(rate):g}", *["refused"] * (len(COLUMNS) - 1))
                refused.append(f"at {100 * float(rate):g} %: {said}")
            else:
                table.add_row(*row(rate, report, method))
    console.print(table, *refused)


if __name__ == "__main__":
    main(sys.argv[1:])
