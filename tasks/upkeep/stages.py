"""Results of stages: are they those that the stage wrote. A damaged one is made again by itself; here somebody hears of it."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from posttrain.errors import RequestError
from posttrain.printable import counted
from tasks.upkeep.findings import Finding, Stores, named, well, wrong
from tasks.upkeep.heads import size_of, trouble_of_head
from tasks.workspace.artifacts import find
from tasks.workspace.paths import Paths


def stages(stores: Stores) -> list[Finding]:
    """Look at every finished stage, the newest first."""
    paths, budget = stores.paths, stores.budget()
    folders = finished(paths)
    damaged: dict[Path, str] = {}
    whole = 0
    for folder in folders:
        is_read = budget.takes(size_of(file for file in folder.rglob("*") if file.is_file()))
        whole += is_read
        if trouble := _trouble(paths, folder, is_read=is_read):
            damaged[folder] = trouble
    if damaged:
        names = named([f"{folder.parent.name}/{folder.name[:12]} ({trouble})" for folder, trouble in damaged.items()])
        told = (
            f"{counted(len(damaged), 'result')} damaged: {names}. The pipeline that needs it makes it again by itself; FIX=1 "
            f"puts it aside, below {(paths.store / 'damaged').relative_to(paths.root)}"
        )
        return [wrong(told, partial(_put_aside, paths, list(damaged)))]
    if not folders:
        return [well("no stage has finished yet")]
    seen = f"{counted(len(folders), 'result')} whole"
    if whole < len(folders):
        seen += f"; {whole:,} compared with their digests, {len(folders) - whole:,} by length and head (DEEP=1 reads all)"
    return [well(seen)]


def finished(paths: Paths) -> list[Path]:
    """Return the folders of finished stages, the newest first."""
    found = [folder for folder in paths.stages.glob("*/*") if folder.is_dir() and ".part-" not in folder.name]
    return sorted(found, key=_time_of, reverse=True)


def _time_of(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _trouble(paths: Paths, folder: Path, *, is_read: bool) -> str:
    """Return what is wrong with a result, "" where nothing is, or where somebody is making it at this moment."""
    if is_read:
        told = find(paths, folder.parent.name, folder.name)[1]
        found = told.removeprefix(f"{folder.parent.name}: ").removesuffix(", so it is made again")
    else:
        found = _trouble_at_sight(folder)
    if not found or not folder.exists():
        return ""
    with _locked(folder) as is_held:
        return found if is_held else ""


def _trouble_at_sight(folder: Path) -> str:
    try:
        facts = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        names = sorted(facts["files"])
        if (facts["stage"], facts["key"]) != (folder.parent.name, folder.name):
            return "its stage.json speaks of another result"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has no readable stage.json"
    for name in names:
        if not (folder / name).is_file():
            return f"it lacks {name}"
        if trouble := trouble_of_head(folder / name):
            return f"{name} {trouble}"
    return ""


def _put_aside(paths: Paths, folders: list[Path]) -> str:
    """Move damaged results where no pipeline looks, so that nothing of them is lost."""
    aside = paths.store / "damaged" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    moved = []
    for folder in folders:
        with _locked(folder) as is_held:
            if not is_held:
                raise RequestError(f"a pipeline is making {folder.relative_to(paths.root)} now. Look again when it is done")
            if folder.exists():
                target = aside / folder.parent.name / folder.name
                target.parent.mkdir(parents=True, exist_ok=True)
                folder.rename(target)
                moved.append(str(target.relative_to(paths.root)))
    return f"put aside: {named(moved)}" if moved else ""


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a result's key, as whoever makes it does; yields whether it is held."""
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
