"""The final answer of a completion: what is outside its reasoning, behind the last marker, else its last number or choice.

Each text is read in time proportional to its length, up to the limits below. A number that is part of something
else (a range, a date, an interval, a power of x) is never taken out of it: the whole is the answer, and is compared as such.
"""

import json
import re
from dataclasses import dataclass
from typing import Literal

from posttrain.graders.characters import plain_characters
from posttrain.graders.choices import chosen, last_choice
from posttrain.graders.last_number import last_number
from posttrain.graders.markup import undressed

Kind = Literal["auto", "number", "choice", "text"]

LONGEST_READ = 100_000
"""Characters of a completion that are read, from its end: some 25,000 tokens, which is more than responses in training have."""
LONGEST_ANSWER = 10_000
"""Characters of an answer; a longer one is none."""
FARTHEST = 4_000
"""Characters behind a marker within which the answer begins."""
MOST_MARKERS = 50
"""Markers that are looked at, from the last one."""

_REASONING = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>|\[(/?)think\]", re.IGNORECASE)
MOST_TAGS = 200
"""Beginnings and ends of reasoning; a text with more has no answer."""
_OPENS_EARLY = 2_000
"""Characters at the beginning of a completion in which its reasoning may open; the end is read in any case."""
_MARKER = re.compile(
    r"[\#\"'aA\\<](?:"  # a first character that most text has not: three times as quick as alternatives that begin with it
    r"(?<=\#)(?<!\#\#)\#{3}(?!\#)"
    r"|(?<=[\"'])(?i:(?:final[ _]?)?answer[\"'])\s{0,9}+:"
    r"|(?<=\b[aA])(?i:nswer(?:[*_]{0,6}+\s{1,9}+is\b\s{0,9}+:?|[*_]{0,6}+\s{0,9}+[:=]))"
    r"|(?<=\\)(?:boxed|fbox)\s{0,9}+(?:\{|(?=\d))|(?<=<)(?i:answer)>)"
)
_STRICT_MARKER = re.compile(r"####|\\boxed\s{0,9}+\{|<answer>")
_NEXT_QUESTION = re.compile(r"\n\n[ \t]{0,9}+(?:question|q|problem|human|user)\s?:", re.IGNORECASE)
"""Where a model goes on with a question of its own making, in the form of few-shot prompts."""

_BRACES = re.compile(r"[{}]")
_JOINS = re.compile(r"[\s$,;.]{0,9}+(?:and\b|\\text\{\s?and\s?\})?[\s$,;]{0,9}+", re.IGNORECASE)
"""What stands between two boxes that are one answer: \\boxed{3} and \\boxed{5}."""
_ONLY_MARKUP = re.compile(r"[\s$*_`\\\[\](){}#>-]{0,40}+|```\w{0,20}+")
"""A line that shows nothing: a fence, a delimiter of mathematics."""
_HEADED = re.compile(r"[*_\s]{0,9}+(?:the\s)?(?:final\s)?(?:answer|result|solution)[*_:\s]{0,9}+", re.IGNORECASE)
_HEADING = re.compile(r"[*_]{0,6}+(?:\d{1,2}+[.):]\s|[^\W\d_]{2}(?!\d))")
"""How a heading goes on, and GSM8K's answer does not: "#### Step 2: double", "#### 2. Double"."""
_DIGITS = re.compile(r"[\d.,]{1,400}+")
_JSON_SCALAR = re.compile(r"[^,}\]\n\"']{1,400}+")
_QUOTED = re.compile(r"'([^'\n]{0,400}+)'")


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: the answer as it stands (None where there is none, and why), and whether a marker announced it."""

    text: str | None
    is_marked: bool = False
    why: str = "no answer found"


def extract_answer(completion: str, *, kind: Kind = "auto", needs_marker: bool = False) -> str | None:
    """Return what follows the last answer marker; without one the last number or choice; else None.

    Markers are "####", "Answer:", "the answer is", "\\boxed{", "<answer>", and the field `answer` of JSON.

    Args:
        completion: its last 100,000 characters are read; reasoning between <think> and </think> is left out.
        kind: `choice` looks for the last letter A to J instead of the last number; `text` for neither.
        needs_marker: look for neither.
    """
    return find_answer(completion, kind=kind, needs_marker=needs_marker).text


def find_answer(completion: str, *, kind: Kind = "auto", needs_marker: bool = False) -> Found:
    """Return the final answer and how it was found; see `extract_answer`."""
    text = spoken(completion)
    if text is None:
        return Found(None, why="its reasoning does not end")
    marked = _marked(text, kind) if "#" in text or "\\" in text or "nswer" in text or "NSWER" in text else None
    if marked is not None:
        return marked
    if needs_marker or kind == "text":
        return Found(None)
    return Found(last_choice(text) if kind == "choice" else last_number(text))


def spoken(completion: str) -> str | None:
    """Return what of a completion's end is its answer and no reasoning; None where it never comes out of its reasoning.

    An opening tag may be part of the prompt, so what stands before a closing tag is reasoning in any case.
    """
    text = plain_characters(completion[-LONGEST_READ:])
    is_cut = len(completion) > LONGEST_READ
    if "<" in text or "[" in text or is_cut:
        opens_early = is_cut and any(not (tag[1] or tag[2]) for tag in _REASONING.finditer(completion, 0, _OPENS_EARLY))
        tags = list(_REASONING.finditer(text))
        if len(tags) > MOST_TAGS:
            return None
        kept: list[str] = []
        at, is_inside = 0, opens_early
        for tag in tags:
            if tag[1] or tag[2]:
                kept, at, is_inside = kept if is_inside else [], tag.end(), False
            elif not is_inside:
                kept, is_inside = [*kept[-1:], text[at : tag.start()]], True
        text = "\n".join([*kept, "" if is_inside else text[at:]]).strip("\n") if at or is_inside else text
        if is_inside and not text.strip():
            return None
    return _before_the_next_question(text)


def _before_the_next_question(text: str) -> str:
    marker = _STRICT_MARKER.search(text) if "\n\n" in text else None
    invented = _NEXT_QUESTION.search(text, marker.end()) if marker else None
    return text[: invented.start()] if invented else text


def _marked(text: str, kind: Kind) -> Found | None:
    """Return what the last marker announces; None where none does."""
    markers = list(_MARKER.finditer(text))[-MOST_MARKERS:]
    passed_over: Found | None = None
    while markers:
        marker = markers.pop()
        name = marker.group()
        if name.startswith("\\"):
            found = _boxed(text, marker, markers)
            # In multiple choice a box may hold mathematics that explains the letter.
            if kind == "choice" and found.text is not None and chosen(undressed(found.text)) is None:
                passed_over = passed_over or found
                continue
        elif name.startswith("<"):
            found = _tagged(text[marker.end() : marker.end() + LONGEST_ANSWER + 1], kind)
        elif name[0] in "\"'":
            found = _json_field(text[marker.end() : marker.end() + FARTHEST].lstrip())
        else:
            if passed_over and name == "####":
                continue
            line = _line(text, marker.end(), is_hash=name == "####")
            if line is None:
                continue
            found = Found(line or None, True)
        if found.text is None and found.why == "no answer found":
            return None
        if found.text is not None and len(found.text) > LONGEST_ANSWER:
            return Found(None, True, f"its answer has more than {LONGEST_ANSWER:,} characters")
        return found
    return passed_over


def _line(text: str, start: int, *, is_hash: bool) -> str | None:
    """Return the first line behind a marker that shows something; None where the marker is a heading."""
    rest = text[start : start + FARTHEST + LONGEST_ANSWER]
    line, _, below = rest.partition("\n")
    if is_hash and _HEADING.match(line.lstrip()) and below.strip() and not _HEADED.fullmatch(line):
        return None
    if is_hash and _HEADED.fullmatch(line):
        line = ""
    while below and _ONLY_MARKUP.fullmatch(line):
        line, _, below = below.partition("\n")
    return _bare(line)


def _bare(line: str) -> str:
    """Return a line without emphasis and the stop of its sentence."""
    line = line.strip(" \t\r*_`#")
    if line.endswith("!"):
        line = line.rstrip("!")
    return (line[:-1] if line.endswith(".") and not line.endswith("..") else line.rstrip(".")).rstrip(" \t*_`")


def _boxed(text: str, marker: "re.Match[str]", earlier: "list[re.Match[str]]") -> Found:
    """Return what a box holds, together with the boxes before it that only "and" or a comma separates from it."""
    if not marker.group().endswith("{"):
        digits = _DIGITS.match(text, marker.end())
        return Found(digits.group().rstrip(".,") if digits else None, True)
    parts, start = [_within_braces(text, marker.end())[0]], marker.start()
    for before in reversed(earlier[-20:]):
        if not before.group().startswith("\\") or not before.group().endswith("{"):
            break
        content, end = _within_braces(text, before.end())
        if not 0 < end <= start or not _JOINS.fullmatch(text, end, start):
            break
        parts, start = [content, *parts], before.start()
    whole = ", ".join(part.strip() for part in parts)
    return Found(whole or None, True, "its box is empty")


def _within_braces(text: str, start: int) -> tuple[str, int]:
    """Return the first line before the brace that closes one opened before `start`, and where it ends; 0 where none does."""
    depth = 1
    limit = min(len(text), start + LONGEST_ANSWER)
    for found in _BRACES.finditer(text, start, limit):
        depth += 1 if found.group() == "{" else -1
        if depth == 0:
            return text[start : found.start()].strip(), found.end()
    return _bare(text[start:limit].lstrip().partition("\n")[0]), 0


def _tagged(rest: str, kind: Kind) -> Found:
    """Return what an <answer> tag holds; of several lines the one that gives the answer."""
    content = rest.partition("</")[0]
    lines = [line for line in content.split("\n") if not _ONLY_MARKUP.fullmatch(line)]
    if len(lines) == 1 or not lines:
        return Found(
            _bare(lines[0]) or None if lines else None, True, "its <answer> is empty" if "</" in rest else "no answer found"
        )
    if kind == "text":
        return Found(" ".join(lines), True)
    inner = last_choice(content) if kind == "choice" else last_number(content)
    return Found(inner or _bare(lines[-1]), True)


def _json_field(rest: str) -> Found:
    """Return the value of a JSON field, or of one in Python's quotes, as text."""
    if rest.startswith(('"', "[")):
        try:
            value = json.JSONDecoder().raw_decode(rest)[0]
        except (ValueError, RecursionError):
            return Found(_bare(rest.partition("\n")[0].strip("\"'")) or None, True)
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str | int | float) for each in values):
            return Found(json.dumps(value, ensure_ascii=False)[: LONGEST_ANSWER + 1], True)
        return Found(", ".join(str(each).strip() for each in values) or None, True, "its answer is empty")
    found = _QUOTED.match(rest) or _JSON_SCALAR.match(rest)
    return Found(found.group(found.lastindex or 0).strip() or None if found else None, True, "its answer is empty")
