"""The prompts of a check: new ones from a file of any format that can be read or of plain lines, and those of a dataset."""

from collections.abc import Iterator
from pathlib import Path

from posttrain.data.formats.columns import Columns
from posttrain.data.formats.reading import format_named, read, recognised
from posttrain.errors import DataError, RequestError
from posttrain.records import KIND_OF_ROLE, Question, Record
from tasks.data.containers import plain_stream
from tasks.data.dvc import DatasetVersion
from tasks.data.rows import LONGEST_LINE, PACKED, file_items
from tasks.data.stages import read_records

PLAIN = ".txt"
"""Ending of a file whose lines are prompts, also of a compressed one."""
HELD_OUT = "held_out"
TRAINING = tuple(role for role in KIND_OF_ROLE if role != "corpus" and not role.startswith(HELD_OUT))
"""Roles whose prompts are trained on; the corpus has texts of the base, not prompts."""


def new_prompts(path: Path, *, shown: str, form: str = "", columns: str = "") -> Iterator[Record]:
    """Yield a record for each prompt of a file, which streams.

    Args:
        path: of the file.
        shown: what the file is called in messages.
        form: name of the format; "": the one that reads the first rows.
        columns: which column of the file is which field, as `make import MAP=` takes it.

    Raises:
        RequestError: there is no such file or format, or the form is one of a hub.
        DataError: the file is empty or damaged, or a row cannot be read.
    """
    known = format_named(form) if form else ""
    if known == "hub":
        raise RequestError("monitor reads files, so FORMAT=hub is none that it takes. Download the dataset, then name its file")
    if _is_plain(path) and not known and not columns:
        return _lines(path, shown)
    items = Columns.parsed(columns).apply(file_items(path, shown=shown))
    if not known:
        known, items = recognised(items)
    return read(known, items)


def _is_plain(path: Path) -> bool:
    suffixes = [suffix.casefold() for suffix in path.suffixes if suffix.casefold() not in PACKED]
    return suffixes[-1:] == [PLAIN]


def _lines(path: Path, shown: str) -> Iterator[Record]:
    """Yield each line that is not empty as a prompt.

    Raises:
        DataError: a line is not UTF-8 or too long, or there is none.
    """
    count = 0
    with plain_stream(path, shown=shown) as stream:
        for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE + 1), b""), 1):
            if len(line) > LONGEST_LINE:
                raise DataError(f"{shown} line {number} is longer than {LONGEST_LINE // 1024**2} MB. Write one prompt a line")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as wrong:
                raise DataError(
                    f"{shown} line {number}: byte 0x{line[wrong.start]:02x} is not UTF-8. Save the file as UTF-8, for example: "
                    "iconv -f ISO-8859-1 -t UTF-8"
                ) from None
            if text:
                count += 1
                yield Question(id=f"line-{number}", prompt=text)
    if not count:
        raise DataError(f"{shown} has no lines. Check that it is the file you meant and was written to its end")


def training_prompts(data: DatasetVersion) -> Iterator[Record]:
    """Yield every record of a dataset whose prompt is trained on; one prompt may stand in several roles."""
    for role in TRAINING:
        yield from _of_role(data, role)


def held_out_prompts(data: DatasetVersion) -> Iterator[Record]:
    """Yield the held-out questions of a dataset."""
    yield from _of_role(data, HELD_OUT)


def _of_role(data: DatasetVersion, role: str) -> Iterator[Record]:
    path = data.folder / f"{role}.jsonl"
    if path.is_file():
        yield from read_records(path)
