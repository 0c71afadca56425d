"""Mathematics in LaTeX: equal forms are equal, others are not, and nothing computes for ever."""

import threading

import pytest

from posttrain.graders import Sample, build_grader
from posttrain.graders.latex import LatexComparison, too_wild


@pytest.fixture(scope="module")
def same():
    return LatexComparison(seconds=3.0)


@pytest.mark.parametrize(
    ("answer", "given", "is_same"),
    [
        ("\\frac{\\sqrt{3}}{2}", "\\frac{3}{2\\sqrt{3}}", True),
        ("\\frac{\\sqrt{3}}{2}", "\\frac{\\sqrt{3}}{3}", False),
        ("x^2+2x+1", "(x+1)^2", True),
        ("x^2+2x+1", "(x-1)^2", False),
        ("2\\pi", "\\pi+\\pi", True),
        ("2\\pi", "6.28", False),
        ("\\{1,2,3\\}", "\\{3,2,1\\}", True),
        ("\\{1,2,3\\}", "\\{1,2\\}", False),
        ("[0,1)", "[0, 1)", True),
        ("[0,1)", "[0, 1]", False),
        ("\\sqrt{16}", "4", True),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", True),
        ("x", "\\frac{", False),
    ],
)
def test_pairs(same, answer, given, is_same):
    assert same(answer, given) == (is_same, "")


def test_what_takes_too_long_is_killed_and_the_next_question_answered(same):
    quick = LatexComparison(seconds=0.5)
    quick("1", "1")
    before = quick._process
    is_same, trouble = quick("2", "x^{99}+\\sum_{i=1}^{999} i^{i}")
    assert quick._process.poll() is not None and before.poll() is not None, "nothing goes on computing"
    assert (is_same, trouble) == (False, "the mathematics could not be compared: stopped after 0.5 s")
    quick._seconds = 30  # the first question to a new process may wait for a busy machine
    assert quick("\\sqrt{4}", "2") == (True, "")


def test_a_worker_that_died_is_replaced(same):
    same("1", "1")
    same._process.kill()
    same._process.wait()
    assert same("\\sqrt{4}", "2") == (True, "")


def test_it_works_in_a_thread_where_signals_do_not(same):
    replies = []
    thread = threading.Thread(target=lambda: replies.append(same("2\\pi", "\\pi+\\pi")))
    thread.start()
    thread.join()
    assert replies == [(True, "")]


def test_its_process_ends_with_it():
    comparison = LatexComparison()
    comparison("1", "1")
    process = comparison._process
    del comparison
    assert process.wait(timeout=60) is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x" * 401, "more than 400 characters are not read as mathematics"),
        ("{" * 13 + "}" * 13, "nested deeper than 12"),
        ("([{" * 5, "nested deeper than 12"),
        ("2^{100000}", "a power or number too large to compute"),
        ("2^99999", "a power or number too large to compute"),
        ("9^{9^{9^{9}}}", "a power or number too large to compute"),
        ("9" * 30, "a power or number too large to compute"),
        ("99999!", "a power or number too large to compute"),
        ("5!!", "a power or number too large to compute"),
        ("x" * 400, ""),
        ("{" * 12 + "}" * 12, ""),
        ("2^{999}", ""),
        ("x^2+y^2+z^2+w^2", ""),
        ("\\frac{1}{2}", ""),
    ],
)
def test_wild_texts_are_not_even_tried(text, why):
    assert too_wild(text) == why


def test_a_wild_completion_starts_nothing():
    comparison = LatexComparison()
    assert comparison("x", "{" * 100_000) == (False, "more than 400 characters are not read as mathematics")
    assert comparison._process is None


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('touch harm')", "\\text{__import__('os').system('touch harm')}", "x+__import__('os').getpid()"],
)
def test_nothing_in_a_text_is_executed(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the process that compares starts here
    comparison = LatexComparison(seconds=5.0)
    assert not comparison("x^2", text)[0]
    assert not comparison(text, "x^2")[0]
    assert not list(tmp_path.iterdir())


def test_an_answer_grader_asks_it_and_can_do_without():
    sample = Sample("\\boxed{\\frac{3}{2\\sqrt{3}}}", {"answers": ["\\frac{\\sqrt{3}}{2}"]})
    (found,) = build_grader({"type": "answer", "latex_seconds": 30}).grade([sample])
    assert (found.is_right, found.reason) == (True, "the same mathematics")
    assert not build_grader({"type": "answer", "latex": False}).grade([sample])[0].is_right
