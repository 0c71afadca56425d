"""`labelling/<dataset>/ab.jsonl`: what people picked of two models' answers to prompts that they typed; nothing trains on it."""

import fcntl
import os
from pathlib import Path

from posttrain.feedback.labels import Label
from tasks.feedback.store import labels_in
from tasks.workspace.disk import cannot_write, sync
from tasks.workspace.paths import Paths

FILE = "ab.jsonl"


def ab_file(paths: Paths, dataset: str) -> Path:
    """Return where the picks of a dataset's models lie, or would."""
    return paths.labelling / dataset / FILE


def read_picks(paths: Paths, dataset: str) -> list[Label]:
    """Return what people picked; half a line that a killed process left is passed over.

    Raises:
        DataError: the file is damaged.
    """
    file = ab_file(paths, dataset)
    content = file.read_bytes() if file.is_file() else b""
    return labels_in(content[: content.rfind(b"\n") + 1], shown=str(file.relative_to(paths.root)))


def add_pick(paths: Paths, dataset: str, label: Label) -> None:
    """Add a pick, and return once it is on the disk; several processes may.

    Raises:
        StorageError: the disk refused; what was there before is unchanged.
    """
    file = ab_file(paths, dataset)
    line = label.model_dump_json(exclude_defaults=True).encode() + b"\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+b") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            opened.seek(0)
            whole = opened.read().rfind(b"\n") + 1  # behind it may stand half a line of a process that died
            try:
                opened.truncate(whole)
                opened.write(line)
                opened.flush()
                os.fsync(opened.fileno())
            except OSError:
                os.ftruncate(opened.fileno(), whole)
                raise
        sync(file.parent)
    except OSError as error:
        raise cannot_write(error, file) from None
