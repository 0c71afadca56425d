"""One log: what a system answered to each question on one seed, whatever tool wrote it, and the faults of every form."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.data.formats.items import Item
from posttrain.errors import DataError, RequestError
from posttrain.finite import is_finite, shown_value

GROUP_FIELDS = ("group", "family", "subject", "category", "topic")
"""Fields of a question, in the order in which they are looked at, whose text is its group."""
REMEDY = "Correct the file, or write it again"
LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""Grades of inspect_ai: correct, incorrect, partial, no answer (its `value_to_float`)."""
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


@dataclass(frozen=True)
class Row:
    """A question with what was answered.

    Attributes:
        id: unique in the log.
        prompt: plain text.
        answers: that count as right.
        group: of the question.
        content: what the question is made of; equal in every log of one form that asks the same.
        scores: one a sample, as the log has them.
        text: the first answer.
    """

    id: str
    prompt: str
    answers: tuple[str, ...]
    group: str | None
    content: str
    scores: tuple[float, ...]
    text: str | None


@dataclass(frozen=True)
class Log:
    """One system on one seed.

    Attributes:
        shown: the file, as messages name it.
        form: name of the format.
        system: as the log calls it.
        seed: as the log has it; None where it has none.
        setup: everything about the run but its seed: two seeds of one system have the same.
        metric: of the scores.
        rows: by `id` of the question, in the order of the file.
    """

    shown: str
    form: str
    system: str
    seed: int | None
    setup: str
    metric: str
    rows: Mapping[str, Row]


def as_score(item: Item, field: str, value: Any) -> float:
    """Return a score as a number: letters of inspect_ai, true and false, numbers written as text.

    Raises:
        DataError: it is something else, or not finite.
    """
    number: float = math.nan
    if isinstance(value, str):
        text = value.strip()
        known = LETTERS.get(text, WORDS.get(text.casefold()))
        try:
            number = float(text) if known is None else known
        except ValueError:
            number = math.nan
    elif isinstance(value, bool | int | float) and is_finite(value):
        number = float(value)
    if not is_finite(number):
        item.fail(f"{field} must be a number, got {shown_value(value)}", REMEDY)
    return number


def checked(item: Item) -> Mapping[str, Any]:
    """Return the fields of a row.

    Raises:
        DataError: it is broken, or no object.
    """
    if item.fault:
        item.fail(item.fault, item.remedy or REMEDY)
    if not isinstance(item.row, Mapping):
        item.fail(f"expected an object, got {shown_value(item.row)}", REMEDY)
    return item.row


def group_of(*fields: Any) -> str | None:
    """Return the first text in a field that names a group."""
    found = (each[name] for each in fields if isinstance(each, Mapping) for name in GROUP_FIELDS if name in each)
    return next((value for value in found if isinstance(value, str) and value), None)


def one_of(names: Sequence[str], asked: str, *, shown: str, what: str) -> str:
    """Return the only name, or the one that was asked for.

    Raises:
        RequestError: there are several and none was asked for, or the one asked for is not among them.
    """
    if asked in names:
        return asked
    if len(names) == 1 and not asked:
        return names[0]
    listed = ", ".join(names) if names else "none"
    if asked:
        raise RequestError(f"{shown} has no {what} {asked} (it has: {listed}). Name one of them: compare.metric")
    raise RequestError(f'{shown} has several {what}s: {listed}. Choose one: SET="compare.metric={names[0]}"')


def unique(rows: Iterable[tuple[Item, Row]]) -> dict[str, Row]:
    """Return rows by `id`.

    Raises:
        DataError: two have the same.
    """
    found: dict[str, Row] = {}
    places: dict[str, str] = {}
    for item, row in rows:
        if row.id in found:
            raise DataError(f"{item.place}: the question {shown_value(row.id)} stands in {places[row.id]} already. {REMEDY}")
        found[row.id] = row
        places[row.id] = f"{item.unit} {item.number}"
    return found
