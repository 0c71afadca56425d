"""Tables of a comparison, whose every number names the place in the JSON that it was read from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.comparison.numbers import NOTHING, Form


@dataclass(frozen=True)
class Cell:
    """One cell, and where its number stands.

    Attributes:
        text: as it is read.
        source: JSON pointer (RFC 6901) of the value that the text was written from, "" where the text is words.
        order: what the column is sorted by, None for the text itself.
        kind: how a page may dress it: "", "code" or the name of a verdict.
    """

    text: str
    source: str = ""
    order: float | None = None
    kind: str = ""


@dataclass(frozen=True)
class Column:
    """Head of a column; numbers stand to the right."""

    title: str
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption; the first cell of a row is its head.

    Attributes:
        name: unique on the page.
        caption: what it shows, in one sentence.
        columns: as many as each row has cells.
        rows: in the order in which they are read without sorting.
        note: what a reader must know to read it; "" for nothing.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = field(default="")


def found(comparison: Mapping[str, Any], pointer: str) -> Any:
    """Return what a JSON pointer leads to, None where there is nothing."""
    value: Any = comparison
    for raw in pointer.split("/")[1:]:
        part = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def escaped(part: object) -> str:
    """Return a key as a JSON pointer has it."""
    return str(part).replace("~", "~0").replace("/", "~1")


def number(comparison: Mapping[str, Any], pointer: str, form: Form, *, kind: str = "") -> Cell:
    """Return the cell of one value or interval of the JSON, "–" where it is null or not there."""
    value = found(comparison, pointer)
    if value is None or (isinstance(value, Mapping) and value.get("estimate") is None):
        return Cell(NOTHING, kind=kind)
    order = value["estimate"] if isinstance(value, Mapping) else value
    return Cell(form(value), pointer, float(order), kind)


def words(text: object, *, kind: str = "") -> Cell:
    """Return a cell of words, "–" where there are none."""
    return Cell(str(text) if text not in (None, "") else NOTHING, kind=kind)


def columns(*titles: str) -> tuple[Column, ...]:
    """Return heads of columns; a title that starts with "#" is a column of numbers."""
    return tuple(Column(title.removeprefix("#"), title.startswith("#")) for title in titles)
