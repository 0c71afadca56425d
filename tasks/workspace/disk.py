"""How files are written: whole or not at all, synced, and with an error that says where the disk refused."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from posttrain.errors import PosttrainError, StorageError


@contextmanager
def writing(folder: Path, roles: Iterable[str]) -> Iterator[dict[str, IO[bytes]]]:
    """Open `<role>.jsonl` for each role, and put all of them in place, synced to the disk, once the block is left without error.

    Raises:
        StorageError: the disk is full, read-only or not there; what was in place still is.
    """
    finals = {role: folder / f"{role}.jsonl" for role in roles}
    parts = {role: final.with_name(f".{final.name}.part") for role, final in finals.items()}
    try:
        with ExitStack() as stack:
            folder.mkdir(parents=True, exist_ok=True)
            files = {role: stack.enter_context(part.open("wb", buffering=1 << 20)) for role, part in parts.items()}
            yield dict(files)
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        for role, part in parts.items():
            part.replace(finals[role])
        sync(folder)
    except OSError as error:
        raise cannot_write(error, folder) from None
    finally:
        for part in parts.values():
            try_unlink(part)


def cannot_write(error: OSError, path: Path) -> StorageError:
    """Return the error that says where and why the disk refused, and that nothing is lost."""
    where = error.filename or path
    return StorageError(
        f"cannot write {where}: {error.strerror or error}. What was there before is unchanged; "
        "free some space or correct the permissions, then repeat the command"
    )


def try_unlink(path: Path) -> None:
    """Remove a left-over file; on a disk that refuses even that, it stays."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def sync(path: Path) -> None:
    """Make a file's content, or the renames in a folder, outlive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_NO_ROOM = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "has no quota left",
    errno.EROFS: "is read-only",
    errno.EACCES: "may not be written",
}
_NO_ROOM_WORDS = {
    "No space left": "is full",
    "disk is full": "is full",
    "Disk quota": "has no quota left",
    "Read-only file system": "is read-only",
    "readonly database": "is read-only",
}


def storage_trouble(error: BaseException | None) -> str | None:
    """Return what the disk refused ("is full"), where an error or one of its causes comes from the disk; else None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return _NO_ROOM[error.errno]
        for words, trouble in _NO_ROOM_WORDS.items():
            if words.lower() in str(error).lower():
                return trouble
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def storage_errors(what: str, where: Path) -> Iterator[None]:
    """Turn errors of the disk into a StorageError that says what was being written, and where."""
    try:
        yield
    except PosttrainError:
        raise
    except Exception as error:
        trouble = storage_trouble(error)
        if trouble is None:
            raise
        raise StorageError(
            f"{what}: the disk {trouble} ({where}). Everything finished before is still there; "
            "make room (or make it writable), then give the same command again"
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, under the name of this process, and rename it."""
    from tasks.workspace.presence import Process  # late: a data stage, which names what it imports, has no process of its own

    unfinished = path.with_name(f".{path.name}.{Process.current().name}.new")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
