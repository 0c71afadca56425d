"""Graders as rewards: built in, or of a JSON file."""

import json

import pytest

from posttrain.errors import RequestError
from posttrain.graders import Grade
from tasks.rewards.sources.grader import graded
from tests.tasks.rewards.named_sources import RECORD, source


def test_the_answer_grader_pays_right_answers_and_partial_credit_as_asked():
    texts = ["3 + 4 = 7. Answer: 7", "Answer: 8", "no idea"]
    told = source("answer").load()([""] * 3, texts, [RECORD] * 3)
    assert list(told.values) == [1.0, 0.0, 0.0]
    told = source("answer", partial_credit=0.1).load()([""] * 3, texts, [RECORD] * 3)
    assert list(told.values) == [1.0, 0.1, 0.0]
    assert told.parts["right"] == [1.0, 0.0, 0.0]
    assert told.parts["partial"] == [0.0, 1.0, 0.0]
    assert len(told.reasons) == 3


def test_programs_are_run_and_their_value_is_compared():
    texts = ["def solution():\n    return 3 + 4\n", "def solution():\n    return 3 * 4\n", "Answer: 7"]
    told = source("program", partial_credit=0.1).load()([""] * 3, texts, [RECORD] * 3)
    assert list(told.values) == [1.0, 0.1, 0.0]


def test_a_grader_of_a_file_is_read_and_its_text_is_part_of_the_key(tmp_path):
    file = tmp_path / "grader.json"
    spec = {
        "type": "string_check",
        "name": "polite",
        "operation": "like",
        "input": "{{sample.output_text}}",
        "reference": "please",
    }
    file.write_text(json.dumps(spec))
    first = source(str(file))
    told = first.load()(["", ""], ["yes please", "no"], [RECORD] * 2)
    assert list(told.values) == [1.0, 0.0]
    file.write_text(json.dumps(spec | {"reference": "thanks"}))
    assert source(str(file)).digest != first.digest
    assert source("answer").digest != source("answer", partial_credit=0.1).digest


def test_grades_with_different_parts_make_whole_columns():
    class Uneven:
        def grade(self, samples):
            return [Grade(1.0, True, parts={"polite": 0.5}), Grade(0.0, False, parts={"brief": 1.0})]

    told = graded(Uneven())(["", ""], ["a", "b"], [RECORD] * 2)
    assert told.parts["polite"] == [0.5, 0.0] and told.parts["brief"] == [0.0, 1.0]


def test_a_grader_file_that_is_no_grader_is_refused(tmp_path):
    file = tmp_path / "grader.json"
    file.write_text("{broken")
    with pytest.raises(RequestError, match="the file is no JSON"):
        source(str(file))
    file.write_text("[1]")
    with pytest.raises(RequestError, match="a grader is a JSON object with a type, got list"):
        source(str(file))
    file.write_text('{"type": "strng_check"}')
    with pytest.raises(RequestError, match="string_check"):
        source(str(file))


def test_a_grader_is_a_program_that_checks_answers():
    told = source("answer")
    assert told.is_checkable_by_program and not told.is_reward_model and not told.has_own_limits
    assert told.name == told.who == "answer"
    with pytest.raises(RequestError, match=r"^ppo\.reward=answer is no reward model, so it has no networks$"):
        told.networks()
