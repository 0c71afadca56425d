"""What dead processes left half-written, and what lies in the stores that nothing names."""

import json
import os
import re
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from posttrain.printable import counted
from tasks.upkeep.findings import Finding, Stores, megabytes, named, note, well
from tasks.upkeep.stages import finished
from tasks.workspace.artifacts import half_made, sweep
from tasks.workspace.paths import Paths
from tasks.workspace.presence import Process

OF_A_PROCESS = re.compile(r"(?:^|\.)(\d+-\d+-[0-9a-f]{8})\.new$")
"""Names of files that are being written, with the process in them that writes."""
OF_AN_ID = re.compile(r"(?:\.part-(\d+)|^\.writable-(\d+)|\.(\d+)\.(?:new|part))$")
"""Likewise, with no more than its id."""
REUSED = 3_600.0
"""Seconds after which a file with no more than the id of a process counts as left, where that id is free: a younger one may be
another container's."""
ELSEWHERE = 86_400.0
"""Seconds after which a file of another start of a machine counts as left: a shared folder has several machines."""
DEEPEST = 4
"""Folders below a store in which such files are looked for."""


def leftovers(stores: Stores) -> list[Finding]:
    """Look for half-written files of dead processes, and for checkpoints of stages that are finished."""
    paths = stores.paths
    left = [*_half_written(paths), *half_made(paths), *_checkpoints(paths)]
    if not left:
        return [well("dead processes left nothing half-written")]
    size = megabytes(sum(_size(path) for path in left))
    names = named([str(path.relative_to(paths.root)) for path in left])
    told = f"{counted(len(left), 'leftover')} of dead processes, {size}: {names}. Nothing reads them; FIX=1 removes them"
    return [note(told, partial(_remove, paths, len(left), size))]


def _half_written(paths: Paths) -> Iterator[Path]:
    stores = {paths.store: DEEPEST, paths.reports: DEEPEST, paths.ledger: DEEPEST, paths.data: 2, paths.labelling: 3}
    for store, depth in stores.items():
        for place in _below(store, depth):
            if _is_left(place):
                yield place


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield what lies in a folder, down to a depth, without following links; a half-written folder is yielded as one."""
    try:
        entries = sorted(os.scandir(folder), key=lambda one: one.name)
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        yield path
        if depth > 1 and entry.is_dir(follow_symlinks=False) and not _process_in(entry.name):
            yield from _below(path, depth - 1)


def _process_in(name: str) -> str:
    found = OF_A_PROCESS.search(name) or OF_AN_ID.search(name)
    return next((group for group in found.groups() if group), "") if found else ""


def _is_left(place: Path) -> bool:
    """Return whether a dead process was writing it."""
    owner = _process_in(place.name)
    if not owner or place.parent.parent.name == "stages":  # parts of stages have locks, which tell more
        return False
    with suppress(OSError):
        age = time.time() - place.lstat().st_mtime
        if owner.isdecimal():
            return age > REUSED and Process.of(int(owner)) is None
        process = Process.from_name(owner, host=socket.gethostname())
        if process is None or process.may_live():
            return False
        return process.boot == Process.current().boot or age > ELSEWHERE
    return False


def _checkpoints(paths: Paths) -> list[Path]:
    """Return the folders of checkpoints whose stage is finished: a kill came between the two."""
    return [
        folder
        for folder in sorted(paths.checkpoints.glob("*/*"))
        if (paths.stages / folder.parent.name / folder.name / "stage.json").is_file()
    ]


def _remove(paths: Paths, count: int, size: str) -> str:
    for place in _half_written(paths):
        _take_out(place)
    for folder in {part.parent for part in half_made(paths)}:
        sweep(folder)
    for folder in _checkpoints(paths):
        _take_out(folder)
    return f"{counted(count, 'leftover')} of dead processes removed, {size}"


def _take_out(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        with suppress(OSError):
            place.unlink()


# --- what nothing names -----------------------------------------------------------------------------------------------


def orphans(stores: Stores) -> list[Finding]:
    """Look for results that no run and no report names, and for files of models and runs that MLflow does not know; only told."""
    paths, database = stores.paths, stores.paths.ledger / "mlflow.db"
    if stores.config.tracking.uri or not database.exists():
        return [well("not looked at: only the local ledger can be asked which results it names")]
    if stores.unusable:
        return [note(f"not looked at: {stores.unusable}")]
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as store:
        keys = _column(store, "SELECT DISTINCT value FROM tags WHERE key = 'posttrain.stage_key'")
        models = _column(store, "SELECT model_id FROM logged_models WHERE lifecycle_stage = 'active'")
        models |= {Path(one).name for one in _column(store, "SELECT source FROM model_versions")}
        runs = _column(store, "SELECT run_uuid FROM runs")
    keys |= _reported(paths)
    artifacts = paths.ledger / "artifacts"
    kinds = {
        "result": [folder for folder in finished(paths) if folder.name not in keys],
        "folder of a model": [one for one in sorted((artifacts / "models").glob("m-*")) if one.name not in models],
        "folder of a run": [one for one in sorted(artifacts.glob("*")) if _is_run(one) and one.name not in runs],
    }
    plurals = {"result": "", "folder of a model": "folders of models", "folder of a run": "folders of runs"}
    told = [
        f"{counted(len(found), kind, plurals[kind])}, {megabytes(sum(map(_size, found)))} "
        f"({named([str(one.relative_to(paths.root))[:60] for one in found])})"
        for kind, found in kinds.items()
        if found
    ]
    if not told:
        return [well("nothing lies in the stores that nothing names")]
    return [
        note(
            f"nothing names {'; '.join(told)}. They only take room: a pipeline that was stopped may still reuse its results. "
            "make clean takes away all results; make clean KEEP=… those of old pipelines"
        )
    ]


def _column(store: sqlite3.Connection, query: str) -> set[str]:
    return {str(row[0]) for row in store.execute(query) if row[0]}


def _reported(paths: Paths) -> set[str]:
    """Return the keys of the stages that reports name."""
    keys = set()
    for file in paths.reports.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            keys |= {str(stage["key"]) for stage in json.loads(file.read_text(encoding="utf-8"))["stages"]}
    return keys


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and re.fullmatch(r"[0-9a-f]{32}", folder.name) is not None


def _size(path: Path) -> int:
    files: Iterable[Path] = path.rglob("*") if path.is_dir() and not path.is_symlink() else (path,)
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.lstat().st_size if file.is_file() else 0
    return total
