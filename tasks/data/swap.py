"""A prepared dataset takes the place of the earlier one as a whole, or not at all, whenever the process dies.

Everything is made in `data/<name>/.incoming/`, a small copy of the project, while the earlier dataset stays untouched. Then the
plan of the exchange is written there: this is the moment that decides. Before it, whatever comes next takes the preparation
away; after it, whatever comes next completes the exchange. Every step of it is a rename or a removal, which needs no room on
the disk and may be repeated.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from posttrain.errors import DataError, StorageError
from tasks.workspace.disk import sync
from tasks.workspace.interrupts import uninterrupted

INCOMING = ".incoming"
"""Folder of a dataset that is being imported, below the one that it will replace."""
PLAN = "swap.json"
DONE = "swap.done"
"""Name of the plan once it is carried out: only the rest of the preparation is left to take away."""


@dataclass(frozen=True)
class Swap:
    """What changes in a dataset's folder.

    Attributes:
        keep: files that would be lost with a hand edit in them, and the names that they get instead.
        remove: files that the new dataset does not have.
        put: files of the new dataset.
    """

    keep: Mapping[str, str]
    remove: tuple[str, ...]
    put: tuple[str, ...]


def incoming(folder: Path) -> Path:
    """Return where the dataset of `folder` is prepared."""
    return folder / INCOMING


def prepared(folder: Path) -> Path:
    """Return where the files of the new dataset lie while they are prepared."""
    return incoming(folder) / "data" / folder.name


def exchange(folder: Path, swap: Swap) -> None:
    """Put the prepared files into `folder`, as `swap` says.

    Raises:
        OSError: the plan could not be written; the earlier dataset stands.
        StorageError: the plan is written, but a file could not be moved; the next command completes it.
    """
    _sync(prepared(folder) / name for name in swap.put)
    plan = incoming(folder) / PLAN
    part = plan.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(asdict(swap), file)
        file.flush()
        os.fsync(file.fileno())
    with uninterrupted():
        part.replace(plan)
        _complete(folder, swap)


def settle(folder: Path) -> str | None:
    """Complete what a dead import had decided, or take away what it had only prepared; return the line to say, if any.

    The caller holds the locks of the import and of DVC.

    Raises:
        DataError: the plan is damaged.
        StorageError: a file cannot be moved.
    """
    if not incoming(folder).exists():
        return None
    shown = f"data/{folder.name}"
    if (incoming(folder) / DONE).exists():
        discard(folder)
        return None
    if not is_decided(folder):
        discard(folder)
        stands = f"{shown} is as it was before" if folder.exists() else "nothing of it is left"
        return f"an import of {folder.name} was stopped before its end; {stands}"
    with uninterrupted():
        _complete(folder, _read(incoming(folder) / PLAN, shown=f"{shown}/{INCOMING}/{PLAN}"))
    return (
        f"an import of {folder.name} was stopped while its files were put in place; now they all are: {shown} is the new dataset"
    )


def is_decided(folder: Path) -> bool:
    """Return whether the exchange was decided: then it is completed, whatever happens."""
    return (incoming(folder) / PLAN).exists()


def discard(folder: Path) -> None:
    """Take a preparation away, and the dataset's folder as well where nothing else is in it."""
    shutil.rmtree(incoming(folder), ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def _read(plan: Path, *, shown: str) -> Swap:
    try:
        told = json.loads(plan.read_text(encoding="utf-8"))
        return Swap(keep=dict(told["keep"]), remove=tuple(told["remove"]), put=tuple(told["put"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{shown} is damaged ({error}), so an import that was stopped cannot be completed. Its files lie beside it. "
            f"Put the folder aside, then import again: mv {Path(shown).parent} stopped-import"
        ) from None


def _complete(folder: Path, swap: Swap) -> None:
    """Do what is not done yet."""
    source = prepared(folder)
    try:
        for name, kept in swap.keep.items():
            # Kept before anything is put: once the kept file is there, `name` may already be the new dataset's.
            if (folder / name).exists() and not (folder / kept).exists():
                (folder / name).replace(folder / kept)
        for name in swap.remove:
            (folder / name).unlink(missing_ok=True)
        for name in swap.put:
            if (source / name).exists():
                (source / name).replace(folder / name)
        sync(folder)
        (incoming(folder) / PLAN).replace(incoming(folder) / DONE)
    except OSError as error:
        raise StorageError(
            f"data/{folder.name}: the new dataset is whole, but cannot be put in place: {error.filename}: "
            f"{error.strerror or error}. Correct the permissions; the next command of any kind completes it"
        ) from None
    discard(folder)


def _sync(paths: Iterable[Path]) -> None:
    """Make the content of files, and their names, outlive a power failure."""
    folders = set()
    for path in paths:
        sync(path)
        folders.add(path.parent)
    for folder in folders:
        sync(folder)
