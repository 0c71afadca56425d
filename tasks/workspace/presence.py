"""Which processes of ours are at work here: a note each, locked while its process lives and gone when it ends in peace.

`kill -9`, the end of memory and a power cut leave the note behind. Whoever starts next finds it and marks in MLflow and Prefect
what that process had open (flows/aftermath.py). Two things must agree before a process counts as ended: the kernel has let go of
its lock, and no process of its id and start time is there. So neither a second run beside this one, nor another machine that
shares the folder, nor a clock that was set, makes a living run look dead.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from tasks.workspace.paths import Paths


@dataclass(frozen=True)
class Process:
    """A process, told apart from every other that ever had or will have its id.

    Attributes:
        pid: its id.
        started: ticks from the machine's start to its own; unlike a time of day it stays when the clock is set.
        boot: which start of the machine that was.
        host: the machine's name.
    """

    pid: int
    started: int
    boot: str
    host: str

    @classmethod
    def current(cls) -> Self:
        """Return this very process."""
        return cls(pid=os.getpid(), started=_started(os.getpid()) or 0, boot=_boot(), host=socket.gethostname())

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the process that has this id on this machine now, None where there is none."""
        started = _started(pid)
        return None if started is None else cls(pid=pid, started=started, boot=_boot(), host=socket.gethostname())

    @classmethod
    def from_name(cls, name: str, *, host: str) -> Self | None:
        """Return the process that has this name on a machine, None where the text names none."""
        with suppress(ValueError):
            pid, started, boot = name.split("-")
            return cls(pid=int(pid), started=int(started), boot=boot, host=host)
        return None

    @property
    def name(self) -> str:
        """Its name on its machine: id, start, and start of the machine."""
        return f"{self.pid}-{self.started}-{self.boot}"

    def may_live(self) -> bool:
        """Tell whether it may still be at work: it is, or it belongs to another machine, of which we cannot know."""
        if self.host != socket.gethostname():
            return self.boot != _boot() or _started(self.pid) == self.started
        return self.boot == _boot() and _started(self.pid) == self.started


@dataclass
class Note:
    """What a process has open, in a file that it keeps locked.

    Attributes:
        file: `<process>.json` in the folder of notes.
        facts: the process, and what it does.
    """

    file: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, **facts: Any) -> None:
        """Note more; the file is the old one or the new one, and the lock stays."""
        self.facts |= facts
        text = json.dumps(self.facts)
        # written in place, since the lock belongs to this very file
        with self.file.open("r+", encoding="utf-8") as opened:
            opened.write(text)
            opened.truncate()

    @property
    def process(self) -> Process | None:
        """Whose it is."""
        return Process.from_name(self.file.stem, host=str(self.facts.get("host", "")))


def folder_of(paths: Paths) -> Path:
    """Return where the notes lie."""
    return paths.store / "running"


@contextmanager
def present(paths: Paths, **facts: Any) -> Iterator[Note]:
    """Keep a note of this process until the block ends, however it ends but by a kill."""
    process = Process.current()
    folder = folder_of(paths)
    folder.mkdir(parents=True, exist_ok=True)
    note = Note(folder / f"{process.name}.json")
    # under another name until it is locked: a note that is not locked is that of a dead process
    unfinished = note.file.with_suffix(".new")
    with unfinished.open("w", encoding="utf-8") as lock:
        with suppress(OSError):  # a disk that knows no locks: then the process id decides alone
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unfinished.rename(note.file)
        try:
            note.add(host=process.host, **facts)
            yield note
        finally:
            note.file.unlink(missing_ok=True)


def left_behind(paths: Paths) -> list[Note]:
    """Return the notes of processes of this machine that have ended without a word; none costs a look into one folder."""
    found = []
    for file in sorted(folder_of(paths).glob("*.json")):
        with suppress(OSError), file.open(encoding="utf-8") as opened:
            note = Note(file, _facts(opened))
            process = note.process
            if (process is None or not process.may_live()) and _is_free(opened):
                found.append(note)
    return found


def living(paths: Paths) -> set[str]:
    """Return the names of the processes that have a note and may be at work."""
    dead = {note.file for note in left_behind(paths)}
    return {file.stem for file in folder_of(paths).glob("*.json") if file not in dead}


def forget(note: Note) -> None:
    """Take a note away, once all that it names is marked."""
    note.file.unlink(missing_ok=True)


def words_of(words: Any) -> str:
    """Return a pipeline's words as the command that runs it again, as one types it."""
    rest, made = [], ["make pipeline"]
    for word in map(str, words or ()):
        name, _, value = word.partition("=")
        verb = {"method": "METHOD", "data.name": "DATA"}.get(name)
        if verb:
            made.append(f"{verb}={value}")
        else:
            rest.append(word)
    return " ".join([*made, *([f'SET="{" ".join(rest)}"'] if rest else [])])


def _facts(opened: IO[str]) -> dict[str, Any]:
    with suppress(ValueError):
        facts = json.load(opened)
        if isinstance(facts, Mapping):
            return dict(facts)
    return {"host": socket.gethostname()}


def _is_free(opened: IO[str]) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this disk knows no locks
        return True
    return True


def _started(pid: int) -> int | None:
    """Return when a process started, in ticks since the machine did; None where there is none, or only its remains."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in ("Z", "X") else int(rest[18])


def _boot() -> str:
    """Return eight digits that are other ones after each start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")[:8]
    except OSError:
        return "00000000"
