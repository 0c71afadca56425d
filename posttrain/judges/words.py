"""Which option a judge chose, from what it wrote: its last verdict, or none.

A server that tells no probabilities is asked in words, and models answer at length. A reply counts only where it says which
option it is for; a letter at its beginning, or a number anywhere, does not.
"""

import re
from collections.abc import Iterator, Sequence

LONGEST_REPLY = 4_000
"""Characters that are read, from the end, where the verdict stands."""
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_OPEN, _CLOSE = r"[\"'*_(\[{<`#]{0,4}", r"[\"'*_)\]}>`]{0,4}"
_NOUN = r"(?:(?:response|answer|option|solution|candidate|assistant|model|choice|number|a score of|an?)\s+)?"
_BETTER = (
    r"(?:better|best|superior|preferable|preferred|stronger|correct|the (?:better|best|winner|right|correct)(?: one)?|more \w+)"
)
_WORSE = r"(?:worse|worst|inferior|weaker|incorrect|the (?:worse|worst|wrong)(?: one)?|less \w+)"
_IS = r"\s+(?:is|was|seems|looks|appears)\s+(?:\w+ly\s+|much\s+|far\s+|a bit\s+|slightly\s+)?"
_NOT = re.compile(r"\b(?:not|never|neither|nor)\b|n't\b", re.IGNORECASE)
_SAID = (
    r"\b(?:better|best|winner|preferred|preference|verdict|answer|choice|decision|judge?ment|rating|score|grade|pick)\b"
    r"(?:\s+(?:one|response|answer|option|of the two|overall))?\s*(?:\s(?:is|are|goes to|would be)|:|=)[*_]{0,3}\s*"
)
_THINK = (
    r"\bI(?:\s+would|'d|\s+will|'ll)?\s+(?:(?:think|believe|say|choose|prefer|pick|select|favou?r|judge|go with|vote for)"
    r"(?:\s+that)?|(?:give|rate|score)\s+(?:it|this)(?:\s+(?:as|with))?)\s+"
)


def option_in(reply: str, options: Sequence[str]) -> int | None:
    """Return which option a reply chose, or None where it chose none, or not clearly.

    Verdicts are: an option that is all of a reply or of a line, or begins it and is followed by a stop or a reason ("A, because
    …"); what stands behind "the better one is", "Verdict:", "I think" and their kind; "Response B is better"; "A is worse", which
    is for the other of two; [[A]]; "8/10". The last verdict decides ("A … no, B is better"), and one that is negated is none.
    Bare options that contradict each other ("A, B", "A or B?"), a list's numbers ("1. First") and "a good answer" are none.

    Args:
        reply: what was written; only its last 4,000 characters are read.
        options: as they would follow the question, such as " A" or " 10".
    """
    text = _THOUGHT.sub(" ", reply[-LONGEST_REPLY:]).strip()
    names = [option.strip().strip("*_`\"'([{<#").strip() for option in options]
    if not text or not all(names):
        return None
    bare = text.strip("*_`\"'([{<#)]}>.!,;: \n\t").casefold()
    if (whole := [place for place, name in enumerate(names) if name.casefold() == bare]) and not _has_fraction(text):
        return whole[0]
    verdicts = sorted(_verdicts(text, names))
    if verdicts:
        return verdicts[-1][1]
    alone = {place for _, place in _bare_ones(text, names)}
    return alone.pop() if len(alone) == 1 else None


def _has_fraction(text: str) -> bool:
    return re.search(r"\d[.,]\d", text) is not None


def _option(names: Sequence[str]) -> str:
    """Return the pattern of an option: longer ones first, no part of a word or number, a letter in its own case."""
    one = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return rf"{_NOUN}{_OPEN}(?<![\w.,])(?P<option>{one}){_CLOSE}(?!\w|[.,]\d|\s*(?:/(?!\s*10\b)|or\b|and\b|vs\b|versus\b|&)\s*\w)"


def _verdicts(text: str, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield where each verdict ends, and its option's place."""
    option = _option(names)
    for pattern, is_for in (
        (rf"(?:{_SAID}|{_THINK}){option}(?!{_IS}{_WORSE})", True),
        (rf"{option}{_IS}{_BETTER}\b", True),
        (rf"{option}\s+wins\b", True),
        (rf"{option}\s*(?:/|out of)\s*10\b", True),
        (rf"\[\[\s*{option}\s*\]\]", True),
        (rf"{option}{_IS}{_WORSE}\b", False),
    ):
        for found in re.finditer(_insensitive_but_letters(pattern), text):
            begins = max(text.rfind(mark, 0, found.start()) for mark in ".!?\n;,") + 1
            if _NOT.search(text, begins, found.end()):
                continue
            place = _place(found["option"], names)
            if is_for:
                yield found.end("option"), place
            elif len(names) == 2:
                yield found.end("option"), 1 - place


def _insensitive_but_letters(pattern: str) -> re.Pattern[str]:
    """Return the pattern whatever the case, but for options: "a" is an article where "A" is an option."""
    before, mark, rest = pattern.partition("(?P<option>")
    inner, _, after = rest.partition(")")
    return re.compile(f"(?i:{before}){mark}{inner})(?i:{after})") if mark else re.compile(pattern, re.IGNORECASE)


def _place(said: str, names: Sequence[str]) -> int:
    return next(place for place, name in enumerate(names) if name == said)


def _bare_ones(text: str, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the options that stand by themselves: at the beginning with a stop or reason behind, or as a whole line."""
    one = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    # "8." is a verdict, "8. Good" may be a list's number
    behind = r"(?=\s*(?:$|\n|[,:;!)]|[-–—]|\.(?:\s*$|\s*\n|\s+(?=\D))|(?:since|because|as)\b|of\s+10\b))"
    numbered = re.match(r"\s*\d+\.\s+\w", text)
    begins = re.match(
        rf"(?:(?i:the )?(?i:response|answer|option|solution) )?{_OPEN}(?i:(?P<option>{one})){_CLOSE}(?!\w|[.,]\d){behind}", text
    )
    if begins and not numbered and not _hedges(text[begins.end() :], one):
        yield begins.end(), next(place for place, name in enumerate(names) if name.casefold() == begins["option"].casefold())
    for found in re.finditer(rf"(?m)^[ \t]*{_OPEN}(?P<option>{one}){_CLOSE}[ \t]*[.!]?[ \t]*$", text):
        yield found.end(), _place(found["option"], names)


def _hedges(rest: str, one: str) -> bool:
    """Return whether another option stands right behind: "A, B", "A / B"."""
    return re.match(rf"\s*[,;/|&.]?\s*(?:or|and|vs\.?|versus)?\s*{_OPEN}(?:{one}){_CLOSE}(?!\w)", rest) is not None
