"""A batch's log: a line an event, on the disk before anybody is told that it counts.

A process that dies while it writes leaves half a line, which nobody was told of: the next one puts it aside. A disk that refuses
a write leaves nothing: the file is cut back to what it was. Whatever else is wrong with the file is an error, and stays as it is.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from posttrain.errors import DataError, RequestError, StorageError
from posttrain.labelling.answers import Event
from tasks.workspace.disk import cannot_write, sync

TORN = ".torn"
"""Ends the name of the file to which half-written lines are put aside."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file for a moment, waiting while another does; the system releases it when a process dies.

    Raises:
        StorageError: the file is not there, or its disk knows no locks.
    """
    try:
        file = path.open("rb")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise cannot_write(error, path) from None
    with file:
        yield


class Log:
    """The log of one batch, open for writing: by one process, and one `Log`, at a time.

    Args:
        path: of the file.

    Raises:
        RequestError: another process has it open.
        DataError: it is damaged, or not there.
        StorageError: the disk refused.

    Attributes:
        events: all that are on the disk, in order.
        length: bytes of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_torn = False
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _missing(path) from None
        except OSError as error:
            raise cannot_write(error, path) from None
        try:
            self._lock()
            content = path.read_bytes()
            self.events = parse_events(content, path)
            self.length = whole(content)
            if len(content) > self.length:
                self._put_aside(content[self.length :])
            sync(path.parent)
        except OSError as error:
            self.close()
            raise cannot_write(error, path) from None
        except BaseException:
            self.close()
            raise

    def append(self, events: Sequence[Event]) -> None:
        """Write events and wait until they are on the disk; if that fails the file is as it was, and this may be called again.

        Raises:
            StorageError: the disk refused, or somebody else changed or removed the file.
        """
        content = b"".join(event.model_dump_json(exclude_defaults=True).encode() + b"\n" for event in events)
        self._check_place()
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(self._descriptor, content[written:], self.length + written)
            os.fsync(self._descriptor)
        except BaseException as error:
            # what is left of the write is cut off again, now or, where the disk refuses even that, before the next one
            self._is_torn = True
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.length)
                os.fsync(self._descriptor)
                self._is_torn = False
            if isinstance(error, OSError):
                raise _refused(error, self.path) from None
            raise
        self.length += len(content)
        self.events += events

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(
                f"batch {self.path.parent.name} of {self.path.parent.parent.name} is open in another process (make label). "
                "One page at a time writes its labels: use that page, or stop it first (Ctrl-C)"
            ) from None

    def _put_aside(self, torn: bytes) -> None:
        """Move what a killed process left of a line into a file beside; the log ends with its last whole line then."""
        aside = self.path.with_name(self.path.name + TORN)
        with aside.open("ab") as file:
            file.write(torn + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(self._descriptor, self.length)
        os.fsync(self._descriptor)

    def _check_place(self) -> None:
        """Make sure that the file is still the one that was opened, and as long as it was left."""
        if self._descriptor < 0:
            raise StorageError(f"{self.path} is closed, so nothing can be written into it. Open the batch again: make label")
        try:
            here, there = os.fstat(self._descriptor), self.path.stat()
            if self._is_torn:
                os.ftruncate(self._descriptor, self.length)
                self._is_torn, here = False, os.fstat(self._descriptor)
        except OSError as error:
            raise _refused(error, self.path) from None
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) or here.st_size != self.length:
            raise StorageError(
                f"{self.path} was changed by another program while this page wrote into it, so the answer was not kept. "
                "Stop the page, see that the file is the right one, and start it again: make label"
            )


def _missing(path: Path) -> DataError:
    return DataError(f"{path} is not there, and it holds what people answered. Restore the folder from a backup")


def _refused(error: OSError, path: Path) -> StorageError:
    return StorageError(
        f"cannot write {path}: {error.strerror or error}. Nothing of this was counted, and all that was answered before is kept; "
        "free some space or correct the permissions, then answer again"
    )


def read_log(path: Path) -> list[Event]:
    """Return the events of a log that another process may be writing; half a line at its end is left out.

    Raises:
        DataError: it is damaged.
    """
    try:
        return parse_events(path.read_bytes(), path)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}. Correct its permissions: chmod u+r") from None


def whole(content: bytes) -> int:
    """Return how many bytes of a log are whole lines; what follows was never told to anybody.

    A write that a power cut tore may also leave zeros, which no event holds.
    """
    end = content.rfind(b"\n") + 1
    while end and b"\0" in content[(start := content.rfind(b"\n", 0, end - 1) + 1) : end]:
        end = start
    return end


def parse_events(content: bytes, path: Path) -> list[Event]:
    """Return the events of the whole lines of a log.

    Raises:
        DataError: a line is no event.
    """
    events = []
    for number, line in enumerate(content[: whole(content)].splitlines(), start=1):
        try:
            events.append(Event.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise DataError(
                f"{path} line {number} is no event of a batch: {f'{field}: ' if field else ''}{problem['msg']}. "
                "Restore the file from a backup, or take the line out; nothing was changed"
            ) from None
    return events
