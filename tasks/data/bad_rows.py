"""Rows that cannot be read: told together, ten of them with their reasons, or put aside in a file where the user asked for it."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

from posttrain.data.formats.items import Item, shown
from posttrain.errors import DataError
from tasks.workspace.disk import try_unlink, writing

SHOWN = 10
"""Bad rows that are told with their reasons; the others are counted."""
HOPELESS = 1_000
"""Bad rows after which the reading ends where not one good row was before them: then the format is wrong, not the rows."""
FIELDS = 20
"""Fields that are named, of those that are not read."""
FIELD_NOTE = "a field that is not read: "
"""How a note begins that names a field; all such fields are told in one sentence."""


class BadRows:
    """What is done with rows that cannot be read.

    Attributes:
        good: rows that could be read.
        count: rows that could not.
    """

    def __init__(self, folder: Path, *, form: str, skip: bool) -> None:
        """Begin with none.

        Args:
            folder: where `quarantine.jsonl` is written, with the reason beside each row; an earlier one goes.
            form: the format that is read.
            skip: put bad rows aside; else `settle` refuses them.
        """
        self.good = self.count = 0
        self._path, self._form, self._skip = folder / "quarantine.jsonl", form, skip
        self._first: list[tuple[str, DataError]] = []
        self._source = ""
        self._stack = ExitStack()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "BadRows":
        """Begin; nothing is written before the first bad row."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Put the file in place of the last import's; a failed import leaves that one as it was."""
        self._stack.__exit__(kind, error, trace)
        if kind is None and self._file is None:
            try_unlink(self._path)

    def __call__(self, item: Item, error: DataError) -> None:
        """Take a bad row.

        Raises:
            DataError: there have been too many of them without a good one.
        """
        self.count += 1
        self._source = item.source
        if self.count <= SHOWN:
            self._first.append((item.problem, error))
        if self._skip:
            if self._file is None:
                files = self._stack.enter_context(writing(self._path.parent, (self._path.stem,)))
                self._file = files[self._path.stem]
            place = {"source": item.source, item.unit: item.number, "reason": item.problem, "row": item.row}
            self._file.write(json.dumps(place, default=str).encode() + b"\n")
        if self.count == HOPELESS and not self.good:
            raise self._refusal(f"none of the first {HOPELESS:,} rows can be read as {self._form}")

    def settle(self) -> None:
        """Say what was bad once every row was read.

        Raises:
            DataError: rows were bad, and they are not to be skipped or there is no other.
        """
        if self.count and not (self._skip and self.good):
            total = self.good + self.count
            raise self._refusal(f"{self.count:,} of {total:,} rows cannot be read as {self._form}")

    def _refusal(self, problem: str) -> DataError:
        aside = "put them aside: SKIP_BAD=1" if self.good else ""
        if self.count == 1:
            ((_, error),) = self._first
            return DataError(f"{error}{f'; or {aside}'.replace('them', 'it') if aside else ''}")
        lines = [f"  {problem}" for problem, _ in self._first]
        if self.count > SHOWN:
            lines.append(f"  and {self.count - SHOWN:,} more")
        end = f"{self._source}: {problem}, so nothing was imported. {self._remedy()}{f'; or {aside}' if aside else ''}"
        return DataError("\n".join(["rows that cannot be read:", *lines, end]))

    def _remedy(self) -> str:
        """Return what the first bad row needs, where that is more than a correction."""
        problem, error = self._first[0]
        remedy = str(error).removeprefix(f"{problem}. ")
        if not remedy.startswith("Correct or drop this"):
            return remedy
        return "Correct or drop them, then import again" if self.good else "Correct them, or name another FORMAT"

    def told(self) -> Iterator[str]:
        """Yield what the user should hear of rows that were put aside."""
        if self.count:
            place = _from_here(self._path)
            yield f"{self.count:,} of {self.good + self.count:,} rows were put aside, each with its reason, into {place}:"
            yield from (f"  {problem}" for problem, _ in self._first)
            if self.count > SHOWN:
                yield f"  and {self.count - SHOWN:,} more"


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def sentences(notes: Counter[str]) -> Iterator[str]:
    """Yield what was noted about rows, with how many rows each note is about."""
    fields = sorted(shown(note.removeprefix(FIELD_NOTE))[1:-1] for note in notes if note.startswith(FIELD_NOTE))
    for note, count in notes.most_common():
        if not note.startswith(FIELD_NOTE):
            yield f"{count:,} {'row' if count == 1 else 'rows'}: {note}"
    if fields:
        more = f" and {len(fields) - FIELDS} more" if len(fields) > FIELDS else ""
        yield f"fields that are not read: {', '.join(fields[:FIELDS])}{more}"
