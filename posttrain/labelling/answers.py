"""What people answered: events, and the labels that they make."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import isfinite
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from posttrain.errors import RequestError
from posttrain.feedback.conversions import labels_of_ratings
from posttrain.feedback.labels import Label
from posttrain.labelling.items import STARS, Item
from posttrain.records import Prompt, Rating

Choice = float | int | tuple[int, ...]
"""Of a pair: 1, 0 or 0.5, that the first shown is better; of a ranking: a rank of each response as shown; of a rating: 1 to 5."""


class Event(BaseModel):
    """One line of a batch's log.

    Attributes:
        id: unique in its batch.
        at: when, ISO 8601 in UTC, by the clock of the machine; the order of lines decides, never this.
        person: name.
        kind: `lease`: the item was shown to the person; `answer`; `skip`; `undo`: an answer or skip of his own is taken back.
        item: id.
        turn: id of the showing.
        order: numbers of the item's responses as shown (lease, answer).
        choice: the answer.
        seconds: from showing to answering.
        undoes: id of the event that an undo takes back.
        until: when the lease ends, ISO 8601 in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    at: str
    person: str
    kind: Literal["lease", "answer", "skip", "undo"]
    item: str
    turn: str
    order: tuple[int, ...] = ()
    choice: Choice | None = None
    seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    undoes: str = ""
    until: str = ""


def checked_choice(item: Item, choice: object) -> Choice:
    """Return an answer in the form that the log keeps.

    Raises:
        RequestError: it is no answer to this kind of item.
    """
    count = len(item.responses)
    if item.kind == "pair" and isinstance(choice, int | float) and _is_number(choice) and choice in (0, 0.5, 1):
        return float(choice)
    if item.kind == "rating" and isinstance(choice, int) and _is_number(choice) and 1 <= choice <= STARS:
        return choice
    if item.kind == "ranking" and isinstance(choice, list | tuple) and _are_ranks(choice, count):
        return tuple(choice)
    rule = {
        "pair": "1 (the first shown is better), 0 (the second is) or 0.5 (equally good)",
        "ranking": f"{count} ranks from 1, the best, to {count}, equal ones for ties",
        "rating": f"a whole number from 1, the worst, to {STARS}",
    }
    raise RequestError(f"an answer to a {item.kind} must be {rule[item.kind]}, got {choice!r}. Choose again")


def _are_ranks(choice: Sequence[object], count: int) -> bool:
    return len(choice) == count and all(isinstance(rank, int) and _is_number(rank) and 1 <= rank <= count for rank in choice)


def checked_seconds(seconds: float) -> float:
    """Return how long an answer took.

    Raises:
        RequestError: it is no time.
    """
    if not _is_number(seconds) or not isfinite(seconds) or seconds < 0:
        raise RequestError(f"seconds must be a finite number of at least 0, got {seconds!r}. Load the page again")
    return round(float(seconds), 3)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def scores(event: Event) -> tuple[float, ...]:
    """Return how good an answer finds each of its item's responses, in the item's own order; only their order means something."""
    match event.choice:
        case tuple() as ranks:
            shown: tuple[float, ...] = tuple(-float(rank) for rank in ranks)
        case number if len(event.order) == 2:
            shown = (float(number or 0), 1 - float(number or 0))
        case number:
            shown = (float(number or 0),)
    return tuple(shown[event.order.index(place)] for place in range(len(shown)))


# --- labels -------------------------------------------------------------------------------------------------------------


def labels_of(items: Iterable[Item], events: Iterable[Event], *, prompt_version: str) -> list[Label]:
    """Return the labels that the answers of a batch make, comparisons first, in the order in which they were given.

    A pair gives one label. A ranking of K gives all K (K - 1) / 2 pairs in one group, ties as 0.5
    (`posttrain.feedback.conversions.labels_of_ranking`). Ratings of one question by one person give pairs as imported ones do
    (`labels_of_ratings`). What was taken back gives none. The ids are made of the events', so equal events give equal ids.

    Args:
        items: of the batch.
        events: of its log, in the order of the log.
        prompt_version: digest of the instructions that people saw.
    """
    asked = {item.id: item for item in items}
    events = list(events)
    undone = {event.undoes for event in events if event.kind == "undo"}
    given: dict[tuple[str, str], Event] = {}
    for event in events:
        if event.kind == "answer" and event.id not in undone:
            given.setdefault((event.person, event.item), event)
    labels: list[Label] = []
    ratings: dict[tuple[str, str, Prompt], list[Event]] = {}
    for event in given.values():
        item = asked[event.item]
        if item.kind == "rating":
            ratings.setdefault((event.person, item.question, item.prompt), []).append(event)
        else:
            labels += _of_comparison(item, event, prompt_version)
    for rated in ratings.values():
        labels += _of_ratings(asked, rated, prompt_version)
    return labels


def _of_comparison(item: Item, event: Event, prompt_version: str) -> list[Label]:
    score = scores(event)
    pairs = list(combinations(event.order, 2))
    is_pair = item.kind == "pair"
    labels = []
    for number, (first, second) in enumerate(pairs):
        gold = item.gold if is_pair else None
        labels.append(
            Label(
                id=f"people/{event.id}" if is_pair else f"people/{event.id}/{number}",
                family=item.family,
                prompt=item.prompt,
                question=item.question,
                group=item.question if is_pair else f"people/{event.id}",
                first=item.responses[first].text,
                second=item.responses[second].text,
                preference=0.5 if score[first] == score[second] else float(score[first] > score[second]),
                annotator=event.person,
                source="person",
                at=event.at,
                prompt_version=prompt_version,
                first_model=item.responses[first].model,
                second_model=item.responses[second].model,
                first_finished=item.responses[first].finished,
                second_finished=item.responses[second].finished,
                gold=gold if gold is None or first == 0 else 1 - gold,
                seconds=None if event.seconds is None else event.seconds / len(pairs),
                selection=item.selection,
            )
        )
    return labels


def _of_ratings(asked: Mapping[str, Item], rated: Sequence[Event], prompt_version: str) -> list[Label]:
    """Return the pairs that one person's ratings of one question make."""
    opening = asked[rated[0].item]
    of_text: dict[str, list[Event]] = {}
    records = []
    for event in rated:
        text = asked[event.item].responses[0].text
        of_text.setdefault(text, []).append(event)
        stars = event.choice if isinstance(event.choice, int | float) else 0
        records.append(
            Rating(id=event.id, prompt=opening.prompt, completion=text, score=stars, low=1, high=STARS, annotator=event.person)
        )
    labels, _ = labels_of_ratings(records, questions={opening.prompt: opening.question})
    made = []
    for label in labels:
        sides = [of_text[label.first], of_text[label.second]]
        first, second = (asked[side[0].item].responses[0] for side in sides)
        events = sorted((event for side in sides for event in side), key=rated.index)
        times = [event.seconds for event in events if event.seconds is not None]
        made.append(
            label.model_copy(
                update={
                    "id": f"people/{'/'.join(sorted(side[0].id for side in sides))}",
                    "group": f"people/{rated[0].id}",
                    "family": opening.family,
                    "source": "person",
                    "at": events[-1].at,
                    "prompt_version": prompt_version,
                    "first_model": first.model,
                    "second_model": second.model,
                    "first_finished": first.finished,
                    "second_finished": second.finished,
                    "seconds": sum(times) / (len(of_text) - 1) if times else None,
                    "selection": asked[events[0].item].selection,
                }
            )
        )
    return made
