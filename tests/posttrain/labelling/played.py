"""A batch that is played without files: events are made, numbered and folded at once."""

from posttrain.labelling.answers import Event
from posttrain.labelling.items import Item, Response
from posttrain.labelling.standing import Standing


def pairs(count, **told):
    return [pair(str(number), **told.get(str(number), {})) for number in range(count)]


def pair(name, **told):
    responses = (Response(text="a"), Response(text="b"))
    return Item(
        **{"id": name, "kind": "pair", "question": f"q{name}", "prompt": "p", "selection": "random", **told}, responses=responses
    )


class Play:
    def __init__(self, items, per_item=1):
        self.standing = Standing(items, per_item=per_item)
        self.events = []
        self.ends = {}
        self.now = 0.0

    def _do(self, **told):
        event = Event(id=f"e{len(self.events)}", at="", **told)
        self.standing.apply(event)
        self.events.append(event)
        return event.id

    def lease(self, person, item, order=None, until=100.0):
        turn = f"t{len(self.events)}"
        order = order or tuple(range(len(self.standing.items[item].responses)))
        self._do(person=person, kind="lease", item=item, turn=turn, order=order)
        self.ends[turn] = until
        return turn

    def answer(self, person, item, choice=1.0, order=None, seconds=2.0):
        turn = self.lease(person, item, order)
        return self.end(turn, choice, seconds)

    def end(self, turn, choice=1.0, seconds=2.0):
        shown = self.standing.turns[turn]
        told = {"person": shown.person, "item": shown.item, "turn": turn}
        return self._do(kind="answer", order=shown.order, choice=choice, seconds=seconds, **told)

    def skip(self, person, item):
        return self._do(kind="skip", person=person, item=item, turn=self.lease(person, item))

    def undo(self, person):
        last = self.standing.acts(person).done[-1]
        return self._do(kind="undo", person=person, item=last.item, turn=last.turn, undoes=last.id)

    @property
    def clock(self):
        return {"ends": self.ends, "now": self.now}
