"""The rows of a file, whatever its container: JSON lines, JSON, csv, tsv, parquet, Arrow, a folder of `datasets`; or of a hub.

Rows stream, and none may be larger than `LONGEST_LINE`: a small compressed file can hold one line of gigabytes.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from posttrain.data.formats.items import Item
from posttrain.data.formats.items import shown as quoted
from posttrain.errors import DataError, PosttrainError, RequestError
from tasks.data.containers import ARROW_FILE, ARROW_STREAM, PARQUET, head_of, plain_stream
from tasks.data.tables import arrow_items, csv_items, parquet_items, saved_items

LARGEST_ARRAY = 256 * 1024 * 1024
"""Bytes of a JSON array, at most: it is read whole, while JSON lines stream."""
LONGEST_LINE = 64 * 1024 * 1024
"""Bytes of a line, at most."""
WRAPPERS = ("data", "rows", "examples", "instances", "records", "items", "train")
"""Fields in which a file that is one object keeps its rows."""
DELIMITERS = {".csv": ",", ".tsv": "\t"}
PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Endings that say nothing of what is inside."""

_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"\s*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def file_items(path: Path, *, shown: str) -> Iterator[Item]:
    """Yield the rows of a file or of a saved folder, which may be followed by `:split`. What it is, its bytes say.

    Raises:
        RequestError: there is no such file, or it cannot be read.
        DataError: it is empty, damaged, or holds no rows.
    """
    folder, _, split = str(path).rpartition(":")
    if path.is_dir() or (folder and not path.exists() and Path(folder).is_dir()):
        rows = saved_items(path, "", shown=shown) if path.is_dir() else saved_items(Path(folder), split, shown=shown)
    else:
        rows = _rows_of_file(path, shown)
    is_empty = True
    for item in rows:
        is_empty = False
        yield item
    if is_empty:
        raise DataError(f"{shown} has no rows. Check that it is the file you meant and was written to its end")


def _rows_of_file(path: Path, shown: str) -> Iterator[Item]:
    head = b""
    with suppress(OSError):  # told below, by whoever reads the file itself
        head = head_of(path)
    if head.startswith(PARQUET):
        yield from parquet_items(path, shown=shown)
    elif head.startswith((ARROW_FILE, ARROW_STREAM)):
        yield from arrow_items(path, is_stream=head.startswith(ARROW_STREAM), shown=shown)
    else:
        with plain_stream(path, shown=shown) as stream:
            yield from _rows_of_text(stream, path, shown)


def _rows_of_text(stream: IO[bytes], path: Path, shown: str) -> Iterator[Item]:
    opening = stream.peek(64)[:64]  # type: ignore[attr-defined]
    if opening[:2] in (b"\xff\xfe", b"\xfe\xff") or opening[:2] in (b"{\0", b"\0{", b"[\0", b"\0["):
        raise DataError(f"{shown} is UTF-16, not UTF-8. Save it as UTF-8: iconv -f UTF-16 -t UTF-8 {shown} > utf8.jsonl")
    if opening[:3] == b"\xef\xbb\xbf":
        stream.read(3)
        opening = opening[3:]
    suffixes = [suffix.casefold() for suffix in path.suffixes if suffix.casefold() not in PACKED]
    first = opening.lstrip()[:1]
    if first != b"{" and suffixes and suffixes[-1] in DELIMITERS:
        return csv_items(stream, DELIMITERS[suffixes[-1]], longest=LONGEST_LINE, shown=shown)
    if first == b"[":
        return _array(stream, shown)
    return _unwrapped(_objects_or_lines(stream, shown))


def _objects_or_lines(stream: IO[bytes], shown: str) -> Iterator[Item]:
    """Yield the rows of JSON lines, or of objects that are printed over several lines."""
    opening = stream.readline(LONGEST_LINE + 1)
    if opening.rstrip() == b"{" or (opening[:1] == b"{" and opening.rstrip()[-1:] in (b"{", b"[", b",", b":")):
        rest = stream.read(LARGEST_ARRAY + 1)
        if len(rest) > LARGEST_ARRAY:
            raise DataError(
                f"{shown} begins with an object that is printed over several lines, and is larger than "
                f"{LARGEST_ARRAY // 1024**2} MB. Write one object a line: jq -c . {shown} > rows.jsonl"
            )
        if rows := _printed_objects(opening + rest):
            return (_item(row, source=shown, unit="item", number=number) for number, row in enumerate(rows))
        return _lines(chain(opening.splitlines(keepends=True), rest.splitlines(keepends=True)), shown)
    return _lines(chain([opening], iter(lambda: stream.readline(LONGEST_LINE + 1), b"")), shown)


def _printed_objects(text: bytes) -> list[Any]:
    """Return the objects that stand one after the other in a text, [] where it is something else."""
    decoder, found, place = json.JSONDecoder(object_pairs_hook=_unique), [], 0
    try:
        whole = text.decode("utf-8")
        while (place := _SPACE.match(whole, place).end()) < len(whole):  # type: ignore[union-attr]  # it matches anything
            value, place = decoder.raw_decode(whole, place)
            found.append(value)
    except (ValueError, RecursionError):
        return []
    return found if all(isinstance(value, dict) for value in found) else []


def _unwrapped(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the rows inside a file's only object where it is a wrapper of rows, else the rows as they are."""
    first = next(items, None)
    if first is None:
        return
    second = next(items, None)
    field = next((name for name in WRAPPERS if second is None and _is_rows(first.row, name)), "")
    if not field:
        yield from chain([first], [second] if second else [], items)
        return
    for number, row in enumerate(first.row[field]):
        inner = _item(row, source=first.source, unit="item", number=number)
        inner.note(f"the file is one object, whose field {field} holds the rows")
        yield inner


def _is_rows(row: Any, name: str) -> bool:
    value = row.get(name) if isinstance(row, dict) else None
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _lines(lines: Iterable[bytes], shown: str) -> Iterator[Item]:
    offset = 0
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{shown} line {number} is longer than {LONGEST_LINE // 1024**2} MB, which is the most that one row may have. "
                "Check that it is the file you meant, one JSON object a line"
            )
        if line and not line.isspace():
            yield _parsed_line(line, offset, shown, number)
        offset += len(line)


def _parsed_line(line: bytes, offset: int, shown: str, number: int) -> Item:
    try:
        return _item(_value_of(line), source=shown, unit="line", number=number, may_be_broken=bool(_ESCAPE.search(line)))
    except UnicodeDecodeError as wrong:
        fault = f"byte {offset + wrong.start} of the file is 0x{line[wrong.start]:02x}, which is not UTF-8"
        remedy = "Save the file as UTF-8, for example: iconv -f ISO-8859-1 -t UTF-8"
    except (ValueError, RecursionError) as error:
        fault, remedy = _fault_of(line, error), ""
    return Item(None, source=shown, unit="line", number=number, fault=fault, remedy=remedy)


def _item(row: Any, *, source: str, unit: str, number: int, may_be_broken: bool = True) -> Item:
    """Return a row as an item, half a character pair (a surrogate on its own) as the mark of a broken character."""
    item = Item(row, source=source, unit=unit, number=number)
    if may_be_broken and _has_surrogate(row):
        item.row = _mended(row)
        item.note("half a character (a lone surrogate) became U+FFFD: the data gate puts the row aside")
    return item


def _has_surrogate(value: Any) -> bool:
    return bool(_SURROGATE.search(json.dumps(value, ensure_ascii=False, default=str)))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_mended(key): _mended(inner) for key, inner in value.items()}
    return [_mended(inner) for inner in value] if isinstance(value, list) else value


class _RepeatedError(ValueError):
    """An object names a field twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's fields; of two with one name either could be the one that was meant."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedError(
            f"the field {quoted(next(name for name in names if names.count(name) > 1))} stands twice in one object"
        )
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _value_of(text: bytes) -> Any:
    return _DECODER.decode(text.decode("utf-8"))


def _fault_of(line: bytes, error: Exception) -> str:
    """Return what is wrong with a line that is no JSON."""
    if isinstance(error, _RepeatedError):
        return str(error)
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    if b"\0" in line:
        return "NUL bytes stand in the line, as after a crash or on a full disk"
    reason, _, column = _place(line, error)
    column = str(len(line.rstrip())) if column == "0" else column  # the end of the line came too early
    if line.lstrip()[:1] not in (b"{", b"[") and (b"," in line or b"\t" in line):
        return f"broken JSON at column {column} ({reason}); a file of csv or tsv is told by its name, .csv or .tsv"
    if b"\r" in line.rstrip():
        return f"broken JSON at column {column} ({reason}); lines that end in CR alone: tr '\\r' '\\n' mends that"
    return f"broken JSON at column {column} ({reason}); each line must be one whole JSON object"


def _place(text: bytes, error: Exception) -> tuple[str, str, str]:
    """Return reason, line and column of broken JSON, in the words of the parser that tells them best."""
    with suppress(RecursionError):
        try:
            from_json(text)
        except ValueError as other:
            error = other
    found = re.search(r"^(.*) at line (\d+) column (\d+)$", str(error))
    reason, line, column = found.groups() if found else (str(error), "1", "1")
    return reason, line, column


def _array(stream: IO[bytes], shown: str) -> Iterator[Item]:
    text = stream.read(LARGEST_ARRAY + 1)
    if len(text) > LARGEST_ARRAY:
        raise DataError(
            f"{shown} is a JSON array of more than {LARGEST_ARRAY // 1024**2} MB, which is read whole. "
            f"Write it as JSON lines, which are read one by one: jq -c '.[]' {shown} > rows.jsonl"
        )
    try:
        rows = _value_of(text)
    except UnicodeDecodeError as wrong:
        raise DataError(
            f"{shown}: byte {wrong.start} of the file (line {1 + text[: wrong.start].count(10)}) is 0x{text[wrong.start]:02x}, "
            "which is not UTF-8. Save the file as UTF-8, for example: iconv -f ISO-8859-1 -t UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, _RepeatedError | RecursionError):
            raise DataError(f"{shown}: {_fault_of(text, error)}. Correct the file, then import again") from None
        first = text.splitlines()[0].strip()
        if first.endswith(b"]") and _is_list(first):  # lines, each a list: every one is a row that is told
            return _lines(text.splitlines(keepends=True), shown)
        reason, line, column = _place(text, error)
        raise DataError(
            f"{shown} line {line}: broken JSON at column {column} ({reason}). A file that starts with [ must be one JSON array"
        ) from None
    may_be_broken = bool(_ESCAPE.search(text))
    return (_item(row, source=shown, unit="item", number=number, may_be_broken=may_be_broken) for number, row in enumerate(rows))


def _is_list(line: bytes) -> bool:
    try:
        return isinstance(_value_of(line), list)
    except (ValueError, RecursionError):
        return False


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
