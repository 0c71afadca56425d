"""Notes of runs as a reader wants them: what several runs say with other numbers is one sentence with their range."""

import re
from collections.abc import Iterable

NUMBER = re.compile(r"(?<![\w.,-])(?<!seed )\d[\d,]*(?:\.\d+)?(?![\w.,]*\w)")
"""A number that stands alone: 4,104 and 7.0, also before a "%"; not a part of a name such as base-641ac1df or 2.7B,
and no seed, which is a name as well: seeds 3 and 5 are not "3 to 5"."""


def merged_notes(notes: Iterable[str]) -> list[str]:
    """Return each note once, in the order in which they come; notes that differ in numbers alone are one note with ranges.

    "5 annotators got 7.0% of 4,104 labels wrong" and "5 annotators got 3.8% of 3,639 labels wrong" are
    "5 annotators got 3.8 to 7.0% of 3,639 to 4,104 labels wrong".
    """
    alike: dict[str, list[list[str]]] = {}
    for note in dict.fromkeys(notes):
        alike.setdefault(NUMBER.sub("\0", note), []).append(NUMBER.findall(note))
    return [_filled(words, list(zip(*numbers, strict=True))) for words, numbers in alike.items()]


def _filled(words: str, places: Iterable[Iterable[str]]) -> str:
    first, *others = words.split("\0")
    return first + "".join(_range(numbers) + other for numbers, other in zip(places, others, strict=True))


def _range(numbers: Iterable[str]) -> str:
    """Return a number, or the least and the greatest of several, as they were written."""
    ordered = sorted(numbers, key=lambda number: float(number.replace(",", "")))
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"
