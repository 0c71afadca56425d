"""Where two answers differ, word by word, so that a reader need not look for it."""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

import regex
from rapidfuzz.distance import LCSseq

Span = tuple[int, int]
"""Characters of a text: the first one, and the one after the last."""
Runs = list[tuple[int, int, int, int]]
"""What differs: words of one text from and to, words of the other from and to."""

READABLE = 250_000
"""Words of one text times words of the other, up to which `difflib` looks for long common runs: at most 0.3 s. For longer texts
the longest common subsequence is taken, which is quicker by hundreds and may mark a little more."""
MOST = 400_000_000
"""The same, up to which anything is compared (50 MB, 0.2 s); beyond it all between a common beginning and end differs."""
SHORT = 12
"""Words of a text that is always marked: its reader sees at once what the marks mean."""
ALIKE = 0.3
"""Share of the letters of both texts that lie in common words; below it nearly everything would be marked."""
_WORD = regex.compile(
    r"(?=[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])\X"  # written without spaces: a character is a word
    r"|[\w\p{M}\u200c\u200d]+(?:['’][\w\p{M}]+)*"
    r"|(?!\s)\X"
)


def differing(first: str, second: str) -> tuple[list[Span], list[Span]] | None:
    """Return the spans of each text that the other one has not, in order; None where the texts have too little in common.

    Words are compared, not the space between them: a span runs from its first word to the end of its last one.
    """
    a, b = _spans(first), _spans(second)
    runs = _differing_runs([first[slice(*span)] for span in a], [second[slice(*span)] for span in b])
    left, right = [a[i:j] for i, j, _, _ in runs], [b[k:m] for _, _, k, m in runs]
    if max(len(a), len(b)) > SHORT and 1 - _letters([*left, *right]) / _letters([a, b]) < ALIKE:
        return None
    return _joined(left), _joined(right)


def _spans(text: str) -> list[Span]:
    return [match.span() for match in _WORD.finditer(text)]


def _differing_runs(one: Sequence[str], other: Sequence[str]) -> Runs:
    # a common beginning and end cost nothing, and are most of what two long answers of one model have in common
    head = _common(one, other)
    tail = _common(one[head:][::-1], other[head:][::-1])
    one, other = one[head : len(one) - tail], other[head : len(other) - tail]
    if not one and not other:
        return []
    product = len(one) * len(other)
    if not product or product > MOST:
        return [(head, head + len(one), head, head + len(other))]
    if product <= READABLE:
        found = [code[1:] for code in SequenceMatcher(None, one, other, autojunk=False).get_opcodes() if code[0] != "equal"]
    else:
        codes = LCSseq.opcodes(one, other)
        found = [(code.src_start, code.src_end, code.dest_start, code.dest_end) for code in codes if code.tag != "equal"]
    return [(i + head, j + head, k + head, m + head) for i, j, k, m in found]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words both begin with."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def _letters(runs: Iterable[Sequence[Span]]) -> int:
    return sum(end - start for run in runs for start, end in run)


def _joined(runs: Iterable[Sequence[Span]]) -> list[Span]:
    """Return one span for each run of words that follow each other."""
    return [(run[0][0], run[-1][1]) for run in runs if run]
