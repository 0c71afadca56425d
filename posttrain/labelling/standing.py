"""What stands in a batch: its events folded, one by one, into who answered what and who has what before him."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from posttrain.labelling.answers import Event, scores
from posttrain.labelling.items import Item


@dataclass
class Turn:
    """One showing of an item.

    Attributes:
        item: its id.
        person: to whom.
        order: of the responses as shown.
        outcome: id of the answer or skip that ended it, "" before.
    """

    item: str
    person: str
    order: tuple[int, ...]
    outcome: str = ""


@dataclass
class Acts:
    """What stands of one person.

    Attributes:
        done: answers and skips in order, without those that were taken back.
        seen: ids of the items of `done`, each with its place among them.
        again: ids of items that repeat what he answered, in the order in which he did.
        turns: ids of showings that he has not ended, the newest last.
        agreed: by item, how far his answer agrees with those of others.
        steady: by repetition, how far it agrees with his first answer.
        right: by check, whether he found the known order.
    """

    done: list[Event] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)
    agreed: dict[str, float] = field(default_factory=dict)
    steady: dict[str, float] = field(default_factory=dict)
    right: dict[str, bool] = field(default_factory=dict)


class Standing:
    """The state of a batch after some events; `apply` takes one more.

    Attributes:
        items: by id, in the batch's order.
        per_item: people who answer each item.
        order: ids of the items.
        places: of each item in the order.
        repeated_by: by item, the ids of those that repeat it.
        rated_with: by rating, the ids of the ratings of its question, itself among them.
        open: places of items that too few people have answered, in order; repetitions are never among them.
        answers: by item and person.
        skips: by item, who skipped it.
        turns: showings by id.
        held: by item and person, the showing that he has not ended.
        people: by name, who has any event.
        answered: answers that stand.
    """

    def __init__(self, items: Sequence[Item], *, per_item: int, events: Iterable[Event] = ()) -> None:
        self.items = {item.id: item for item in items}
        self.order = tuple(self.items)
        self.per_item = per_item
        self.places = {name: place for place, name in enumerate(self.items)}
        self.repeated_by: dict[str, list[str]] = {}
        for item in items:
            if item.repeats:
                self.repeated_by.setdefault(item.repeats, []).append(item.id)
        rated: dict[str, list[str]] = {}
        for item in items:
            if item.kind == "rating":
                rated.setdefault(item.question, []).append(item.id)
        self.rated_with = {name: together for together in rated.values() for name in together}
        self.open = [self.places[item.id] for item in items if not item.repeats]
        self.answers: dict[str, dict[str, Event]] = {name: {} for name in self.items}
        self.skips: dict[str, set[str]] = {name: set() for name in self.items}
        self.turns: dict[str, Turn] = {}
        self.held: dict[str, dict[str, str]] = {name: {} for name in self.items}
        self.people: dict[str, Acts] = {}
        self.answered = 0
        for event in events:
            self.apply(event)

    def acts(self, person: str) -> Acts:
        """Return what stands of a person; nothing, of one who has no event."""
        return self.people.setdefault(person, Acts())

    def apply(self, event: Event) -> None:
        """Take one more event.

        Raises:
            ValueError: it does not fit those before it.
        """
        if event.item not in self.items:
            raise ValueError(f"event {event.id} names item {event.item}, which the batch does not have")
        if event.kind == "lease":
            self._lease(event)
        elif event.kind == "undo":
            self._undo(event)
        else:
            self._end_turn(event)

    def _lease(self, event: Event) -> None:
        if event.turn in self.turns or sorted(event.order) != list(range(len(self.items[event.item].responses))):
            raise ValueError(f"event {event.id} shows turn {event.turn} a second time, or not each response once")
        self.turns[event.turn] = Turn(event.item, event.person, event.order)
        self.held[event.item][event.person] = event.turn
        self.acts(event.person).turns.append(event.turn)

    def _end_turn(self, event: Event) -> None:
        """Take an answer or a skip."""
        turn, acts = self.turns.get(event.turn), self.acts(event.person)
        if turn is None or (turn.item, turn.person) != (event.item, event.person) or turn.outcome:
            raise ValueError(f"event {event.id} ends turn {event.turn}, which was not {event.person}'s, or ended before")
        if event.item in acts.seen or (event.kind == "answer" and (event.choice is None or event.order != turn.order)):
            raise ValueError(f"event {event.id} answers item {event.item} once more, or not as it was shown")
        turn.outcome = event.id
        for other in [name for name in acts.turns if self.turns[name].item == event.item]:
            self.drop_turn(other)
        acts.seen[event.item] = len(acts.done)
        acts.done.append(event)
        if event.kind == "skip":
            self.skips[event.item].add(event.person)
            return
        self.answers[event.item][event.person] = event
        self.answered += 1
        acts.again += self.repeated_by.get(event.item, [])
        self._count(event.item)
        self._compare(event.item, event.person)

    def _undo(self, event: Event) -> None:
        acts = self.acts(event.person)
        if not acts.done or acts.done[-1].id != event.undoes:
            raise ValueError(f"event {event.id} takes back {event.undoes}, which is not {event.person}'s last answer or skip")
        gone = acts.done.pop()
        del acts.seen[gone.item]
        if gone.kind == "skip":
            self.skips[gone.item].discard(event.person)
            return
        del self.answers[gone.item][event.person]
        self.answered -= 1
        # nobody repeats what he has not answered
        again = self.repeated_by.get(gone.item, [])
        acts.again = [name for name in acts.again if name not in again]
        for turn in [turn for turn in acts.turns if self.turns[turn].item in again]:
            self.drop_turn(turn)
        for figures in (acts.agreed, acts.steady, acts.right):
            figures.pop(gone.item, None)
        self._count(gone.item)
        self._compare(gone.item, event.person)

    def drop_turn(self, turn: str) -> None:
        """Take a showing from the person who had it before him; an answer to it is still known for his."""
        shown = self.turns[turn]
        acts = self.people[shown.person]
        acts.turns = [other for other in acts.turns if other != turn]
        if self.held[shown.item].get(shown.person) == turn:
            del self.held[shown.item][shown.person]

    def _count(self, name: str) -> None:
        """Note whether the item wants more answers."""
        if self.items[name].repeats:
            return
        place = self.places[name]
        at = bisect_left(self.open, place)
        is_open = at < len(self.open) and self.open[at] == place
        if is_open and len(self.answers[name]) >= self.per_item:
            del self.open[at]
        elif not is_open and len(self.answers[name]) < self.per_item:
            insort(self.open, place)

    def _compare(self, name: str, person: str) -> None:
        """Note how far the answers to an item agree, after the person's has come or gone."""
        item, given, acts = self.items[name], self.answers[name], self.acts(person)
        mine = given.get(person)
        if mine and item.known is not None:
            acts.right[name] = _finds(item.known, mine)
        if item.repeats:
            first = self.answers[item.repeats].get(person)
            if mine and first:
                acts.steady[name] = likeness(mine, first)
            return
        for one, his in given.items():
            others = [likeness(his, other) for name_of, other in given.items() if name_of != one]
            if others:
                self.people[one].agreed[name] = sum(others) / len(others)
            else:
                self.people[one].agreed.pop(name, None)


def likeness(one: Event, other: Event) -> float:
    """Return how far two answers to the same responses agree, in [0, 1].

    Of a pair or ranking: the share of pairs of responses that both put into one order, where "equal" is an order too. Of a
    rating: 1 where both are the same number.
    """
    a, b = scores(one), scores(other)
    if len(a) == 1:
        return float(a == b)
    pairs = [(i, j) for j in range(len(a)) for i in range(j)]
    return sum(_sign(a[i] - a[j]) == _sign(b[i] - b[j]) for i, j in pairs) / len(pairs)


def _finds(known: tuple[int, ...], answer: Event) -> bool:
    score = scores(answer)
    return all(score[better] > score[worse] for better, worse in pairwise(known))


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)
