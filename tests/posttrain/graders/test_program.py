"""Programs: found in a completion, run in the sandbox, compared like any answer; and OpenAI's `python` grader."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.errors import RequestError
from posttrain.graders import Sample, build_grader
from posttrain.graders.program import as_answer, extract_program
from posttrain.graders.sandbox import Limits, Sandbox

BAGELS = '''def solution():
    """Olivia has $23. She bought five bagels for $3 each. How much money does she have left?"""
    money = 23
    spent = 5 * 3
    return money - spent
'''


@pytest.fixture(scope="module")
def program():
    return build_grader({"type": "program", "partial_credit": 0.1})


def one(grader, completion, *answers):
    (found,) = grader.grade([Sample(completion, {"answers": answers})])
    return found


# --- finding it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "completion",
    [
        BAGELS,
        f"Let me think.\n{BAGELS}\nThis gives 8.",
        f"Here it is:\n```python\n{BAGELS}```\nThe answer is 8.",
        f"```\n{BAGELS}",
        f"from this we see:\n{BAGELS}\nfor example, 8 is right",
        f"price = 3\n{BAGELS}".replace("* 3", "* price"),
        f"```python\nimport os\n```\nNo, rather:\n```py\n{BAGELS}```",
        f"import math\n\n{BAGELS}",
        f"def helper(x):\n    return x\n\n{BAGELS}\nprint(solution())\nanswer = solution()\n",
    ],
)
def test_a_program_is_found_with_what_it_needs(program, completion):
    found = one(program, completion, "8")
    assert (found.score, found.is_right, found.extracted, found.compared_with) == (1.0, True, "8", ("8",))


def test_text_around_a_program_is_left_out():
    assert extract_program(f"I think.\n{BAGELS}\nSo it is 8.", "solution") == BAGELS
    assert extract_program("no program", "solution") is None
    assert extract_program("def solve():\n    return 8", "solution") is None
    assert extract_program(" " * 30_000 + BAGELS, "solution") is None
    assert extract_program("def solve():\n    return 8", "solve") == "def solve():\n    return 8"


@given(st.text(max_size=200))
def test_no_text_breaks_finding_it(text):
    found = extract_program(text + "\ndef solution():\n    return 1", "solution")
    assert found is None or "def solution" in found


# --- among final answers ----------------------------------------------------------------------------------------------


def test_the_answer_grader_runs_what_is_a_program_and_reads_the_rest_in_the_order_given():
    grader = build_grader({"type": "answer", "partial_credit": 0.1})
    wrong = BAGELS.replace("5 * 3", "5 * 4")
    texts = ["Answer: 8", BAGELS, "Answer: 9", wrong, f"{wrong}\nAnswer: 8", "def solution():\n    return", "def f(): return 8"]
    found = grader.grade([Sample(text, {"answers": ["8"]}) for text in texts])
    assert [grade.score for grade in found] == [1.0, 1.0, 0.1, 0.1, 0.1, 0.0, 1.0]
    assert [grade.extracted for grade in found] == ["8", "8", "9", "3", "3", None, "8"]


def test_what_a_float_ends_in_does_not_make_a_program_wrong_but_a_tolerance_of_ones_own_holds():
    third = "def solution():\n    return 0.1 + 0.2"
    assert one(build_grader("answer"), third, "0.3").is_right
    assert not one(build_grader({"type": "answer", "tolerance": 0}), third, "0.3").is_right
    assert one(build_grader({"type": "answer", "tolerance": 0.5}), "def solution():\n    return 8.4", "8").is_right


def test_programs_are_read_where_that_is_asked_for():
    read = build_grader({"type": "answer", "programs": "read"})
    assert one(read, f"{BAGELS}\nAnswer: 9", "9").is_right
    assert not one(build_grader("answer"), f"{BAGELS}\nAnswer: 9", "9").is_right


def test_the_text_to_grade_may_be_a_field_of_the_output():
    grader = build_grader({"type": "answer", "input": "{{sample.output_json.code}}"})
    assert one(grader, json.dumps({"code": BAGELS}), "8").is_right
    assert not one(grader, json.dumps({"text": BAGELS}), "8").is_right
    assert not one(grader, BAGELS, "8").is_right


# --- judging it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "answer", "score"),
    [
        ("return 8", "8", 1.0),
        ("return 8.0", "8", 1.0),
        ("return '8 apples'", "8", 1.0),
        ("return [8]", "8", 1.0),
        ("return 1234", "1,234", 1.0),
        ("return 14", "12 + 2 = 14\n#### 14", 1.0),
        ("return 0.1 + 0.2", "0.3", 1.0),
        ("return 1 / 3", "1/3", 1.0),
        ("return 0.34", "1/3", 0.1),
        ("return 9", "8", 0.1),
        ("return 'many'", "8", 0.0),
        ("return 'Paris'", "paris", 1.0),
        ("return True", "True", 1.0),
        ("from decimal import Decimal\n    return Decimal('2.50')", "2.5", 1.0),
        ("return (1, 2)", "(1, 2)", 1.0),
        ("import math\n    return math.comb(5, 2)", "10", 1.0),
    ],
)
def test_what_a_program_returns_is_compared_like_an_answer(program, body, answer, score):
    assert one(program, f"def solution():\n    {body}\n", answer).score == score


@pytest.mark.parametrize(
    ("body", "reason", "flag"),
    [
        ("return None", "solution() returned no answer: None", "sample_parse_error"),
        ("return float('nan')", "solution() returned no answer: nan", "sample_parse_error"),
        ("return float('inf')", "solution() returned no answer: inf", "sample_parse_error"),
        ("return {}", "solution() returned no answer: {}", "sample_parse_error"),
        ("return 1 / 0", "the program failed: ZeroDivisionError: division by zero", "program_error"),
        ("return nothing", "the program failed: NameError: name 'nothing' is not defined", "program_error"),
        ("return (", None, "program_error"),
        ("import sympy", "the program failed: ModuleNotFoundError: No module named 'sympy'", "program_error"),
    ],
)
def test_a_program_that_gives_no_answer_scores_0_and_says_why(program, body, reason, flag):
    found = one(program, f"def solution():\n    {body}\n", "8")
    assert (found.score, found.is_right, found.is_partial) == (0.0, False, False)
    assert (found.extracted, found.compared_with, found.errors) == (None, ("8",), (flag,))
    assert reason is None or found.reason == reason


def test_a_completion_without_a_program(program):
    found = one(program, "The answer is 8", "8")
    assert not found.is_right
    assert (found.score, found.reason, found.errors) == (0.0, "no program that defines solution()", ("sample_parse_error",))


def test_programs_of_a_batch_keep_their_order_and_see_nothing_of_each_other(program):
    leaves = "seen = 1\ndef solution():\n    return seen\n"
    looks = "def solution():\n    return seen\n"
    bodies = [f"def solution():\n    return {number}\n" for number in range(20)]
    grades = program.grade([Sample(text, {"answers": ["7"]}) for text in [leaves, looks, *bodies]])
    assert [grade.extracted for grade in grades] == ["1", None, *map(str, range(20))]
    assert [grade.is_right for grade in grades].index(True) == 9 and sum(grade.is_right for grade in grades) == 1


def test_equal_programs_have_equal_outcomes(program):
    text = "import random\nimport time\ndef solution():\n    time.sleep(1000)\n    return random.randint(1, 10**9)\n"
    grades = program.grade([Sample(text, {"answers": ["7"]})] * 3)
    assert len({grade.extracted for grade in grades}) == 1 and grades[0].extracted is not None


def test_an_empty_batch(program):
    assert program.grade([]) == []


@settings(max_examples=30, deadline=None)
@given(number=st.integers(-(10**9), 10**9), change=st.integers(1, 9))
def test_a_returned_number_equals_itself_and_no_other(program, number, change):
    text = f"def solution():\n    return {number}\n"
    assert one(program, text, f"{number:,}").is_right
    assert not one(program, text, f"{number + change:,}").is_right


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8"),
        (8.5, "8.5"),
        (8.0, "8"),
        ([[8]], "8"),
        ([1, 2], "(1, 2)"),
        ([], None),
        ([None, 1], None),
        (" x ", "x"),
        ("", None),
    ],
)
def test_values_as_answers(value, text):
    assert as_answer(value) == text


# --- python graders ---------------------------------------------------------------------------------------------------


def python(source, **settings):
    return build_grader({"type": "python", "source": source, **settings})


def test_a_python_grader_sees_sample_and_item():
    source = (
        "def grade(sample, item):\n"
        "    if sample['output_text'] == item['reference_answer']:\n        return 1.0\n"
        "    return 0.25 if 'output_json' in sample and sample['output_json']['x'] == 1 else 0\n"
    )
    record = {"reference_answer": "14", "nested": {"a": [1, None, True]}}
    right, json, wrong = python(source).grade([Sample(text, record) for text in ("14", '{"x": 1}', "fifteen")])
    assert (right.score, right.is_right, right.reason) == (1.0, True, "grade() returned 1")
    assert (json.score, json.is_right) == (0.25, False)
    assert wrong.score == 0.0
    (lenient,) = python(source, pass_threshold=0.2).grade([Sample('{"x": 1}', record)])
    assert lenient.is_right


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        ("return float(sample['output_text'])", "ValueError: could not convert string to float: 'dunno'"),
        ("return None", "grade() returned None, which is no finite number"),
        ("return 'x'", "grade() returned 'x', which is no finite number"),
        ("return float('nan')", "grade() returned nan, which is no finite number"),
        ("import os\n    return os.system('ls')", "AttributeError: module 'os' has no attribute 'system'"),
        ("return open('/etc/passwd')", "PermissionError: Permission denied: '/etc/passwd'"),
    ],
)
def test_a_python_grader_that_breaks_raises_unless_told_to_score_0(body, trouble):
    source = f"def grade(sample, item):\n    {body}\n"
    with pytest.raises(RequestError) as refused:
        python(source).grade([Sample("dunno", {})])
    assert str(refused.value) == (
        f"grader broke: {trouble}, for the completion 'dunno'. Mend its source, or set on_error to \"zero\" "
        "if such a completion is to score 0"
    )
    (found,) = python(source, on_error="zero").grade([Sample("dunno", {})])
    assert (found.score, found.reason, found.errors) == (0.0, trouble, ("python_grader_runtime_error",))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "grader.source must define grade(sample, item), with exactly these two arguments"),
        ("def grade(sample): return 1", "grader.source must define grade(sample, item), with exactly these two arguments"),
        ("def grade(", "grader.source is no Python: '(' was never closed (<unknown>, line 1)"),
    ],
)
def test_a_source_that_is_no_grader_is_refused(source, message):
    with pytest.raises(RequestError) as refused:
        python(source)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("value", "trouble"),
    [
        ("[0] * 999", ""),
        ("[0] * 1_000", "its value has more than 1,000 parts"),
        ("[['x' * 100] * 10] * 10", ""),
        ("[['x' * 101] * 10] * 10", "its value has more than 10,000 characters"),
        ("{'x' * 10_001: 1}", "its value has more than 10,000 characters"),
        ("10 ** 400 - 1", ""),
        ("-10 ** 400", "its value has a number of more than 400 digits"),
        ("[[[[[[[[1]]]]]]]]", ""),
        ("[[[[[[[[[1]]]]]]]]]", "its value is nested deeper than 8 containers"),
        ("range(3)", "its value is no number, text or container of those"),
    ],
)
def test_only_a_small_value_leaves_the_sandbox(value, trouble):
    """Counted where it was made: one part refers to another as often as it likes, and each time it would be copied."""
    (found,) = Sandbox(Limits(), workers=1).run([("", value, {})])
    assert (found.trouble, found.kind) == (trouble, "limit" if trouble else "done")
    assert (found.value is None) == bool(trouble)


def test_a_program_cannot_change_how_its_value_is_measured():
    program = "type = len = str = int = dict = lambda *given: 0\nx = (1,)\nfor i in range(40): x = (x, x)\n"
    (found,) = Sandbox(Limits(), workers=1).run([(program, "x", {})])
    assert found.kind == "limit" and found.value is None


def test_an_error_of_megabytes_is_told_in_a_line():
    (found,) = Sandbox(Limits(), workers=1).run([("def f():\n    raise ValueError('x y ' * 1_000_000)", "f()", {})])
    assert found.kind == "error" and len(found.trouble) == 200
