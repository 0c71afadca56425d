"""A folder that is there whole, or not at all."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posttrain.errors import RequestError
from tasks.workspace.disk import storage_errors, sync
from tasks.workspace.presence import Process

RECORD = "export.json"
"""In every export: what it is of, and how it answers. Only a folder that has it is ever replaced."""


def check_place(target: Path, *, is_forced: bool) -> None:
    """Refuse a place where an export would take something away.

    Raises:
        RequestError: something lies there that may not be replaced.
    """
    if target.is_dir() and not target.is_symlink() and (not any(target.iterdir()) or (is_forced and (target / RECORD).is_file())):
        return
    if not os.path.lexists(target):
        return
    is_export = target.is_dir() and (target / RECORD).is_file()
    remedy = "FORCE=1 replaces it" if is_export else "Give another name, or remove it"
    raise RequestError(f"TO must name a place where nothing lies yet, but {target} is there. {remedy}")


@contextmanager
def building(target: Path, *, is_forced: bool = False) -> Iterator[Path]:
    """Give an empty folder beside the target, which gets its name once the block is left without error; else nothing stays.

    Raises:
        RequestError: something lies at that place.
        StorageError: the disk refuses; what lay there still does.
    """
    with storage_errors("the export", target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        check_place(target, is_forced=is_forced)
        part = target.with_name(f".{target.name}.{Process.current().name}.new")
        try:
            part.mkdir()
            yield part
            for file in part.rglob("*"):
                sync(file)
            _put(part, target)
            sync(target.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _put(part: Path, target: Path) -> None:
    """Give a folder its name; what had it goes only then."""
    if not target.exists() or not any(target.iterdir()):
        part.rename(target)  # over an empty folder as well
        return
    before = part.with_name(f"{part.name}.before.new")
    target.rename(before)
    try:
        part.rename(target)
    except BaseException:
        before.rename(target)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove what exports to the same place left that were killed."""
    for left in target.parent.glob(f".{target.name}.*.new"):
        whose = Process.from_name(left.name.removeprefix(f".{target.name}.").split(".")[0], host=socket.gethostname())
        if whose and not whose.may_live() and target.exists():
            shutil.rmtree(left, ignore_errors=True)
        elif whose and not whose.may_live():
            _restore(left, target)


def _restore(left: Path, target: Path) -> None:
    """Put back what was killed between its two renames, and remove the rest."""
    if left.name.endswith(".before.new"):
        left.rename(target)
    else:
        shutil.rmtree(left, ignore_errors=True)
