"""What it costs to compute a stage in processes of its own: SFT of the tiny base here, and by torchrun.

    python -m benchmarks.launch [repetitions=5] [processes=1] [steps=20]

Both in turn, on one small world, in one process whose libraries are loaded, as a pipeline's are. Prints seconds of each, and the
difference of each pair with its spread. The first launch also waits until the libraries are loaded, as a pipeline does meanwhile.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

CONTEXT = 128


def prepared(folder: Path) -> dict[str, Any]:
    """Return what the stage `sft` is given: a small world, its tokenizer, and a base that has hardly been trained."""
    from posttrain.data.world import generate
    from posttrain.settings.data import WorldSettings
    from posttrain.settings.model import ModelSettings, PretrainSettings, TinySettings
    from tasks.base_model import pretrain, tokenizer
    from tasks.workspace.jsonl import write_rows

    records: dict[str, list[Any]] = {}
    for role, record in generate(WorldSettings(corpus_documents=1_500, demonstrations=64, questions=40, held_out=40)):
        records.setdefault(role, []).append(record)
    data, texts, base = (folder / name for name in ("data", "tokenizer", "base"))
    for each in (data, texts, base):
        each.mkdir()
    for role, rows in records.items():
        write_rows(data / f"{role}.jsonl", (row.model_dump(mode="json") for row in rows))
    model, network = ModelSettings(context=CONTEXT), TinySettings()
    tokenizer.make_tokenizer(texts, quiet, data=data, dataset="world", model=model, settings=network)
    given = {"tokenizer": texts / "tokenizer", "model": model, "seed": 0}
    settings = PretrainSettings(steps=20)
    pretrain.make_base(base, quiet, data=data, tiny_settings=network, settings=settings, **given)
    return {**given, "data": data, "base": base, "context": CONTEXT}


def quiet(step: int, figures: object) -> None:
    """Take a point of a curve, which nobody looks at here."""


def main() -> None:
    """Measure pairs and print them."""
    from posttrain.settings.sft import SFTSettings
    from tasks.launch import Launch, call_on_processes
    from tasks.training import sft

    given = dict(word.split("=", 1) for word in sys.argv[1:])
    processes, repetitions = int(given.get("processes", "1")), int(given.get("repetitions", "5"))
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        arguments = prepared(root) | {"settings": SFTSettings(max_steps=int(given.get("steps", "20")))}

        def launched(out: Path) -> None:
            stage = Launch("tasks.training.sft:train", out, quiet, arguments, "sft", processes, root / "logs")
            call_on_processes(stage)

        def timed(name: str, compute: Callable[[Path], object]) -> float:
            out = root / name
            out.mkdir()
            started = time.perf_counter()
            compute(out)
            return time.perf_counter() - started

        timed("first", lambda out: sft.train(out, quiet, **arguments))  # loads what is loaded once
        table = Table("here, s", f"launched on {processes}, s", "more, s", title="the stage sft, each pair")
        more = []
        for number in range(repetitions):
            here = timed(f"here {number}", lambda out: sft.train(out, quiet, **arguments))
            there = timed(f"there {number}", launched)
            more.append(there - here)
            table.add_row(f"{here:.2f}", f"{there:.2f}", f"{more[-1]:.2f}")
    console = Console()
    console.print(table)
    console.print(f"median {statistics.median(more):.2f} s more, from {min(more):.2f} to {max(more):.2f}")


if __name__ == "__main__":
    main()
