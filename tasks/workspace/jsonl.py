"""Reading and writing files of records, and the dataset folder that a stage is handed."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from posttrain.errors import DataError
from posttrain.records import Row

R = TypeVar("R", bound=Row)

PROBLEMS = "problems.jsonl"
"""What an evaluation writes: a row a held-out question."""


def read_records(path: Path, kind: type[R]) -> Iterator[R]:
    """Yield the records of a file that validation has passed."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield kind.model_validate_json(line)


def has_rows(path: Path) -> bool:
    """Return whether the file is there and not empty."""
    return path.is_file() and path.stat().st_size > 0


def required(folder: Path, role: str, kind: type[R], *, why: str) -> list[R]:
    """Return the records of `<role>.jsonl`, of which there must be one at least.

    Raises:
        DataError: the dataset has none.
    """
    path = folder / f"{role}.jsonl"
    records = list(read_records(path, kind)) if path.is_file() else []
    if not records:
        raise DataError(f"the dataset has no {role}, which {why}. Import data that have them: make import FORMAT=… FILE=… NAME=…")
    return records


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line and return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file that a stage wrote."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
