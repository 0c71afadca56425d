"""Labels: what annotators said of responses to one prompt, whoever they are: one form for people, simulated people and judges.

A store of labels is a file of JSON lines, one `Label` each. It says what was shown, in which order, by which models it was
made, who chose and when, so that a later reader can tell what a label is worth. docs/feedback.md shows the form.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from math import inf, isclose
from random import Random
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from posttrain.errors import DataError
from posttrain.prompts import plain
from posttrain.records import Preference, Prompt, Question, Ranking, Rating, Record

T = TypeVar("T", bound=Hashable)
Feedback = Preference | Rating | Ranking
Source = Literal["simulated", "dataset", "judge", "person"]


class Label(Record):
    """Which of two responses to one prompt is better, as one annotator sees it.

    Attributes:
        question: id of the question; labels of one question are never split between training and measuring.
        group: what it was labelled in: all pairs of one ranking share it, and stay in one batch.
        first: the response shown first.
        second: the response shown second.
        preference: probability that `first` is better: 1 or 0 where it was chosen, between them where the annotator is a model
            or said "equal" (0.5).
        margin: by how much the better one is better, in the annotator's own unit, where it is known.
        annotator: who; `simulated-3`, a person's name or number, a judge's model.
        source: what kind of annotator that is.
        at: when, ISO 8601 in UTC; empty where it is not known.
        prompt_version: digest of the instructions that the annotator saw; empty without instructions.
        first_model: URI of the model that wrote `first`; empty where it is not known.
        second_model: URI of the model that wrote `second`.
        first_finished: whether `first` ended by itself, rather than at the limit of its length; None where it is not known.
        second_finished: whether `second` did.
        gold: what a noise-free judge says, for audits alone: no training reads it; None where nobody knows.
    """

    kind: Literal["label"] = "label"
    prompt: Prompt
    question: str
    group: str
    first: str
    second: str
    preference: Annotated[float, Field(ge=0.0, le=1.0)]
    margin: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    annotator: str
    source: Source
    at: str = ""
    prompt_version: str = ""
    first_model: str = ""
    second_model: str = ""
    first_finished: bool | None = None
    second_finished: bool | None = None
    gold: Annotated[float, Field(ge=0.0, le=1.0)] | None = None


UNNAMED = "dataset"
"""Annotator of imported feedback that names none: all of it counts as one annotator's."""


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt in an order of their own, whatever the order in which they were shown."""

    prompt: Prompt
    one: str
    other: str


def in_fixed_order(a: str, b: str) -> tuple[str, str]:
    """Return two texts in the order of their digests, which has nothing to do with what they say or how long they are."""
    return (a, b) if _digest(a) <= _digest(b) else (b, a)


def by_pair(labels: Iterable[Label]) -> dict[Pair, list[tuple[Label, float]]]:
    """Return the labels of each pair, each with the probability that it gives to the pair's `one`."""
    pairs: dict[Pair, list[tuple[Label, float]]] = {}
    for label in labels:
        one, other = in_fixed_order(label.first, label.second)
        preference = label.preference if label.first == one else 1 - label.preference
        pairs.setdefault(Pair(label.prompt, one, other), []).append((label, preference))
    return pairs


def is_equal(preference: float) -> bool:
    """Return whether a preference names neither response; 1 - 0.7 and 0.3 are one number here."""
    return isclose(preference, 0.5, abs_tol=1e-9)


def as_preferences(labels: Iterable[Label]) -> list[Preference]:
    """Return one hard preference a pair: the mean of its labels, whatever the order shown; a mean of exactly 0.5 is left out.

    Whether a response ended by itself is what the pair's first label says. `annotator` is kept where one alone labelled the
    pair, `margin` (mean, towards the chosen) where every label has one.
    `len(by_pair(labels))` less what is returned is how many pairs were left out.
    """
    preferences = []
    for pair, given in by_pair(labels).items():
        mean = sum(preference for _, preference in given) / len(given)
        if is_equal(mean):
            continue
        chosen, rejected = (pair.one, pair.other) if mean > 0.5 else (pair.other, pair.one)
        first, annotators = given[0][0], {label.annotator for label, _ in given}
        ended = {first.first: first.first_finished, first.second: first.second_finished}
        preferences.append(
            Preference(
                id=first.id,
                family=first.family,
                prompt=pair.prompt,
                chosen=chosen,
                rejected=rejected,
                annotator=annotators.pop() if len(annotators) == 1 else None,
                margin=_margin(given, towards=chosen),
                chosen_finished=ended[chosen],
                rejected_finished=ended[rejected],
            )
        )
    return preferences


def _margin(given: Sequence[tuple[Label, float]], *, towards: str) -> float | None:
    total = 0.0
    for label, _ in given:
        if label.margin is None:
            return None
        better = label.first if label.preference > 0.5 else label.second
        total += label.margin if better == towards else -label.margin
    return total / len(given) if total > 0 else None


# --- which pairs, and which questions -----------------------------------------------------------------------------------


def drawn_evenly(pairs: Iterable[tuple[T, T]], *, most: int, random: Random) -> list[tuple[T, T]]:
    """Return up to `most` of the pairs, drawn at random, each of their members used as evenly as possible."""
    waiting = list(pairs)
    random.shuffle(waiting)
    used: dict[T, int] = {}
    chosen: list[tuple[T, T]] = []
    while waiting and len(chosen) < most:
        waiting.sort(key=lambda pair: used.get(pair[0], 0) + used.get(pair[1], 0))
        pair = waiting.pop(0)
        chosen.append(pair)
        for member in pair:
            used[member] = used.get(member, 0) + 1
    return chosen


def split_questions(questions: Iterable[str], *, share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return the ids of the questions to learn from and those to measure on, each once, in the order given.

    The order in which a hash of seed and id puts them decides, so it depends neither on the order of the labels nor on the
    machine. Neither side is empty where there are two questions.

    Args:
        questions: ids; repeats are allowed (one a label).
        share: of the questions to learn from, in (0, 1).
        seed: another one splits otherwise.
    """
    ids = list(dict.fromkeys(questions))
    ranked = sorted(ids, key=lambda name: (_digest(f"{seed}/{name}"), name))
    count = min(max(1, round(share * len(ids))), max(1, len(ids) - 1))
    learnt = set(ranked[:count])
    return [name for name in ids if name in learnt], [name for name in ids if name not in learnt]


def sampled_questions(questions: Iterable[str], *, share: float, seed: int) -> list[str]:
    """Return the ids of the training questions that responses are sampled and labelled for; PPO asks the others.

    It depends on nothing but ids, share and seed, so that every method has one and the same split.

    Args:
        questions: ids of all training questions.
        share: of them; 0 is none and 1 is all.
        seed: another one splits otherwise.
    """
    ids = list(dict.fromkeys(questions))
    if share in (0, 1):
        return ids if share else []
    return split_questions(ids, share=share, seed=seed)[0]


# --- feedback of other forms ----------------------------------------------------------------------------------------------


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
        names.setdefault(record.prompt, asked.get(record.prompt) or f"prompt-{_digest(plain(record.prompt)).hex()}")
    return names


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


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
