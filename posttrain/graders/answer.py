"""The final answer of a completion: found, normalised, and compared with the answers that count as right.

    completion ── extract_answer ──▶ "1,234 km" ── Comparison ──▶ same number and unit? same choice? same text? same mathematics?

Numbers are compared exactly, as fractions, unless a tolerance is set. One code marks training, evaluation and audit.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from posttrain.graders.interface import Grade, Sample, answers_of, shortened
from posttrain.graders.markup import undressed
from posttrain.graders.quantity import Quantity, quantity

Kind = Literal["auto", "number", "choice", "text"]
SameMathematics = Callable[[str, str], "tuple[bool, str]"]
"""(answer, given) → equal or not, and "" or why that could not be found out."""

_NUMBER = r"[-+]?[$€£]?(?:\d{1,3}(?:[,\u00a0\u2009\u202f]\d{3})+|\d+)(?:\.\d+)?|[-+]?[$€£]?\.\d+"
_MARKER = re.compile(r"####|\banswer(?:[*_]*\s+is\b\s*:?|[*_]*\s*[:=])|\\(?:boxed|fbox)\s*\{|<answer>", re.IGNORECASE)
_STRICT_MARKER = re.compile(r"####|\\boxed\s*\{|<answer>")
_TRAILING_NUMBER = re.compile(
    rf"(?<![\w.])(?:{_NUMBER})(?![,.:]?\d)(?:e[-+]?\d{{1,3}}(?!\d)|(?!e[-+]?\d))(?:\s*/\s*\d+(?!\.?\d))?\s*%?", re.IGNORECASE
)
_LONGEST = 20_000
"""Characters of a completion that are read, from its end: a final answer is never further from it."""

_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s+)?(?:[(\[{]\s*([a-j])\s*[)\]}]|([a-j])\s*(?:[)\]}.:,]|$|\s[-–]\s))", re.IGNORECASE
)
_CHOICE_ANSWER = re.compile(r"[(\[{]?([A-J])[)\]}]?[.:]?")
_CHOICE_IN_TEXT = re.compile(r"[(\[]([A-J])[)\]]|(?<![\w'’.])([A-J])(?=[).:](?!\w))|(?<![\w'’.])([B-HJ])(?![\w'’])")

_WORDS_AND_ONE_NUMBER = re.compile(
    r"(?!.*\b(?:not|no|never|neither|nor|or)\b|.*n't)[\w\s.,:;'\"!?$€£%/≈~*-]{1,500}", re.IGNORECASE
)
"""A phrase such as "therefore 14 apples", in which one number is the answer; no mathematics and nothing that denies it."""


@dataclass(frozen=True)
class Verdict:
    """What was decided about one completion, and on what ground.

    Attributes:
        is_right: the extracted answer equals one of the answers.
        extracted: the final answer as it stood in the completion; None if there is none.
        compared_with: the answers it was compared with.
        reason: why, in a few words.
        is_numeric: the extracted answer and all answers are numbers.
        errors: names of `posttrain.graders.interface.FLAGS`.
    """

    is_right: bool
    extracted: str | None
    compared_with: tuple[str, ...]
    reason: str = ""
    is_numeric: bool = False
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """When two answers are the same.

    Attributes:
        kind: what answers are; `auto` finds out from the answers themselves.
        absolute: numbers may differ by this much…
        relative: …or by this share of the right one, whichever is larger.
        percent: "unit": 50 % is the number 50; "fraction": 50 % is 0.5.
        needs_marker: only what follows an answer marker is an answer, never the last number of the text.
    """

    kind: Kind = "auto"
    absolute: Fraction = Fraction(0)
    relative: Fraction = Fraction(0)
    percent: Literal["unit", "fraction"] = "unit"
    needs_marker: bool = False


EXACT = Rules()


def extract_answer(completion: str, *, kind: Kind = "auto", needs_marker: bool = False) -> str | None:
    """Return what follows the last answer marker on its line; without one the last number or choice; else None.

    Markers are "####", "Answer:", "the answer is", "\\boxed{", "<answer>".

    Args:
        completion: its last 20,000 characters are read.
        kind: `choice` looks for the last letter A to J instead of the last number; `text` for neither.
        needs_marker: look for neither.
    """
    text = completion[-_LONGEST:].replace("\N{MINUS SIGN}", "-")
    line = _marked(text)
    if line or needs_marker or kind == "text":
        return line or None
    if kind == "choice":
        letters = [found.group(found.lastindex or 0) for found in _CHOICE_IN_TEXT.finditer(text)]
        return letters[-1] if letters else None
    last = None
    for last in _TRAILING_NUMBER.finditer(text):  # noqa: B007 (the last one is wanted)
        pass
    return last.group().strip() if last else None


def _marked(text: str) -> str:
    marker = None
    for marker in _MARKER.finditer(text):  # noqa: B007 (the last one is wanted)
        pass
    if marker is None:
        return ""
    rest = text[marker.end() :].lstrip()
    if marker.group().endswith("{"):
        rest = _within_braces(rest)
    elif marker.group().startswith("<"):
        rest = rest.partition("</")[0]
    line = rest.partition("\n")[0].strip(" \t*_`")
    return line[:-1] if line.endswith(".") and not line.endswith("..") else line.rstrip(".")


def _within_braces(text: str) -> str:
    """Return what stands before the brace that closes one opened before `text`; all of it where none does."""
    depth = 1
    for found in re.finditer(r"[{}]", text):
        depth += 1 if found.group() == "{" else -1
        if depth == 0:
            return text[: found.start()]
    return text


def as_number(text: str) -> Fraction | None:
    """Return the number that `text` starts with, without spaces, currency and thousands separators; None if there is none."""
    read = quantity(undressed(text))
    return None if read is None else read.value


def normalised(text: str) -> str:
    """Return `text` in lower case with single spaces and without the punctuation around it."""
    return re.sub(r"\s+", " ", text).strip().strip(".,;:!'\"$").casefold()


def grade(
    completion: str, answers: Sequence[str], *, rules: Rules = EXACT, same_mathematics: SameMathematics | None = None
) -> Verdict:
    """Mark one completion against the answers that count as right.

    Args:
        completion: the whole text.
        answers: each as text; one that is a whole solution ("… #### 14", "\\boxed{14}") stands for its final answer.
        rules: when two answers are the same.
        same_mathematics: asked where neither numbers nor text agree and one side is written in LaTeX.

    Raises:
        ValueError: if `answers` is empty: then nothing can be right or wrong.
    """
    if not answers:
        raise ValueError("a completion cannot be graded without answers")
    wanted = final_answers(answers)
    kind = _kind_of(wanted) if rules.kind == "auto" else rules.kind
    extracted = extract_answer(
        completion, kind="auto" if kind == "text" and rules.kind == "auto" else kind, needs_marker=rules.needs_marker
    )
    return judge(extracted, wanted, rules=rules, same_mathematics=same_mathematics)


def judge(
    extracted: str | None, answers: tuple[str, ...], *, rules: Rules = EXACT, same_mathematics: SameMathematics | None = None
) -> Verdict:
    """Compare an answer that was extracted already, with the arguments and the verdict of `grade`."""
    if extracted is None:
        return Verdict(False, None, answers, reason="no answer found", errors=("sample_parse_error",))
    kind = _kind_of(answers) if rules.kind == "auto" else rules.kind
    is_numeric = kind == "number" and number_in(extracted) is not None
    troubles: list[str] = []
    for answer in answers:
        why = _same(extracted, answer, kind, rules)
        if not why and same_mathematics and _is_mathematics(extracted, answer, kind):
            is_same, trouble = same_mathematics(answer, extracted)
            why = "the same mathematics" if is_same else ""
            troubles += [trouble] if trouble else []
        if why:
            return Verdict(True, extracted, answers, reason=why, is_numeric=is_numeric)
    others = " nor ".join(shortened(answer, 60) for answer in answers[:3])
    reason = "; ".join([f"{shortened(extracted, 60)!r} is not {others}", *troubles])
    return Verdict(False, extracted, answers, reason, is_numeric, errors=("limit_error",) if troubles else ())


@lru_cache(maxsize=8_192)
def _kind_of(answers: tuple[str, ...]) -> Kind:
    """Return what a list of answers is: choices, numbers, else text."""
    if all(_CHOICE_ANSWER.fullmatch(answer.strip()) for answer in answers):
        return "choice"
    reads = [quantity(undressed(answer)) for answer in answers]
    return "number" if all(read is not None and read.is_clean for read in reads) else "text"


def final_answers(answers: Sequence[str]) -> tuple[str, ...]:
    """Return the answers, each that is a whole solution ("… #### 14", "\\boxed{14}") cut down to its final answer."""
    return tuple([_final(answer) if "#" in answer or "\\" in answer or "<" in answer else answer for answer in answers])


def _final(answer: str) -> str:
    return extract_answer(answer) or answer if _STRICT_MARKER.search(answer) else answer


def number_in(text: str) -> Quantity | None:
    """Return the number that an answer is: what it starts with, what stands behind its last "=", or the only number in it."""
    text = undressed(text)
    read = quantity(text)
    if read is not None and read.is_clean:
        return read
    if "=" in text:
        read = quantity(text.rpartition("=")[2])
        return read if read is not None and read.is_clean else None
    if read is not None:
        return None
    if not _WORDS_AND_ONE_NUMBER.fullmatch(text):
        return None
    found = list(_TRAILING_NUMBER.finditer(text, 0, 500))
    return quantity(text[found[0].start() :]) if len(found) == 1 else None


def _same(given: str, answer: str, kind: Kind, rules: Rules) -> str:
    """Return on what ground two answers are the same; "" where they are not."""
    if kind == "choice":
        choices = [_CHOICE.match(undressed(text).strip(" $\\*_")) for text in (given, answer)]
        letters = [(choice[1] or choice[2]).casefold() if choice else None for choice in choices]
        if letters[0] is not None:
            return "the same choice" if letters[0] == letters[1] else ""
    if kind != "text" or rules.kind == "auto":
        left, right = number_in(given), quantity(undressed(answer))
        if left is not None and right is not None and right.is_clean:
            return "the same number" if _equal(left, right, rules) else ""
    return _same_text(given, answer)


def _equal(given: Quantity, answer: Quantity, rules: Rules) -> bool:
    if given.unit and answer.unit and given.unit != answer.unit:
        return False
    left, right = given.value, answer.value
    if rules.percent == "fraction":
        left, right = (read.value / 100 if read.unit == "%" else read.value for read in (given, answer))
    if left == right or not (rules.absolute or rules.relative):
        return left == right
    return abs(left - right) <= max(rules.absolute, rules.relative * abs(right))


def _same_text(given: str, answer: str) -> str:
    left, right = normalised(undressed(given)), normalised(undressed(answer))
    return "the same text" if left == right and (left or given.strip() == answer.strip()) else ""


_MATHEMATICS = re.compile(r"[\\^_{}()\[\]=+*/]|sqrt|\bpi\b|π|√|∞")


def _is_mathematics(given: str, answer: str, kind: Kind) -> bool:
    """Return whether LaTeX could make the two the same where plain reading did not."""
    if kind == "choice" or (number_in(answer) is not None and number_in(given) is not None):
        return False
    return "\\" in given or bool(_MATHEMATICS.search(answer))


class AnswerGrader:
    """Marks final answers: 1 for a right one, the partial credit for a wrong one where the policy grants it, else 0."""

    def __init__(
        self,
        *,
        rules: Rules = EXACT,
        partial_credit: float = 0.0,
        partial_for: Literal["numeric", "all"] = "numeric",
        read: Callable[[Sample], "tuple[str | None, tuple[str, ...]]"] | None = None,
        same_mathematics: SameMathematics | None = None,
    ) -> None:
        self._rules = rules
        self._partial_credit = partial_credit
        self._partial_for = partial_for
        self._read = read
        self._same_mathematics = same_mathematics

    def grade(self, samples: Sequence[Sample]) -> list[Grade]:
        """Return one grade a sample; see `Grader`."""
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> Grade:
        text, answers = (sample.completion, answers_of(sample.record)) if self._read is None else self._read(sample)
        if text is None:
            return Grade(
                0.0, False, compared_with=answers, reason="the output is no JSON with that field", errors=("sample_parse_error",)
            )
        return as_grade(
            grade(text, answers, rules=self._rules, same_mathematics=self._same_mathematics),
            partial_credit=self._partial_credit,
            partial_for=self._partial_for,
        )


def as_grade(verdict: Verdict, *, partial_credit: float, partial_for: Literal["numeric", "all"]) -> Grade:
    """Turn a verdict into a grade by the partial-credit policy.

        1 if right;  partial_credit if an answer was extracted but is wrong;  0 otherwise

    Section 4.1 of Luong et al. 2024 (arXiv:2401.08967), who pay 0.1 "for numeric answers": with multiple choice every wrong
    letter would earn it, so `numeric` is the default and `all` must be asked for.
    """
    earns = verdict.extracted is not None and (partial_for == "all" or verdict.is_numeric)
    is_partial = partial_credit != 0 and not verdict.is_right and earns
    return Grade(
        score=1.0 if verdict.is_right else partial_credit if is_partial else 0.0,
        is_right=verdict.is_right,
        is_partial=is_partial,
        extracted=verdict.extracted,
        compared_with=verdict.compared_with,
        reason=verdict.reason + (f", partial credit {partial_credit:g}" if is_partial else ""),
        errors=verdict.errors,
    )
