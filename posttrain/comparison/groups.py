"""Groups of questions in which a gain is looked at by itself: by family, by how many numbers a question holds, by its length."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from posttrain.comparison.results import Question
from posttrain.errors import RequestError, did_you_mean

FEWEST = 20
"""Questions of a group, at least: below this an interval is too wide to say anything."""
MOST_FAMILIES = 12
"""A table with more rows is not read, and Holm's correction over all of them hides every gain."""
MANY_NUMBERS = 8
"""From here on counts are one group."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Grouping:
    """Questions in groups.

    Attributes:
        by: name of the grouping.
        title: what it is, in words.
        members: places of the questions of each group, by its name, in the order of tables.
    """

    by: str
    title: str
    members: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Way:
    """A row of `WAYS`.

    Attributes:
        title: what it is, in words.
        group: returns the groups of all questions in order, some of them perhaps too small; {} where it does not apply.
    """

    title: str
    group: Callable[[Sequence[Question]], dict[str, tuple[int, ...]]]


def numbers_in(prompt: str) -> int:
    """Return how many numbers a prompt holds: 1,234.5 is one of them, and so is the 2 of "a2"."""
    return len(_NUMBER.findall(prompt))


def group_questions(questions: Sequence[Question], by: str = "auto") -> Grouping | None:
    """Return the questions in groups of at least `FEWEST`, or None where fewer than two are that large.

    A smaller group is left out: `Grouping.members` then holds not all questions.

    Args:
        questions: of the comparison, in order.
        by: a row of `WAYS`, or `auto` for the first that gives two groups.

    Raises:
        RequestError: there is no such grouping.
    """
    if by != "auto" and by not in WAYS:
        raise RequestError(f"there is no grouping {by}{did_you_mean(by, WAYS)} (there are: auto, {', '.join(WAYS)})")
    for name in WAYS if by == "auto" else (by,):
        members = {group: places for group, places in WAYS[name].group(questions).items() if len(places) >= FEWEST}
        if len(members) > 1:
            return Grouping(name, WAYS[name].title, members)
    return None


def _by_family(questions: Sequence[Question]) -> dict[str, tuple[int, ...]]:
    """Return the families that are large enough, the largest first, where a table can hold them and they are what there is.

    Families of a handful each (the wording of a story, say) are no subjects, so half of the questions must lie in large ones.
    """
    counts = Counter(one.group for one in questions if one.group is not None)
    large = {group: count for group, count in counts.items() if count >= FEWEST}
    if len(large) > MOST_FAMILIES or 2 * sum(large.values()) < len(questions):
        return {}
    order = sorted(large, key=lambda group: (-large[group], group))
    return {group: tuple(place for place, one in enumerate(questions) if one.group == group) for group in order}


def _by_numbers(questions: Sequence[Question]) -> dict[str, tuple[int, ...]]:
    """Return groups by how many numbers a prompt holds; neighbouring counts are joined until each group is large enough."""
    at: dict[int, list[int]] = {}
    for place, one in enumerate(questions):
        at.setdefault(min(numbers_in(one.prompt), MANY_NUMBERS), []).append(place)
    # from few to many: (first count, last count, places), closed once it is large enough
    joined: list[tuple[int, int, list[int]]] = []
    for count in sorted(at):
        if joined and len(joined[-1][2]) < FEWEST:
            first, _, places = joined.pop()
            joined.append((first, count, places + at[count]))
        else:
            joined.append((count, count, at[count]))
    if len(joined) > 1 and len(joined[-1][2]) < FEWEST:
        _, last, places = joined.pop()
        first, _, before = joined.pop()
        joined.append((first, last, before + places))
    return {_counted(first, last): tuple(sorted(places)) for first, last, places in joined}


def _counted(first: int, last: int) -> str:
    if last >= MANY_NUMBERS:
        return f"{first} or more numbers"
    if first == last:
        return "1 number" if first == 1 else f"{first} numbers" if first else "no number"
    return f"{first} to {last} numbers"


def _by_length(questions: Sequence[Question]) -> dict[str, tuple[int, ...]]:
    """Return the terciles of the prompt's length; prompts of one length are in one group."""
    lengths = [len(one.prompt) for one in questions]
    ordered = sorted(lengths)
    short, middle = ordered[(len(ordered) - 1) // 3], ordered[2 * (len(ordered) - 1) // 3]
    bounds = (
        (f"short (up to {short} characters)", 0, short),
        (f"middle ({short + 1} to {middle} characters)", short + 1, middle),
        (f"long (more than {middle} characters)", middle + 1, ordered[-1]),
    )
    found = {name: tuple(place for place, length in enumerate(lengths) if low <= length <= high) for name, low, high in bounds}
    return {name: places for name, places in found.items() if places}


WAYS = {
    "family": Way("the family of the question", _by_family),
    "numbers": Way("how many numbers the question holds", _by_numbers),
    "length": Way("how long the question is", _by_length),
}
"""The groupings, in the order in which `auto` tries them."""
