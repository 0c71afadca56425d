"""Datasets: are their files the version that DVC has noted, and was an import cut off."""

from functools import partial
from pathlib import Path
from typing import Any

from posttrain.errors import DataError
from posttrain.printable import counted
from tasks.data.dvc import settle_imports
from tasks.data.dvc_files import LABELS, RECORDS, WORLD, read_lock, read_stages, read_version, version_file
from tasks.data.dvc_memory import Memory
from tasks.data.swap import INCOMING
from tasks.upkeep.findings import Finding, Stores, named, note, well, wrong
from tasks.workspace.locks import exclusive, import_lock
from tasks.workspace.paths import Paths


def datasets(stores: Stores) -> list[Finding]:
    """Look at every dataset; a file whose size, time and place did not change since it was read is read again only if deep."""
    paths = stores.paths
    memory = Memory.load(paths)
    if stores.is_deep:
        memory.digests = {}
    found = _cut_off(paths)
    folders = ([paths.root] if (paths.root / "dvc.yaml").is_file() else []) + sorted(
        path.parent for path in paths.data.glob("*/dvc.yaml")
    )
    for folder in folders:
        try:
            found += _look_at(paths, folder, memory)
        except DataError as error:  # of the one; the others are looked at
            found.append(wrong(str(error)))
    return found or [well(f"{counted(len(folders), 'dataset')}, as DVC has noted them")]


def _cut_off(paths: Paths) -> list[Finding]:
    """Return a finding where imports died; one that is at work is left alone."""
    dead = []
    for left in sorted(paths.data.glob(f"*/{INCOMING}")):
        with exclusive(paths, import_lock(left.parent.name), wait=False) as is_dead:
            if is_dead:
                dead.append(left.parent.name)
    if not dead:
        return []
    told = f"{counted(len(dead), 'import')} cut off: {named(dead)}. FIX=1 completes it, or takes it away if nothing was decided"
    return [wrong(f"{told}; so does the next command of any kind", partial(_settle, paths))]


def _settle(paths: Paths) -> str:
    return "; ".join(settle_imports(paths))


def _look_at(paths: Paths, folder: Path, memory: Memory) -> list[Finding]:
    """Return what is wrong with one dataset."""
    is_world = folder == paths.root
    key, name = (WORLD, WORLD) if is_world else ("split", folder.name)
    stage = read_stages(paths, folder / "dvc.yaml").get(key)
    lock = read_lock(paths, folder / "dvc.lock", key)
    if stage is None or not lock:
        return []  # it was never made; the next command that needs it makes it
    noted = {str(out["path"]): str(out["md5"]) for out in lock.get("outs", [])}
    tracked = [paths.data / name / LABELS, *([] if is_world else [folder / RECORDS])]
    for file in tracked:
        if version := read_version(paths, version_file(file)):
            noted[str(file.relative_to(paths.root))] = version
    changed: list[str] = []
    gone: list[str] = []
    lost: list[str] = []
    for path, md5 in noted.items():
        now = memory.md5(paths, path)
        if now is None:
            (gone if _is_kept(paths, md5) else lost).append(path)
        elif now != md5:
            changed.append(path)
    return [*_changed(name, changed), *_gone(name, gone, lost, stage)]


def _changed(name: str, changed: list[str]) -> list[Finding]:
    if not changed:
        return []
    return [
        note(
            f"{named(changed)} changed since DVC noted it, by hand or because git went to another commit. make data DATA={name} "
            "takes what was edited as a new version, and lets the rest follow dvc.lock; nothing is lost by it"
        )
    ]


def _gone(name: str, gone: list[str], lost: list[str], stage: dict[str, Any]) -> list[Finding]:
    found = []
    if gone:
        found.append(note(f"{named(gone)} not here; DVC's cache has it. make data DATA={name} brings it back"))
    if labels := [path for path in lost if path.endswith(f"/{LABELS}")]:
        found.append(
            wrong(
                f"{named(labels)} not here, nor in DVC's cache: what people said of responses. Fetch it from where it was pushed "
                "(.venv/bin/dvc pull), or restore it from a backup (make restore)"
            )
        )
    if records := [path for path in lost if path not in (*stage["outs"], *labels)]:
        found.append(
            wrong(
                f"{named(records)} not here, nor in DVC's cache. Fetch it from where it was pushed (.venv/bin/dvc pull), restore "
                f"it from a backup, or import it again: make import FORMAT=… FILE=… NAME={name}"
            )
        )
    if again := [path for path in lost if path in stage["outs"]]:
        found.append(note(f"{named(again)} not here, nor in DVC's cache. make data DATA={name} makes it again from its source"))
    return found


def _is_kept(paths: Paths, md5: str) -> bool:
    """Return whether DVC's cache has a file (layout of DVC 3)."""
    return (paths.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]).is_file()
