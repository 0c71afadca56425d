"""A batch in a folder of its own, clocks that are set by hand, and a desk on it."""

from datetime import UTC, datetime, timedelta
from random import Random

from posttrain.labelling.items import Item, Response
from tasks.labelling.batches import make_batch
from tasks.labelling.desk import Desk
from tasks.workspace.paths import Paths


class Clocks:
    """The machine's clock, which may jump, and one that never goes back."""

    def __init__(self):
        self.time, self.steady = datetime(2026, 3, 1, 12, tzinfo=UTC), 1000.0

    def now(self):
        return self.time

    def monotonic(self):
        return self.steady

    def pass_by(self, seconds):
        self.time += timedelta(seconds=seconds)
        self.steady += seconds


def item(name, *, kind="pair", texts=("a", "b"), **told):
    responses = tuple(Response(text=text, model="stage:sft/1", finished=True) for text in texts)
    return Item(
        **{"id": name, "kind": kind, "question": f"q{name}", "prompt": f"p{name}", "selection": "random", **told},
        responses=responses,
    )


def batch_in(folder, items=None, *, per_item=1, dataset="mine", instructions="Choose the better one.\n"):
    items = items if items is not None else [item(str(number)) for number in range(4)]
    return make_batch(
        Paths(folder),
        dataset=dataset,
        kind=items[0].kind if items else "pair",
        items=items,
        per_item=per_item,
        method="rlhf",
        data_md5="0" * 32,
        models=["stage:sft/1"],
        instructions=instructions,
        seed=3,
        settings={"label.per_item": per_item, "label.kinds": ("pair",)},
    )


def desk_of(batch, clocks=None, **told):
    clocks = clocks or Clocks()
    return Desk(batch, **{"now": clocks.now, "monotonic": clocks.monotonic, "random": Random(0), **told})
