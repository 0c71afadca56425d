"""Which rows of new prompts can be scored: those with an answer that a program checks, and that the dataset does not have."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from posttrain.data.near_duplicates import normalised
from posttrain.data.roles import in_roles
from posttrain.digests import text_number
from posttrain.drift.check import text_of
from posttrain.records import Question, Record, Text


@dataclass
class Labels:
    """What rows bring beside their prompts, counted while they stream.

    Attributes:
        answered: rows with an answer that a program can check.
        completed: rows with a completion, a pair or a rating instead, which no program can check.
        known: rows with an answer whose prompt stands in the dataset.
    """

    answered: int = 0
    completed: int = 0
    known: int = 0

    def watched(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records as they are, and count what they bring."""
        for record in records:
            if question_of(record):
                self.answered += 1
            elif not isinstance(record, Question | Text):
                self.completed += 1
            yield record

    @property
    def missing(self) -> str:
        """Why no row can be scored; "" where one can."""
        if self.answered:
            return ""
        if self.completed:
            return (
                f"the file has {self.completed:,} rows with completions, pairs or ratings, but no answer that a program can check"
            )
        return "the file has no answers"


def question_of(record: Record) -> Question | None:
    """Return the question that a record asks, with its answers; None where it has no answer that a program can check."""
    made = (each for _, each in in_roles(record, is_held_out=False, is_asked=True, has_demonstrations=True))
    return next((each for each in made if isinstance(each, Question) and each.answers), None)


def fresh_questions(records: Iterable[Record], known: Collection[int], labels: Labels) -> Iterator[Question]:
    """Yield the questions with answers whose prompts the dataset does not have; those that it has are counted in `labels`.

    A model may know a prompt of training by heart, and a held-out one is no second sample.

    Args:
        records: of the file.
        known: numbers of the dataset's prompts, as `Sample.numbers` has them.
        labels: counts in `known`.
    """
    for record in records:
        question = question_of(record)
        if question is None:
            continue
        if text_number(normalised(text_of(question))) in known:
            labels.known += 1
        else:
            yield question
