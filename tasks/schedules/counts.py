"""How many runs each schedule has made: what RUNS counts. Prefect's own list cannot say, since old runs are cleaned away."""

import json
from pathlib import Path

from tasks.schedules.turns import folder_of
from tasks.workspace.disk import cannot_write, write_whole
from tasks.workspace.locks import exclusive
from tasks.workspace.paths import Paths


def done_by(paths: Paths, name: str) -> int:
    """Return how many runs a schedule has made since it was made itself."""
    try:
        return int(json.loads(_file(paths, name).read_text(encoding="utf-8"))["runs"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def count_run(paths: Paths, name: str) -> int:
    """Count one more run, and return how many there are."""
    with exclusive(paths, "schedules"):
        done = done_by(paths, name) + 1
        _write(_file(paths, name), done)
    return done


def forget_runs(paths: Paths, name: str) -> None:
    """Begin at none, where a schedule is made anew or deleted."""
    with exclusive(paths, "schedules"):
        try:
            _file(paths, name).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(error, _file(paths, name)) from None


def _file(paths: Paths, name: str) -> Path:
    return folder_of(paths) / f"{name}.runs.json"


def _write(file: Path, done: int) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"runs": done}).encode())
    except OSError as error:
        raise cannot_write(error, file) from None
