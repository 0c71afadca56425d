"""What people picked and liked of two models' answers to prompts that they typed; nothing trains on it.

`labelling/<dataset>/ab.jsonl` holds the picks, `labelling/<dataset>/thumbs.jsonl` the thumbs.
"""

import fcntl
import os
from pathlib import Path

from pydantic import ValidationError

from posttrain.errors import DataError
from posttrain.feedback.labels import Label
from posttrain.labelling.ab import Thumb
from posttrain.records import Row
from tasks.feedback.store import labels_in
from tasks.workspace.disk import cannot_write, sync
from tasks.workspace.paths import Paths

PICKS, THUMBS = "ab.jsonl", "thumbs.jsonl"


def ab_file(paths: Paths, dataset: str, name: str = PICKS) -> Path:
    """Return where the picks of a dataset's models lie, or would; or their thumbs."""
    return paths.labelling / dataset / name


def read_picks(paths: Paths, dataset: str) -> list[Label]:
    """Return what people picked; half a line that a killed process left is passed over.

    Raises:
        DataError: the file is damaged.
    """
    file = ab_file(paths, dataset)
    return labels_in(_whole_lines(file), shown=str(file.relative_to(paths.root)))


def read_thumbs(paths: Paths, dataset: str) -> list[Thumb]:
    """Return the thumbs in the order in which they were given, those that were taken back included; half a line is passed over.

    Raises:
        DataError: the file is damaged.
    """
    file = ab_file(paths, dataset, THUMBS)
    thumbs = []
    for number, line in enumerate(_whole_lines(file).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            thumbs.append(Thumb.model_validate_json(line))
        except ValidationError as error:
            told = error.errors()[0]
            place = ".".join(map(str, told["loc"]))
            raise DataError(
                f"{file.relative_to(paths.root)}: line {number} cannot be used: {place + ': ' if place else ''}{told['msg']}. "
                "Take the line out, or restore the file from a backup (make restore)"
            ) from None
    return thumbs


def _whole_lines(file: Path) -> bytes:
    content = file.read_bytes() if file.is_file() else b""
    return content[: content.rfind(b"\n") + 1]


def add_pick(paths: Paths, dataset: str, label: Label) -> None:
    """Add a pick, and return once it is on the disk; several processes may.

    Raises:
        StorageError: the disk refused; what was there before is unchanged.
    """
    _add(ab_file(paths, dataset), label)


def add_thumb(paths: Paths, dataset: str, thumb: Thumb) -> None:
    """Add a thumb, and return once it is on the disk; several processes may.

    Raises:
        StorageError: the disk refused; what was there before is unchanged.
    """
    _add(ab_file(paths, dataset, THUMBS), thumb)


def _add(file: Path, row: Row) -> None:
    line = row.model_dump_json(exclude_defaults=True).encode() + b"\n"
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
