"""What practice and mode make of the default judge: its accuracy on pairs of samples of the SFT model.

    python -m benchmarks.judges [seed=0] [steps=0,400,600] [practices=0]

Runs `METHOD=sft` in a fresh copy of the repository and samples responses to the training questions. Then, for each number of
steps (0: the base as it is) and each seed of the practice, the judge labels the same pairs by scores and by comparisons. Accuracy
is on the pairs of which one response is better, with its 95 % interval; no limit of the judge's contract stops a row.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.pipeline import cell, fresh_copy, run
from posttrain.settings.config import merge

MODES = ("pointwise", "pairwise")
NO_LIMITS = {"max_flips": 1.0, "min_conviction": 0.0, "max_unreadable": 1.0}
COLUMNS = ("steps", "seed of practice", "mode", "accuracy %", "distance from 0.5", "flips %", "questions", "practice s")


def artifact(root: Path, report: dict[str, Any], stage: str) -> Path:
    """Return the folder of a stage's artifact."""
    (key,) = (row["key"] for row in report["stages"] if row["name"] == stage)
    return root / ".posttrain" / "stages" / stage / key


class Bench:
    """Base, SFT model and samples, on which judges are tried."""

    def __init__(self, root: Path, *, seed: int) -> None:
        from tasks.feedback.samples import sample

        report = run(root, "method=sft", f"seed={seed}")[0]
        self._root, self._seed = root, seed
        self._config = merge(yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")), [])
        self._data, self._base = artifact(root, report, "validate"), artifact(root, report, "base")
        told = json.loads((artifact(root, report, "tokenizer") / "stage.json").read_text(encoding="utf-8"))
        self._common: dict[str, Any] = {
            "tokenizer": artifact(root, report, "tokenizer") / "tokenizer",
            "model": self._config.model,
            "context": int(told["metrics"]["context"]),
        }
        self._samples = self._folder("samples")
        sample(
            self._samples,
            _ignore,
            data=self._data,
            start=artifact(root, report, "sft"),
            settings=self._config.sample,
            max_new_tokens=self._config.evaluate.max_new_tokens,
            seed=seed,
            **self._common,
        )

    def _folder(self, name: str) -> Path:
        folder = self._root / "bench" / name
        folder.mkdir(parents=True)
        return folder

    def practised(self, steps: int, seed: int) -> tuple[Path, float]:
        """Return the judge's artifact and the seconds that its practice took."""
        from tasks.judges.practice import practise_judge

        if steps == 0:
            return self._base, 0.0
        out = self._folder(f"judge-{steps}-{seed}")
        outcome = practise_judge(
            out,
            _ignore,
            data=self._data,
            base=self._base,
            settings=self._config.judge.model_copy(update={"practice_steps": steps}),
            seed=seed,
            **self._common,
        )
        return out, float(outcome.costs["train_seconds"])

    def judged(self, judge: Path, mode: str) -> dict[str, Any]:
        """Return `judge.json` of the judge's labels in one mode."""
        from tasks.feedback.sources.judge import label
        from tasks.judges.load import JudgeSource

        out = self._folder(f"labels-{judge.name}-{mode}")
        source = JudgeSource(
            settings=self._config.judge.model_copy(update={"mode": mode, **NO_LIMITS}),
            base=judge,
            base_digest=judge.name,
            templates=self._root / "data" / "judges",
            cache=out / "cache",
            **self._common,
        )
        label(
            out,
            _ignore,
            samples=self._samples,
            judge=source,
            settings=self._config.labels,
            findings=out,
            model_uri="",
            seed=self._seed,
        )
        told: dict[str, Any] = json.loads((out / "judge.json").read_text(encoding="utf-8"))
        return told


def _ignore(step: int, metrics: Any) -> None:
    """Take a curve's point, which nobody looks at here."""


def main(words: list[str]) -> None:
    """Print the table."""
    given = dict(word.partition("=")[::2] for word in words)
    steps = [int(one) for one in given.get("steps", "0,400,600").split(",")]
    practices = [int(one) for one in given.get("practices", "0").split(",")]
    seed = int(given.get("seed", "0"))
    table = Table(*COLUMNS, title=f"the default judge on pairs of samples of the SFT model, seed {seed}")
    with TemporaryDirectory() as scratch:
        bench = Bench(fresh_copy(Path(scratch, "copy")), seed=seed)
        for count in steps:
            for practice in practices if count else practices[:1]:
                judge, seconds = bench.practised(count, practice)
                for mode in MODES:
                    told = bench.judged(judge, mode)
                    table.add_row(
                        str(count),
                        str(practice) if count else "–",
                        mode,
                        cell(told["accuracy"]),
                        f"{told['conviction']:.3f}",
                        "–" if told.get("flip_share") is None else f"{100 * told['flip_share']:.0f}",
                        str(told["usage"]["asked"]),
                        f"{seconds:.0f}",
                    )
    Console(width=130).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
