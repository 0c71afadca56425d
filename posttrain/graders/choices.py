"""Multiple choice: the letters that an answer commits itself to, all of them, so that naming several never passes for one.

"B", "(b)", "B. Paris", "B because …", "not A but B"  → {B}      "A, B, C, D", "A or B"  → {A, B, …}, which is no single letter
"""

import re
from dataclasses import dataclass

LONGEST_CHOICE = 1_000
"""Characters of an answer that are read as a choice."""
LONGEST_TAIL = 20_000
"""Characters, from its end, of a text without marker in which letters are looked for."""

_LEAD = re.compile(
    r"(?:(?:it|this)\s(?:is|would\sbe)\s)?(?:(?:the\s)?(?:(?:best|correct|right|final)\s)?(?:option|choice|answer|letter)s?\s{0,9}+(?:is\s)?:?)?\s{0,9}+",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[(\[{]\s{0,3}+([a-j])\s{0,3}+[)\]}]|([a-j])(?![\w'’])", re.IGNORECASE)
_SEPARATOR = re.compile(r"(?:[\s,;/&|.:)\]+–—-]|and\b|or\b|nor\b){0,40}+", re.IGNORECASE)
_LISTED = re.compile(r"\s{0,9}+(?:$|[,;/&|.:)(\[\]+–—-]|and\b|or\b|nor\b)", re.IGNORECASE)
"""What follows a letter that is one of several: the end or a further separator, never a word ("D. A is incorrect")."""
_COMMITTED = re.compile(r"\s{0,9}+(?:$|[)\]}.:,;!]|[-–—]|\()")
_REASON = re.compile(r"\s{1,9}+(?:because|since|as(?!\swell)|for|given|due|so|which|is\s(?:correct|right))\b", re.IGNORECASE)
_TEXT = re.compile(r"\s{1,9}+[^\W_]")
_TAKEN_BACK = re.compile(
    r"\b(?:not|never|wrong|incorrect|false|fails|or|nor|neither|either|maybe|perhaps|unlikely)\b|n't|\?", re.IGNORECASE
)
_DENIED = re.compile(
    r"[\s:*_–—-]{0,9}+(?:(?:is|was|are|seems)\s)?(?:wrong|incorrect|false|fails|excluded|impossible)\b"
    r"|\s{1,9}+(?:(?:is|was|are|seems|must\sbe)\snot|(?:is|was)n't|cannot|can't)\b",
    re.IGNORECASE,
)
_HEDGED = re.compile(r"\bor\s(?:(?:maybe|perhaps|possibly|even|option|else)\s)?[(\[]?(?:[A-J]|[b-hj])\b")
_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n't\sbe|n't|\bnever|\bneither|\bnor|\bexcept|\bwithout|\bexclude[sd]?|\breject(?:s|ed)?|\bout|\bthan|\beliminate[sd]?)\s\W{0,3}+$"
)
_NOT_BUT = re.compile(
    r"not\s[(\[]?[a-j][)\]]?\W{1,4}+(?:but|it\sis|it's|rather)\s(?:the\s)?(?:option\s)?(?=[(\[]?[a-j]\b)", re.IGNORECASE
)
_SENTENCE = re.compile(r"[.!?]\s|\n")

_IN_TEXT = re.compile(r"[(\[]([A-J])[)\]]|(?<![\w'’.])([A-J])(?=[).:](?!\w))|(?<![\w'’.])([B-HJ])(?![\w'’])")
_BETWEEN = re.compile(r"(?:[\s,;/&|.:)+]|and\b|or\b|nor\b){0,20}+")
_ALONE = re.compile(r"\W{0,6}+([a-j])(?:\W{0,6}+|[)\].:]\s(.{1,300}+))", re.IGNORECASE)
"""A whole completion that is a letter, or a letter and its option's text."""
_REFERENCE = re.compile(
    r"\s{0,9}+(?:[(\[{]([A-J])[)\]}][.:]?|([A-J])[)\]}:.]|([A-J])(?=\s{0,9}+$))(?:\s{1,9}+(\S.{0,400}+)|\s{0,9}+)", re.DOTALL
)
_REFERENCES = re.compile(r"[A-J](?:\s{0,3}+(?:,|;|&|and)\s{0,3}+[A-J]){1,9}+")
_CAPITAL = re.compile("[A-J]")
_RUN = re.compile(r"[A-J]{2,10}+")


@dataclass(frozen=True, slots=True)
class Choice:
    """Letters that an answer names, in upper case, and the text of the option where it gives that too."""

    letters: frozenset[str]
    text: str = ""


def reference_choice(answer: str) -> Choice | None:
    """Return the choice that an answer of the data stands for: "B", "(B)", "B. Paris", "A, C", "ACD"; None where it is none."""
    answer = answer.strip()
    if found := _REFERENCE.fullmatch(answer):
        text = (found[4] or "").strip()
        is_species = text[:1].islower() and found[2] is not None and answer[1:2] == "."  # E. coli
        return None if is_species else Choice(frozenset(found[1] or found[2] or found[3]), text)
    if _REFERENCES.fullmatch(answer):
        return Choice(frozenset(_CAPITAL.findall(answer)))
    if _RUN.fullmatch(answer) and list(answer) == sorted(set(answer)):
        return Choice(frozenset(answer))
    return None


def chosen(text: str) -> Choice | None:
    """Return the choice that an answer makes; None where it makes none, or takes it back.

    Args:
        text: without its markup.
    """
    text = text[:LONGEST_CHOICE].strip(" $\\*_`\"'“”‘’")
    if _RUN.fullmatch(text) and list(text) == sorted(set(text)):
        return Choice(frozenset(text))
    lead = _NOT_BUT.match(text) or _LEAD.match(text)
    at = lead.end() if lead else 0
    first = _LETTER.match(text, at)
    if first is None:
        return None
    letters, last = [first[1] or first[2]], first
    while len(letters) <= 26 and (separator := _SEPARATOR.match(text, last.end())):
        following = _LETTER.match(text, separator.end())
        if following is None or not _LISTED.match(text, following.end()):
            break
        letters, last = [*letters, following[1] or following[2]], following
    rest = text[last.end() :]
    choice = Choice(frozenset("".join(letters).upper()), "" if _REASON.match(rest) else _option(rest))
    sentence = _SENTENCE.split(rest, maxsplit=1)[0]
    if _DENIED.match(rest) or _HEDGED.search(sentence):
        return None
    if len(letters) > 1 or last[1] or _COMMITTED.match(rest) or _REASON.match(rest):
        return choice
    # A bare letter and words: "B Paris" names an option, "A cat" and "I think" are words.
    is_option = last[2].isupper() and last[2] not in "AI" and _TEXT.match(rest)
    return choice if is_option and not (_TAKEN_BACK.search(sentence) or _IN_TEXT.search(sentence)) else None


def _option(rest: str) -> str:
    return _SENTENCE.split(rest.lstrip(" )]}.:,;-–—\\"), maxsplit=1)[0].strip()


def last_choice(text: str) -> str | None:
    """Return the last letter that a text without marker settles on; None where it names several at once ("B or C")."""
    text = text.strip()
    found = list(_IN_TEXT.finditer(text[-LONGEST_TAIL:]))
    if len(found) <= 1 and "\n" not in text[:400] and (alone := _ALONE.fullmatch(text[:400])):
        return alone[1]
    text = text[-LONGEST_TAIL:]
    while found:
        last = found.pop()
        if _DENIED_BEFORE.search(text[max(0, last.start() - 20) : last.start()]) or _DENIED.match(text, last.end()):
            continue
        if found and _BETWEEN.fullmatch(text, found[-1].end(), last.start()):
            return None
        return last.group(last.lastindex or 0)
    return None
