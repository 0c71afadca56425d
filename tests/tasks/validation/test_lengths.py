"""The context that a closed gate proposes, by hand: rows of so many words."""

import json
from pathlib import Path

import pytest

from posttrain.settings.data import ValidationSettings
from tasks.validation.lengths import STEP, context_needed
from tasks.validation.report import refusal
from tasks.validation.suite import load_suite
from tasks.validation.validate import validate

SUITES = Path(__file__).parents[3] / "data" / "expectations"
PARAMETERS = {**ValidationSettings().model_dump(), "context": 20}
LONG = "prompt and completion have more than 20 tokens together (model.context) (99)"


def suite(kind):
    return load_suite(SUITES / f"{kind}.json", parameters=PARAMETERS)


@pytest.mark.parametrize(
    ("share", "lines", "needed"),
    [
        (0.0, {}, 320),  # all rows: the longest has 300, five steps of 64
        (0.1, {}, 256),  # one of ten may be longer: 200
        (0.2, {}, 128),  # two: 100
        (0.2, {3: [LONG]}, 128),  # a row that is only too long uses up nothing
        (0.2, {3: [LONG, "the id is that of an earlier row"]}, 256),  # one more may be longer
        (0.2, {1: ["else"], 2: ["else"], 3: ["else"]}, 0),  # closed by those alone
        (1.0, {}, 0),
    ],
)
def test_the_context_that_holds_enough_rows(share, lines, needed):
    facts = {"total_tokens": [5, 300, 6, 100, 200, 7, 8, 9, 10, 11]}
    assert context_needed(facts, suite("demonstration"), lines, share=share) == needed


def test_a_question_needs_room_for_one_token_more():
    assert context_needed({"prompt_tokens": [STEP]}, suite("question"), {}, share=0.0) == 2 * STEP
    assert context_needed({"total_tokens": [STEP]}, suite("demonstration"), {}, share=0.0) == STEP
    assert context_needed({}, suite("text"), {}, share=0.0) == 0, "a document may be of any length"


def test_a_gate_that_length_closes_says_which_context_would_open_it(tmp_path):
    def gate(context, *rows):
        folder, out = tmp_path / f"data-{context}-{len(rows)}", tmp_path / f"out-{context}-{len(rows)}"
        folder.mkdir()
        out.mkdir()
        told = [{"id": str(place), "prompt": prompt, "answers": ["4"]} for place, prompt in enumerate(rows)]
        (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
        return validate(
            folder,
            out,
            settings=ValidationSettings(),
            expectations=SUITES,
            count_tokens=lambda texts: [len(text.split()) for text in texts],
            context=context,
            dataset="d",
        )

    long = "w " * 70
    closed = gate(20, long, "What is 2 + 2?")
    remedy = 'SET="model.context=128" would hold enough rows of each file, if the base takes so many tokens'
    assert refusal(closed).splitlines()[-2] == remedy
    assert gate(128, long, "What is 2 + 2?").passed
    assert "model.context=" not in refusal(gate(128, " ")), "what is wrong there is no length"
