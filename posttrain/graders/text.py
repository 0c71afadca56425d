"""Text graders: equality and containment, similarity to a reference, and form.

Similarity is OpenAI's list of metrics as far as arithmetic alone gives them. N-gram metrics count words in lower case.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import regex
from rapidfuzz import fuzz, utils
from rapidfuzz.distance import LCSseq

from posttrain.errors import RequestError
from posttrain.graders.extraction import extract_answer
from posttrain.graders.interface import Grade, Sample, shortened
from posttrain.graders.templates import Template, Unreadable, output_json

LONGEST_TEXT = 20_000
"""Characters of a text whose similarity is measured; more is cut and flagged. BLEU takes 20 ms for them."""
PATTERN_SECONDS = 1.0
"""Time that a pattern may take on one completion."""
_WORD = re.compile(r"\w++")

Words = Sequence[str]


def _ngrams(words: Words, size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(size)), strict=False))


def rouge_n(words: Words, reference: Words, size: int) -> float:
    """ROUGE-N as F1: 2 · overlap / (n-grams of both), overlap = Σ min(count, count in the reference).

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 2, there as recall; F1 so that length is not paid.
    """
    given, wanted = _ngrams(words, size), _ngrams(reference, size)
    both = given.total() + wanted.total()
    return 2 * (given & wanted).total() / both if both else float(list(words) == list(reference))


def rouge_l(words: Words, reference: Words) -> float:
    """ROUGE-L as F1: 2 · LCS / (words of both), LCS the longest common subsequence (Lin 2004, section 3)."""
    both = len(words) + len(reference)
    return 2 * LCSseq.similarity(words, reference) / both if both else 1.0


def bleu(words: Words, reference: Words) -> float:
    """Sentence BLEU-4, exp(min(0, 1 − r/c)) · (Π_n p_n)^(1/4), c and r the words of both texts.

    Papineni et al. 2002 (doi:10.3115/1073083.1073135). p_1 is exact and p_n = (matches + 1) / (n-grams + 1) for n > 1, the
    smoothing of Lin and Och 2004 (ORANGE, doi:10.3115/1220355.1220427), without which a short text scores 0.
    """
    if not words or not reference:
        return float(not words and not reference)
    logs = 0.0
    for size in range(1, 5):
        given = _ngrams(words, size)
        matches, total = (given & _ngrams(reference, size)).total(), given.total()
        if size == 1 and not matches:
            return 0.0
        logs += math.log(matches / total if size == 1 else (matches + 1) / (total + 1)) / 4
    return math.exp(min(0.0, 1 - len(reference) / len(words)) + logs)


def gleu(words: Words, reference: Words) -> float:
    """Google-BLEU, min(precision, recall) over all n-grams of 1 to 4 words together.

    Wu et al. 2016, section 7 (arXiv:1609.08144).
    """
    matches = given = wanted = 0
    for size in range(1, 5):
        ours, theirs = _ngrams(words, size), _ngrams(reference, size)
        matches += (ours & theirs).total()
        given, wanted = given + ours.total(), wanted + theirs.total()
    return matches / max(given, wanted) if given or wanted else 1.0


def fuzzy_match(text: str, reference: str) -> float:
    """Normalised indel similarity, 2 · LCS / (characters of both), without case and punctuation (rapidfuzz's `ratio`).

    OpenAI does not say which of rapidfuzz's ratios it takes. `WRatio` gives 0.9 to any substring, which a policy learns to use.
    """
    return fuzz.ratio(text, reference, processor=utils.default_process) / 100


def _on_words(metric: Callable[[Words, Words], float]) -> Callable[[str, str], float]:
    return lambda text, reference: metric(_WORD.findall(text.lower()), _WORD.findall(reference.lower()))


def _rouge(size: int) -> Callable[[str, str], float]:
    return _on_words(lambda words, reference: rouge_n(words, reference, size))


METRICS: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": _on_words(bleu),
    "gleu": _on_words(gleu),
    **{f"rouge_{size}": _rouge(size) for size in range(1, 6)},
    "rouge_l": _on_words(rouge_l),
}


class TextSimilarityGrader:
    """Scores how near a text is to its reference, 0 to 1."""

    def __init__(self, *, input: Template, reference: Template, metric: str, pass_threshold: float) -> None:
        self._input = input
        self._reference = reference
        self._metric = METRICS[metric]
        self._name = metric
        self._pass_threshold = pass_threshold

    def grade(self, samples: Sequence[Sample]) -> list[Grade]:
        """Return one grade a sample; see `Grader`."""
        return [rendered(sample, self._input, self._reference, self._scored) for sample in samples]

    def _scored(self, text: str, reference: str) -> Grade:
        cut, whole = text[:LONGEST_TEXT], reference[:LONGEST_TEXT]
        score = self._metric(cut, whole)
        return Grade(
            score,
            score >= self._pass_threshold,
            extracted=text,
            compared_with=(reference,),
            reason=f"{self._name} {score:.3f}, right from {self._pass_threshold:g}",
            errors=("truncated_observation_error",) if (cut, whole) != (text, reference) else (),
        )


OPERATIONS: dict[str, tuple[Callable[[str, str], bool], str, str]] = {
    "eq": (lambda text, reference: text == reference, "equal", "not equal"),
    "ne": (lambda text, reference: text != reference, "not equal", "equal"),
    "neq": (lambda text, reference: text != reference, "not equal", "equal"),
    "like": (lambda text, reference: reference in text, "contains it", "does not contain it"),
    "ilike": (lambda text, reference: reference.casefold() in text.casefold(), "contains it", "does not contain it"),
}


class StringCheckGrader:
    """Scores 1 where a text equals, differs from or contains its reference, else 0."""

    def __init__(self, *, input: Template, reference: Template, operation: str) -> None:
        self._input = input
        self._reference = reference
        self._holds, self._yes, self._no = OPERATIONS[operation]

    def grade(self, samples: Sequence[Sample]) -> list[Grade]:
        """Return one grade a sample; see `Grader`."""
        return [rendered(sample, self._input, self._reference, self._checked) for sample in samples]

    def _checked(self, text: str, reference: str) -> Grade:
        holds = self._holds(text, reference)
        return Grade(float(holds), holds, extracted=text, compared_with=(reference,), reason=self._yes if holds else self._no)


def rendered(sample: Sample, text: Template, reference: Template, then: Callable[[str, str], Grade]) -> Grade:
    """Return what `then` makes of both rendered templates; a score of 0 where the completion has not what they name."""
    try:
        return then(text.render(sample), reference.render(sample))
    except Unreadable as trouble:
        return unreadable(trouble)


def unreadable(trouble: Unreadable) -> Grade:
    """Return the grade of a completion that lacks what a template names."""
    return Grade(0.0, False, reason=shortened(str(trouble)), errors=("sample_parse_error",))


class FormatGrader:
    """Checks a text's form, never what it says: 1 where every check passes (or the share that do), each check a part."""

    def __init__(
        self,
        *,
        name: str,
        input: Template,
        pattern: str | None = None,
        ends_with_answer: bool = False,
        min_characters: int | None = None,
        max_characters: int | None = None,
        contains: Sequence[str] = (),
        lacks: Sequence[str] = (),
        is_json: bool = False,
        score: Literal["all", "share"] = "all",
    ) -> None:
        self._input = input
        self._score = score
        self._pattern = _compiled(pattern, name) if pattern is not None else None
        checks: Mapping[str, tuple[Any, Callable[[str], bool]]] = {
            "pattern": (pattern is not None, self._matches),
            "ends_with_answer": (ends_with_answer, _ends_with_answer),
            "min_characters": (min_characters is not None, lambda text: len(text) >= (min_characters or 0)),
            "max_characters": (max_characters is not None, lambda text: len(text) <= (max_characters or 0)),
            "contains": (contains, lambda text: all(part in text for part in contains)),
            "lacks": (lacks, lambda text: not any(part in text for part in lacks)),
            "json": (is_json, _is_json),
        }
        self._checks = {check: holds for check, (is_wanted, holds) in checks.items() if is_wanted}
        if not self._checks:
            raise RequestError(f"{name} checks nothing: give one of {', '.join(checks)}")

    def grade(self, samples: Sequence[Sample]) -> list[Grade]:
        """Return one grade a sample; see `Grader`."""
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Grade:
        try:
            text = self._input.render(sample)
        except Unreadable as trouble:
            return replace(unreadable(trouble), parts=dict.fromkeys(self._checks, 0.0))
        errors: tuple[str, ...] = ()
        parts = {}
        for check, holds in self._checks.items():
            try:
                parts[check] = float(holds(text))
            except TimeoutError:
                parts[check], errors = 0.0, ("limit_error",)
        failed = [check for check, part in parts.items() if not part]
        score = float(not failed) if self._score == "all" else sum(parts.values()) / len(parts)
        reason = f"fails {', '.join(failed)}" if failed else f"passes {', '.join(parts)}"
        return Grade(score, not failed, parts=parts, extracted=text, reason=reason, errors=errors)

    def _matches(self, text: str) -> bool:
        if self._pattern is None:
            return True
        return self._pattern.search(text, timeout=PATTERN_SECONDS) is not None


def _compiled(pattern: str, name: str) -> "regex.Pattern[str]":
    try:
        return regex.compile(pattern, regex.DOTALL | regex.V0)
    except regex.error as error:
        raise RequestError(f"{name}.pattern is no regular expression: {error}") from None


def _ends_with_answer(text: str) -> bool:
    """Return whether the last line that holds anything is a marked answer."""
    last = text[-2_000:].rstrip().rpartition("\n")[2]
    return extract_answer(last, needs_marker=True) is not None


def _is_json(text: str) -> bool:
    try:
        output_json(text)
    except Unreadable:
        return False
    return True
