"""The files of a registered model: a copy of its own, whole or not there, checked before it takes its place.

A hard link to the stage's artifact costs no space, but then one damaged block, or one program that writes into the file, takes
the stage and the version at once. A reflink costs no space either and is a file of its own; where the file system has none
(ext4), the version is a plain copy: docs/decisions/0016-stores.md.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from posttrain.errors import StorageError
from tasks.workspace.artifacts import file_digest
from tasks.workspace.presence import Process

CARD = "README.md"
"""What the model is, in words: it decides nothing of what the model answers, so no digest counts it."""
FICLONE = 0x40049409
"""ioctl_ficlonerange(2): share the blocks of one file with another, copied when either is written."""
SPARE = 64 * 2**20
"""Bytes that stay free on the disk beside a model, for the databases."""


def model_digest(listed: Mapping[str, str]) -> str:
    """Return the sha256 of a model's file names and digests, but for its card."""
    return _sha256({name: digest for name, digest in listed.items() if name != CARD})


def has_digest(folder: Path, wanted: str) -> bool:
    """Return whether a model folder has the files that were registered.

    Versions of before 2026-12 count a card among them (of prompted models, whose stage writes one).
    """
    return wanted in _digests({file.name: file_digest(file) for file in folder.iterdir() if file.is_file()})


def _digests(listed: Mapping[str, str]) -> tuple[str, str]:
    return model_digest(listed), _sha256(listed)


def _sha256(listed: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(listed.items())).encode()).hexdigest()


def put_files(folder: Path, target: Path, *, wanted: str) -> None:
    """Copy a model's files to `target`, in place of what lies there, once the copies have the digest `wanted`.

    A card that lies there stays: it speaks of the version, one beside the stage only of the stage.

    Raises:
        StorageError: the disk has no room, or the copies differ from what was asked for; `target` is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*.new"):  # by a process that was killed
        whose = Process.from_name(left.name.split(".")[-2], host=socket.gethostname())
        if whose and not whose.may_live():
            shutil.rmtree(left, ignore_errors=True)
    unfinished = target.with_name(f".{target.name}.{Process.current().name}.new")
    unfinished.mkdir()
    try:
        digests = {}
        for file in sorted(one for one in folder.iterdir() if one.is_file()):
            _copy(file, unfinished / file.name)
            digests[file.name] = file_digest(unfinished / file.name)
        if wanted not in _digests(digests):
            raise StorageError(
                f"{folder} has not the files that its stage wrote: their digest differs, so they are not registered. Run again: "
                "a damaged stage is made again"
            )
        _take_the_place(unfinished, target, keeps_card=wanted == model_digest(digests))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _take_the_place(unfinished: Path, target: Path, *, keeps_card: bool) -> None:
    if not target.exists():
        unfinished.rename(target)
        return
    # one file at a time, so that the folder is never away; a kill in between leaves what is repaired again
    names = {file.name for file in unfinished.iterdir()}
    if keeps_card and (target / CARD).is_file():
        (unfinished / CARD).unlink(missing_ok=True)
        names.discard(CARD)
    for name in names:
        (unfinished / name).replace(target / name)
    for file in target.iterdir():
        if file.is_file() and file.name not in names and not (keeps_card and file.name == CARD):
            file.unlink()


def _copy(source: Path, target: Path) -> None:
    """Copy one file, sharing its blocks where the file system can, and see it on the disk."""
    with source.open("rb") as read, target.open("wb") as written:
        try:
            fcntl.ioctl(written.fileno(), FICLONE, read.fileno())
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM):
                raise
            _require_room(target.parent, source.stat().st_size)
            shutil.copyfileobj(read, written, 2**20)
        written.flush()
        os.fsync(written.fileno())
    with suppress(OSError):
        shutil.copymode(source, target)


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise StorageError(
            f"{folder}: {free // 2**20:,} MB are free, {(size + SPARE) // 2**20 + 1:,} MB are needed for a registered model. "
            "Make room, then run again: finished stages are kept"
        )
