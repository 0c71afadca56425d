"""Rows, and the gate over them, for tests of validation."""

import json
from pathlib import Path

from posttrain.data.facts import FactTable, HeldOut
from posttrain.records import KIND_OF_ROLE
from posttrain.settings.data import ValidationSettings
from tasks.validation.suite import load_suite
from tasks.validation.validate import validate

SUITES = Path(__file__).parents[3] / "data" / "expectations"
PARAMETERS = {**ValidationSettings().model_dump(), "context": 20}

DEMONSTRATION = {"id": "1", "prompt": "What is 2 + 2?", "completion": "Two and two. Answer: 4", "answer": "4"}
QUESTION = {"id": "1", "prompt": "What is 2 + 2?", "answers": ["4"]}
PREFERENCE = {"id": "1", "prompt": "Which?", "chosen": "this", "rejected": "that", "annotator": "ann", "margin": 1.0}
RATING = {"id": "1", "prompt": "How good?", "completion": "so", "score": 1, "low": 0, "high": 5, "annotator": "ann"}
RANKING = {"id": "1", "prompt": "Order?", "completions": ["x", "y", "z"], "ranks": [1, 2, 3], "annotator": "ann"}
GOOD = {"demonstrations": DEMONSTRATION, "questions": QUESTION, "preferences": PREFERENCE, "ratings": RATING, "rankings": RANKING}


def words(texts):
    return [len(text.split()) for text in texts]


def judged(judge, role, rows, *, held_out=None, suite=None):
    kind = KIND_OF_ROLE[role]
    table = FactTable(kind, count_tokens=words, held_out=held_out or HeldOut())
    table.add([kind.model_validate(row) for row in rows])
    return judge.judge(table.columns(), suite or load_suite(SUITES / f"{kind.__name__.lower()}.json", parameters=PARAMETERS))


def write(folder, **rows_of_role):
    folder.mkdir(parents=True, exist_ok=True)
    for role, rows in rows_of_role.items():
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        (folder / f"{role}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return folder


def gate(folder, out, *, settings=None, expectations=SUITES):
    out.mkdir()
    settings = settings or ValidationSettings()
    return validate(folder, out, settings=settings, expectations=expectations, count_tokens=words, context=20, dataset="pairs")
