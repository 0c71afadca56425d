"""A store of labels for tests, with the questions and samples that it is about."""

import json

from posttrain.records import Message, Question
from posttrain.settings.feedback import LabelSettings
from tasks.feedback.labels import read_labels
from tasks.feedback.sources import people
from tasks.workspace.jsonl import write_rows

CHAT = (Message(role="user", content="Say hello."),)
QUESTIONS = [
    Question(id="q0", family="f0", prompt="What?", answers=("4",)),
    Question(id="q1", prompt=CHAT),
    Question(id="q2", prompt="Never sampled"),
]
RESPONSES = {"q0": ["four", "five", "vier"], "q1": ["Hello!", "No."]}


def row(number=0, **changes):
    """Return a line of the store as a dict; None takes a field out."""
    told = {
        "id": f"l{number}",
        "prompt": "What?",
        "question": "q0",
        "group": f"l{number}",
        "first": "five",
        "second": "four",
        "preference": 0.0,
        "annotator": "Ada",
        "source": "person",
        "at": "2026-03-31T09:15:00Z",
    }
    return {name: value for name, value in {**told, **changes}.items() if value is not None}


def world_of_people(folder):
    """Write questions and samples, and return the folder that a store goes into."""
    (folder / "data").mkdir(), (folder / "samples").mkdir(), (folder / "out").mkdir()
    write_rows(folder / "data" / "questions.jsonl", (each.model_dump(mode="json") for each in QUESTIONS))
    write_rows(
        folder / "samples" / "samples.jsonl",
        (
            {"question": each.model_dump(mode="json"), "responses": [[text, True] for text in RESPONSES[each.id]]}
            for each in QUESTIONS
            if each.id in RESPONSES
        ),
    )
    return folder


def taken(world, lines, *, annotators=None, samples=True, budget=0):
    """Write the store, take its labels, and return outcome and labels."""
    store = world / "people.jsonl"
    if isinstance(lines, bytes):
        store.write_bytes(lines)
    else:
        store.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if annotators is not None:
        (world / "people.jsonl.annotators.json").write_text(annotators if isinstance(annotators, str) else json.dumps(annotators))
    outcome = people.label(
        world / "out",
        lambda *_: None,
        samples=world / "samples" if samples else None,
        data=world / "data",
        settings=LabelSettings(source="people", file=str(store), budget=budget),
        model_uri="models:/m/1",
    )
    return outcome, read_labels(world / "out")
