"""Wall time and peak memory of importing and splitting preferences: `python -m benchmarks.import_million [rows] [words]`.

The file is made here: transcripts of `words` words a prompt, every fourth prompt said before (another pair of answers), every
eighth nearly so (one word changed). Import and split run as processes of their own, so that each peak is its own.
"""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def make(path: Path, *, rows: int, words: int) -> None:
    draw = random.Random(0)
    vocabulary = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(20_000)]
    weights = [1 / (rank + 10) for rank in range(len(vocabulary))]
    pool = draw.choices(vocabulary, weights, k=2_000_000)
    prompts: list[str] = []

    def text(count: int) -> str:
        start = draw.randrange(len(pool) - count)
        return " ".join(pool[start : start + count])

    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            prompt = text(words)
            if prompts and row % 4 == 0:
                prompt = draw.choice(prompts)
            elif prompts and row % 8 == 1:
                known = draw.choice(prompts).split()
                known[draw.randrange(len(known))] = draw.choice(vocabulary)
                prompt = " ".join(known)
            elif len(prompts) < 50_000:
                prompts.append(prompt)
            opening = f"\n\nHuman: {prompt}\n\nAssistant:"
            pair = {"chosen": f"{opening} {text(25)}", "rejected": f"{opening} {text(25)}"}
            file.write(json.dumps(pair) + "\n")


def measured(label: str, arguments: list[str], *, folder: Path) -> None:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", _CHILD, *arguments], cwd=folder, check=True)
    print(f"{label}: {time.perf_counter() - started:.1f} s wall")


_CHILD = """
import resource, sys
from pathlib import Path
from tasks.workspace.paths import Paths
paths = Paths(Path.cwd())
if sys.argv[1] == "import":
    from tasks.data.importing import import_file
    print(import_file(paths, format="hh", file=sys.argv[2], name="million"))
else:
    from tasks.data.stages import split_dataset
    split_dataset(paths, "million")
print(f"{sys.argv[1]}: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB itself, "
      f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB in dvc")
"""


def main(rows: int = 1_000_000, words: int = 40) -> None:
    folder = Path(tempfile.mkdtemp(prefix="import-million-"))
    try:
        for part in ("posttrain", "tasks"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "params.yaml", folder)
        os.environ["PYTHONPATH"] = str(folder)
        make(folder / "million.jsonl", rows=rows, words=words)
        print(f"{rows} pairs, {(folder / 'million.jsonl').stat().st_size / 1e6:.0f} MB")
        measured("import", ["import", "million.jsonl"], folder=folder)
        measured("split", ["split"], folder=folder)
        for file in sorted((folder / "data" / "million").glob("*.jsonl")):
            with file.open("rb") as stream:
                print(f"  {file.name}: {sum(1 for _ in stream)} rows")
        print(f"making the file: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
