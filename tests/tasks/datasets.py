"""What the tests of importing and versioning share: a project in a folder of its own, with a real DVC."""

import json
import subprocess
import sys
from pathlib import Path

from tasks.data.importing import import_file

ROOT = Path(__file__).resolve().parents[2]

WORLD = """
from posttrain.records import Question, Text
def generate(settings):
    for number in range(settings.questions):
        yield "questions", Question(id=str(number), prompt=f"q{settings.seed}", answers=("1",))
    yield "corpus", Text(id="0", text="t")
"""


def gsm8k(paths, count=20, *, file="g.jsonl", start=0):
    rows = [
        {"question": " ".join(f"w{number}x{word}" for word in range(6)), "answer": f"So {number}.\n#### {number}"}
        for number in range(start, start + count)
    ]
    (paths.root / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def state(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def dvc(paths, *arguments):
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=paths.root, check=True, capture_output=True, text=True)


def importing_of(paths, text, *, form="trl", mode="w"):
    path = paths.root / "in.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_file(paths, format=form, file="in.jsonl", name="mine")
