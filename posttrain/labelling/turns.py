"""Who is shown what next: a pure choice from what stands in a batch."""

from collections.abc import Collection, Mapping

from posttrain.labelling.items import APART, Item
from posttrain.labelling.standing import Standing


def has_room(standing: Standing, item: str, person: str, *, ends: Mapping[str, float], now: float) -> bool:
    """Return whether a person may still answer an item: fewer than `per_item` others did, or have it before them.

    A repetition has room for those alone who answered what it repeats.

    Args:
        standing: of the batch.
        item: its id.
        person: who asks.
        ends: of each lease, by turn, in seconds of the clock that `now` is of; one without an end is over.
        now: the time.
    """
    repeated = standing.items[item].repeats
    if repeated and person not in standing.answers[repeated]:
        return False
    answered, held = standing.answers[item], standing.held[item]
    others = len(answered) - (person in answered)
    if held and others < standing.per_item:
        others += sum(other != person and ends.get(turn, now) > now for other, turn in held.items())
    return others < standing.per_item


def going_on(standing: Standing, person: str, *, ends: Mapping[str, float], now: float) -> tuple[str | None, list[str]]:
    """Return the newest showing that a person may go on with, None for none, and those newer ones that are over for him."""
    over: list[str] = []
    acts = standing.acts(person)
    for turn in reversed(acts.turns):
        item = standing.turns[turn].item
        is_his = item not in acts.seen and standing.held[item].get(person) == turn
        if is_his and has_room(standing, item, person, ends=ends, now=now):
            return turn, over
        over.append(turn)
    return None, over


def next_item(standing: Standing, person: str, *, ends: Mapping[str, float], now: float) -> Item | None:
    """Return the item that a person is shown next, None where nothing is left for him now.

    It is the first in the batch's order that he has not seen and that has room. A repetition of what he answered comes at its
    own place in that order, but never before `APART` other items, unless nothing else is left. Ratings make labels where one
    person rates several responses to a question; so one whom others have begun to rate comes last.
    """
    plain = _next_plain(standing, person, ends=ends, now=now)
    acts = standing.acts(person)
    for name in repetitions(standing, person):
        repeated = standing.items[name].repeats
        if plain is None:
            return standing.items[name]
        if len(acts.done) - acts.seen[repeated] > APART and standing.places[name] < plain:
            return standing.items[name]
    return None if plain is None else standing.items[standing.order[plain]]


def repetitions(standing: Standing, person: str) -> list[str]:
    """Return the ids of the items that repeat what a person answered and that he has not seen, the oldest answer first."""
    acts = standing.acts(person)
    return [name for name in acts.again if name not in acts.seen]


def left_for(standing: Standing, person: str) -> int:
    """Return how many items a person could still be shown, if all that others have before them came back."""
    items, seen = standing.items, standing.acts(person).seen
    seen_and_open = sum(len(standing.answers[name]) < standing.per_item and not items[name].repeats for name in seen)
    return len(standing.open) - seen_and_open + len(repetitions(standing, person))


def is_over(standing: Standing, people: Collection[str]) -> bool:
    """Return whether nothing is left to ask.

    Each item has its answers, or as many people as it wants have seen it, some skipped it, and nobody is left to ask. A
    repetition is left as long as somebody who may come back has answered what it repeats.

    Args:
        standing: of the batch.
        people: those whose personal links still hold.
    """
    for place in standing.open:
        name = standing.order[place]
        if len(standing.answers[name]) + len(standing.skips[name]) < standing.per_item:
            return False
        if any(name not in standing.acts(person).seen for person in people):
            return False
    return not any(repetitions(standing, person) for person in people)


def _next_plain(standing: Standing, person: str, *, ends: Mapping[str, float], now: float) -> int | None:
    """Return the place of the next item that repeats none; None where there is none."""
    seen = standing.acts(person).seen
    of_others: int | None = None
    for place in standing.open:
        name = standing.order[place]
        if name in seen or not has_room(standing, name, person, ends=ends, now=now):
            continue
        if not _is_rated_by_others(standing, name, person, ends=ends, now=now):
            return place
        of_others = place if of_others is None else of_others
    return of_others


def _is_rated_by_others(standing: Standing, item: str, person: str, *, ends: Mapping[str, float], now: float) -> bool:
    """Return whether as many others as an item wants have begun to rate responses to its question, and this person has not."""
    begun: set[str] = set()
    for name in standing.rated_with.get(item, ()):
        begun |= standing.answers[name].keys()
        begun |= {other for other, turn in standing.held[name].items() if ends.get(turn, now) > now}
    return person not in begun and len(begun) >= standing.per_item
