"""A plain table, JSON lines or csv, for results of any tool: a row a system, seed and question."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from posttrain.data.formats.items import Item
from posttrain.errors import RequestError
from posttrain.finite import shown_value
from tasks.comparison.logs.log import REMEDY, Log, Row, as_score, checked, group_of, unique

NAME = "a plain table"
FIELDS = ("question", "score")
"""What every row has; `system`, `seed`, `group`, `answer`, `text` and `prompt` may stand beside them."""


def recognises(row: Mapping[str, Any]) -> bool:
    """Return whether a file begins with a row of this form."""
    return set(FIELDS) <= row.keys()


def read(items: Iterator[Item], *, path: Path, shown: str, metric: str) -> list[Log]:
    """Return the logs of a file, one a system and seed, in the order in which they begin.

    Without `system` the file's name is one; without `seed` nothing says which it is.

    Raises:
        RequestError: another metric than `score` was asked for.
        DataError: a row is wrong.
    """
    if metric not in ("", "score"):
        raise RequestError(f"{shown} has no metric {metric} (it has: score). Name that one, or none: compare.metric")
    found: dict[tuple[str, int | None], list[tuple[Item, Row]]] = {}
    for item in items:
        row = checked(item)
        for name in FIELDS:
            if row.get(name) is None:
                item.fail(f"there is no {name}", REMEDY)
        system = row.get("system")
        key = (path.stem if system is None else str(system), _seed(item, row.get("seed")))
        found.setdefault(key, []).append((item, _row(item, row)))
    return [Log(shown, NAME, system, seed, "", "score", unique(rows)) for (system, seed), rows in found.items()]


def _seed(item: Item, value: Any) -> int | None:
    if value is None:
        return None
    number = math.nan
    with suppress(TypeError, ValueError, OverflowError):
        number = math.nan if isinstance(value, bool) else float(value)
    if not number.is_integer():
        item.fail(f"seed must be a whole number, got {shown_value(value)}", REMEDY)
    return int(number)


def _row(item: Item, row: Mapping[str, Any]) -> Row:
    question, answer, text = row["question"], row.get("answer"), row.get("text")
    if not isinstance(question, str | int) or isinstance(question, bool):
        item.fail(f"question must be text or a whole number, got {shown_value(question)}", REMEDY)
    prompt = row.get("prompt")
    return Row(
        id=str(question),
        prompt=str(question) if prompt is None else str(prompt),
        answers=() if answer is None else tuple(map(str, answer)) if isinstance(answer, list) else (str(answer),),
        group=group_of(row),
        content="" if prompt is None else str(prompt),
        scores=(as_score(item, "score", row["score"]),),
        text=None if text is None else str(text),
    )
