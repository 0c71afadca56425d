"""Where two answers differ, word by word, so that a reader need not look for it."""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

import regex

Span = tuple[int, int]
"""Characters of a text: the first one, and the one after the last."""

MOST_COMPARED = 250_000
"""Words of one text times words of the other, up to which words are compared, at most 0.3 s; longer texts by sentences."""
MOST_SENTENCES = 1_000_000
"""The same of sentences; beyond it everything between a common beginning and a common end differs."""
SHORT = 12
"""Words of a text that is always marked: its reader sees at once what the marks mean."""
ALIKE = 0.3
"""Share of the words of both texts that they must have in common; below it nearly everything would be marked."""
_WORD = regex.compile(
    r"(?=[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])\X"  # written without spaces: a character is a word
    r"|[\w\p{M}\u200c\u200d]+(?:['’][\w\p{M}]+)*"
    r"|\S\p{M}*"
)
_SENTENCE = regex.compile(r"[^\n.!?。！？]*[^\s.!?。！？][^\n.!?。！？]*[.!?。！？]*|[.!?。！？]+")


def differing(first: str, second: str) -> tuple[list[Span], list[Span]] | None:
    """Return the spans of each text that the other one has not, in order; None where the texts have too little in common.

    Words are compared, not the space between them: a span runs from its first word to the end of its last one. Long texts are
    compared by sentences, and by words where a few sentences stand for a few others.
    """
    words = _spans(_WORD, first), _spans(_WORD, second)
    spans = _compare(first, second, *words)
    if max(map(len, words)) > SHORT and _share_in_common(words, spans) < ALIKE:
        return None
    return spans


def _spans(pattern: "regex.Pattern[str]", text: str) -> list[Span]:
    return [match.span() for match in pattern.finditer(text)]


def _share_in_common(words: tuple[list[Span], list[Span]], spans: tuple[list[Span], list[Span]]) -> float:
    """Return the share of the words, counted in characters, of both texts that no span covers."""
    total = sum(end - start for side in words for start, end in side)
    covered = 0
    for side, marked in zip(words, spans, strict=True):
        waiting = iter(marked)
        current = next(waiting, None)
        for start, end in side:
            while current and current[1] <= start:
                current = next(waiting, None)
            covered += end - start if current and current[0] <= start else 0
    return 1 - covered / total if total else 1.0


def _compare(first: str, second: str, a: list[Span], b: list[Span]) -> tuple[list[Span], list[Span]]:
    """Return what differs between the words `a` of one text and `b` of the other."""
    one, other = _texts(first, a), _texts(second, b)
    # a common beginning and end cost nothing, and are most of what two long answers of one model have in common
    head = _common(one, other)
    tail = _common(one[head:][::-1], other[head:][::-1])
    a, b = a[head : len(a) - tail], b[head : len(b) - tail]
    one, other = one[head : len(one) - tail], other[head : len(other) - tail]
    if not (one and other):
        return _joined([a] if a else []), _joined([b] if b else [])
    if len(one) * len(other) > MOST_COMPARED:
        return _by_sentences(first, second, (a[0][0], a[-1][1]), (b[0][0], b[-1][1]))
    changes = [code[1:] for code in _codes(one, other) if code[0] != "equal"]
    return _joined(a[i:j] for i, j, _, _ in changes), _joined(b[k:m] for _, _, k, m in changes)


def _by_sentences(first: str, second: str, within: Span, beside: Span) -> tuple[list[Span], list[Span]]:
    """Return what differs between a part of one text and a part of the other: sentences, or words of those that changed."""
    a = [(start + within[0], end + within[0]) for start, end in _spans(_SENTENCE, first[slice(*within)])]
    b = [(start + beside[0], end + beside[0]) for start, end in _spans(_SENTENCE, second[slice(*beside)])]
    if len(a) * len(b) > MOST_SENTENCES:
        return [within], [beside]
    left: list[Span] = []
    right: list[Span] = []
    for code, i, j, k, m in _codes(_texts(first, a), _texts(second, b)):
        if code == "equal":
            continue
        words = _within(first, a[i:j]), _within(second, b[k:m])
        if words[0] and words[1] and len(words[0]) * len(words[1]) <= MOST_COMPARED:
            more = _compare(first, second, *words)
        else:
            more = _joined([a[i:j]] if i < j else []), _joined([b[k:m]] if k < m else [])
        left += more[0]
        right += more[1]
    return left, right


def _within(text: str, sentences: Sequence[Span]) -> list[Span]:
    """Return the words of sentences that follow each other."""
    if not sentences:
        return []
    return [match.span() for match in _WORD.finditer(text, sentences[0][0], sentences[-1][1])]


def _codes(one: Sequence[str], other: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    return list(SequenceMatcher(None, one, other, autojunk=False).get_opcodes())


def _texts(text: str, spans: Iterable[Span]) -> list[str]:
    return [text[start:end] for start, end in spans]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words both begin with."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def _joined(runs: Iterable[Sequence[Span]]) -> list[Span]:
    """Return one span for each run of words that follow each other."""
    return [(run[0][0], run[-1][1]) for run in runs if run]
