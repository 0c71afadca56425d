"""Rows of tables: csv and tsv, parquet, Arrow, and what `datasets` saved with `save_to_disk`."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from posttrain.data.formats.items import Item
from posttrain.data.formats.items import shown as quoted
from posttrain.errors import DataError, RequestError

STRUCTURED = ("messages", "conversations", "chosen", "rejected", "prompt", "completion", "history", "choices", "options", "tools")
"""Columns of a csv file whose cell may hold JSON; any other cell is text, even one that begins with a bracket."""
BATCH_ROWS = 1_000


def csv_items(stream: IO[bytes], delimiter: str, *, longest: int, shown: str) -> Iterator[Item]:
    """Yield the rows of a csv or tsv file, whose first line names the columns; an empty cell is null.

    A csv file whose first line has semicolons and no comma is read by semicolons, as Excel writes it in much of Europe.

    Raises:
        DataError: there is no first line, it names a column twice or not at all, or a cell is longer than `longest`.
    """
    opening = stream.readline(longest + 1)
    if delimiter == "," and b"," not in opening and b";" in opening:
        delimiter = ";"
    before = csv.field_size_limit(longest)
    try:
        rows = csv.reader(_decoded(opening, stream, longest, shown), delimiter=delimiter, strict=True)
        names = _header(next(rows, []), delimiter, shown)
        while True:
            number = rows.line_num + 1
            try:
                cells = next(rows, None)
            except csv.Error as error:
                raise DataError(f"{shown} line {number}: {error}. Correct the quotes of that row, then import again") from None
            if cells is None:
                return
            if cells:
                yield _row(names, cells, shown, number)
    finally:
        csv.field_size_limit(before)


def _decoded(opening: bytes, stream: IO[bytes], longest: int, shown: str) -> Iterator[str]:
    line, number = opening, 1
    while line:
        if len(line) > longest:
            raise DataError(f"{shown} line {number} is longer than {longest // 1024**2} MB. Check that it is the right file")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as wrong:
            raise DataError(
                f"{shown} line {number}: byte 0x{line[wrong.start]:02x} is not UTF-8. "
                "Save the file as UTF-8 (in Excel: CSV UTF-8), for example: iconv -f WINDOWS-1252 -t UTF-8"
            ) from None
        line, number = stream.readline(longest + 1), number + 1


def _header(names: list[str], delimiter: str, shown: str) -> list[str]:
    stripped = [name.strip() for name in names]
    wrong = "" if all(stripped) else "has a column without a name"
    wrong = wrong or next((f"names the column {quoted(name)} twice" for name in stripped if stripped.count(name) > 1), "")
    if wrong or not stripped:
        raise DataError(
            f"{shown} line 1 {wrong or 'is empty'}. The first line must name each column once, "
            f"with {'a tab' if delimiter == chr(9) else repr(delimiter)} between them"
        )
    return stripped


def _row(names: list[str], cells: list[str], shown: str, number: int) -> Item:
    if len(cells) != len(names):
        fault = f"the row has {len(cells)} cells, the first line names {len(names)} columns"
        return Item(None, source=shown, unit="line", number=number, fault=fault)
    row = {name: _cell(name, cell) if cell.strip() else None for name, cell in zip(names, cells, strict=True)}
    return Item(row, source=shown, unit="line", number=number)


def _cell(name: str, cell: str) -> Any:
    if name not in STRUCTURED or cell.lstrip()[:1] not in ("[", "{"):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def parquet_items(path: Path, *, shown: str) -> Iterator[Item]:
    """Yield the rows of a parquet file, a batch in memory at a time.

    Raises:
        DataError: the file is damaged.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            yield from _batches(file.iter_batches(batch_size=BATCH_ROWS), shown)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged("parquet", error, shown) from None


def arrow_items(path: Path, *, is_stream: bool, shown: str) -> Iterator[Item]:
    """Yield the rows of an Arrow file, of the stream form (as `datasets` writes it) or the file form (Feather).

    Raises:
        DataError: the file is damaged.
    """
    import pyarrow
    from pyarrow import ipc

    try:
        with pyarrow.memory_map(str(path)) as source:
            reader = ipc.open_stream(source) if is_stream else ipc.open_file(source)
            batches = reader if is_stream else (reader.get_batch(number) for number in range(reader.num_record_batches))
            yield from _batches(batches, shown)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged("Arrow", error, shown) from None


def _batches(batches: Iterable[Any], shown: str) -> Iterator[Item]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            for row in batch.slice(start, BATCH_ROWS).to_pylist():
                yield Item(row, source=shown, unit="row", number=number)
                number += 1


def _damaged(name: str, error: Exception, shown: str) -> DataError:
    reason = str(error).strip().partition("\n")[0]
    return DataError(f"{shown} is a damaged {name} file ({reason}). Download or write it again")


def saved_items(folder: Path, split: str, *, shown: str) -> Iterator[Item]:
    """Yield the rows of a folder that `datasets` saved; one of several splits is named as `FILE=folder:split`.

    Raises:
        RequestError: the folder is none of these, or the split must be named.
        DataError: its files are damaged.
    """
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        inside = f": {', '.join(files[:5])}{' …' if len(files) > 5 else ''}" if files else ""
        raise RequestError(f"{shown} is a folder that datasets did not save (save_to_disk). Name one of the files in it{inside}")
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except Exception as error:  # what a damaged folder raises is of many types: of Arrow, of JSON, KeyError, TypeError
        raise _damaged("datasets folder", error, shown) from None
    if isinstance(saved, DatasetDict):
        if not split and len(saved) == 1:
            split = next(iter(saved))
        if split not in saved:
            named = f"{shown.removesuffix(f':{split}')}:{next(iter(saved), 'train')}"
            raise RequestError(f"{shown} has the splits {', '.join(saved)}. Name one of them: FILE={named}")
        saved = saved[split]
    elif split:
        raise RequestError(f"{shown}: the folder has no splits, so {split} is not one of them. Leave :{split} out")
    batches = saved.with_format("arrow").iter(batch_size=BATCH_ROWS)
    yield from _batches((batch for table in batches for batch in table.to_batches()), shown)
