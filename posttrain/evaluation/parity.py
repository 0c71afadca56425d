"""Does a model that was exported answer as the one that was evaluated? The same questions, asked in the same way, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.statistics.figures import mean
from posttrain.statistics.intervals import Interval, paired_gain, wilson

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Parity:
    """How alike two evaluations of one model are.

    Attributes:
        questions: asked of both.
        same_greedy: greedy answers that are equal to the letter, a share of the questions.
        same_sampled: samples that are; None where there are none.
        accuracy: the exported share right minus the evaluated, greedy, paired; None where no question has an answer.
        accuracy_sampled: the same of samples.
    """

    questions: int
    same_greedy: Interval
    same_sampled: float | None = None
    accuracy: Interval | None = None
    accuracy_sampled: Interval | None = None

    @property
    def is_exact(self) -> bool:
        """Whether every response is the same to the letter."""
        return self.same_greedy.estimate == 1 and self.same_sampled in (None, 1.0)

    @property
    def is_different(self) -> bool:
        """Whether an interval of the difference in accuracy leaves out 0."""
        return any(one is not None and not one.low <= 0 <= one.high for one in (self.accuracy, self.accuracy_sampled))

    def says(self) -> str:
        """Return the result as a sentence."""
        if self.is_exact:
            found = f"it answers all {self.questions:,} held-out questions to the letter as the evaluated model did"
        else:
            low, high = (100 * bound for bound in (self.same_greedy.low, self.same_greedy.high))
            found = (
                f"{100 * self.same_greedy.estimate:.1f} % [{low:.1f}, {high:.1f}] of its answers to {self.questions:,} held-out "
                "questions are those of the evaluated model to the letter"
            )
        if self.accuracy is None:
            return found if self.is_exact else f"{found}; none of the questions has an answer, so nobody can tell which are right"
        told = f"{found}; accuracy {_points(self.accuracy)}"
        if self.accuracy_sampled is not None:
            told += f", sampled {_points(self.accuracy_sampled)}"
        return f"{told}: it is another model than the one that was evaluated" if self.is_different else told

    def as_record(self) -> dict[str, Any]:
        """Return every figure, for JSON."""
        bounded = {name: getattr(self, name) for name in ("same_greedy", "accuracy", "accuracy_sampled")}
        return {
            "questions": self.questions,
            "same_sampled": self.same_sampled,
            "is_exact": self.is_exact,
            "is_different": self.is_different,
            **{name: one.as_dict() if one else None for name, one in bounded.items()},
        }


def parity(exported: Rows, evaluated: Rows) -> Parity:
    """Compare two evaluations, question by question.

    Args:
        exported: rows of the exported model's `problems.jsonl`.
        evaluated: those of the model as it was evaluated; of each question in `exported` one, in the same order, with the same
            samples by number.

    Raises:
        ValueError: there are fewer than two questions, or the questions are not the same.
    """
    if [row["id"] for row in exported] != [row["id"] for row in evaluated]:
        raise ValueError("both models must have been asked the same questions in the same order")
    pairs = list(zip(exported, evaluated, strict=True))
    same = [ours["greedy"]["text"] == theirs["greedy"]["text"] for ours, theirs in pairs]
    sampled = [
        float(one["text"] == other["text"])
        for ours, theirs in pairs
        for one, other in zip(ours["sampled"], theirs["sampled"], strict=False)
    ]
    checkable = [(ours, theirs) for ours, theirs in pairs if theirs["answers"]]
    has_samples = all(row["sampled"] for pair in checkable for row in pair)
    return Parity(
        questions=len(pairs),
        same_greedy=wilson(sum(same), len(same)),
        same_sampled=mean(sampled) if sampled else None,
        accuracy=_gain(checkable, _greedy) if len(checkable) > 1 else None,
        accuracy_sampled=_gain(checkable, _sampled) if len(checkable) > 1 and has_samples else None,
    )


def _gain(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], pick: Any) -> Interval:
    return paired_gain([pick(ours) for ours, _ in pairs], [pick(theirs) for _, theirs in pairs])


def _greedy(row: Mapping[str, Any]) -> float:
    return float(row["greedy"]["is_right"])


def _sampled(row: Mapping[str, Any]) -> float:
    return mean([float(one["is_right"]) for one in row["sampled"]])


def _points(gain: Interval) -> str:
    return f"{100 * gain.estimate:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
