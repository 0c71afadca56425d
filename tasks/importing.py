"""A user's file, or a dataset of the Hugging Face hub, becomes `data/<name>/`: records, a DVC stage that splits them."""

import gzip
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError
from pydantic_core import from_json

from posttrain.errors import DataError, PosttrainError, RequestError
from posttrain.formats import read, reader_of
from posttrain.formats.items import Item
from posttrain.roles import roles_of
from posttrain.sections import DataSettings
from tasks.data import as_line, writing
from tasks.incoming import importing, put_in_place
from tasks.places import Places
from tasks.swap import prepared

RESERVED_NAMES = {
    "world": "the default world's",
    "expectations": "where expectation suites lie",
    "judges": "where the judge's prompts lie",
}
LARGEST_ARRAY = 256 * 1024 * 1024
"""Bytes of a JSON array, at most: it is read whole, while JSON lines stream."""


@dataclass(frozen=True)
class ImportReport:
    """What an import brought.

    Attributes:
        name: of the dataset.
        path: of its records.
        kinds: records of each kind.
        seconds: that it took.
        notes: what a user should be told, a line each; () as a rule.
    """

    name: str
    path: Path
    kinds: Mapping[str, int]
    seconds: float
    notes: tuple[str, ...] = ()


def import_file(places: Places, *, format: str, file: str, name: str) -> ImportReport:
    """Read `file` as `format` and put it into `data/<name>/` under DVC's care, in place of an earlier dataset of that name.

    Rows are streamed. The dataset is made whole, split and versioned beside the earlier one, then they are exchanged
    (`tasks/swap.py`): at every moment, also after a kill, one of them is there as a whole.

    Args:
        places: of the repository.
        format: a name in `posttrain.formats.FORMATS`.
        file: path from the root, plain or gzipped, JSON lines or one JSON array; for `hub`, `owner/name[:config[:split]]`.
        name: of the dataset.

    Raises:
        RequestError: the format, the file, the hub's dataset or the name is not one that can be used.
        DataError: a row is wrong, or the records cannot be split; nothing was imported.
        StorageError: the disk refused; nothing was imported.
    """
    started = time.perf_counter()
    _check_name(name)
    reader_of(format)
    items = hub_items(file) if format == "hub" else file_items(places.root / Path(file).expanduser(), shown=file)
    folder = places.data / name
    kinds: Counter[str] = Counter()
    with importing(places, name) as notes:
        with writing(prepared(folder), ("records",)) as files:
            for record in read(format, items):
                kinds[record.kind] += 1  # type: ignore[attr-defined]
                files["records"].write(as_line(record))
        notes += put_in_place(places, name, roles_of(kinds))
    seconds = time.perf_counter() - started
    return ImportReport(name, folder / "records.jsonl", kinds=dict(kinds), seconds=seconds, notes=tuple(notes))


def _check_name(name: str) -> None:
    try:
        DataSettings(name=name)
    except ValidationError:
        raise RequestError(
            "a dataset's name must be made of letters, digits, dot, underscore and hyphen, and start with a letter or digit, "
            f"got {name!r}"
        ) from None
    if name in RESERVED_NAMES:
        raise RequestError(f"data/{name} is {RESERVED_NAMES[name]}, so no dataset can be imported as {name}. Choose another name")


def file_items(path: Path, *, shown: str) -> Iterator[Item]:
    """Yield the rows of a file: JSON lines one at a time, or the elements of one JSON array; gzip is recognised by its bytes.

    Raises:
        RequestError: there is no such file, or it cannot be read.
        DataError: it is empty, not UTF-8, damaged, or not JSON.
    """
    try:
        with _opened(path) as stream:
            opening = stream.peek(64)  # type: ignore[attr-defined]
            if opening[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise DataError(f"{shown} is UTF-16, not UTF-8. Save it as UTF-8: iconv -f UTF-16 -t UTF-8 {shown} > utf8.jsonl")
            if opening[:3] == b"\xef\xbb\xbf":
                stream.read(3)
                opening = opening[3:]
            rows = _array(stream, shown) if opening.lstrip()[:1] == b"[" else _lines(stream, shown)
            is_empty = True
            for row in rows:
                is_empty = False
                yield row
    except FileNotFoundError:
        raise RequestError(f"there is no file {shown}. Give its path from {Path.cwd()}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{shown} is a damaged gzip file ({error}). Download or pack it again") from None
    except OSError as error:
        raise RequestError(f"{shown} cannot be read: {error.strerror or error}. Give a file that you may read") from None
    if is_empty:
        raise DataError(f"{shown} has no rows. Check that it is the file you meant and was written to its end")


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        is_gzip = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if is_gzip else path.open("rb", buffering=1 << 20)  # type: ignore[return-value]


def _lines(stream: Iterable[bytes], shown: str) -> Iterator[Item]:
    offset = 0
    for number, line in enumerate(stream, 1):
        if not line.isspace():
            yield Item(
                _parsed(line, where=f"{shown} line", number=number, offset=offset), source=shown, unit="line", number=number
            )
        offset += len(line)


def _array(stream: IO[bytes], shown: str) -> Iterator[Item]:
    text = stream.read(LARGEST_ARRAY + 1)
    if len(text) > LARGEST_ARRAY:
        raise DataError(
            f"{shown} is a JSON array of more than {LARGEST_ARRAY // 1024**2} MB, which is read whole. "
            f"Write it as JSON lines, which are read one by one: jq -c '.[]' {shown} > rows.jsonl"
        )
    for number, row in enumerate(_parsed(text, where=shown, number=None, offset=0)):
        yield Item(row, source=shown, unit="item", number=number)


def _parsed(text: bytes, *, where: str, number: int | None, offset: int) -> Any:
    """Return the JSON value in `text`, or raise the DataError that says where it breaks."""
    try:
        return from_json(text, cache_strings="keys")
    except ValueError as error:
        place = where if number is None else f"{where} {number}"
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as wrong:
            line = "" if number is not None else f" (line {1 + text[: wrong.start].count(10)})"
            raise DataError(
                f"{place}: byte {offset + wrong.start} of the file{line} is 0x{text[wrong.start]:02x}, which is not UTF-8. "
                "Save the file as UTF-8, for example: iconv -f ISO-8859-1 -t UTF-8"
            ) from None
        found = re.search(r"^(.*) at line (\d+) column (\d+)$", str(error))
        reason, line, column = found.groups() if found else (str(error), "1", "1")
        if number is not None:
            if column == "0":  # the end of the line came too early
                column = str(len(text.rstrip()))
            raise DataError(
                f"{place}: broken JSON at column {column} ({reason}). "
                "Each line must be one whole JSON object; correct or drop the line, then import again"
            ) from None
        raise DataError(
            f"{place} line {line}: broken JSON at column {column} ({reason}). A file that starts with [ must be one JSON array"
        ) from None


def hub_items(file: str) -> Iterator[Item]:
    """Yield the rows of a Hugging Face dataset, `owner/name[:config[:split]]`, streamed; the split is `train` unless told.

    Raises:
        RequestError: there is no such dataset, or the hub cannot be reached.
    """
    name, _, rest = file.partition(":")
    config, _, split = rest.partition(":")
    try:
        from datasets import load_dataset

        rows = load_dataset(name, config or None, split=split or "train", streaming=True)
        for number, row in enumerate(rows):
            yield Item(row, source=file, unit="row", number=number)
    except PosttrainError:
        raise
    except Exception as error:  # the hub's client raises what its transport raises: some thirty types without a common parent
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RequestError(
            f"{name} cannot be read from the Hugging Face hub: {reason}. Check the name (owner/name, then :config and :split "
            "where it has several), the network, and that HF_HUB_OFFLINE is not set; or download it and import the file"
        ) from None
