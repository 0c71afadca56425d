"""The user's word on what the columns of a file are: `MAP="prompt=question completion=answer ignore=score"`."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from posttrain.data.formats.fields import CONTENT, PROMPT_FIELDS, REFERENCE_FIELDS, SCORES, SYSTEM, TOOLS, VERDICTS
from posttrain.data.formats.items import Item, shown
from posttrain.data.formats.questions import CHOICES, WORKED
from posttrain.errors import RequestError, did_you_mean

FIELDS = tuple(
    dict.fromkeys(
        (
            *PROMPT_FIELDS,
            *REFERENCE_FIELDS,
            *CONTENT,
            *VERDICTS,
            *SCORES,
            *SYSTEM,
            *TOOLS,
            *WORKED,
            *CHOICES,
            *("text", "input", "history", "margin", "low", "high", "id", "family", "annotator", "kind"),
        )
    )
)
"""Every field that a format reads, and so a column can stand for."""
IGNORE = "ignore"


@dataclass(frozen=True)
class Columns:
    """What a user says of a file's columns.

    Attributes:
        sources: for each field, the column that it is read from; dots lead into an object.
        numbers: fields that are one number in all rows, the ends of a scale.
        ignored: columns that are left out on purpose.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()

    @classmethod
    def parsed(cls, text: str) -> "Columns":
        """Read `field=column` words; a name with spaces stands in quotes.

        Raises:
            RequestError: a word has no "=", or names no field that any format reads.
        """
        sources: dict[str, str] = {}
        numbers: dict[str, float] = {}
        ignored = set()
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise RequestError(f'MAP must be words such as "prompt=question completion=answer", got {text!r} ({error})') from None
        for word in words:
            name, equals, column = word.partition("=")
            if not equals or not name or not column:
                raise RequestError(f'MAP must be words such as "prompt=question completion=answer", got {word!r}')
            if name == IGNORE:
                ignored.add(column)
            elif name not in FIELDS:
                raise RequestError(
                    f"MAP: {name} is no field that a format reads{did_you_mean(name, FIELDS) or '.'} "
                    "Write field=column, the field first"
                )
            elif name in sources or name in numbers:
                raise RequestError(f"MAP names {name} twice: {sources.get(name, numbers.get(name))} and {column}. Keep one")
            elif name in ("low", "high") and _is_number(column):
                numbers[name] = float(column)
            else:
                sources[name] = column
        return cls(sources, numbers, frozenset(ignored))

    def apply(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the rows with their columns under the names that were given; a missing column is the row's fault."""
        is_first = True
        for item in items:
            if not item.fault and isinstance(item.row, Mapping):
                if is_first and (unknown := sorted(self.ignored - item.row.keys())):
                    raise RequestError(f"MAP ignores {unknown[0]}, and there is no such column (there is: {_names(item)})")
                is_first = False
                item.row = self._renamed(item)
            yield item

    def _renamed(self, item: Item) -> dict[str, Any]:
        taken = {name: _value(item.row, column) for name, column in self.sources.items()}
        missing = [self.sources[name] for name, found in taken.items() if not found]
        if missing:
            item.fault = f"MAP names {missing[0]}, and there is no such column (there is: {_names(item)})"
            return dict(item.row)
        moved = set(self.sources.values()) | self.ignored
        kept = {name: value for name, value in item.row.items() if name not in moved}
        return {**kept, **self.numbers, **{name: found[0] for name, found in taken.items()}}


def _names(item: Item) -> str:
    return shown(", ".join(map(str, item.row)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _value(row: Mapping[str, Any], column: str) -> tuple[Any, ...]:
    """Return a column's value as a tuple of one, () where there is no such column."""
    if column in row:
        return (row[column],)
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ()
        value = value[part]
    return (value,)
