"""A row of a source on its way to a record: what its fields hold, or the sentence that says what is wrong and where."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pydantic_core import to_json

from posttrain.errors import DataError


class Item:
    """A row of a source, and where it came from, for the sentence that a fault is told in.

    Attributes:
        row: what the source holds; a mapping of fields, unless the source is wrong.
        source: the file, or the dataset of a hub.
        unit: what the source is made of: line, item, row.
        number: of the row in the source.
        fault: why the source could not give the row at all (broken JSON); "" where it could.
        remedy: what to do about the fault.
        form: the format that reads the row.
        used: fields that the format has read.
        problem: place and fault of the last refusal, without its remedy.
        hint: looks for a format that reads the row, where this one does not; None while such a format is tried.
    """

    __slots__ = ("fault", "form", "hint", "notes", "number", "problem", "remedy", "row", "source", "unit", "used")

    def __init__(self, row: Any, *, source: str, unit: str, number: int, fault: str = "", remedy: str = "") -> None:
        self.form = ""
        self.row = row
        self.source = source
        self.unit = unit
        self.number = number
        self.fault = fault
        self.remedy = remedy
        self.used: set[str] = set()
        self.problem = ""
        self.notes: Counter[str] = Counter()
        self.hint: Any = None

    @property
    def place(self) -> str:
        """Where the row stands: "train.jsonl line 3"."""
        number = f"[{self.number}]" if self.unit == "item" else self.number
        return f"{self.source} {self.unit} {number}"

    def fail(self, problem: str, remedy: str = "") -> NoReturn:
        """Raise the DataError that says where, what and what to do."""
        self.problem = f"{self.place}: {problem}"
        raise DataError(f"{self.problem}. {remedy or f'Correct or drop this {self.unit}, then import again'}")

    def refuse_field(self, names: str | Sequence[str], problem: str, remedy: str = "") -> NoReturn:
        """Raise the DataError for fields that must not be dropped without a word; `MAP` can drop them on purpose."""
        each = [names] if isinstance(names, str) else names
        ignored = " ".join(f"ignore={name}" for name in each)
        self.fail(problem, f'{f"{remedy}; or leave" if remedy else "Leave"} it out on purpose: MAP="{ignored}"')

    def note(self, text: str) -> None:
        """Count something that the user should hear about this row once the import is done."""
        self.notes[text] += 1

    def has(self, field: str) -> bool:
        """Return whether a field is there and holds something."""
        return not is_nothing(self.row.get(field))

    def get(self, field: str) -> Any:
        """Return a field that must be there."""
        self.used.add(field)
        if field not in self.row:
            self.fail(f"there is no field {field} (there is: {shown(', '.join(map(str, self.row)))}){self.other_format()}")
        value = self.row[field]
        if value is None:
            self.fail(f"{field} is null")
        if isinstance(value, float) and math.isnan(value):
            self.fail(f"{field} is NaN, which is how some programs write a missing value")
        return value

    def text(self, field: str) -> str:
        """Return a field that must be there and be text."""
        value = self.get(field)
        return value if isinstance(value, str) else self.wrong(field, "text", value)

    def wrong(self, field: str, wanted: str, value: Any) -> NoReturn:
        """Raise the DataError for a value of the wrong type."""
        self.fail(f"{field} must be {wanted}, got {shown(value)}")

    def other_format(self) -> str:
        """Return ". The fields are those of FORMAT=x" for a format that was tried and reads the row, else ""."""
        other = self.hint(self) if self.hint else None
        return f". The fields are those of FORMAT={other}" if other else ""


def is_nothing(value: Any) -> bool:
    """Return whether a field says nothing: null, NaN, or empty."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


def shown(value: Any) -> str:
    """Return a value as it is quoted in a message: its first 60 characters, without control characters."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text[:60] + "…") if len(text) > 60 else repr(value)


def as_list(item: Item, field: str, value: Any) -> Sequence[Any]:
    """Return a value that must be a list."""
    return value if isinstance(value, list | tuple) else item.wrong(field, "a list", value)


def as_reference(item: Item, field: str, value: Any) -> str:
    """Return one reference answer as text: 51.0 as "51", an object as JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        item.wrong(field, "a finite number or text", value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping):
        return to_json(value).decode()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        item.wrong(field, "text or a number", value)
    return str(value)
