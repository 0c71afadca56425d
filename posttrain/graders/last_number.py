"""The last number of a text without marker, read whole: 3 million, 12 567, 1.5 × 10³; never a part of 5:30 or [0,1)."""

import re

from posttrain.graders.quantity import GLYPHS
from posttrain.graders.units import UNITS

LONGEST_LINE = 600
"""Characters around the last digit that are read."""
MOST_STEPS = 50
"""Numbers that may be passed over: those of a list's items, citations, names such as v2."""

_DIGITS = "0123456789"
_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}+>>")
"""GSM8K's calculator: <<12+5=17>>17."""
_ITEM = re.compile(r"[ \t]{0,9}+\d{1,2}+[.)][ \t]{1,9}+(?=[^\W\d_]|\*\*)")
_CITATION = re.compile(r"(?<=[\d%.])\s{0,3}+\[\d{1,3}+\][.\s]{0,3}+$")
_NAME = re.compile(r"[^\W\d_]{1,30}+[-.]?\d[\w.-]{0,60}+")
"""v1.2.3, COVID-19, GPT-4: a name that ends in a number is none."""
_MONEY = re.compile(
    r"(?:us|usd|eur|gbp|chf|inr|cad|aud|rs\.?|kr\.?|[a-z]{1,2})?[$€£¥₹]|(?:usd|eur|gbp|chf|inr|cad|aud|rs|kr)\.?(?=\d)",
    re.IGNORECASE,
)
_JOINING = re.compile(r"[-+*/×x÷·^<>≤≥±]|\*\*|\\times|\\cdot|\\div|\\pm")
"""A word that makes one expression of what stands on both sides of it."""
_ENDS_JOINING = re.compile(r"(?:[-+*/×÷·^<>≤≥±]|\\times|\\cdot|\\div|\\pm)$")
_RESETS = re.compile(r"<?[=-]>|[=→⇒≈~]|(?<=[^\W\d]):")
"""What a result stands behind within one word: x=14, total:14, →14."""
_THOUSANDS = re.compile(r"\d{3}(?!\d)(?![-/:^]\d)")
_GROUP = re.compile(r"[-+$€£¥₹(*_]{0,6}+\d{1,3}")
_WHOLE = re.compile(r"[-+(*_]{0,6}+\d{1,9}+")
_FRACTION = re.compile(r"\d{1,9}+/\d{1,9}+")
_SIGN = re.compile(r"[-+]")
_WORD = re.compile(r"\S{1,300}+")
_BEHIND = re.compile(
    r"\s{1,3}+(?:hundred|thousand|million|billion|trillion)\b|\s{0,3}+(?:%|per\s?cent\b|pct\b)|\s{0,3}+[ap]\.?m\b\.?",
    re.IGNORECASE,
)
_UNIT = re.compile(r"\s([^\W\d_]{1,12}+)\b")
_MATHEMATICS = re.compile(r"[\\^_={}]|^[-+]?[\d.,]{1,30}+$")
_DOLLAR = re.compile(r"(?<!\\)\$")
_DELIMITED = re.compile(r"\\[()\[\]]")
_PARTS = re.compile(r"[,;()\[\]]")
_EDGES = "*_`\"'“”‘’«»,;:!?"


def last_number(text: str) -> str | None:
    """Return the last number of a text, with what belongs to it; None where there is none."""
    end = len(text)
    for _ in range(MOST_STEPS):
        at = max(text.rfind(digit, 0, end) for digit in _DIGITS + ("" if text.isascii() else GLYPHS))
        if at < 0:
            return None
        start = max(text.rfind("\n", 0, at) + 1, at - LONGEST_LINE)
        stop = text.find("\n", at, at + LONGEST_LINE)
        line = text[start : min(end, at + LONGEST_LINE) if stop < 0 else min(end, stop)]
        if (item := _ITEM.match(line)) and start + item.end() > at and _goes_on(text, start):
            end = start
        elif citation := _CITATION.search(line):
            end = start + citation.start()
        else:
            found, used_from = _in_line(line, at - start)
            if found:
                return found
            end = start + used_from
    return None


def _goes_on(text: str, start: int) -> bool:
    """Return whether a line that begins like "2. " goes on with a list, and is no sentence that was broken there."""
    before = text[max(0, start - 200) : start].rstrip(" \t")
    return before.endswith("\n\n") or before.rstrip().endswith((".", ":", "!", "?", ")")) if before.strip() else False


def _in_line(line: str, at: int) -> tuple[str, int]:
    """Return the expression that the digit at `at` belongs to ("" where that is a name), and where it begins."""
    if span := _mathematics_around(line, at):
        return span
    if "<<" in line:
        shorter = _ANNOTATION.sub(lambda found: " " * len(found[0]), line)
        if not shorter[at].isspace():
            line = shorter
    words = list(_WORD.finditer(line))
    last = next((place for place, word in enumerate(words) if word.start() <= at < word.end()), 0)
    first = _begins(words, last)
    begin = words[first].start()
    text = line[begin : words[last].end()]
    if resets := list(_RESETS.finditer(text)):
        begin, text = begin + resets[-1].end(), text[resets[-1].end() :]
    if _JOINING.fullmatch(text.partition(" ")[0]) and not _SIGN.fullmatch(text.partition(" ")[0]):
        return text, begin
    bare = _without_edges(text)
    if _NAME.fullmatch(bare) and not _MONEY.match(bare):
        return "", begin
    return (bare + _what_belongs_behind(bare, line, words[last].end(), text)).strip(), begin


def _mathematics_around(line: str, at: int) -> tuple[str, int] | None:
    """Return the mathematics between $…$, \\(…\\) or \\[…\\] in which a digit stands; None where it stands in none."""
    for delimiter in (_DOLLAR, _DELIMITED):
        marks = list(delimiter.finditer(line))
        before = [mark for mark in marks if mark.start() < at]
        after = [mark for mark in marks if mark.start() > at]
        if before and after and (delimiter is _DELIMITED or len(before) % 2):
            inside = line[before[-1].end() : after[0].start()].strip()
            if _MATHEMATICS.search(inside):
                return inside, before[-1].start()
    return None


def _begins(words: "list[re.Match[str]]", last: int) -> int:
    """Return the first of the words that make one expression with the one at `last`."""
    first = last
    while first:
        word, before = words[first].group(), words[first - 1].group()
        if _is_broken(before):
            break
        if _JOINING.fullmatch(before):
            if first >= 2 and not _is_broken(words[first - 2].group()) and _is_operand(words[first - 2].group()):
                first -= 2
                continue
            return first - 1  # a sign: "it fell by - 3"
        has_operator = _JOINING.match(word) and not _SIGN.match(word) and first != last
        is_one_number = (_THOUSANDS.match(word) and _GROUP.fullmatch(before)) or (
            _FRACTION.match(word) and _WHOLE.fullmatch(before)
        )
        if not (is_one_number or has_operator or (_ENDS_JOINING.search(before) and _is_operand(before))):
            if (
                before.casefold() in ("or", "to")
                and first >= 2
                and words[first - 2].group()[-1:].isdigit()
                and word[:1].isdigit()
            ):
                if first >= 3 and words[first - 3].group().casefold() == "from":
                    break  # "it rose from 5 to 6"
                first -= 2  # "5 or 6" is no number, nor is "5 to 6"
                continue
            break
        first -= 1
    return first


def _is_broken(word: str) -> bool:
    return word.endswith(("=", "→", "⇒", "->", "=>", "≈", ":", ";", "?", "!")) or word in ("~",)


def _is_operand(word: str) -> bool:
    return word[-1:].isdigit() or word[-1:] in ")}]%!" or len(word.strip("$*(\\")) <= 2


def _without_edges(text: str) -> str:
    """Return an expression without emphasis, punctuation and brackets that belong to the sentence around it."""
    for _ in range(6):
        before = text
        text = text.strip(_EDGES)
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1]
        for opening, closing in ("()", "[]"):
            has_other = {"(": "[", "[": "("}[opening]
            if text.endswith(closing) and opening not in text and has_other not in text:
                text = text[:-1]
            if text.startswith(opening) and closing not in text and {"(": "]", "[": ")"}[opening] not in text:
                text = text[1:]
            if text.startswith(opening) and text.endswith(closing) and not _PARTS.search(text[1:-1]):
                text = text[1:-1]
        if text == before:
            break
    return text


def _what_belongs_behind(bare: str, line: str, end: int, text: str) -> str:
    """Return the scale, the per cent sign, or the unit that follows; "" where punctuation cuts them off."""
    if not text.rstrip("*_`").endswith(bare):
        return ""
    if found := _BEHIND.match(line, end):
        return found.group()
    unit = _UNIT.match(line, end)
    return unit.group() if unit and UNITS.get(unit[1].casefold().removesuffix("s"), UNITS.get(unit[1].casefold())) else ""
