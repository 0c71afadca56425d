"""Answers of a comparison as a page shows them: right and wrong, folded where long, as code where it is code."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from posttrain.comparison.verdicts import titles_of

FOLDED, START = 600, 200
"""Characters of a text beyond which it is folded, and how many of them stand outside."""
LONGEST, SHORTEST, MOST = 4_000, 400, 900_000
"""Characters of one text that a page holds at most and at least, and of all texts together."""


@dataclass(frozen=True)
class Text:
    """One text of a model or of the data.

    Attributes:
        whole: as much as the page holds of it.
        start: its first characters where it is folded, "" where it is not.
        is_code: it has the lines of a program, so its spaces and direction stay.
        length: of the text in the JSON, in characters.
    """

    whole: str
    start: str
    is_code: bool
    length: int

    @property
    def is_cut(self) -> bool:
        """Return whether the page holds less than the JSON."""
        return len(self.whole) < self.length


@dataclass(frozen=True)
class Given:
    """What one method answered: its title, its seed, the verdict of the grader (None for none), its text."""

    title: str
    seed: int | None
    is_right: bool | None
    text: Text


@dataclass(frozen=True)
class Question:
    """A question with the answers that count as right, and what each method gave."""

    name: str
    prompt: Text
    right: str
    given: tuple[Given, ...]


def questions_of(comparison: Mapping[str, Any]) -> list[Question]:
    """Return the questions of `answers` for the page."""
    entries = comparison.get("answers") or []
    longest = longest_of(sum(1 + len(entry["by"]) for entry in entries))
    titles = titles_of(comparison)
    return [
        Question(
            str(entry["id"]),
            text_of(entry["prompt"], longest),
            ", ".join(map(str, entry.get("answers") or []))[:longest],
            tuple(
                Given(titles.get(name, name), given.get("seed"), given.get("is_right"), text_of(given.get("text") or "", longest))
                for name, given in entry["by"].items()
            ),
        )
        for entry in entries
    ]


def longest_of(texts: int) -> int:
    """Return how many characters of each text the page holds, so that it stays light whatever the answers are."""
    return max(SHORTEST, min(LONGEST, MOST // max(texts, 1)))


def text_of(text: str, longest: int = LONGEST) -> Text:
    """Return a text for the page."""
    whole = text if len(text) <= longest else text[:longest]
    start = f"{whole[:START]} …" if len(whole) > FOLDED else ""
    return Text(whole, start, looks_like_code(text[:LONGEST]), len(text))


def looks_like_code(text: str) -> bool:
    """Return whether a text is a program: fenced, or with an indented line below one that opens a block."""
    lines = text.splitlines()
    opened = any(line.rstrip().endswith((":", "{")) and after.startswith(("  ", "\t")) for line, after in pairwise(lines))
    return "```" in text or opened
