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

from posttrain.graders.characters import composed, plain_characters
from posttrain.graders.choices import chosen, reference_choice
from posttrain.graders.extraction import Kind, extract_answer, find_answer, spoken
from posttrain.graders.interface import Grade, Sample, answers_of, shortened
from posttrain.graders.markup import undressed
from posttrain.graders.numbers import LONGEST_PHRASE, amount, in_base, number_in, numbers_in, without_variable
from posttrain.graders.quantity import Quantity, quantity

SameMathematics = Callable[[str, str], "tuple[bool, str]"]
"""(answer, given) → equal or not, and "" or why that could not be found out."""

_STRICT_MARKER = re.compile(r"####|\\boxed\s{0,9}+\{|<answer>")
_SPACES = re.compile(r"\s++")
_ARTICLE = re.compile(r"(?:the|an?)\s(?=\S)")
_OPPOSITE = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_VERDICT = re.compile(r"(yes|no|true|false)\b(?=\s{0,9}+(?:$|[,.;:!—-]|because\b|since\b|as\b))")
_REASON = re.compile(r"\b(?:because|since|as|for)\b|[.;!]")
_UNSURE = re.compile(r"\b(?:yes|no|true|false|maybe|perhaps|not|or|unsure)\b")


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


def as_number(text: str) -> Fraction | None:
    """Return the number that `text` starts with, without spaces, currency and thousands separators; None if there is none."""
    read = quantity(undressed(text))
    return None if read is None else read.value


def normalised(text: str) -> str:
    """Return `text` in lower case with single spaces and without the punctuation around it."""
    return _SPACES.sub(" ", text).strip().strip(".,;:!'\"$“”‘’«»").casefold()


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
    found = find_answer(
        completion, kind="auto" if kind == "text" and rules.kind == "auto" else kind, needs_marker=rules.needs_marker
    )
    if kind == "text" and not found.is_marked and not rules.needs_marker and (line := _only_line(completion)):
        verdict = judge(line, wanted, rules=Rules(kind="text"))
        if verdict.is_right:
            return verdict
    if found.text is None:
        return Verdict(False, None, wanted, reason=found.why, errors=("sample_parse_error",))
    return judge(found.text, wanted, rules=rules, same_mathematics=same_mathematics)


def _only_line(completion: str) -> str:
    """Return a completion that is one short line and nothing else, else "": without a marker it is its own answer."""
    text = (spoken(completion) or "").strip(" \t\r\n*_`")
    return text if len(text) <= LONGEST_PHRASE and "\n" not in text else ""


def judge(
    extracted: str | None, answers: tuple[str, ...], *, rules: Rules = EXACT, same_mathematics: SameMathematics | None = None
) -> Verdict:
    """Compare an answer that was extracted already, with the arguments and the verdict of `grade`."""
    if extracted is None:
        return Verdict(False, None, answers, reason="no answer found", errors=("sample_parse_error",))
    kind = _kind_of(answers) if rules.kind == "auto" else rules.kind
    extracted = plain_characters(extracted)
    number = number_in(extracted)
    is_numeric = kind == "number" and number is not None
    troubles: list[str] = []
    for answer in answers:
        why = _same(extracted, number, answer, kind, rules)
        if not why and same_mathematics and _is_mathematics(extracted, number, answer, kind):
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
    reads = [quantity(undressed(answer)) for answer in answers]
    if all(read is not None and read.is_clean for read in reads):
        return "number"
    return "choice" if all(reference_choice(answer) for answer in answers) else "text"


def final_answers(answers: Sequence[str]) -> tuple[str, ...]:
    """Return the answers, each that is a whole solution ("… #### 14", "\\boxed{14}") cut down to its final answer."""
    return tuple([_final(plain_characters(answer)) for answer in answers])


def _final(answer: str) -> str:
    if not ("#" in answer or "\\" in answer or "<" in answer) or not _STRICT_MARKER.search(answer):
        return answer
    return extract_answer(answer) or answer


def _same(given: str, number: Quantity | None, answer: str, kind: Kind, rules: Rules) -> str:
    """Return on what ground an answer, and the number that it is, are the wanted one; "" where they are not."""
    if kind != "number" and rules.kind in ("auto", "choice") and (wanted := reference_choice(undressed(answer))):
        choice = chosen(undressed(given))
        if choice is not None and choice.letters:
            if choice.letters != wanted.letters:
                return ""
            contradicts = wanted.text and choice.text and _comparable(choice.text) != _comparable(wanted.text)
            return "" if contradicts else "the same choice"
        if wanted.text and _same_text(given, wanted.text):
            return "the text of the same choice"
    if kind != "text" or rules.kind == "auto":
        if in_base(given) or in_base(answer):
            return "the same digits in one base" if _same_in_base(given, answer) else ""
        wanted_number = _number_of(answer, given)
        if number is not None and wanted_number is not None and wanted_number.is_clean:
            return "the same number" if _equal(number, wanted_number, rules) else ""
        if _same_numbers(given, answer, rules):
            return "the same numbers"
    if rules.kind == "auto" and _same_verdict(given, answer):
        return "the same verdict"
    return _same_text(given, answer)


def _number_of(answer: str, given: str) -> Quantity | None:
    """Return the number that an answer of the data is, 5 for x = 5; None where it is none, or is that of another variable."""
    text = undressed(answer)
    if "=" in text:
        wanted, text = without_variable(text)
        name = without_variable(undressed(given))[0] if wanted else ""
        if name not in ("", wanted):
            return None
    return amount(text)


def _same_in_base(given: str, answer: str) -> bool:
    """Return whether digits are equal and their bases too; a base that one side leaves out is that of the question."""
    left, right = (in_base(text) or (undressed(text).strip().casefold(), "") for text in (given, answer))
    return left[0] == right[0] and (left[1] == right[1] or not left[1])


def _same_numbers(given: str, answer: str, rules: Rules) -> bool:
    """Return whether two lists hold the same numbers in any order; "1,2", which may be a decimal, needs the other to show it."""
    (left, left_shows), (right, right_shows) = numbers_in(given), numbers_in(answer)
    if not left or len(left) != len(right) or not (left_shows or right_shows):
        return False
    pairs = zip(*(sorted(numbers, key=lambda number: number.value) for numbers in (left, right)), strict=True)
    return all(_equal(one, other, rules) for one, other in pairs)


def _equal(given: Quantity, answer: Quantity, rules: Rules) -> bool:
    if given.unit and answer.unit and given.unit != answer.unit:
        return False
    left, right = given.value, answer.value
    if rules.percent == "fraction":
        left, right = (read.value / 100 if read.unit == "%" else read.value for read in (given, answer))
    if left == right:
        return True
    if rules.absolute or rules.relative:
        return abs(left - right) <= max(rules.absolute, rules.relative * abs(right))
    return _is_printed_float(left, right) or _is_printed_float(right, left)


def _is_printed_float(decimal: Fraction, fraction: Fraction) -> bool:
    """Return whether one number is what a float prints of another that has no end as a decimal: 0.3333333333333333 of 1/3."""
    if decimal.denominator < 10**12 or abs(decimal - fraction) > abs(fraction) / 10**15:
        return False
    rest = fraction.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest != 1


def _comparable(text: str) -> str:
    text = composed(normalised(undressed(text)))
    return _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text


def _same_text(given: str, answer: str) -> str:
    left, right = _comparable(given), _comparable(answer)
    return "the same text" if left == right and (left or given.strip() == answer.strip()) else ""


def _same_verdict(given: str, answer: str) -> bool:
    """Return whether an answer says the yes, no, true or false that is wanted, gives at most a reason, and says nothing else."""
    wanted, said = normalised(answer), normalised(given[:LONGEST_PHRASE])
    found = _VERDICT.match(said) if wanted in _OPPOSITE else None
    return bool(found and found[1] == wanted and not _UNSURE.search(_REASON.split(said[found.end() :], maxsplit=1)[0]))


_MATHEMATICS = re.compile(r"[\\^_{}()\[\]=+*/]|sqrt|\bpi\b|π|√|∞")


def _is_mathematics(given: str, number: Quantity | None, answer: str, kind: Kind) -> bool:
    """Return whether LaTeX could make the two the same where plain reading did not."""
    if kind == "choice" or (number is not None and number_in(answer) is not None):
        return False
    if in_base(given) or in_base(answer):
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
