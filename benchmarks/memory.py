"""What SFT of a base holds of the machine's memory, by the rows that a device takes at once, and what is left when it has ended.

    python -m benchmarks.memory base=FOLDER [device_batch_size=8,4,2] [steps=3] [threads=2] [data=data/world]

Each number in a process of its own: a few steps of the stage `sft` at the profile's settings. Prints seconds, the peak, and
what the process holds after it: as training leaves it, after Python's collector, and after `tasks.workspace.memory.give_back`.
The data are those of the default world (`make pipeline METHOD=sft` makes them).
"""

import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.table import Table

COLUMNS = ("rows", "seconds", "before", "peak", "left", "collected", "returned")


def resident() -> float:
    """Return what this process holds, GB."""
    return float(psutil.Process().memory_info().rss) / 1e9


def one(base: Path, data: Path, *, rows: int, steps: int, threads: int) -> dict[str, float]:
    """Train, and return the figures of a row of the table."""
    import torch

    from posttrain.settings.model import ModelSettings
    from posttrain.settings.sft import SFTSettings
    from tasks.base_model.tokenizer import make_tokenizer
    from tasks.training import sft
    from tasks.workspace.memory import give_back, own_memory, peak_rss_mb

    torch.set_num_threads(threads)
    model = ModelSettings(base=str(base.resolve()), context=1024)
    with TemporaryDirectory() as scratch:
        out, start = Path(scratch) / "out", Path(scratch) / "base"
        for folder in (out, start):
            folder.mkdir()
        (start / "source.json").write_text(json.dumps({"base": model.base, "revision": None}), encoding="utf-8")
        make_tokenizer(out, lambda *_: None, data=data, dataset="world", model=model, settings=None)  # type: ignore[arg-type]
        settings = SFTSettings(device_batch_size=rows, max_steps=steps)
        told = {"rows": float(rows), "before": resident()}
        with own_memory():
            started = time.perf_counter()
            sft.train(
                out,
                lambda *_: None,
                data=data,
                base=start,
                tokenizer=out / "tokenizer",
                model=model,
                settings=settings,
                context=1024,
                seed=0,
            )
            told |= {"seconds": time.perf_counter() - started, "peak": peak_rss_mb() * 2**20 / 1e9, "left": resident()}
        gc.collect()
        told["collected"] = resident()
        give_back()
        return told | {"returned": resident()}


def main() -> None:
    """Measure each number of rows in a process of its own and print the table."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if "rows" in given:
        figures = one(
            Path(given["base"]),
            Path(given["data"]),
            rows=int(given["rows"]),
            steps=int(given["steps"]),
            threads=int(given["threads"]),
        )
        print(json.dumps(figures))
        return
    shared = [f"{name}={given.get(name, usual)}" for name, usual in (("steps", "3"), ("threads", "2"), ("data", "data/world"))]
    table = Table(*COLUMNS, title="SFT: seconds, and GB of resident memory")
    for rows in given.get("device_batch_size", "8,4,2").split(","):
        command = [sys.executable, "-m", "benchmarks.memory", f"base={given['base']}", f"rows={rows}", *shared]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        figures = json.loads(lines[-1])
        table.add_row(*(f"{figures[name]:.0f}" if name == "rows" else f"{figures[name]:.2f}" for name in COLUMNS))
    Console().print(table)


if __name__ == "__main__":
    main()
