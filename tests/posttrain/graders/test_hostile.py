"""Completions that mean harm: each is graded 0 with a reason, soon, in little memory, and leaves nothing behind."""

import time
import tracemalloc

import pytest

from posttrain.graders import Sample, build_grader

TEN_MB = 10_000_000
TEXTS = {
    "10 MB of digits": "9" * TEN_MB,
    "10 MB of digits behind a marker": "Answer: " + "9" * TEN_MB,
    "10 MB of markers": "Answer: " * (TEN_MB // 8),
    "10 MB of opening braces": "\\boxed{" + "{" * TEN_MB,
    "10 MB of boxes": "\\boxed{" * (TEN_MB // 7),
    "nested fractions": "\\boxed{" + "\\frac{" * 3_000 + "1" + "}{2}" * 3_000 + "}",
    "nested roots": "\\boxed{" + "\\sqrt{" * 60 + "2" + "}" * 60 + "}",
    "nested text": "\\boxed{" + "\\text{" * 3_000 + "x" + "}" * 3_000 + "}",
    "a tower of powers": "\\boxed{9^{9^{9^{9^{9}}}}}",
    "a huge exponent": "Answer: 1e999999999",
    "a huge power of ten": "Answer: 1 × 10^999999999",
    "many groups": "Answer: " + "1," * 9_000,
    "commas and digits": "Answer: " + "111," * 4_900,
    "spaces": "Answer:" + " " * TEN_MB + "x",
    "spaces between digits": "Answer: 1" + " " * 19_000 + "2",
    "slashes": "Answer: " + "1/" * 9_000,
    "dots": "Answer: " + "1." * 9_000,
    "minus signs": "Answer: " + "-" * 19_000 + "1",
    "stars": "Answer: " + "*" * 19_000,
    "units": "Answer: 7 " + "a per " * 3_000,
    "lone surrogates": "Answer: \ud800\udfff",
    "zeros": "Answer: \0\0\0",
    "right to left": "Answer: \u202e7",
    "half a million lines": "answer is\n" * 500_000,
    "fractions of nothing": "Answer: 1/0",
    "dollars": "Answer: " + "$" * 19_999,
    "percents": "Answer: " + "%" * 19_000,
    "choices": "(A)" * 6_000,
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_text_is_graded_wrong_in_little_memory(name):
    """How long it takes is counted in test_work.py."""
    grader = build_grader({"type": "answer", "latex_seconds": 0.5})
    tracemalloc.start()
    (found,) = grader.grade([Sample(TEXTS[name], {"answers": ["7.5"]})])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.score, found.is_right) == (0.0, False)
    assert found.reason
    assert peak < 5 * TEN_MB
    assert len(str(found.as_row())) < 2_000


PROGRAMS = {
    "an infinite loop": ("while True:\n        pass", "program_limit_error"),
    "an infinite loop that catches everything": (
        "while True:\n        try:\n            while True: pass\n        except BaseException:\n            pass",
        "program_limit_error",
    ),
    "a memory bomb": ("x = [0] * 10**10", "program_limit_error"),
    "a growing text": ("x = 'a'\n    while True:\n        x += x", "program_limit_error"),
    "a huge power": ("return 9 ** 9 ** 9", "program_limit_error"),
    "a number of many digits": ("return 10 ** 100_000", "program_limit_error"),
    "many such numbers": ("return [10 ** 100_000] * 50", "program_limit_error"),
    "shared references that unfold into a trillion parts": (
        "d = (1,)\n    for i in range(40): d = (d, d)\n    return d",
        "program_limit_error",
    ),
    "shared references within the depth": (
        "a = [1] * 100\n    b = [a] * 100\n    c = [b] * 100\n    return [c] * 100",
        "program_limit_error",
    ),
    "a mapping in itself": ("d = {}\n    d['d'] = d\n    return d", "program_limit_error"),
    "an object": ("class A: pass\n    return A()", "program_limit_error"),
    "nested lists": ("x = []\n    for i in range(5_000):\n        x = [x]\n    return x", None),
    "a list in itself": ("x = []\n    x.append(x)\n    return x", None),
    "a result of many megabytes": ("return 'x' * 30_000_000", None),
    "endless recursion": ("return solution()", "program_limit_error"),
    "endless prints": ("while True:\n        print('x' * 1000)", "program_limit_error"),
    "one huge print": ("print('x' * 1_000_000)\n    return 7", "program_limit_error"),
    "a million calls to nothing": ("for i in range(10**7):\n        nothing()", "program_error"),
    "a command": ("__import__('os').system('touch harm')", "program_error"),
    "a command by os": ("import os\n    os.system('touch harm')", "program_error"),
    "a subprocess": ("import subprocess", "program_error"),
    "a file": ("open('harm', 'w').write('x')", "program_error"),
    "a file by pathlib": ("from pathlib import Path\n    Path('harm').write_text('x')", "program_error"),
    "the environment": ("import os\n    return os.environ['HOME']", "program_error"),
    "a socket": ("import socket", "program_error"),
    "an exit": ("exit(0)", "program_error"),
    "subclasses": ("return ().__class__.__bases__[0].__subclasses__()", "program_error"),
    "deep nesting": ("return " + "(" * 3_000 + ")" * 3_000, "program_error"),
    "a long sum": ("return " + "1+" * 8_000 + "1", None),
    "a regular expression bomb": ("import re\n    return re.match('(a+)+$', 'a' * 40 + 'b')", None),
    "a null byte": ("return '\0'", None),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_is_stopped_and_harms_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    body, flag = PROGRAMS[name]
    grader = build_grader({"type": "program", "limits": {"seconds": 0.3}})
    started = time.perf_counter()
    hostile, after = grader.grade([Sample(f"def solution():\n    {text}\n", {"answers": ["7"]}) for text in (body, "return 7")])
    assert time.perf_counter() - started < 120, "hours, if it were not stopped: generous, for the machine may be busy"
    assert (hostile.score, hostile.is_right) == (0.0, False) and hostile.reason
    assert flag is None or hostile.errors == (flag,)
    assert after.is_right, "the next program is graded as if nothing had been"
    assert not list(tmp_path.iterdir())
    assert len(str(hostile.as_row())) < 2_000


def test_a_huge_program_is_not_run():
    (found,) = build_grader("program").grade(
        [Sample("x = 1\n" * 1_000_000 + "def solution():\n    return 7\n", {"answers": ["7"]})]
    )
    assert found.reason == "no program that defines solution()"


@pytest.mark.parametrize("completion", ["9" * TEN_MB, "[" * 1_000_000, '{"a":' * 100_000])
def test_other_graders_take_hostile_texts_too(completion):
    specs = [
        {"type": "string_check", "input": "{{sample.output_text}}", "reference": "7", "operation": "eq"},
        {"type": "text_similarity", "input": "{{sample.output_text}}", "reference": "7", "evaluation_metric": "rouge_l"},
        {
            "type": "text_similarity",
            "input": "{{sample.output_text}}",
            "reference": "seven" * 5,
            "evaluation_metric": "fuzzy_match",
        },
        {"type": "string_check", "input": "{{sample.output_json.x}}", "reference": "7", "operation": "eq"},
        {"type": "format", "is_json": True},
        {"type": "format", "ends_with_answer": True},
    ]
    for spec in specs:
        started = time.process_time()
        (found,) = build_grader(spec).grade([Sample(completion, {})])
        assert time.process_time() - started < 5, "its own work: what else the machine does is not counted"
        assert found.score < 0.01 and not found.is_right
        assert len(str(found.as_row())) < 2_000


def test_a_python_grader_takes_a_hostile_text_as_data_only():
    source = "def grade(sample, item):\n    return 1.0 if 'import' in sample['output_text'] else 0.0\n"
    completion = "'''\nimport os\nos.system('touch harm')\n'''"
    (found,) = build_grader({"type": "python", "source": source}).grade([Sample(completion, {})])
    assert found.score == 1.0
