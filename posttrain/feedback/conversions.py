"""Feedback of other forms as labels: imported preferences, rankings and ratings."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import inf, isclose

from posttrain.digests import text_digest
from posttrain.errors import DataError
from posttrain.feedback.labels import Label, in_fixed_order
from posttrain.prompts import plain
from posttrain.records import Preference, Prompt, Question, Ranking, Rating

Feedback = Preference | Rating | Ranking
UNNAMED = "dataset"
"""Annotator of imported feedback that names none: all of it counts as one annotator's."""


def question_names(feedback: Iterable[Feedback], known: Iterable[Question]) -> dict[Prompt, str]:
    """Return under which question each prompt's labels go: the known question that asks it, else its family, else a digest.

    Args:
        feedback: records whose prompts need a name.
        known: the dataset's questions.
    """
    asked: dict[Prompt, str] = {}
    for question in known:
        asked.setdefault(question.prompt, question.id)
    names: dict[Prompt, str] = {}
    for record in feedback:
        if record.prompt not in asked and record.family is not None:
            names.setdefault(record.prompt, record.family)
    for record in feedback:
        names.setdefault(record.prompt, asked.get(record.prompt) or f"prompt-{text_digest(plain(record.prompt)).hex()}")
    return names


def labels_on(labels: Iterable[Label], questions: Iterable[Question]) -> list[Label]:
    """Return the labels whose prompt one of the questions asks, under that question's id and family; the others are left out.

    A dataset that was imported again may have other questions, or the same ones under other ids: the prompt decides. Where
    several questions ask it, the one that the label names is taken, else the first.

    Args:
        labels: of people, each of a question that the dataset has, or had.
        questions: that it has now.
    """
    asking: dict[Prompt, dict[str, Question]] = {}
    for question in questions:
        asking.setdefault(question.prompt, {})[question.id] = question
    found = []
    for label in labels:
        if known := asking.get(label.prompt):
            question = known.get(label.question) or next(iter(known.values()))
            found.append(label.model_copy(update={"question": question.id, "family": question.family}))
    return found


def label_of_preference(record: Preference, *, questions: Mapping[Prompt, str]) -> Label:
    """Return an imported preference as a label. In which order it was shown is not known: it stands in that of the digests."""
    first, second = in_fixed_order(record.chosen, record.rejected)
    question = questions[record.prompt]
    return Label(
        id=f"preferences/{record.id}",
        family=record.family,
        prompt=record.prompt,
        question=question,
        group=question,
        first=first,
        second=second,
        preference=1.0 if first == record.chosen else 0.0,
        margin=record.margin,
        annotator=record.annotator or UNNAMED,
        first_finished=record.chosen_finished if first == record.chosen else record.rejected_finished,
        second_finished=record.rejected_finished if first == record.chosen else record.chosen_finished,
        source="dataset",
    )


def labels_of_ranking(record: Ranking, *, questions: Mapping[Prompt, str]) -> list[Label]:
    """Return all K (K - 1) / 2 pairs of a ranking, in one group (arXiv:2203.02155, section 3.5); equal ranks give 0.5.

    A completion that stands in it twice with one rank counts once.

    Raises:
        DataError: one completion has two ranks, or fewer than two completions differ.
    """
    ranks: dict[str, int] = {}
    for text, rank in zip(record.completions, record.ranks, strict=True):
        if ranks.setdefault(text, rank) != rank:
            raise DataError(
                f"ranking {record.id} gives one completion the ranks {ranks[text]} and {rank}. "
                "Give equal texts one rank, or drop the line"
            )
    if len(ranks) < 2:
        raise DataError(f"ranking {record.id} must rank two different completions at least, got {len(ranks)}. Drop the line")
    labels = []
    for number, (a, b) in enumerate(combinations(ranks, 2)):
        first, second = in_fixed_order(a, b)
        labels.append(
            Label(
                id=f"rankings/{record.id}/{number}",
                family=record.family,
                prompt=record.prompt,
                question=questions[record.prompt],
                group=f"rankings/{record.id}",
                first=first,
                second=second,
                preference=_preferred(-ranks[first], -ranks[second]),
                annotator=record.annotator or UNNAMED,
                source="dataset",
            )
        )
    return labels


def labels_of_ratings(records: Iterable[Rating], *, questions: Mapping[Prompt, str]) -> tuple[list[Label], list[Rating]]:
    """Return the pairs that ratings make, and the ratings that have no partner.

    Two ratings are partners where one annotator gave them to different completions of one prompt; they share a group. Scores
    are brought to 0…1 by their own scales, (score - low) / (high - low); the margin is their difference, and equal scores give
    0.5. Where a completion was rated more than once by one annotator its mean counts.

    Raises:
        DataError: a scale has no width.
    """
    rated: dict[tuple[Prompt, str], dict[str, list[Rating]]] = {}
    for record in records:
        given = rated.setdefault((record.prompt, record.annotator or UNNAMED), {})
        given.setdefault(record.completion, []).append(record)
    labels: list[Label] = []
    alone: list[Rating] = []
    for (prompt, annotator), given in rated.items():
        opening = next(iter(given.values()))
        if len(given) == 1:
            alone += opening
        scores = {text: sum(map(_rescaled, ratings)) / len(ratings) for text, ratings in given.items()}
        for number, (a, b) in enumerate(combinations(given, 2)):
            first, second = in_fixed_order(a, b)
            labels.append(
                Label(
                    id=f"ratings/{opening[0].id}/{number}",
                    family=opening[0].family,
                    prompt=prompt,
                    question=questions[prompt],
                    group=f"ratings/{opening[0].id}",
                    first=first,
                    second=second,
                    preference=_preferred(scores[first], scores[second]),
                    margin=abs(scores[first] - scores[second]),
                    annotator=annotator,
                    source="dataset",
                )
            )
    return labels, alone


def _preferred(first: float, second: float) -> float:
    """Return 1 where the first number is larger, 0 where the second is, 0.5 where they are equal but for rounding."""
    return 0.5 if isclose(first, second, rel_tol=1e-9, abs_tol=1e-12) else float(first > second)


def _rescaled(rating: Rating) -> float:
    width = rating.high - rating.low
    if not 0 < width < inf:
        raise DataError(
            f"rating {rating.id}: high must be greater than low, got {rating.low:g} to {rating.high:g}. Correct or drop the line"
        )
    return (rating.score - rating.low) / width
