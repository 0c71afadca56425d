"""The final answer of a completion, compared as a number where both sides are numbers, else as normalised text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_NUMBER = r"[-+]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\$?\.\d+"
_MARKER = re.compile(r"####|\banswer(?:\s+is\b\s*:?|\s*[:=])|\\boxed\{", re.IGNORECASE)
_TRAILING_NUMBER = re.compile(rf"(?<![\w.])({_NUMBER})(?![,.:]?\d|e[-+]?\d)(?:\s*/\s*(\d+))?\s*%?", re.IGNORECASE)
_DOLLARS = re.compile(r"\s*\bdollars?\b", re.IGNORECASE)
_LONGEST = 20_000
"""Characters of a completion that are read, from its end: a final answer is never further from it."""


@dataclass(frozen=True)
class Verdict:
    """What was decided about one completion, and on what ground.

    Attributes:
        is_right: the extracted answer equals one of the answers.
        extracted: the final answer as it stood in the completion; None if there is none.
        compared_with: the answers it was compared with.
    """

    is_right: bool
    extracted: str | None
    compared_with: tuple[str, ...]


def extract_answer(completion: str) -> str | None:
    """Return what follows the last answer marker ("####", "Answer:", "\\boxed{") on its line, else the last number, else None."""
    text = completion[-_LONGEST:].replace("\N{MINUS SIGN}", "-")
    markers = list(_MARKER.finditer(text))
    if markers:
        marker = markers[-1]
        rest = text[marker.end() :].lstrip()
        if marker.group() == "\\boxed{":
            rest = _within_braces(rest)
        line = rest.partition("\n")[0].strip(" \t*_`").rstrip(".")
        if line:
            return line
    numbers = list(_TRAILING_NUMBER.finditer(text))
    return numbers[-1].group().strip() if numbers else None


def _within_braces(text: str) -> str:
    """Return what stands before the brace that closes one opened before `text`; all of it where none does."""
    depth = 1
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:place]
    return text


def as_number(text: str) -> Fraction | None:
    """Return the number that `text` starts with, without spaces, currency and thousands separators; None if there is none."""
    found = _TRAILING_NUMBER.match(text.strip().replace("\N{MINUS SIGN}", "-"))
    if found is None or len(found.group()) > 400:
        return None
    number = Fraction(found.group(1).replace(",", "").replace("$", "").lstrip("+"))
    if found.group(2):
        denominator = int(found.group(2))
        return number / denominator if denominator else None
    return number


def normalised(text: str) -> str:
    """Return `text` in lower case with single spaces and without the punctuation around it."""
    return re.sub(r"\s+", " ", text).strip().strip(".,;:!'\"$").casefold()


def grade(completion: str, answers: Sequence[str]) -> Verdict:
    """Mark one completion against the answers that count as right.

    Raises:
        ValueError: if `answers` is empty: then nothing can be right or wrong.
    """
    if not answers:
        raise ValueError("a completion cannot be graded without answers")
    extracted = extract_answer(completion)
    is_right = extracted is not None and any(_same(extracted, answer) for answer in answers)
    return Verdict(is_right=is_right, extracted=extracted, compared_with=tuple(answers))


def _same(given: str, answer: str) -> bool:
    """Compare as numbers where one side is nothing but a number ("14" and "14 apples"), else as text ("3 May", "3 March")."""
    given, answer = (_DOLLARS.sub("", text) for text in (given, answer))
    left, right = as_number(given), as_number(answer)
    is_bare = any(_TRAILING_NUMBER.fullmatch(text.strip()) for text in (given, answer))
    if is_bare and left is not None and right is not None:
        return left == right
    return normalised(given) == normalised(answer)
