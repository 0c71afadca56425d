"""What every grader takes and gives: samples in, grades out, one grade a sample in the same order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from posttrain.errors import DataError, did_you_mean

SHOWN = 200
"""Characters of a text in a row of the audit table."""
ANSWER_FIELDS = ("answers", "answer", "reference_answer")
"""Fields of a record that hold what is right, the first one present counts."""

Flag = Literal[
    "sample_parse_error",
    "truncated_observation_error",
    "python_grader_runtime_error",
    "model_grader_parse_error",
    "program_error",
    "program_limit_error",
    "limit_error",
]
FLAGS: tuple[str, ...] = get_args(Flag)
"""What kept a grader from seeing or judging a completion as usual. The first four are OpenAI's names."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion, and the fields of the question it answers (prompt, answers and whatever else was imported)."""

    completion: str
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Grade:
    """What was decided about one completion, and on what ground.

    Attributes:
        score: the reward; 0 to 1 unless a model's range or a formula says otherwise.
        is_right: the completion counts as right in an evaluation.
        is_partial: not right, but paid by the partial-credit policy.
        parts: named scores that `score` was made of; empty where there is only one.
        extracted: what was taken from the completion; None where nothing was found.
        compared_with: what it was compared with.
        reason: why, in a few words.
        errors: names of `FLAGS`.
    """

    score: float
    is_right: bool
    is_partial: bool = False
    parts: Mapping[str, float] = field(default_factory=dict)
    extracted: str | None = None
    compared_with: tuple[str, ...] = ()
    reason: str = ""
    errors: tuple[str, ...] = ()

    def as_row(self) -> dict[str, Any]:
        """Return the grade as a row of an audit table: plain JSON, long texts shortened."""
        return {
            "score": self.score,
            "is_right": self.is_right,
            "is_partial": self.is_partial,
            "extracted": None if self.extracted is None else shortened(self.extracted),
            "compared_with": [shortened(text) for text in self.compared_with],
            "reason": self.reason,
            "parts": dict(self.parts),
            "errors": list(self.errors),
        }


class Grader(Protocol):
    """Anything that grades. It keeps no memory of a sample: equal samples get equal grades, in any order and batch."""

    def grade(self, samples: Sequence[Sample]) -> list[Grade]:
        """Return one grade a sample, in order.

        Raises:
            RequestError: the grader itself is wrong (a template's field, a formula, a function that raises).
            DataError: a record lacks what the grader needs.
        """
        ...


def shortened(text: str, limit: int = SHOWN) -> str:
    """Return `text`, or its beginning and "…" where it is longer than `limit`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """Return how a message about an unknown name goes on: "; did you mean X? fields are X, Y"."""
    names = list(known)
    hint = did_you_mean(name, names)
    return f"{hint}{'' if hint else ';'} {what} are {', '.join(names) or 'none'}"


def as_text(value: Any) -> str:
    """Return an answer as text: 51.0 as "51", as the importers write it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def answers_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the answers that count as right.

    Raises:
        DataError: there are none; then nothing can be right or wrong.
    """
    for name in ANSWER_FIELDS:
        value = record.get(name)
        if value is None:
            continue
        answers = tuple([as_text(one) for one in value]) if isinstance(value, list | tuple) else (as_text(value),)
        if answers:
            return answers
    name = f"record {record['id']!r}" if "id" in record else "a record"
    raise DataError(
        f"{name} has no answer to grade against: it needs one of {', '.join(ANSWER_FIELDS)} (its fields: "
        f"{', '.join(map(str, record)) or 'none'}). Add the answer, or use a grader that needs none"
    )
