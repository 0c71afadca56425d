"""What people are asked: items of a batch, and how a batch is drawn from candidates that something else chose."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from posttrain.digests import text_digest
from posttrain.records import Prompt, Row

Kind = Literal["pair", "ranking", "rating"]
STARS = 5
"""Ratings go from 1, the worst, to this."""
APART = 8
"""Other items that lie between an item and its repetition, where a batch has as many."""


class Response(BaseModel):
    """A response that people are shown.

    Attributes:
        text: what it says.
        model: URI of the model that wrote it; empty where it is not known. People are never shown it.
        finished: whether it ended by itself, rather than at the limit of its length; None where it is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    text: str
    model: str = ""
    finished: bool | None = None


class Item(Row):
    """One thing that is asked: which of two is better, in which order several stand, or how good one is.

    Attributes:
        id: unique in its batch; says nothing of what the item is.
        kind: what is asked.
        question: id of the question that the responses answer.
        prompt: the question itself.
        responses: two in a pair, two or more in a ranking, one in a rating; no two have one text.
        selection: how it was chosen: `random`, `uncertain` and so on.
        repeats: id of the item that it repeats for the same person, "" for none: a check of how steady people are.
        known: numbers of its responses, best first, where the right order is known: a check of the annotator. None elsewhere.
        gold: probability that the first response of a pair is better, as a noise-free judge says; for audits alone.
    """

    kind: Kind
    question: str
    prompt: Prompt
    responses: tuple[Response, ...]
    selection: str
    repeats: str = ""
    known: tuple[int, ...] | None = None
    gold: Annotated[float, Field(ge=0.0, le=1.0)] | None = None

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        wanted = {"pair": "two responses", "ranking": "two responses or more", "rating": "one response"}[self.kind]
        count = len(self.responses)
        if not {"pair": count == 2, "ranking": count >= 2, "rating": count == 1}[self.kind]:
            raise ValueError(f"a {self.kind} needs {wanted}, got {count}")
        if len({response.text for response in self.responses}) < count:
            raise ValueError(f"responses of a {self.kind} must be different texts")
        if self.known is not None and (self.kind == "rating" or sorted(self.known) != list(range(count))):
            raise ValueError(f"known must name each response of a pair or a ranking once, best first, got {list(self.known)}")
        return self


@dataclass(frozen=True)
class Candidate:
    """What may become an item: a question, and responses to it.

    Attributes:
        question: its id.
        prompt: the question itself.
        responses: to compare, or each to rate.
        selection: how it was chosen.
        family: of the question.
        known: numbers of the responses, best first, where the right order is known; None elsewhere.
        gold: probability that the first response is better, as a noise-free judge says.
    """

    question: str
    prompt: Prompt
    responses: tuple[Response, ...]
    selection: str
    family: str | None = None
    known: tuple[int, ...] | None = None
    gold: float | None = None


@dataclass(frozen=True)
class Shown:
    """An item as one person is shown it, once.

    Attributes:
        item: what is asked.
        order: numbers of the item's responses, in the order in which they are shown.
        turn: id of this showing; random, and never used again.
    """

    item: Item
    order: tuple[int, ...]
    turn: str

    @property
    def responses(self) -> tuple[Response, ...]:
        """The item's responses in the order in which they are shown."""
        return tuple(self.item.responses[number] for number in self.order)


def draw_items(
    candidates: Sequence[Candidate],
    *,
    kind: Kind,
    size: int,
    repeated: float = 0.0,
    checks: Sequence[Candidate] = (),
    known: float = 0.0,
    seed: int,
) -> list[Item]:
    """Return the items of a batch: candidates as they come, with repetitions and checks of known order among them.

    Candidates keep their order. Where checks and repetitions stand among them is chance, but that a repetition stands `APART`
    items after what it repeats, or at the end. A candidate of a rating gives an item for each of its responses, and there are no
    checks of ratings. With too few candidates or checks the batch is smaller.

    Args:
        candidates: in the order in which they were chosen, the first ones are taken.
        kind: what is asked.
        size: items of the batch, repetitions and checks included. At least 1.
        repeated: share of the batch that repeats another item for the same person, at least 0.
        checks: candidates whose right order is known, from which checks are drawn.
        known: share of the batch that are checks, at least 0; with `repeated` at most 0.5.
        seed: of what is chance here; equal arguments give equal items.

    Raises:
        ValueError: a number is out of its range, there is no candidate, or a check has no known order.
    """
    _check_shares(candidates, size=size, repeated=repeated, checks=checks, known=known)
    random = Random(f"{seed}/items")
    repeats, tests = round(repeated * size), 0 if kind == "rating" else round(known * size)
    asked = [item for number, one in enumerate(candidates) for item in _items_of(one, kind, f"{seed}/asked/{number}")]
    items = asked[: max(1, size - repeats - tests)]
    again = random.sample(items, min(repeats, len(items)))
    # checks and repetitions go among the rest by chance, so that nobody can tell which they are
    for number in random.sample(range(len(checks)), min(tests, len(checks))):
        for item in _items_of(checks[number], kind, f"{seed}/check/{number}"):
            items.insert(random.randint(0, len(items)), item)
    for item in again:
        place = next(place for place, other in enumerate(items) if other.id == item.id)
        copy = item.model_copy(update={"id": _id_of(f"{seed}/again/{item.id}"), "repeats": item.id})
        items.insert(random.randint(min(place + APART + 1, len(items)), len(items)), copy)
    return items


def _items_of(candidate: Candidate, kind: Kind, name: str) -> list[Item]:
    parts = [(response,) for response in candidate.responses] if kind == "rating" else [candidate.responses]
    return [
        Item(
            id=_id_of(f"{name}/{number}"),
            kind=kind,
            question=candidate.question,
            family=candidate.family,
            prompt=candidate.prompt,
            responses=responses,
            selection=candidate.selection,
            known=None if kind == "rating" else candidate.known,
            gold=candidate.gold if kind == "pair" else None,
        )
        for number, responses in enumerate(parts)
    ]


def _id_of(name: str) -> str:
    return text_digest(name).hex()


def _check_shares(
    candidates: Sequence[Candidate], *, size: int, repeated: float, checks: Sequence[Candidate], known: float
) -> None:
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if not (repeated >= 0 and known >= 0 and repeated + known <= 0.5):
        raise ValueError(f"repeated and known must be at least 0 and together at most 0.5, got {repeated:g} and {known:g}")
    if not candidates:
        raise ValueError("candidates must hold at least one, got none")
    if any(check.known is None for check in checks):
        raise ValueError("checks must have a known order, and one has none")
