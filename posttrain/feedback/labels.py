"""Labels: what annotators said of responses to one prompt, whoever they are: one form for people, simulated people and judges.

A store of labels is a file of JSON lines, one `Label` each. It says what was shown, in which order, by which models it was
made, who chose and when, so that a later reader can tell what a label is worth. docs/feedback.md shows the form.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import isclose
from random import Random
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from posttrain.digests import text_digest
from posttrain.records import Preference, Prompt, Row

T = TypeVar("T", bound=Hashable)
Source = Literal["simulated", "dataset", "judge", "person"]


class Label(Row):
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
        seconds: that the annotator took; those of a ranking are shared out among its labels, so that they add up; None where
            it is not known.
        selection: how the pair was chosen: `random`, `uncertain`, …; empty where it is not known.
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
    seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    selection: str = ""


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt in an order of their own, whatever the order in which they were shown."""

    prompt: Prompt
    one: str
    other: str


def in_fixed_order(a: str, b: str) -> tuple[str, str]:
    """Return two texts in the order of their digests, which has nothing to do with what they say or how long they are."""
    return (a, b) if text_digest(a) <= text_digest(b) else (b, a)


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


@dataclass(frozen=True)
class Verdict:
    """A response to a prompt, whether it is desirable, and whether it ended by itself as far as is known."""

    prompt: Prompt
    response: str
    is_desirable: bool
    finished: bool


def as_verdicts(labels: Iterable[Label]) -> list[Verdict]:
    """Return responses, each once a prompt: desirable with more wins than losses, undesirable with fewer, left out with as many.

    A pair is one win and one loss, by the mean of its labels. So a prompt with a desirable response has an undesirable one.
    """
    lead: dict[tuple[Prompt, str], int] = {}
    finished: dict[tuple[Prompt, str], bool] = {}
    for pair in as_preferences(labels):
        for text, step, ended in ((pair.chosen, 1, pair.chosen_finished), (pair.rejected, -1, pair.rejected_finished)):
            lead[pair.prompt, text] = lead.get((pair.prompt, text), 0) + step
            finished.setdefault((pair.prompt, text), ended is not False)
    return [Verdict(*which, is_desirable=wins > 0, finished=finished[which]) for which, wins in lead.items() if wins]


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
    ranked = _ranked(ids, seed)
    count = min(max(1, round(share * len(ids))), max(1, len(ids) - 1))
    learnt = set(ranked[:count])
    return [name for name in ids if name in learnt], [name for name in ids if name not in learnt]


def first_questions(questions: Iterable[str], *, most: int, seed: int) -> list[str]:
    """Return the ids of as many questions as `most`, in the order given; those of a smaller number are among those of a larger.

    Args:
        questions: ids; repeats are allowed.
        most: how many; 0: all.
        seed: another one draws others.
    """
    ids = list(dict.fromkeys(questions))
    drawn = set(_ranked(ids, seed)[: most or None])
    return [name for name in ids if name in drawn]


def _ranked(ids: Iterable[str], seed: int) -> list[str]:
    return sorted(ids, key=lambda name: (text_digest(f"{seed}/{name}"), name))


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
