"""What number, or numbers, an answer is: "therefore 14 apples", "x = 14", "14 = 2 * 7", "fourteen", "1, 2 and 3", 101_2."""

import re
from fractions import Fraction

from posttrain.graders.markup import undressed
from posttrain.graders.quantity import LONGEST_QUANTITY, Quantity, quantity, worked_out
from posttrain.graders.units import normalised_unit

LONGEST_PHRASE = 500
"""Characters of a phrase in which one number is the answer."""
MOST_NUMBERS = 50
"""Numbers of a list that is compared as one."""

_PHRASE = re.compile(r"[\w\s.,:;'\"!?$€£¥%/≈~*-]++")
_DENIES = re.compile(r"\b(?:not|no|never|neither|nor|or)\b|n't\b", re.IGNORECASE)
_BOUNDS = re.compile(
    r"\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower|other|rather)\sthan|at\s(?:least|most)|(?:up|close|next)\sto|over|under|above|below"
    r"|between|beyond|within|exceeds|minimum\sof|maximum\sof|almost\snever)\s(?:\w{1,12}+\s)?$",
    re.IGNORECASE,
)
"""What makes the number behind it a bound: "at least 12" is not 12."""
_NUMBER = re.compile(r"(?<![\w.])[-+]?[$€£¥]?(?:\d{1,400}+(?:[.,'’]\d{1,400}+){0,99}+|\.\d{1,400}+)")
_LEAD = re.compile(r"(?:[≈~]|about|approximately|approx\.?|around|roughly|exactly|nearly|only|just)\s{0,9}+", re.IGNORECASE)
_RELATION = re.compile(r"[<>!≠≤≥:]=|=[<>]|[<>≠≤≥]|\\n?eq?\b|\\[gl]eq?(?![a-z])")
_VARIABLE = re.compile(r"\s{0,9}+([A-Za-z](?:_\{?\w\}?)?)\s{0,9}+=(?!=)\s{0,9}+")
_BASED = re.compile(r"\s{0,9}+([0-9A-Fa-f]{1,99}+)_(?:\{\s?(\d{1,2})\s?\}|\\text\{\s?(\d{1,2})\s?\}|(\d{1,2}))\s{0,9}+")
_AND = re.compile(r"\s{1,3}+(?:and|&)\s{1,3}+|\s{0,3}+;\s{0,3}+", re.IGNORECASE)
_COMMAS = re.compile(r"\s{0,3}+,\s{1,3}+(?:and\s)?")
_BARE_COMMAS = re.compile(r",")

_ONES = "zero one two three four five six seven eight nine ten eleven twelve"
_TEENS = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: value for value, word in enumerate(f"{_ONES} {_TEENS}".split())}
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS.split(), 2)}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_WORD = re.compile(r"[\s-]{0,3}+([a-z]{2,12}+)(?![\w'’])", re.IGNORECASE)
_LATIN = re.compile(r"[a-z]{2,12}+")
_PART_OF = re.compile(r"\s{0,3}+(?:of|or|and|more|less|to|by|by|third|half|quarter|st|nd|rd|th)\b|[^\s.,!]", re.IGNORECASE)


def number_in(text: str) -> Quantity | None:
    """Return the number that an answer is: what it starts with, what an equation gives, or the only number in a phrase."""
    text = undressed(text)
    read = quantity(text)
    if read is not None and read.is_clean:
        return read
    if len(text) > LONGEST_QUANTITY or _RELATION.search(text):
        return None
    if "=" in text:
        return _of_equation(text.split("="))
    if lead := _LEAD.match(text):
        read = quantity(text[lead.end() :])
        return read if read is not None and read.is_clean else None
    if read is not None or len(text) > LONGEST_PHRASE:
        return None
    found = list(_NUMBER.finditer(text))
    if not found:
        return in_words(text)
    if len(found) > 1 or not _PHRASE.fullmatch(text) or _DENIES.search(text) or _BOUNDS.search(text[: found[0].start()]):
        return None
    return _clean(text[found[0].start() :])


def amount(text: str) -> Quantity | None:
    """Return the number of an answer of the data, in digits or in words; None where it is none."""
    return quantity(text) or in_words(text)


def _clean(text: str) -> Quantity | None:
    read = quantity(text)
    return read if read is not None and read.is_clean else None


def _of_equation(sides: list[str]) -> Quantity | None:
    """Return what an equation gives: its last side, or the first where the others are worked out to it (12 = 5 + 7)."""
    if last := _clean(sides[-1]):
        return last
    first = _clean(sides[0])
    return first if first and all(worked_out(side) == first.value for side in sides[1:]) else None


def in_words(text: str) -> Quantity | None:
    """Return the number that a text begins with in words, and its unit: "twelve", "twenty-five apples", "two hundred and six"."""
    if len(text) > LONGEST_PHRASE:
        return None
    total, group, at, is_any = 0, 0, 0, False
    while found := _WORD.match(text, at):
        word = found[1].casefold()
        if word in _WORDS:
            if group % 10 or (group % 100 and _WORDS[word] > 9):
                return None
            group += _WORDS[word]
        elif word in _SCALES and is_any:
            group *= _SCALES[word]
            total, group = (total, group) if word == "hundred" else (total + group, 0)
        elif word == "and" and is_any and (following := _WORD.match(text, found.end())) and following[1].casefold() in _WORDS:
            if group % 100 or not (group or total):
                return None
        else:
            break
        at, is_any = found.end(), True
    if not is_any or _PART_OF.match(text, at) or any(character.isdigit() for character in text):
        return None
    rest = text[at:]
    if len(rest.split()) > 3 or _DENIES.search(rest) or _counts(rest):
        return None
    return Quantity(Fraction(total + group), normalised_unit(rest), True)


def _counts(text: str) -> bool:
    return any(word in _WORDS or word in _SCALES for word in _LATIN.findall(text.casefold()))


def without_variable(text: str) -> tuple[str, str]:
    """Return the variable that an answer names ("" for none) and the rest: x = 5 is ("x", "5")."""
    found = _VARIABLE.match(text)
    return (found[1], text[found.end() :]) if found else ("", text)


def in_base(text: str) -> tuple[str, str] | None:
    """Return the digits and the base of a number such as 101_2; None where a text is none."""
    if "_" not in text:
        return None
    found = _BASED.fullmatch(undressed(text).strip("$ "))
    return (found[1].casefold(), found[2] or found[3] or found[4]) if found else None


def numbers_in(text: str) -> tuple[list[Quantity], bool]:
    """Return the numbers of a list ("1, 2 and 3") and whether it shows to be one; "1,2" may also be a decimal. None: no list."""
    if len(text) > LONGEST_QUANTITY or not any(mark in text for mark in (",", ";", "and", "&")):
        return [], False
    text = without_variable(undressed(text).strip(" $"))[1]
    pieces = [piece for part in _AND.split(text) for piece in _COMMAS.split(part)]
    shows = len(pieces) > 1
    if not shows:
        pieces = _BARE_COMMAS.split(text)
        shows = len(pieces) > 2
    if not 1 < len(pieces) <= MOST_NUMBERS:
        return [], False
    reads = [_clean(piece) for piece in pieces]
    return ([read for read in reads if read is not None], shows) if all(reads) else ([], False)
