"""A dataset with questions and a DVC that takes milliseconds, a batch of it, and people who answer."""

import json

from posttrain.labelling.items import Item, Response
from tasks.data import dvc as versions
from tasks.data.dvc import bring_up_to_date
from tasks.data.importing import import_file
from tasks.data.stages import read_records
from tasks.labelling.batches import make_batch
from tasks.labelling.desk import Desk
from tests.tasks.dvc_stub import stub

NAME = "mine"
WORDS = [f"{one} {two} apples" for one in ("red", "green", "blue", "white", "black") for two in ("two", "six", "ten", "one")]


def dataset(paths, monkeypatch):
    """Import twenty questions, and return those that are trained on."""
    monkeypatch.setattr(versions, "run_dvc", stub)
    rows = [{"kind": "question", "id": f"q{number}", "prompt": words, "answers": ["4"]} for number, words in enumerate(WORDS)]
    (paths.root / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_file(paths, format="records", file="in.jsonl", name=NAME)
    version = bring_up_to_date(paths, NAME)
    return list(read_records(version.folder / "questions.jsonl"))


def item(question, number, **fields):
    """A pair of responses to a question."""
    told = {
        "id": f"item-{number}",
        "kind": "pair",
        "question": question.id,
        "family": question.family,
        "prompt": question.prompt,
        "responses": (Response(text=f"yes {number}", model="models:/m/1", finished=True), Response(text=f"no {number}")),
        "selection": "random",
    }
    return Item(**(told | fields))


def batch(paths, items, *, per_item=1, kind="pair"):
    """Make a batch of these items."""
    how = {"method": "dpo", "data_md5": "0" * 32, "models": ["models:/m/1"], "instructions": "Choose.", "seed": 1, "settings": {}}
    return make_batch(paths, dataset=NAME, kind=kind, items=items, per_item=per_item, **how)


def answer(made, said, *, seconds=2.0):
    """Let people answer what they are shown, until each has said as much as is told for him; None is a skip.

    Args:
        made: the batch.
        said: by person, what he says of the item's first response: 1, 0 or 0.5, whatever the order shown.
        seconds: that each answer takes.
    """
    desk = Desk(made)
    try:
        for person, choices in said.items():
            for choice in choices:
                shown = desk.next(person)
                assert shown is not None, f"nothing is left for {person}"
                if choice is None:
                    desk.skip(person, shown.turn)
                else:
                    desk.answer(person, shown.turn, choice if shown.order[0] == 0 else 1 - choice, seconds=seconds)
    finally:
        desk.close()
