"""Programs: reasoning written as `def solution()`, whose value is the answer, and OpenAI's `def grade(sample, item)`."""

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from posttrain.errors import RequestError
from posttrain.finite import is_finite, shown_value
from posttrain.graders.answer import Rules, SameMathematics, as_grade, final_answers, judge
from posttrain.graders.interface import Grade, Grader, Sample, answers_of, as_text, shortened
from posttrain.graders.quantity import LONGEST_NUMBER
from posttrain.graders.sandbox import LONGEST_SOURCE, Outcome, Sandbox

_FENCE = re.compile(r"```[ \t]*+(?:(?:python|py)[ \t]*+)?+\n", re.IGNORECASE)
_CODE = r"def \w++ *+\(|class \w++ *+[(:]|import [\w., ]++$|from [\w.]++ import |@\w"
_ASSIGNS = re.compile(r"[A-Za-z_]\w*+ *+=(?!=)")
_STARTS = re.compile(_CODE)
_GOES_ON = re.compile(rf"[ \t)\]}}#]|{_CODE}|if __name__|print\(|[A-Za-z_][\w.]*+ *+[-+*/]?+=(?!=)")
"""What a line of a program looks like at its left edge, so that prose before and after it ("from this we see…") is left out."""


def extract_program(completion: str, function: str) -> str | None:
    """Return the program of a completion: its last fenced block that defines `function`, else the lines that make it up.

    Text before and after the program is left out. None where nothing defines `function`, or only beyond 20,000 characters.
    """
    text = completion[:LONGEST_SOURCE]
    defines = re.compile(rf"^[ \t]*def {re.escape(function)}\b", re.MULTILINE)
    if not defines.search(text):
        return None
    fenced = [block for block in _fenced(text) if defines.search(block)]
    if fenced:
        return str(fenced[-1])
    lines = text.split("\n")
    start = next(place for place, line in enumerate(lines) if _STARTS.match(line) or defines.match(line))
    while start and _ASSIGNS.match(lines[start - 1]):
        start -= 1
    lines = lines[start:]
    end = next((place for place, line in enumerate(lines) if line.strip() and not _GOES_ON.match(line)), len(lines))
    program = "\n".join(lines[:end])
    return program if defines.search(program) else None


def _fenced(text: str) -> Iterator[str]:
    """Yield the blocks between fences; the last one may lack its end."""
    place = 0
    while opening := _FENCE.search(text, place):
        end = text.find("```", opening.end())
        end = len(text) if end < 0 else end
        yield text[opening.end() : end]
        place = end + 3


def as_answer(value: Any, *, deepest: int = 4) -> str | None:
    """Return what a program gave as an answer; None where that is no answer (None, NaN, infinity, an object)."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float | Decimal):
        return as_text(float(value)) if math.isfinite(value) else None
    if isinstance(value, int):
        return str(value) if abs(value) < 10**LONGEST_NUMBER else None
    if isinstance(value, str):
        return value.strip()[:1_000] or None
    if isinstance(value, list | tuple | set | frozenset) and deepest:
        parts = [as_answer(one, deepest=deepest - 1) for one in list(value)[:100]]
        if None in parts or not parts:
            return None
        return parts[0] if len(parts) == 1 else f"({', '.join(str(part) for part in parts)})"
    return None


class ProgramGrader:
    """Runs the program in a completion and compares what it returns with the answers, by the answer grader's own comparison."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        function: str,
        rules: Rules,
        partial_credit: float,
        partial_for: Literal["numeric", "all"],
        read: Callable[[Sample], tuple[str | None, tuple[str, ...]]] | None = None,
        same_mathematics: SameMathematics | None = None,
    ) -> None:
        self._sandbox = sandbox
        self._function = function
        self._rules = rules
        self._partial_credit = partial_credit
        self._partial_for = partial_for
        self._read = read or (lambda sample: (sample.completion, answers_of(sample.record)))
        self._same_mathematics = same_mathematics

    def grade(self, samples: Sequence[Sample]) -> list[Grade]:
        """Return one grade a sample; see `Grader`."""
        reads = [self._read(sample) for sample in samples]
        programs = [None if text is None else extract_program(text, self._function) for text, _ in reads]
        jobs: list[tuple[str, str, Mapping[str, Any]]] = [
            (program, f"{self._function}()", {}) for program in programs if program is not None
        ]
        outcomes = iter(self._sandbox.run(jobs))
        return [
            self._judged(None if program is None else next(outcomes), answers)
            for program, (_, answers) in zip(programs, reads, strict=True)
        ]

    def _judged(self, outcome: Outcome | None, answers: tuple[str, ...]) -> Grade:
        if outcome is None:
            reason = f"no program that defines {self._function}()"
            return Grade(0.0, False, compared_with=answers, reason=reason, errors=("sample_parse_error",))
        if outcome.kind != "done":
            flag = "program_limit_error" if outcome.kind == "limit" else "program_error"
            return Grade(0.0, False, compared_with=answers, reason=f"the program failed: {outcome.trouble}", errors=(flag,))
        answer = as_answer(outcome.value)
        if answer is None:
            reason = f"{self._function}() returned no answer: {shown_value(outcome.value)}"
            return Grade(0.0, False, compared_with=answers, reason=reason, errors=("sample_parse_error",))
        verdict = judge(answer, final_answers(answers), rules=self._rules, same_mathematics=self._same_mathematics)
        return as_grade(verdict, partial_credit=self._partial_credit, partial_for=self._partial_for)


class AnswerOrProgramGrader:
    """Marks a response that is a program by what the program returns, and any other by its final answer.

    A dataset whose demonstrations are programs (program-aided reasoning, arXiv:2211.10435) is graded by the same name as one of
    worked solutions, wherever a right answer is asked for.
    """

    def __init__(
        self,
        answers: Grader,
        programs: Grader,
        *,
        function: str,
        read: Callable[[Sample], tuple[str | None, tuple[str, ...]]] | None = None,
    ) -> None:
        self._answers = answers
        self._programs = programs
        self._function = function
        self._read = read

    def grade(self, samples: Sequence[Sample]) -> list[Grade]:
        """Return one grade a sample; see `Grader`."""
        is_program = [self._is_program(sample) for sample in samples]
        programs = iter(self._programs.grade([sample for sample, is_one in zip(samples, is_program, strict=True) if is_one]))
        answers = iter(self._answers.grade([sample for sample, is_one in zip(samples, is_program, strict=True) if not is_one]))
        return [next(programs if is_one else answers) for is_one in is_program]

    def _is_program(self, sample: Sample) -> bool:
        text = sample.completion if self._read is None else self._read(sample)[0]
        return text is not None and extract_program(text, self._function) is not None


class PythonGrader:
    """Runs a user's `def grade(sample, item)` in the sandbox; the number it returns is the score."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        name: str,
        source: str,
        on_error: Literal["raise", "zero"],
        pass_threshold: float,
        as_variables: Callable[[Sample], Mapping[str, Any]],
    ) -> None:
        _check_source(source, name)
        self._sandbox = sandbox
        self._name = name
        self._source = source
        self._on_error = on_error
        self._pass_threshold = pass_threshold
        self._as_variables = as_variables

    def grade(self, samples: Sequence[Sample]) -> list[Grade]:
        """Return one grade a sample; see `Grader`."""
        outcomes = self._sandbox.run([(self._source, "grade(sample, item)", self._as_variables(sample)) for sample in samples])
        return [self._graded(sample, outcome) for sample, outcome in zip(samples, outcomes, strict=True)]

    def _graded(self, sample: Sample, outcome: Outcome) -> Grade:
        value, trouble = outcome.value, outcome.trouble
        if outcome.kind == "done" and (not isinstance(value, int | float) or not is_finite(value)):
            trouble = f"grade() returned {shown_value(value)}, which is no finite number"
        if not trouble:
            score = float(value)
            return Grade(score, score >= self._pass_threshold, extracted=sample.completion, reason=f"grade() returned {score:g}")
        if self._on_error == "zero":
            return Grade(0.0, False, extracted=sample.completion, reason=trouble, errors=("python_grader_runtime_error",))
        raise RequestError(
            f"{self._name} broke: {trouble}, for the completion {shortened(sample.completion, 80)!r}. Mend its source, or set "
            'on_error to "zero" if such a completion is to score 0'
        )


def _check_source(source: str, name: str) -> None:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RequestError(f"{name}.source is no Python: {error}") from None
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "grade"]
    if not found or len(found[-1].args.args) != 2:
        raise RequestError(f"{name}.source must define grade(sample, item), with exactly these two arguments")
