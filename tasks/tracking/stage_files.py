"""What of a finished stage's folder goes into the ledger: its curves, and the files that a person would look at."""

import json
from pathlib import Path

LARGEST_ARTIFACT = 2**20  # bytes; weights and whole sample files stay in the stage's own folder
SHOWN_SUFFIXES = frozenset({".csv", ".html", ".json", ".jsonl", ".md", ".png", ".txt"})


def curves_in(file: Path) -> list[tuple[str, float, int]]:
    """Return name, value and step of every point of a `curves.jsonl`; none where there is no file."""
    if not file.exists():
        return []
    points = []
    for line in file.read_text().splitlines():
        row = json.loads(line)
        step = int(row.pop("step"))
        points += [(name, float(value), step) for name, value in row.items() if isinstance(value, (int, float))]
    return points


def small_files(artifact: Path) -> list[Path]:
    """List what a person would look at: never the weights, nor the curves, which are metrics already."""
    return sorted(
        file
        for file in artifact.rglob("*")
        if file.suffix in SHOWN_SUFFIXES
        and file.relative_to(artifact).parts[0] not in ("model", "curves.jsonl")
        and file.stat().st_size <= LARGEST_ARTIFACT
    )
